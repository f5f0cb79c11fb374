"""Negotiation: which versions and features a contact gets, in which form it is told, and who is trusted."""

from uuid import UUID

import pytest

from tests.unit.bus.script import Script, contact, refusals, sent
from vmbusd.abi import device_link, messages, wire
from vmbusd.abi.errors import UsageError
from vmbusd.abi.packing import NO_GUID
from vmbusd.bus.bus import Bus
from vmbusd.bus.effects import Disconnected, ForwardContact, ModifyPages, ResetPages, SendToGuest
from vmbusd.bus.options import VERSIONS, BusOptions

UNSUPPORTED = messages.VersionResponse(0, 0, 0)
CLIENT = UUID(int=0xC11E27)
ALWAYS = 0x2F
"""Feature bits that every connection at 6.0 may have."""


def accepted(version: int) -> messages.VersionResponse | messages.VersionResponse2:
    word = version if version < wire.V5_0 else 1
    if version == wire.V6_0:
        return messages.VersionResponse2(1, 0, word, 0)
    return messages.VersionResponse(1, 0, word)


def text(version: int) -> str:
    return f"{version >> 16}.{version & 0xFFFF}"


@pytest.mark.parametrize("version", VERSIONS, ids=text)
def test_every_version(version: int) -> None:
    """Each is accepted, told in 16 bytes below 6.0 and 20 at 6.0; the last word is the version below 5.0 and
    the message connection from there on (cases 002, 003, 006)."""
    script = Script()

    (effect,) = script.guest(contact(version))

    assert isinstance(effect, SendToGuest)
    assert sent([effect]) == [accepted(version)]
    assert len(effect.data) == (20 if version == wire.V6_0 else 16)
    assert (script.bus.state, script.bus.version, script.bus.features) == ("connected", version, 0)


@pytest.mark.parametrize("version", VERSIONS, ids=text)
def test_a_channel_in_every_version(version: int) -> None:
    """Offer, open, close and unload work at each; UNLOAD_RESPONSE exists from 1.1 on (cases 002, 157)."""
    script = Script()
    script.offer()
    script.connect(version)
    script.opened()
    script.guest(messages.Close(1))
    script.host(device_link.Closed(1, 1))
    script.claim_free()
    script.guest(messages.GpadlTeardown(1, 1))
    assert sent(script.host(device_link.GpadlTornDown(1, 1))) == [messages.GpadlTorndown(1)]

    effects = script.guest(messages.Unload())

    assert sent(effects) == ([] if version == wire.V0_13 else [messages.UnloadResponse()])
    assert script.bus.state == "disconnected"


def test_a_cap() -> None:
    """A newer version than the cap is unsupported, the cap itself is accepted (case 004)."""
    script = Script(BusOptions(max_version=wire.V4_0))

    assert sent(script.guest(contact(wire.V5_3))) == [UNSUPPORTED]
    assert sent(script.guest(contact(wire.V4_0))) == [accepted(wire.V4_0)]


def test_a_cap_that_begins_later() -> None:
    """The first connection may be newer; when it has ended the cap holds (case 005)."""
    script = Script(BusOptions(max_version=wire.V5_3, max_version_later=True))
    assert sent(script.guest(contact(0xFFFFFFFF))) == [UNSUPPORTED]
    script.connect(wire.V6_0)
    script.guest(messages.Unload())

    assert sent(script.guest(contact(wire.V6_0))) == [UNSUPPORTED]
    assert sent(script.guest(contact(wire.V5_3))) == [accepted(wire.V5_3)]


@pytest.mark.parametrize(
    "options",
    [
        BusOptions(max_version=0x00050004),
        BusOptions(relid_offset=2047),
        BusOptions(monitor_pages=(0x1000, 0)),
        BusOptions(monitor_pages=(0, 0x1001)),
        BusOptions(max_unfinished_gpadls=0),
    ],
)
def test_options_that_cannot_be(options: BusOptions) -> None:
    """They are an error when the bus is made."""
    with pytest.raises(UsageError):
        Bus(vps=1, ram_pages=1, options=options)


@pytest.mark.parametrize("asked", [0x00, 0x01, 0xF0000001, 0xFF, 0xFFFFFFF7])
def test_features(asked: int) -> None:
    """What is asked and supported is granted; unknown bits are no error (cases 006, 007, 031)."""
    script = Script()

    (response,) = sent(script.guest(contact(wire.V6_0, features=asked, client_id=CLIENT)))

    assert response == messages.VersionResponse2(1, 0, 1, asked & ALWAYS)
    assert script.bus.features == asked & ALWAYS


@pytest.mark.parametrize("message", [messages.ModifyConnection(0, 0), messages.Pause(), messages.Resume()])
def test_messages_of_features_that_were_not_granted(message: messages.Pause) -> None:
    """They are refused as not available (cases 006, 021)."""
    script = Script()
    script.connect(wire.V6_0)

    assert refusals(script.guest(message)) == ["not available in this version"]


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (wire.V4_0, messages.ModifyChannel(1, 0)),
        (wire.V3_0, messages.OpenReserved(1, 0, 2, 1, 2)),
        (wire.V3_0, messages.TlConnect(NO_GUID, NO_GUID)),
        (wire.V5_3, messages.Pause()),
    ],
)
def test_messages_that_a_version_does_not_have(version: int, message: messages.Pause) -> None:
    """They are refused as not available (cases 021, 188)."""
    script = Script()
    script.offer()
    script.connect(version)

    assert refusals(script.guest(message)) == ["not available in this version"]


@pytest.mark.parametrize(("features", "known"), [(0x08, CLIENT), (0x00, NO_GUID)])
def test_client_id(features: int, known: UUID) -> None:
    """It is known with its feature and zero without (cases 009, 011)."""
    script = Script()
    script.guest(contact(wire.V6_0, features=features, client_id=CLIENT))

    assert script.bus.client_id == known


def test_client_id_in_the_short_form() -> None:
    """The feature without the id is too short: no reply (case 010)."""
    script = Script()

    assert refusals(script.guest(contact(wire.V6_0, features=0x08))) == ["too short"]
    assert script.bus.state == "disconnected"


@pytest.mark.parametrize(("version", "vp"), [(wire.V2_4, 0), (wire.V3_0, 1)])
def test_who_gets_the_messages(version: int, vp: int) -> None:
    """Below 3.0 VP 0, whatever the contact says; from there on the VP it names (case 012)."""
    script = Script()

    effects = script.guest(contact(version, vp=1)) + script.guest(messages.RequestOffers())

    assert [effect.vp for effect in effects if isinstance(effect, SendToGuest)] == [vp, vp]


def test_a_target_vp_below_2_4() -> None:
    """The word means something else there: interrupts go to VP 0."""
    script = Script()
    script.offer()
    script.connect(wire.V1_1)

    script.opened(vp=77)

    assert script.table[1].target == 0


@pytest.mark.parametrize("version", [wire.V0_13, wire.V1_1])
def test_the_legacy_interrupt_page(version: int) -> None:
    """The backend maps it before the contact is answered, and lets go of it at the end (cases 013, 157)."""
    script = Script(BusOptions(guest_pages=True))

    assert script.guest(contact(version, interrupt_page=0x5000)) == [ModifyPages(1, 0x5000, 0, 0, False)]
    assert script.bus.state == "connecting"
    assert sent(script.pages()) == [accepted(version)]
    assert script.guest(messages.Unload())[:2] == [ResetPages(), Disconnected()]


def test_no_legacy_page_from_2_4_on() -> None:
    """The word is ignored (case 013)."""
    script = Script(BusOptions(guest_pages=True))

    assert sent(script.guest(contact(wire.V2_4, interrupt_page=0x5000))) == [accepted(wire.V2_4)]


@pytest.mark.parametrize("page", [0x5001, 1 << 40])
def test_a_legacy_page_that_is_none(page: int) -> None:
    """Not aligned, or outside guest memory: unsupported, since 1.1 knows no failure (case 014)."""
    script = Script(BusOptions(guest_pages=True))

    assert sent(script.guest(contact(wire.V1_1, interrupt_page=page))) == [UNSUPPORTED]
    assert script.bus.state == "disconnected"


def test_a_backend_without_legacy_pages() -> None:
    """A contact that needs one is unsupported; one that does not is accepted (case 013)."""
    script = Script()

    assert sent(script.guest(contact(wire.V1_1, interrupt_page=0x5000))) == [UNSUPPORTED]
    assert sent(script.guest(contact(wire.V1_1))) == [accepted(wire.V1_1)]


@pytest.mark.parametrize(
    ("version", "answer"),
    [
        (wire.V1_1, UNSUPPORTED),
        (wire.V4_0, messages.VersionResponse(1, 2, wire.V4_0)),
        (wire.V5_3, messages.VersionResponse(1, 2, 1)),
        (wire.V6_0, messages.VersionResponse2(1, 2, 1, 0)),
    ],
)
def test_one_monitor_page(version: int, answer: messages.VersionResponse) -> None:
    """Supported but an unknown failure, or unsupported where that cannot be said; nothing is mapped (015)."""
    script = Script(BusOptions(guest_pages=True))

    assert sent(script.guest(contact(version, pages=(0x1000, 0)))) == [answer]
    assert script.bus.state == "disconnected"


def test_pages_that_cannot_be_mapped() -> None:
    """The contact fails when the backend says so, and the next one is heard (case 014)."""
    script = Script(BusOptions(guest_pages=True))
    script.guest(contact(wire.V4_0, pages=(0x1000, 0x2000)))
    assert sent(script.pages(False)) == [messages.VersionResponse(1, 2, wire.V4_0)]
    script.guest(contact(wire.V1_1, interrupt_page=0x1000))
    assert sent(script.pages(False)) == [UNSUPPORTED]

    assert sent(script.guest(contact(wire.V4_0))) == [accepted(wire.V4_0)]


def test_an_answer_about_pages_that_nobody_asked_for() -> None:
    """It is refused."""
    script = Script(BusOptions(guest_pages=True))
    script.guest(contact(wire.V4_0, pages=(0x1000, 0x2000)))
    script.pages()

    assert refusals(script.pages()) == ["stale answer"]


def test_a_newer_contact_while_connecting() -> None:
    """The first is answered, then torn down, then the newer is answered (case 165)."""
    script = Script(BusOptions(guest_pages=True))
    script.guest(contact(wire.V4_0, pages=(0x1000, 0x2000)))
    assert script.guest(contact(wire.V5_3, vp=1)) == []

    effects = script.pages()

    assert sent(effects) == [accepted(wire.V4_0), accepted(wire.V5_3)]
    assert effects[1:3] == [ResetPages(), Disconnected()]


def test_a_newer_contact_while_connecting_fails() -> None:
    """The failure is told, then the newer is answered (case 165)."""
    script = Script(BusOptions(guest_pages=True))
    script.guest(contact(wire.V4_0, pages=(0x1000, 0x2000)))
    script.guest(contact(wire.V5_3))

    assert sent(script.pages(False)) == [messages.VersionResponse(1, 2, wire.V4_0), accepted(wire.V5_3)]


def test_a_guest_that_goes_while_connecting() -> None:
    """The pages are let go and the late answer counts for nothing (case 176)."""
    script = Script(BusOptions(guest_pages=True))
    script.guest(contact(wire.V4_0, pages=(0x1000, 0x2000)))

    assert script.guest_gone() == [ResetPages(), Disconnected()]
    assert refusals(script.pages()) == ["stale answer"]


def test_offers_while_connecting() -> None:
    """An offer made before, during and after the contact is in the list, a later one comes alone (035)."""
    script = Script(BusOptions(guest_pages=True))
    script.offer(1)
    script.guest(contact(wire.V4_0, pages=(0x1000, 0x2000)))
    assert sent(script.offer(2)) == []
    script.pages()
    assert sent(script.offer(3)) == []

    kinds = [type(message) for message in sent(script.guest(messages.RequestOffers()))]

    assert kinds == [messages.Offer] * 3 + [messages.AllOffersDelivered]
    assert [type(message) for message in sent(script.offer(4))] == [messages.Offer]


def test_a_contact_for_another_vtl() -> None:
    """It is handed to the server of that VTL; here nothing happens (case 017)."""
    script = Script(BusOptions(linked_vtls=frozenset({2})))
    message = contact(wire.V5_1, vtl=2)

    assert script.guest(message, 4) == [ForwardContact(wire.encode(message), 2)]
    assert script.bus.state == "disconnected"
    assert refusals(script.guest(contact(wire.V5_1, vtl=1), 4)) == ["wrong target"]
    assert sent(script.guest(contact(wire.V5_0, vtl=2), 4)) == [accepted(wire.V5_0)]


def test_trust() -> None:
    """On a trusted connection an untrusted message is refused, the same one trusted is served (case 030)."""
    script = Script()
    script.guest(contact(), trusted=True)

    assert refusals(script.guest(messages.RequestOffers())) == ["not trusted"]
    assert sent(script.guest(messages.RequestOffers(), trusted=True)) == [messages.AllOffersDelivered()]


@pytest.mark.parametrize(("trusted", "pinning", "granted"), [(False, False, 0), (True, True, 0x90)])
def test_confidential_channels_and_pinning(trusted: bool, pinning: bool, granted: int) -> None:
    """The first needs trust, the second a daemon that is set up for it (case 031)."""
    script = Script(BusOptions(gpa_pinning=pinning))
    script.guest(contact(wire.V6_0, features=0x90), trusted=trusted)

    assert script.bus.features == granted


@pytest.mark.parametrize(
    ("features", "trusted", "shown"),
    [(0x00, True, 0x2711), (0x10, True, 0x2717), (0x80, True, 0x2719), (0x90, False, 0x2719)],
)
def test_offer_flags_of_features(features: int, trusted: bool, shown: int) -> None:
    """Exactly the confidential and pinning bits are cleared where not granted (case 042)."""
    script = Script(BusOptions(gpa_pinning=True))
    script.host(device_link.Offer(1, UUID(int=1), UUID(int=1), 0x271F))

    offer = sent(script.connect(wire.V6_0, features, trusted=trusted))[1]

    assert isinstance(offer, messages.Offer)
    assert offer.chn_flags == shown
