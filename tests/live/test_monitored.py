"""Monitored channels: bits of a page that the daemon scans, as long as it must."""

import contextlib
import gc
import time
from pathlib import Path

import pytest

from guest_client import Driver, Guest
from host_client.host import Host
from tests.live import peers
from tests.live.daemon import PATIENCE, Daemon, eventually
from tests.live.old_guest import EACH_DOORBELL, MONITOR_PAGES, OldGuest, host, offers, old, pages, running
from tests.live.peers import INTERFACE
from vmbusd.abi import layout, messages, native, paths, wire
from vmbusd.abi.device_link import OfferFlag
from vmbusd.abi.errors import LinkClosed
from vmbusd.abi.link import Object
from vmbusd.server import limits, requests

__all__ = ["host", "old", "running"]
pytestmark = pytest.mark.live

LATENCIES = 576


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
    old.attached[Object.RAM][MONITOR_PAGES[1] + LATENCIES : MONITOR_PAGES[1] + LATENCIES + 2] = b"\xd0\x07"
    (shown,) = old.open_all(1)
    assert pages(running)["period"] == 200_000
    old.attached[Object.RAM][MONITOR_PAGES[1] + LATENCIES : MONITOR_PAGES[1] + LATENCIES + 2] = b"\x88\x13"
    eventually(lambda: pages(running)["period"] == 500_000, "a new latency counts")
    old.attached[Object.RAM][MONITOR_PAGES[1] + LATENCIES : MONITOR_PAGES[1] + LATENCIES + 2] = b"\x01\x00"
    eventually(lambda: pages(running)["period"] == limits.SHORTEST_SCAN, "there is a shortest")

    old.say(messages.Close(shown.child_relid))
    eventually(lambda: pages(running)["period"] == 0, "nobody scans any more")
    eventually(lambda: offer.channel is None, "the device hears of it")
    scans = pages(running)["scans"]
    assert trigger.trigger(shown.monitorid)
    time.sleep(0.05)
    assert pages(running)["scans"] == scans
    assert device.signals == 0


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


def test_monitor_bits_and_orders_survive_the_daemon(runtime_dir: Path) -> None:
    """The next daemon scans what the last one scanned, also for a bit that was set meanwhile, and an ordered
    target stands in the journal.
    """
    arguments = ("--partition", "a:2", "--grace", "30")
    running = Daemon(runtime_dir, *arguments).wait_ready()
    try:
        with Host.connect("a", runtime_dir=runtime_dir) as host, host.serving():
            ((device, _),) = offers(host, flags=OfferFlag.MONITORED)
            with Guest.attach("a", runtime_dir=runtime_dir) as guest:
                guest.register(Plain())
                guest.start(vps=2)
                assert guest.wait_ready(PATIENCE)
                (channel,) = guest.channels
                channel.signal()
                eventually(lambda: device.signals == 1, "the device hears it")
                wanted = 1 - channel.target_vp
                running.ask(requests.Retarget("a", channel.relid, wanted))

                running.kill()
                channel.signal()
                running.log.unlink()
                running = Daemon(runtime_dir, *arguments).wait_ready()

                eventually(lambda: device.signals == 2, "the device hears what nobody looked at")
                assert pages(running)["armed"] == 1
                assert channel.target_vp == wanted
                (shown,) = running.ask(requests.Channels("a"))["channels"]
                assert shown["target_vp"] == wanted
                channel.signal()
                eventually(lambda: device.signals == 3, "and what comes after")
    finally:
        running.close()
    gc.collect()
