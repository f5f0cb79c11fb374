"""Pages that a guest names at contact, through a real daemon: old guests' interrupts, monitored channels."""

import contextlib
import gc
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from guest_client import Driver, Guest
from host_client.channel import Channel
from host_client.device import Device
from host_client.host import Host
from host_client.offer import Offer
from tests.live import peers
from tests.live.daemon import PATIENCE, Daemon, daemon, eventually
from tests.live.peers import INTERFACE
from vmbusd.abi import gpadl, layout, link, messages, native, paths, wire
from vmbusd.abi.device_link import OfferFlag
from vmbusd.abi.errors import LinkClosed
from vmbusd.abi.link import Object
from vmbusd.server import requests

pytestmark = pytest.mark.live

PAGE = 3 * layout.PAGE
MONITOR_PAGES = (4 * layout.PAGE, 5 * layout.PAGE)
LATENCIES = 576
SHARED = link.Signal(link.SHARED_EVENT_CONNECTION)


class Heard(Device):
    """Counts the guest's signals."""

    interface = INTERFACE

    def __init__(self) -> None:
        self.signals = 0

    def on_signal(self, channel: Channel) -> None:
        self.signals += 1


EACH_DOORBELL = pytest.mark.parametrize("running", ["semaphore", "eventfd"], indirect=True)


@pytest.fixture
def running(request: pytest.FixtureRequest, runtime_dir: Path) -> Iterator[Daemon]:
    """A daemon with partition a."""
    with daemon(runtime_dir) as running:
        running.ask(requests.PartitionAdd("a", doorbell=getattr(request, "param", "semaphore")))
        yield running


@pytest.fixture
def host(running: Daemon) -> Iterator[Host]:
    """A host that serves its link in threads."""
    with Host.connect("a", runtime_dir=running.runtime_dir) as host, host.serving():
        yield host
    gc.collect()  # a channel and its offer know each other, and hold mappings


class OldGuest(peers.Guest):
    """A control link that speaks a version of its own choice."""

    version = wire.V1_1

    def hear_any(self) -> msgspec.Struct:
        while True:
            packet, fds = peers.receive(self.attached)
            if link.decode_header(packet).kind == link.Kind.HOST_LINK:
                self.attached.add_host_link(packet, fds)
                continue
            return wire.decode(packet[link.HEADER.size :], self.version, sender=wire.Sender.HOST)

    def contact(self, version: int, *pages: int) -> bool:
        """Contact with (interrupt page, monitor pages); whether it was accepted."""
        self.version = version
        self.say(messages.InitiateContactOld(version, 0, *pages, *(0,) * (3 - len(pages))))
        return bool(self.hear(messages.VersionResponse).version_supported)

    def open_all(self, channels: int) -> list[messages.Offer]:
        """Ask for that many offers and open them all on VP 0."""
        self.say(messages.RequestOffers())
        offers = [self.hear(messages.Offer) for _ in range(channels)]
        self.hear(messages.AllOffersDelivered)
        for offer in offers:
            relid = offer.child_relid
            first = 16 + 4 * relid
            for part in gpadl.split(relid, relid, [gpadl.whole_pages(range(first, first + 4))]):
                self.say(part)
            assert self.hear(messages.GpadlCreated).creation_status == 0
            self.say(messages.Open(relid, relid, relid, 0, 2, bytes(120)))
            assert self.hear(messages.OpenResult).status == 0
        return offers

    def page(self) -> native.InterruptPage:
        """Its interrupt page."""
        return native.InterruptPage(self.attached[Object.RAM], PAGE)

    def flags(self, vp: int = 0) -> native.EventFlags:
        """The interrupt page of a VP."""
        return native.EventFlags(self.attached[Object.EVENTS], vp * layout.PAGE)


@pytest.fixture
def old(running: Daemon) -> Iterator[OldGuest]:
    """A guest that has not said anything."""
    with peers.guest(running.runtime_dir) as control:
        yield OldGuest(control.attached)


def offers(host: Host, count: int = 1, **fields: int) -> list[tuple[Heard, Offer]]:
    """That many devices, each with its offer."""
    return [(device, host.offer(device, None, **fields)) for device in (Heard() for _ in range(count))]


def pages(running: Daemon) -> dict[str, int]:
    """What status says of the guest's pages."""
    view: dict[str, int] = running.status("a")["guest_pages"]
    return view


# -- the legacy interrupt page -------------------------------------------------------------------------------


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
    assert page.take_for_host() == []


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


# -- monitored channels --------------------------------------------------------------------------------------


def monitored(old: OldGuest) -> native.MonitorTrigger:
    """Contact at 4.0 with monitor pages."""
    assert old.contact(wire.V4_0, 0, *MONITOR_PAGES)
    return native.MonitorTrigger(old.attached[Object.TABLE], old.attached[Object.RAM])


@EACH_DOORBELL
def test_a_monitor_bit_becomes_a_signal(running: Daemon, host: Host, old: OldGuest) -> None:
    """The trigger bit alone is enough; the host needs no doorbell of the guest (cases 299, 302, 303)."""
    made = offers(host, 2, flags=OfferFlag.MONITORED)
    trigger = monitored(old)
    shown = old.open_all(2)
    assert [(offer.monitorid, offer.monitor_allocated) for offer in shown] == [(0, 1), (1, 1)]
    by_relid = {offer.channel.relid: device for device, offer in made if offer.channel}

    for times in (1, 2):
        assert trigger.trigger(shown[1].monitorid)
        eventually(lambda: by_relid[shown[1].child_relid].signals == times, "the device hears it")  # noqa: B023
    assert by_relid[shown[0].child_relid].signals == 0
    assert pages(running)["armed"] == 2


def test_the_page_is_scanned_only_while_a_monitored_channel_is_open(
    running: Daemon, host: Host, old: OldGuest
) -> None:
    """From its open to its close, in the latency that the page asks for (case 302)."""
    ((device, offer),) = offers(host, flags=OfferFlag.MONITORED)
    trigger = monitored(old)
    assert (pages(running)["armed"], pages(running)["period"]) == (0, 0)
    old.attached[Object.RAM][MONITOR_PAGES[1] + LATENCIES : MONITOR_PAGES[1] + LATENCIES + 2] = b"\xe8\x03"
    (shown,) = old.open_all(1)
    assert pages(running)["period"] == 100_000
    old.attached[Object.RAM][MONITOR_PAGES[1] + LATENCIES : MONITOR_PAGES[1] + LATENCIES + 2] = b"\x88\x13"
    eventually(lambda: pages(running)["period"] == 500_000, "a new latency counts")
    old.attached[Object.RAM][MONITOR_PAGES[1] + LATENCIES : MONITOR_PAGES[1] + LATENCIES + 2] = b"\x01\x00"
    eventually(lambda: pages(running)["period"] == 50_000, "no latency is too short for the daemon")

    old.say(messages.Close(shown.child_relid))
    eventually(lambda: pages(running)["period"] == 0, "nobody scans any more")
    scans = pages(running)["scans"]
    assert trigger.trigger(shown.monitorid)
    time.sleep(0.05)
    assert pages(running)["scans"] == scans
    assert device.signals == 0
    assert offer.channel is None


def test_no_monitored_channel_costs_no_time(running: Daemon, host: Host, old: OldGuest) -> None:
    """Monitor pages alone make the daemon do nothing."""
    offers(host)
    monitored(old)
    old.open_all(1)
    before = running.processor_seconds()
    time.sleep(0.3)

    assert running.processor_seconds() - before < 0.1
    assert pages(running)["scans"] == 0


@EACH_DOORBELL
def test_a_host_that_goes_takes_its_bits_along(running: Daemon, old: OldGuest) -> None:
    """The scan ends with the last of them, and begins again with the next host."""
    for _ in range(2):
        with Host.connect("a", runtime_dir=running.runtime_dir) as host, host.serving():
            ((device, _),) = offers(host, flags=OfferFlag.MONITORED)
            trigger = monitored(old)
            (shown,) = old.open_all(1)
            assert trigger.trigger(shown.monitorid)
            eventually(lambda: device.signals == 1, "the device hears it")  # noqa: B023
        assert old.hear(messages.Rescind).child_relid == shown.child_relid
        eventually(lambda: pages(running)["armed"] == 0, "nothing is armed")
        assert pages(running)["period"] == 0
        old.say(messages.Unload())
        old.hear(messages.UnloadResponse)


def test_a_truncated_memory_ends_the_partition_while_it_is_scanned(running: Daemon, old: OldGuest) -> None:
    """The daemon scans zeros for a moment and goes on with its other partitions."""
    ends = contextlib.suppress(LinkClosed)
    with Host.connect("a", runtime_dir=running.runtime_dir) as host, ends, host.serving():
        offers(host, flags=OfferFlag.MONITORED)
        monitored(old)
        old.open_all(1)
        instance = (running.runtime_dir / paths.INSTANCE_FILE).read_text().strip()
        with Path(f"/dev/shm/vmbusd-{instance}-a-ram").open("r+b") as ram:
            ram.truncate(0)
        assert "-ram was truncated" in peers.farewell(old.attached)
    gc.collect()
    assert running.status("a")["state"] == "dead"
    running.ask(requests.PartitionAdd("c"))


class Plain(Driver):
    """Signals when it is told to."""

    interface = INTERFACE


class Hurried(Plain):
    """The same without the monitor's delay."""

    low_latency = True


@pytest.mark.parametrize("driver", [Plain, Hurried])
def test_the_guest_library_uses_the_monitor_bit(running: Daemon, host: Host, driver: type[Plain]) -> None:
    """Unless its driver wants low latency; the device hears it either way (case 303)."""
    ((device, _),) = offers(host, flags=OfferFlag.MONITORED)
    with Guest.attach("a", runtime_dir=running.runtime_dir) as guest:
        guest.register(driver())
        guest.start(vps=1)
        assert guest.wait_ready(PATIENCE)
        (channel,) = guest.channels
        assert channel.monitor_id == 0
        assert channel.signal() is True
        eventually(lambda: device.signals == 1, "the device hears it")
        assert pages(running)["signals"] == (0 if driver.low_latency else 1)


def test_the_guest_library_signals_others_directly(running: Daemon, host: Host) -> None:
    """An offer without a monitor id never touches the monitor page (case 305)."""
    ((device, _),) = offers(host)
    with Guest.attach("a", runtime_dir=running.runtime_dir) as guest:
        guest.register(Plain())
        guest.start(vps=1)
        assert guest.wait_ready(PATIENCE)
        (channel,) = guest.channels
        assert channel.monitor_id == layout.NO_MONITOR
        channel.signal()
        eventually(lambda: device.signals == 1, "the device hears it")
        page = native.Table(guest._connection.attached[Object.TABLE]).header()["monitor_page"]
        memory = guest._connection.attached[Object.RAM]
        assert bytes(memory[page : page + layout.PAGE]) == bytes(layout.PAGE)
