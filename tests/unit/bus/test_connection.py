"""Contact, unload, reconnect: when a guest is connected and what ends it."""

from uuid import UUID

import pytest

from tests.unit.bus.script import CONTACT, FAILURE, VPS, Script, asked, contact, refusals, sent
from vmbusd.abi import device_link, gpadl, messages, wire
from vmbusd.bus.channels import State
from vmbusd.bus.effects import CloseSlot, Disconnected, EmptySlot, SendToGuest, SetState

UNSUPPORTED = messages.VersionResponse(0, 0, 0)
ACCEPTED = messages.VersionResponse(1, 0, 1)
IDS = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize("version", [0x0000000C, 0x00040002, 0x00050004, 0x00060001, 0xFFFFFFFF])
def test_a_version_that_is_not_spoken(version: int) -> None:
    """An unknown version is answered with 16 zero bytes and nothing happens (cases 001, 004)."""
    script = Script()

    effects = script.guest(contact(version))

    assert effects == [SendToGuest(wire.encode(UNSUPPORTED), 0, 2)]
    assert script.bus.state == "disconnected"


@pytest.mark.parametrize("connection_id", [1, 4])
def test_contact(connection_id: int) -> None:
    """5.3 is accepted on either message connection; the answer names connection 1 (cases 002, 003)."""
    script = Script()

    assert sent(script.guest(CONTACT, connection_id)) == [ACCEPTED]
    assert (script.bus.state, script.bus.version) == ("connected", wire.V5_3)


def test_features_mean_nothing_below_6_0() -> None:
    """Feature bits in a 5.3 contact are not granted (case 008)."""
    assert sent(Script().guest(contact(features=0xFF))) == [ACCEPTED]


@pytest.mark.parametrize("connection_id", [0, 2, 3, 5, 0x2001])
def test_contact_on_another_connection(connection_id: int) -> None:
    """Only connections 1 and 4 carry a contact."""
    assert refusals(Script().guest(CONTACT, connection_id)) == ["wrong connection id"]


def test_messages_come_on_the_connection_that_was_answered() -> None:
    """After contact everything but another contact is refused on connection 4 (case 003)."""
    script = Script()
    script.guest(CONTACT, 4)

    assert refusals(script.guest(messages.RequestOffers(), 4)) == ["wrong connection id"]
    assert sent(script.guest(messages.RequestOffers(), 1)) == [messages.AllOffersDelivered()]


def test_messages_go_to_the_vp_that_was_named() -> None:
    """From 3.0 on every message goes to the VP of the contact (case 012)."""
    script = Script()

    effects = script.guest(contact(vp=1)) + script.guest(messages.RequestOffers())

    assert [effect.vp for effect in effects if isinstance(effect, SendToGuest)] == [1, 1]


@pytest.mark.parametrize(
    "named", [{"pages": (0x1000, 0)}, {"pages": (0, 0x1000)}, {"vp": VPS}, {"vp": 0xFFFFFFFF}]
)
def test_a_contact_that_cannot_be_served(named: dict[str, object]) -> None:
    """One monitor page of two, or a VP the guest does not have: supported, but unknown failure (case 015)."""
    script = Script()

    assert sent(script.guest(contact(**named))) == [messages.VersionResponse(1, 2, 1)]  # type: ignore[arg-type]
    assert script.bus.state == "disconnected"


def test_both_monitor_pages() -> None:
    """Both pages are fine; no channel is offered a monitor id, so nothing is written there."""
    assert sent(Script().guest(contact(pages=(0x1000, 0x2000)))) == [ACCEPTED]


def test_another_sint_on_the_multi_client_connection() -> None:
    """SINT 3 on connection 4 is answered unsupported there, and nothing else changes (case 016)."""
    script = Script()
    script.connect()

    effects = script.guest(contact(wire.V5_0, vp=1, sint=3), 4)

    assert effects == [SendToGuest(wire.encode(UNSUPPORTED), 1, 3)]
    assert script.bus.state == "connected"
    assert sent(script.guest(contact(sint=3), 1)) == [ACCEPTED]


def test_a_sint_that_does_not_exist() -> None:
    """There is nobody to answer on SINT 16."""
    assert refusals(Script().guest(contact(sint=16), 4)) == ["wrong target"]


def test_another_vtl_on_the_multi_client_connection() -> None:
    """A contact for another VTL is not ours to answer (case 017)."""
    assert refusals(Script().guest(contact(vtl=2), 4)) == ["wrong target"]
    assert sent(Script().guest(contact(vtl=2), 1)) == [ACCEPTED]


NOT_CONTACT = [row for row in wire.MESSAGES if row.number != 14]


@pytest.mark.parametrize("row", NOT_CONTACT, ids=lambda row: row.cls.__name__)
def test_nothing_but_contact_before_contact(row: wire.Row) -> None:
    """Before contact every other message is refused and nothing changes (cases 020, 022)."""
    script = Script()

    refused = refusals(script.guest_bytes(row.number.to_bytes(4, "little").ljust(240, b"\0")))

    expected = "not connected" if row.sender is wire.Sender.GUEST else "wrong direction"
    assert refused == ["wrong target" if row.number == 19 else expected]
    assert script.bus.state == "disconnected"


@pytest.mark.parametrize("data", [b"", bytes(7), bytes(241), bytes(8), b"\xff" * 240], ids=len)
def test_bytes_that_are_no_message(data: bytes) -> None:
    """They are refused and the next good message works (cases 018, 019, 309, 314)."""
    script = Script()
    script.guest(CONTACT)

    assert refusals(script.guest_bytes(data)) in (["too short"], ["too long"], ["unknown message"])
    assert sent(script.guest(messages.RequestOffers())) == [messages.AllOffersDelivered()]


@pytest.mark.parametrize("number", [1, 2, 4, 6, 10, 12, 15, 17, 20, 23, 24, 26, 28])
def test_host_messages_from_a_connected_guest(number: int) -> None:
    """They are refused and the guest is served on (case 022)."""
    script = Script()
    script.guest(CONTACT)

    assert refusals(script.guest_bytes(number.to_bytes(4, "little").ljust(240, b"\0"))) == ["wrong direction"]
    assert sent(script.guest(messages.RequestOffers())) == [messages.AllOffersDelivered()]


def test_a_socket_request_finds_nobody() -> None:
    """No host offers sockets, so the connect is refused."""
    script = Script()
    script.guest(CONTACT)
    request = messages.TlConnect(*IDS)

    (answer,) = sent(script.guest(request))

    assert answer == messages.TlConnectResult(*IDS, messages.CONNECTION_REFUSED)


def test_unload_of_closed_channels() -> None:
    """Everything is let go, then UNLOAD_COMPLETE is sent (case 157)."""
    script = Script()
    script.offer()
    script.connect()

    effects = script.guest(messages.Unload())

    assert effects == [
        SetState(1, State.CLOSING_CLIENT_RELEASE),
        EmptySlot(1, 1),
        Disconnected(),
        SendToGuest(wire.encode(messages.UnloadResponse()), 0, 2),
    ]
    assert (script.bus.state, script.bus.version) == ("disconnected", 0)


def test_unload_waits_for_devices_and_claims() -> None:
    """Two open channels: both are closed; the answer needs both devices and both claims (case 158)."""
    script = Script()
    script.offer(1)
    script.offer(2)
    script.connect()
    script.opened(1, offer_id=1)
    script.opened(2, offer_id=2)

    effects = script.guest(messages.Unload())

    assert [effect for effect in effects if isinstance(effect, CloseSlot)] == [
        CloseSlot(1, 1, 1),
        CloseSlot(2, 2, 1),
    ]
    assert device_link.Close(1, 1) in asked(effects)
    assert device_link.Close(2, 1) in asked(effects)
    assert sent(effects) == []
    assert script.bus.state == "disconnecting"
    for offer_id in (1, 2):
        assert sent(script.host(device_link.Closed(offer_id, 1))) == []
        assert sent(script.host(device_link.GpadlTornDown(offer_id, offer_id))) == []
    assert sent(script.claim_free(2)) == []
    assert sent(script.claim_free(1)) == [messages.UnloadResponse()]


@pytest.mark.parametrize("status", [0, FAILURE])
def test_unload_while_opening(status: int) -> None:
    """No OPEN_RESULT is sent; a device that opens after all is closed again (case 159)."""
    script = Script()
    script.offer()
    script.connect()
    script.opening()

    assert sent(script.guest(messages.Unload())) == []
    effects = script.host(device_link.Opened(1, 1, status))
    assert asked(effects) == ([] if status else [device_link.Close(1, 1)])
    script.host(device_link.GpadlTornDown(1, 1))
    if not status:
        script.host(device_link.Closed(1, 1))
    assert sent(script.claim_free(1)) == [messages.UnloadResponse()]


def test_unload_tears_gpadls_down() -> None:
    """The device gives memory back without a GPADL_TORNDOWN, and the unload waits (case 160)."""
    script = Script()
    script.offer()
    script.connect()
    script.create_gpadl()
    script.accept_gpadl()

    effects = script.guest(messages.Unload())

    assert asked(effects) == [device_link.Teardown(1, 1)]
    assert sent(effects) == []
    assert sent(script.host(device_link.GpadlTornDown(1, 1))) == [messages.UnloadResponse()]


@pytest.mark.parametrize("status", [0, FAILURE])
def test_unload_with_a_gpadl_that_is_not_answered(status: int) -> None:
    """A device that accepts after all is told to tear down, and the disconnect waits for that (case 104)."""
    script = Script()
    script.offer()
    script.connect()
    script.create_gpadl()
    script.guest(messages.Unload())

    effects = script.host(device_link.GpadlAccepted(1, 1, status))

    assert asked(effects) == ([] if status else [device_link.Teardown(1, 1)])
    if not status:
        effects = script.host(device_link.GpadlTornDown(1, 1))
    assert sent(effects) == [messages.UnloadResponse()]


def test_the_next_connection_starts_afresh() -> None:
    """Same relids, GPADL ids free, unfinished ones too, a new generation (cases 039, 103, 161)."""
    script = Script()
    script.offer(2)
    script.offer(1)
    first = script.connect()
    script.opened(1)
    script.guest(gpadl.split(2, 9, [gpadl.whole_pages(range(30))])[0])
    script.guest(messages.Unload())
    script.host(device_link.Closed(1, 1))
    script.host(device_link.GpadlTornDown(1, 1))
    script.claim_free()

    second = script.connect()

    assert sent(second) == sent(first)
    script.opened(1)
    assert script.generation(1) == 2
    assert sent(script.create_gpadl(2, handle=9) + script.accept_gpadl(2, 9)) == [
        messages.GpadlCreated(2, 9, 0)
    ]


def test_messages_while_disconnecting() -> None:
    """They are refused, UNLOAD too, and one UNLOAD_COMPLETE is sent in all (case 162)."""
    script = Script()
    script.offer()
    script.connect()
    script.opened()
    script.guest(messages.Unload())

    assert refusals(script.guest(messages.Unload())) == ["not connected"]
    assert refusals(script.guest(messages.Close(1))) == ["not connected"]
    script.host(device_link.Closed(1, 1))
    script.host(device_link.GpadlTornDown(1, 1))
    script.claim_free()
    assert script.unloads == 1


def test_contact_while_connected() -> None:
    """The old connection ends without UNLOAD_COMPLETE, then the contact is answered (case 163)."""
    script = Script()
    script.offer()
    script.connect()
    script.opened()

    assert sent(script.guest(CONTACT)) == []
    script.host(device_link.Closed(1, 1))
    script.host(device_link.GpadlTornDown(1, 1))
    effects = script.claim_free()
    assert effects[-2:] == [Disconnected(), SendToGuest(wire.encode(ACCEPTED), 0, 2)]
    assert script.bus.state == "connected"
    assert script.unloads == 0


def test_contact_of_an_unknown_version_while_connected() -> None:
    """The old connection ends all the same, then the answer is unsupported (case 164)."""
    script = Script()
    script.connect()

    assert sent(script.guest(contact(0xFFFFFFFF))) == [UNSUPPORTED]
    assert script.bus.state == "disconnected"


def test_the_newest_contact_counts() -> None:
    """A contact while disconnecting replaces what would have been answered (case 165)."""
    script = Script()
    script.offer()
    script.connect()
    script.create_gpadl()
    script.guest(messages.Unload())
    script.guest(contact(0xFFFFFFFF))
    script.guest(contact(vp=3))

    effects = script.host(device_link.GpadlAccepted(1, 1, FAILURE))

    assert effects[-2:] == [Disconnected(), SendToGuest(wire.encode(ACCEPTED), 3, 2)]


def test_an_offer_while_disconnecting() -> None:
    """It is in the next guest's list (case 045)."""
    script = Script()
    script.offer(1)
    script.connect()
    script.create_gpadl()
    script.guest(messages.Unload())
    assert sent(script.offer(2)) == []
    script.host(device_link.GpadlAccepted(1, 1, FAILURE))

    assert [type(message) for message in sent(script.connect())] == [
        messages.VersionResponse,
        messages.Offer,
        messages.Offer,
        messages.AllOffersDelivered,
    ]


def test_a_guest_that_is_gone() -> None:
    """Everything is cleaned up as by an unload, without a message (case 176)."""
    script = Script()
    script.offer()
    script.connect()
    script.opened()

    effects = script.guest_gone()
    effects += script.host(device_link.Closed(1, 1))
    effects += script.host(device_link.GpadlTornDown(1, 1))
    effects += script.claim_free()

    assert effects[-2:] == [EmptySlot(1, 1), Disconnected()]
    assert sent(effects) == []
    assert script.guest_gone() == [Disconnected()]


def test_a_guest_that_goes_while_it_unloads() -> None:
    """There is nobody left to get UNLOAD_COMPLETE."""
    script = Script()
    script.offer()
    script.connect()
    script.create_gpadl()
    script.guest(messages.Unload())

    assert script.guest_gone() == []
    assert script.host(device_link.GpadlAccepted(1, 1, FAILURE)) == [EmptySlot(1, 1), Disconnected()]
