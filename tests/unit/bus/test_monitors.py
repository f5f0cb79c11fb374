"""Monitor pages: who gives them, which channel gets an id, when a bit is armed, how they are changed."""

from uuid import UUID

import pytest

from tests.unit.bus.script import Script, asked, contact, refusals, sent
from vmbusd.abi import device_link, messages, wire
from vmbusd.abi.layout import NO_MONITOR, NO_TARGET
from vmbusd.bus.effects import ArmMonitor, DisarmMonitor, FillSlot, ModifyPages, ResetPages
from vmbusd.bus.ids import MonitorIds
from vmbusd.bus.options import BusOptions

PARENT, CHILD = 0x1000, 0x2000
MODIFY = 0x04
OWN_PAGES = 0x40
OK, FAILED = messages.ModifyConnectionResponse(0), messages.ModifyConnectionResponse(2)


def monitored(offer_id: int = 1, monitor_id: int = NO_MONITOR) -> device_link.Offer:
    flags = device_link.OfferFlag.MONITORED
    guid = UUID(int=offer_id)
    return device_link.Offer(offer_id, guid, guid, flags=flags, monitor_id=monitor_id)


def with_pages(features: int = 0, options: BusOptions | None = None) -> Script:
    """A monitored and a plain offer, and a guest that gave both pages."""
    script = Script(options or BusOptions(guest_pages=True))
    script.host(monitored(1))
    script.offer(2, interface=9)
    script.guest(contact(wire.V6_0, pages=(PARENT, CHILD), features=features))
    script.pages()
    return script


def ids(script: Script) -> list[tuple[int, int]]:
    """(monitor id, allocated) of each channel listed."""
    listed = sent(script.guest(messages.RequestOffers()))
    return [(one.monitorid, one.monitor_allocated) for one in listed if isinstance(one, messages.Offer)]


def test_ids_in_order() -> None:
    """0 to 127, then none; one that came back is the next (case 297)."""
    monitor_ids = MonitorIds()

    assert [monitor_ids.take() for _ in range(128)] == list(range(128))
    assert monitor_ids.take() is None
    monitor_ids.give_back(10)
    assert monitor_ids.take() == 10


def test_a_claimed_id() -> None:
    """It cannot be claimed again before it came back (case 298)."""
    monitor_ids = MonitorIds()

    assert monitor_ids.claim(5)
    assert not monitor_ids.claim(5)
    assert [monitor_ids.take() for _ in range(6)] == [0, 1, 2, 3, 4, 6]
    monitor_ids.give_back(5)
    assert monitor_ids.claim(5)


def test_ids_with_pages() -> None:
    """A monitored offer gets an id, another none; the record has it too (case 299)."""
    script = with_pages()

    assert ids(script) == [(0, 1), (NO_MONITOR, 0)]
    assert script.table[1].fill.monitor_id == 0


def test_ids_of_later_offers() -> None:
    """Each gets the lowest that is free at that moment (cases 297, 299)."""
    script = with_pages()
    ids(script)
    for offer_id in (3, 4):
        script.host(monitored(offer_id))
    script.host(device_link.Revoke(3))
    script.guest(messages.RelidReleased(3))
    script.host(monitored(5))

    assert [slot.fill.monitor_id for slot in script.table.values()] == [0, NO_MONITOR, 2, 1]


@pytest.mark.parametrize(("options", "pages"), [(True, (0, 0)), (False, (PARENT, CHILD))])
def test_ids_without_pages(options: bool, pages: tuple[int, int]) -> None:
    """The guest gave none, or the daemon may not use them: no id (case 299)."""
    script = Script(BusOptions(guest_pages=options))
    script.host(monitored())
    assert sent(script.guest(contact(wire.V4_0, pages=pages))) == [messages.VersionResponse(1, 0, wire.V4_0)]

    assert ids(script) == [(NO_MONITOR, 0)]


def test_a_preset_id() -> None:
    """It is sent, and the others are counted as if it were not there (case 300)."""
    script = Script(BusOptions(guest_pages=True))
    script.host(monitored(1, monitor_id=1))
    for offer_id in (2, 3):
        script.host(monitored(offer_id))
    script.guest(contact(wire.V4_0, pages=(PARENT, CHILD)))
    script.pages()

    assert ids(script) == [(1, 1), (0, 1), (1, 1)]


def test_a_preset_id_that_is_none() -> None:
    """The offer is refused."""
    (result,) = asked(Script().host(monitored(1, monitor_id=128)))

    assert isinstance(result, device_link.OfferResult)
    assert result.status == messages.UNSUCCESSFUL


def test_more_channels_than_ids() -> None:
    """From the 129th on they are offered without one (case 299)."""
    script = Script(BusOptions(guest_pages=True))
    for offer_id in range(1, 131):
        script.host(monitored(offer_id))
    script.guest(contact(wire.V4_0, pages=(PARENT, CHILD)))
    script.pages()

    assert ids(script) == [(number, 1) for number in range(128)] + [(NO_MONITOR, 0)] * 2


def test_an_id_comes_back_with_the_relid() -> None:
    """The next offer after a release has the same id (case 297)."""
    script = with_pages()
    ids(script)
    script.host(device_link.Revoke(1))
    script.guest(messages.RelidReleased(1))

    slot = script.host(monitored(3))[1]

    assert isinstance(slot, FillSlot)
    assert (slot.relid, slot.monitor_id) == (1, 0)


@pytest.mark.parametrize("pages", [(0, 0), (PARENT, CHILD)])
def test_pages_of_the_daemon(pages: tuple[int, int]) -> None:
    """With feature 0x40 the 40-byte answer names them and they are used (case 301)."""
    script = Script(BusOptions(guest_pages=True, monitor_pages=(0, 0x9000)))
    script.host(monitored())

    effects = script.guest(contact(wire.V6_0, pages=pages, features=OWN_PAGES))

    assert effects == [ModifyPages(1, 0, 0, 0x9000, True)]
    assert sent(script.pages()) == [messages.VersionResponse3(1, 0, 1, OWN_PAGES, 0, 0x9000)]
    assert ids(script) == [(0, 1)]


def test_a_daemon_without_pages() -> None:
    """It never grants 0x40 (case 301)."""
    script = with_pages(OWN_PAGES)

    assert script.bus.features == 0


def test_arming() -> None:
    """The bit is armed while the channel is open, before the device hears of it (case 302)."""
    script = with_pages()
    ids(script)
    script.create_gpadl()
    script.accept_gpadl()

    effects = script.guest(messages.Open(1, 1, 1, 0, 2, bytes(120)))

    assert effects[2] == ArmMonitor(0, 1, 0, 0x2001)
    script.host(device_link.Opened(1, 1, 0))
    assert script.guest(messages.Close(1))[0] == DisarmMonitor(0)


@pytest.mark.parametrize("how", ["no interrupts", "reserved", "plain"])
def test_not_armed(how: str) -> None:
    """Interrupts off, reserved, or not monitored: no bit (cases 064, 302)."""
    script = with_pages()
    ids(script)
    relid = 2 if how == "plain" else 1
    script.create_gpadl(relid, 1)
    script.accept_gpadl(relid, 1)
    if how == "reserved":
        effects = script.guest(messages.OpenReserved(1, 0, 2, 1, 2))
    else:
        vp = NO_TARGET if how == "no interrupts" else 0
        effects = script.guest(messages.Open(relid, 1, 1, vp, 2, bytes(120)))

    assert asked(effects)
    assert not any(isinstance(effect, ArmMonitor) for effect in effects)


def test_the_end_of_a_connection() -> None:
    """Bits are disarmed, pages let go before the answer, and the next guest has no ids (cases 157, 299)."""
    script = with_pages()
    ids(script)
    script.opened()
    effects = script.guest(messages.Unload())
    assert effects.index(DisarmMonitor(0)) < len(effects) - 1
    script.host(device_link.Closed(1, 1))
    script.host(device_link.GpadlTornDown(1, 1))

    effects = script.claim_free()

    assert effects[-3] == ResetPages()
    assert sent(effects) == [messages.UnloadResponse()]
    script.guest(contact())
    assert ids(script) == [(NO_MONITOR, 0)] * 2


# MODIFY_CONNECTION


def test_modify_connection() -> None:
    """Both pages are applied and the guest is told; later offers use them (case 156)."""
    script = Script(BusOptions(guest_pages=True))
    script.connect(wire.V6_0, MODIFY)

    assert script.guest(messages.ModifyConnection(PARENT, CHILD)) == [ModifyPages(1, 0, PARENT, CHILD, False)]
    assert sent(script.pages()) == [OK]
    (offer,) = sent(script.host(monitored()))
    assert isinstance(offer, messages.Offer)
    assert offer.monitor_allocated == 1


def test_stop_using_pages() -> None:
    """Both zero: later offers have no id (case 156)."""
    script = with_pages(MODIFY)
    script.guest(messages.ModifyConnection(0, 0))
    assert sent(script.pages()) == [OK]

    assert ids(script) == [(NO_MONITOR, 0)] * 2


@pytest.mark.parametrize("pages", [(PARENT, 0), (0, CHILD), (PARENT, CHILD + 1), (PARENT, 1 << 50)])
def test_pages_that_cannot_be(pages: tuple[int, int]) -> None:
    """One page only, or one that is no page: state 2 at once (case 156)."""
    assert sent(with_pages(MODIFY).guest(messages.ModifyConnection(*pages))) == [FAILED]


def test_a_second_one_while_one_is_pending() -> None:
    """It fails, the first goes on (case 156)."""
    script = with_pages(MODIFY)
    script.guest(messages.ModifyConnection(0, 0))

    assert sent(script.guest(messages.ModifyConnection(PARENT, CHILD))) == [FAILED]
    assert sent(script.pages()) == [OK]


def test_modify_while_the_daemons_pages_are_used() -> None:
    """It fails (case 156)."""
    script = Script(BusOptions(monitor_pages=(0x8000, 0x9000)))
    script.guest(contact(wire.V6_0, features=OWN_PAGES | MODIFY))
    script.pages()

    assert sent(script.guest(messages.ModifyConnection(PARENT, CHILD))) == [FAILED]


def test_modify_while_a_monitored_channel_is_open() -> None:
    """It fails; after the close it works (case 304)."""
    script = with_pages(MODIFY)
    ids(script)
    script.opened()

    assert sent(script.guest(messages.ModifyConnection(0, 0))) == [FAILED]
    script.guest(messages.Close(1))
    script.guest(messages.ModifyConnection(0, 0))
    assert sent(script.pages()) == [OK]


def test_the_backend_cannot() -> None:
    """State 2, and the old pages stay in use (case 156)."""
    script = with_pages(MODIFY)
    script.guest(messages.ModifyConnection(0, 0))

    assert sent(script.pages(False)) == [FAILED]
    assert ids(script)[0] == (0, 1)


def test_a_backend_that_uses_no_pages() -> None:
    """It says yes to anything: nothing would be read there (case 156)."""
    script = Script()
    script.connect(wire.V6_0, MODIFY)

    assert sent(script.guest(messages.ModifyConnection(PARENT, CHILD))) == [OK]


def test_unload_while_pages_are_modified() -> None:
    """The late answer counts for nothing (case 162)."""
    script = with_pages(MODIFY)
    script.guest(messages.ModifyConnection(0, 0))

    assert sent(script.guest(messages.Unload())) == [messages.UnloadResponse()]
    assert refusals(script.pages()) == ["stale answer"]
