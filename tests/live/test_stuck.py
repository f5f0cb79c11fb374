"""Workers that are stopped, pinned drivers, old guests and other corners of VPs that come and go."""

import gc
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from guest_client.players import ProcessPlayers
from host_client.host import Host
from tests.live import peers
from tests.live.daemon import Daemon, daemon, eventually, order
from tests.live.guest_drivers import HELD, PINNED, Counter, Held, Pinned, Slow
from tests.live.guest_support import MODES, Mode, Signaller, World, begin, callbacks, produce, seen
from tests.live.old_guest import EACH_DOORBELL, PAGE, OldGuest, offers
from vmbusd.abi import link, wire
from vmbusd.abi.attach import Attached
from vmbusd.abi.errors import RefusedError
from vmbusd.server import requests
from vmbusd.server.requests import VpOffline, VpOnline

pytestmark = pytest.mark.live


def stop(pid: int) -> None:
    """SIGSTOP, and wait until the process has stopped."""
    os.kill(pid, signal.SIGSTOP)
    stat = Path(f"/proc/{pid}/stat")
    eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", f"{pid} has stopped")


def worker_view(running: Daemon, vp: int, partition: str = "demo") -> dict[str, object]:
    """What status says of a VP."""
    view: dict[str, object] = running.status(partition)["workers"][vp]
    return view


def said(running: Daemon, event: str) -> int:
    """How often the log says that of VP 1: on a halted machine another may be stuck for a moment."""
    return sum(event in line and '"vp": 1' in line for line in running.text().splitlines())


def test_a_stopped_worker_is_reported_once_and_loses_nothing(world: World) -> None:
    """SIGSTOP with work waiting: stuck in status, one warning, still online; SIGCONT: served, and stuck no
    more. Stuck again is a new warning."""
    offers = world.offer(4)
    with world.guest(Counter()) as guest:
        channels = begin(guest, "process")
        theirs = [channel for channel in channels if channel.target_vp == 1]
        pid = guest.statistics()["workers"]["pids"][1]
        for turn in (1, 2):
            stop(pid)
            try:
                counts = [produce(offer) for offer in offers]
                eventually(lambda: worker_view(world.daemon, 1)["stuck"], "VP 1 is stuck")
                view = worker_view(world.daemon, 1)
                assert view["state"] == "online"
                assert view["pid"] == pid
                eventually(lambda: not worker_view(world.daemon, 0)["stuck"], "VP 0 is not stuck")
                eventually(
                    lambda: float(str(worker_view(world.daemon, 1)["stuck_seconds"])) > 2.5, "for a while"
                )
                assert said(world.daemon, "worker stuck") == turn
            finally:
                os.kill(pid, signal.SIGCONT)
            eventually(lambda: [seen(offer) for offer in offers] == counts, "everything is seen")  # noqa: B023
            eventually(lambda: not worker_view(world.daemon, 1)["stuck"], "VP 1 is not stuck")
            eventually(lambda: said(world.daemon, "worker moves again") == turn, "it is said")  # noqa: B023
        assert theirs
        assert guest.statistics()["workers"]["died"] == 0


def test_a_close_waits_for_the_stopped_owner_of_its_claim_alone(world: World) -> None:
    """Stopped inside a callback: that channel's close waits for it, every other is closed and opened
    meanwhile; its VP may be taken offline, its other channels are served elsewhere."""
    offers = world.offer(4)
    with world.guest(Slow()) as guest:
        channels = begin(guest, "process")
        held = next(channel for channel in channels if channel.target_vp == 1)
        pid = guest.statistics()["workers"]["pids"][1]
        by_relid = {offer.channel.relid: offer for offer in offers if offer.channel is not None}
        blocks = guest._connection.space.blocks

        def is_stopped_inside() -> bool:
            """Whether it was caught in the callback; on a busy machine that may take some tries."""
            before = callbacks(held)
            produce(by_relid[held.relid])
            eventually(
                lambda: not blocks.is_free(held.event_flag) or callbacks(held) != before, "its callback runs"
            )
            stop(pid)
            if not blocks.is_free(held.event_flag):
                return True
            os.kill(pid, signal.SIGCONT)
            return False

        try:
            eventually(is_stopped_inside, "it is stopped inside the callback", 60)
            closing = threading.Thread(target=held.close, kwargs={"timeout": 60.0})
            closing.start()
            eventually(lambda: world.daemon.status("demo")["closing"] == 1, "its close has begun")
            eventually(lambda: worker_view(world.daemon, 1)["stuck"], "VP 1 is stuck")
            with pytest.raises(RefusedError, match="has not left within 5 s; it goes on"):
                world.daemon.ask(VpOffline("demo", 1))
            for channel in channels:
                if channel is not held:
                    before = callbacks(channel)[0]
                    produce(by_relid[channel.relid])
                    eventually(lambda: callbacks(channel)[0] > before, "another VP serves it")  # noqa: B023
                    channel.close(timeout=60)
                    channel.open(timeout=60)
            assert closing.is_alive()
        finally:
            os.kill(pid, signal.SIGCONT)
        closing.join(60)
        assert not closing.is_alive()
        eventually(lambda: worker_view(world.daemon, 1)["state"] == "offline", "VP 1 is offline")


def test_a_pinned_channel_ends_with_the_process_that_has_its_state(world: World) -> None:
    """Its VP goes offline: it is closed with the reason, and no other process ever calls it. A pinned channel
    without state yet moves like any other (docs/design.md section 3)."""
    offers = world.host.offer_many([Signaller(PINNED), Signaller(PINNED), Signaller()])
    with world.guest(Pinned(), Counter()) as guest:
        begin(guest, "process")
        pinned = [channel for channel in guest.channels if channel.interface == PINNED]
        victim = pinned[0]
        vp = victim.target_vp
        for offer in offers:
            eventually(lambda offer=offer: offer.channel is not None, "the device hears of the open")  # type: ignore[misc]
        by_relid = {offer.channel.relid: offer for offer in offers if offer.channel is not None}
        produce(by_relid[victim.relid])
        eventually(lambda: callbacks(victim)[0], "its callback")
        pid = callbacks(victim)[1]
        order(world.daemon, VpOffline("demo", vp))
        eventually(lambda: not victim.is_open, "the pinned channel is closed")

        assert victim.close_reason == f"VP {vp}, whose process held its state, goes offline"
        assert callbacks(victim)[1] in (0, pid)
        for channel in guest.channels:
            if channel is not victim:
                assert channel.is_open
                before = callbacks(channel)[0]
                produce(by_relid[channel.relid])
                eventually(lambda: callbacks(channel)[0] > before, "another VP serves it")  # noqa: B023
        eventually(lambda: guest.statistics()["channels"].get("offered") == 1, "its close completes")
        victim.open()
        assert victim.target_vp == 1 - vp


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_pinned_channel_that_is_first_called_while_its_vp_leaves_is_closed(
    world: World, comes_back: bool
) -> None:
    """The process serves on until it has left, and the state goes with it: no other process calls the
    channel, whether the VP goes offline or is wanted back before it was."""
    held, *offers = world.host.offer_many([Signaller(HELD), Signaller(PINNED), Signaller(PINNED)])
    with world.guest(Held(), Pinned()) as guest:
        begin(guest, "process")
        supervisor = cast("ProcessPlayers", guest._players)._supervisor
        holder = next(channel for channel in guest.channels if channel.interface == HELD)
        victim, other = (channel for channel in guest.channels if channel.interface == PINNED)
        vp = victim.target_vp
        holder.retarget(vp)
        for offer in (held, *offers):
            eventually(lambda offer=offer: offer.channel is not None, "the device hears of the open")  # type: ignore[misc]
        by_relid = {offer.channel.relid: offer for offer in offers if offer.channel is not None}
        produce(held)
        eventually(lambda: callbacks(holder)[0], "VP is in a callback")
        produce(by_relid[victim.relid])
        begun = [guest._vp_orders.begin(vp, online=online) for online in (False, True)[: 1 + comes_back]]
        if comes_back:
            begun[1].result(60)
        else:
            eventually(lambda: vp in supervisor._offline, "the guest hears that its VP is leaving")
        assert callbacks(victim)[0] == 0
        assert victim.is_open
        holder.state[-1] = 1
        eventually(lambda: not victim.is_open, "the pinned channel is closed")

        assert victim.close_reason == f"VP {vp}, whose process held its state, goes offline"
        assert callbacks(victim)[0] in (0, 1)
        wanted = "online" if comes_back else "offline"
        eventually(lambda: guest.statistics()["vp_states"][vp] == wanted, f"VP {vp} is {wanted}")
        assert other.is_open
        eventually(lambda: guest.statistics()["channels"].get("offered") == 1, "its close completes")
        victim.open(timeout=60)
        produce(by_relid[victim.relid])
        eventually(lambda: callbacks(victim)[0], "the next open is called")


@pytest.mark.parametrize("mode", MODES)
def test_who_names_an_offline_vp_gets_another(world: World, mode: Mode) -> None:
    """An open gets a VP that is there, a MODIFYCHANNEL is refused (case 148); suspended guests keep their
    workers, and orders are theirs too."""
    world.offer(4)
    with world.guest(Counter()) as guest:
        channels = begin(guest, mode)
        guest.vp_offline(1, 60)
        assert {channel.target_vp for channel in channels} == {0}
        with pytest.raises(RefusedError):
            channels[0].retarget(1)
        channels[0].close()
        channels[0].open(target_vp=1)
        assert channels[0].target_vp == 0
        guest.suspend()
        guest.vp_online(1, 60)
        guest.vp_offline(0, 60)
        guest.resume()
        eventually(lambda: len(guest._connection.open_channels()) == 4, "all are open again")
        assert {channel.target_vp for channel in guest.channels} == {1}
        assert guest.statistics()["vp_states"] == ["offline", "online"]


@pytest.fixture
def running(request: pytest.FixtureRequest, runtime_dir: Path) -> Iterator[Daemon]:
    """A daemon with partition a."""
    with daemon(runtime_dir) as running:
        running.ask(requests.PartitionAdd("a", vps=2, doorbell=getattr(request, "param", "semaphore")))
        yield running
    gc.collect()


def leave(worker: Attached, vp: int) -> None:
    """Do as the daemon asks."""
    packet, _ = peers.receive(worker)
    header = link.decode_header(packet)
    assert header.kind == link.Kind.DETACH
    worker.send(link.encode(link.Detached(vp)))


@EACH_DOORBELL
def test_vp_0_of_an_old_guest_goes_offline(running: Daemon) -> None:
    """All its interrupts go to VP 0: flag 0 is raised on the VP that stands in, also what was raised before;
    no channel message tells the guest (cases 155 and 234)."""
    with (
        Host.connect("a", runtime_dir=running.runtime_dir) as host,
        host.serving(),
        peers.guest(running.runtime_dir) as control,
    ):
        old = OldGuest(control.attached)
        ((_, offer),) = offers(host)
        assert old.contact(wire.V1_1, PAGE)
        old.open_all(1)
        with peers.worker(running.runtime_dir, vp=1), peers.worker(running.runtime_dir, vp=0) as first:
            assert offer.channel is not None
            offer.channel.signal()
            assert old.flags(0).is_set(0)
            asking = threading.Thread(target=order, args=(running, VpOffline("a", 0)))
            asking.start()
            leave(first, 0)
            asking.join(60)
            assert worker_view(running, 0, "a")["state"] == "offline"
            assert not old.flags(0).is_set(0)
            assert old.flags(1).is_set(0)
            assert old.page().take_for_guest() == [offer.channel.relid]
            old.flags(1).take()
            offer.channel.signal()
            assert not old.flags(0).is_set(0)
            assert old.page().take_for_guest() == [offer.channel.relid]
        told = [link.decode_header(peers.receive(old.attached)[0]) for _ in range(2)]
        assert [header.kind for header in told] == [link.Kind.VP_CHANGED] * 2


def test_a_host_that_dies_leaves_nothing_on_an_offline_page(running: Daemon) -> None:
    """A bit that a sender set on the old VP and could not raise on the new one is swept when it is gone."""
    with peers.guest(running.runtime_dir) as control, peers.worker(running.runtime_dir, vp=0):
        flags = OldGuest(control.attached).flags
        with peers.device(running.runtime_dir):
            running.ask(VpOffline("a", 1))
            flags(1).set(77)
        eventually(lambda: flags(0).is_set(77), "it is on a live page")
        eventually(lambda: flags(1).pending() == [], "it is on no other")


def test_the_administrator_waits_for_a_guest_that_does_nothing(running: Daemon) -> None:
    """A guest that does not know the packet gives no worker: the order goes on, until some worker comes."""
    with peers.guest(running.runtime_dir), peers.worker(running.runtime_dir, vp=0):
        running.ask(VpOffline("a", 1))
        with pytest.raises(
            RefusedError, match="VP 1: the guest has not given it a worker within 9 s; it goes on"
        ):
            running.ask(VpOnline("a", 1))
        with peers.worker(running.runtime_dir, vp=1):
            assert running.ask(VpOnline("a", 1)) == {"vp": 1, "incarnation": 1}


def test_the_administrator_hears_what_an_offline_waits_for(running: Daemon) -> None:
    """Its worker has left, but meanwhile every other VP has lost its own: nobody could take what it has."""
    with (
        peers.guest(running.runtime_dir),
        peers.worker(running.runtime_dir, vp=0) as other,
        peers.worker(running.runtime_dir, vp=1) as first,
        ThreadPoolExecutor(1) as pool,
    ):
        asking = pool.submit(running.ask, VpOffline("a", 1))
        eventually(lambda: worker_view(running, 1, "a")["by_order"], "the order is given")
        other.send(link.encode(link.Detached(0)))
        eventually(lambda: worker_view(running, 0, "a")["state"] == "vacant", "VP 0 has no worker")
        leave(first, 1)
        with pytest.raises(
            RefusedError,
            match="VP 1: no other VP has a worker that could take what it has within 5 s; it goes on",
        ):
            asking.result(60)


def test_nobody_waits_for_a_worker_of_a_guest_that_is_gone(running: Daemon) -> None:
    """The order to have its VP back ends with the guest, and says so."""
    with ThreadPoolExecutor(1) as pool:
        with peers.guest(running.runtime_dir):
            asking = pool.submit(running.ask, VpOnline("a", 1))
            eventually(lambda: "VP ordered online" in running.text(), "the order is given")
        with pytest.raises(RefusedError, match="VP 1: its guest is gone"):
            asking.result(60)
