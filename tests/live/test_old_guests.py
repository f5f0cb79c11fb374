"""Interrupts of guests of 0.13 and 1.1, through the page that they name at contact."""

import pytest

from host_client.host import Host
from tests.live import peers
from tests.live.daemon import PATIENCE, Daemon, eventually
from tests.live.old_guest import (
    EACH_DOORBELL,
    MONITOR_PAGES,
    PAGE,
    OldGuest,
    host,
    offers,
    old,
    pages,
    running,
)
from vmbusd.abi import link, messages, native, wire
from vmbusd.abi.device_link import OfferFlag
from vmbusd.abi.link import Object
from vmbusd.server import requests

__all__ = ["host", "old", "running"]
pytestmark = pytest.mark.live

SHARED = link.Signal(link.SHARED_EVENT_CONNECTION)


@pytest.mark.parametrize("version", [wire.V0_13, wire.V1_1])
def test_an_old_guest_finds_its_interrupts_in_its_page(host: Host, old: OldGuest, version: int) -> None:
    """Bit relid in the first half, flag 0 on VP 0, and VP 0's doorbell (cases 013, 234)."""
    (_, first), (_, second) = offers(host, 2)
    assert old.contact(version, PAGE)
    relids = [offer.child_relid for offer in old.open_all(2)]
    native.Words(old.attached[Object.VPWORK], 0, 1).store(0, 1)  # VP 0 sleeps

    assert host.signal_many([offer.channel for offer in (first, second) if offer.channel]) == 2
    assert old.attached.vp_doorbells[0].wait(PATIENCE)
    assert old.flags().take() == []
    assert not old.flags().is_set(0)
    assert old.page().take_for_guest() == relids
    assert first.channel is not None
    first.channel.signal()
    assert old.flags().is_set(0)
    assert old.page().take_for_guest() == [first.channel.relid]


@EACH_DOORBELL
@pytest.mark.parametrize("version", [wire.V0_13, wire.V1_1])
def test_an_old_guest_signals_on_the_shared_connection(host: Host, old: OldGuest, version: int) -> None:
    """The daemon takes the second half and wakes the host of each bit; nothing is left there (case 235)."""
    made = offers(host, 3)
    assert old.contact(version, PAGE)
    old.open_all(3)
    page = old.page()

    for device, offer in (made[0], made[2]):
        assert offer.channel is not None
        page.signal_host(offer.channel.relid)
        assert device.signals == 0
    old.attached.send(link.encode(SHARED))

    eventually(lambda: [device.signals for device, _ in made] == [1, 0, 1], "the devices hear it")
    assert bytes(old.attached[Object.RAM][PAGE + 2048 : PAGE + 4096]) == bytes(2048)


def test_a_worker_of_an_old_guest_may_signal_too(running: Daemon, host: Host, old: OldGuest) -> None:
    """A VP's own link takes the same packet (case 235)."""
    ((device, offer),) = offers(host)
    assert old.contact(wire.V1_1, PAGE)
    old.open_all(1)
    with peers.worker(running.runtime_dir) as worker:
        assert offer.channel is not None
        old.page().signal_host(offer.channel.relid)
        worker.send(link.encode(SHARED))

        eventually(lambda: device.signals == 1, "the device hears it")


def test_bits_of_unknown_channels_are_ignored(running: Daemon, host: Host, old: OldGuest) -> None:
    """They are taken and counted, the others are served (case 235)."""
    ((device, offer),) = offers(host)
    assert old.contact(wire.V1_1, PAGE)
    old.open_all(1)
    assert offer.channel is not None
    for relid in (offer.channel.relid, 77, 2047):
        old.page().signal_host(relid)
    old.attached[Object.RAM][PAGE + 2048] |= 1  # relid 0
    old.attached[Object.RAM][PAGE + 4095] = 0xFF  # relids that there are not
    old.attached.send(link.encode(SHARED))

    eventually(lambda: device.signals == 1, "the device hears it")
    assert pages(running)["unknown"] == 2
    assert running.status("a")["guest"]["linked"]


@pytest.mark.parametrize("connection", [1, 2, 3, 0x2001, 0xFFFFFFFF])
def test_a_signal_that_nobody_serves_is_refused(running: Daemon, old: OldGuest, connection: int) -> None:
    """Without a page also the shared connection; it is counted, and the link goes on."""
    assert old.contact(wire.V4_0)
    old.attached.send(link.encode(link.Signal(connection)))

    kind = "no interrupt page" if connection == 2 else "unknown connection"
    eventually(lambda: running.status("a")["guest"]["refused"] == {kind: 1}, "it is counted")
    assert old.contact(wire.V4_0)


def test_the_page_is_let_go_with_the_connection(running: Daemon, host: Host, old: OldGuest) -> None:
    """After a contact at 2.4 interrupts are those of 2.4: the channel's own flag (cases 013, 157)."""
    ((_, offer),) = offers(host)
    assert old.contact(wire.V1_1, PAGE)
    old.open_all(1)
    table = native.Table(old.attached[Object.TABLE])
    assert table.header()["interrupt_page"] == PAGE
    old.say(messages.Unload())
    old.hear(messages.UnloadResponse)

    assert table.header()["interrupt_page"] == 0
    assert old.contact(wire.V2_4, PAGE)
    (shown,) = old.open_all(1)
    assert offer.channel is not None
    offer.channel.signal()
    assert old.flags().pending() == [shown.child_relid]
    assert old.page().take_for_guest() == []


def test_the_stand_in_of_an_old_guests_vp(running: Daemon, host: Host, old: OldGuest) -> None:
    """VP 0 loses its worker for good: flag 0 goes to a VP that has one, the page stays (case 234)."""
    ((_, offer),) = offers(host)
    assert old.contact(wire.V1_1, PAGE)
    old.open_all(1)
    with peers.worker(running.runtime_dir, vp=1):
        with peers.worker(running.runtime_dir, vp=0):
            pass
        eventually(lambda: running.status("a")["workers"][0]["state"] == "offline", "VP 0 is retired")
        assert offer.channel is not None
        offer.channel.signal()

        assert not old.flags(0).is_set(0)
        assert old.flags(1).is_set(0)
        assert old.page().take_for_guest() == [offer.channel.relid]


@pytest.mark.parametrize("page", [PAGE + 8, 1 << 40])
def test_a_page_that_cannot_be_used_is_unsupported(old: OldGuest, page: int) -> None:
    """The version has no word for a failure (case 014)."""
    assert not old.contact(wire.V1_1, page)
    assert old.contact(wire.V1_1, PAGE)


def test_a_partition_may_leave_the_guests_pages_alone(running: Daemon) -> None:
    """guest_pages = false: no old guest with a page, and no channel is monitored (cases 014, 299)."""
    running.ask(requests.PartitionAdd("b", guest_pages=False))
    with Host.connect("b", runtime_dir=running.runtime_dir) as host, host.serving():
        offers(host, flags=OfferFlag.MONITORED)
        with peers.guest(running.runtime_dir, "b") as control:
            plain = OldGuest(control.attached)
            assert not plain.contact(wire.V1_1, PAGE)
            assert plain.contact(wire.V4_0, 0, *MONITOR_PAGES)
            (offer,) = plain.open_all(1)
            assert (offer.monitorid, offer.monitor_allocated) == (0xFF, 0)
