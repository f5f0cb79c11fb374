"""Guest workers against a real daemon and host: who dies, who goes on, and that nothing is lost."""

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from guest_client import Channel, Guest
from host_client.channel import Channel as HostChannel
from tests.live.daemon import PATIENCE, ROOT, daemon, eventually
from tests.live.guest_drivers import PINNED, Counter, Pinned
from tests.live.guest_support import (
    MODES,
    Mode,
    Signaller,
    Storm,
    World,
    begin,
    callbacks,
    produce,
    seen,
)
from vmbusd.abi.errors import LinkClosed, LinkLost, UsageError, VmbusError

pytestmark = pytest.mark.live


def test_a_killed_worker_loses_nothing(world: World) -> None:
    """SIGKILL of workers in a storm: each VP gets a new one, channels catch up (docs/design.md section 3)."""
    offers = world.offer(16)
    with world.guest(Counter()) as guest:
        begin(guest, "process")
        with Storm(offers) as storm:
            for turn in range(4):
                before = guest.statistics()["workers"]
                os.kill(before["pids"][turn % 2], signal.SIGKILL)
                eventually(
                    lambda before=before: guest.statistics()["workers"]["started"] > before["started"],  # type: ignore[misc]
                    "a new worker",
                )
                eventually(lambda: _serves_all(guest), "it is admitted")
        eventually(storm.all_seen, "the last signal of every channel seen")
        assert guest.statistics()["workers"]["died"] == 4


def _serves_all(guest: Guest) -> bool:
    pids = guest.statistics()["workers"]["pids"]
    owners = [guest._connection.space.table.owner(vp) for vp in range(guest.vps)]
    return [owner[0] for owner in owners] == [pids.get(vp) for vp in range(guest.vps)]


def test_pinned_channels_die_with_their_process(world: World) -> None:
    """A pinned channel is never moved, but closed if its process dies (docs/design.md section 3)."""
    offers = world.host.offer_many([Signaller(PINNED), Signaller(PINNED), Signaller()])
    with world.guest(Pinned(), Counter()) as guest:
        channels = begin(guest, "process")
        victim = next(channel for channel in channels if channel.interface == PINNED)
        vp = victim.target_vp
        with pytest.raises(UsageError, match="pinned"):
            victim.retarget(1 - vp)
        for offer in offers:
            eventually(lambda offer=offer: offer.channel is not None, "the device hears of the open")  # type: ignore[misc]
            produce(offer)
        eventually(lambda: all(callbacks(channel)[0] for channel in channels), "every callback")
        os.kill(guest.statistics()["workers"]["pids"][vp], signal.SIGKILL)
        eventually(lambda: not victim.is_open, "the pinned channel is closed")

        assert victim.close_reason == f"the process of VP {vp}, which held its state, died"
        others = [channel for channel in channels if channel is not victim]
        assert all(
            channel.is_open for channel in others if channel.interface != PINNED or channel.target_vp != vp
        )
        eventually(lambda: guest.statistics()["channels"].get("offered") == 1, "its close completes")
        victim.open()
        assert victim.is_open


def test_a_killed_guest_leaves_no_worker(world: World, tmp_path: Path) -> None:
    """SIGKILL of the control process: its workers leave by themselves (docs/design.md section 3)."""
    world.offer(2)
    script = f"""
import sys
from guest_client import Guest
from tests.live.daemon import PATIENCE, ROOT, Daemon, daemon, eventually
from tests.live.guest_drivers import Counter
guest = Guest.attach("demo", runtime_dir={os.fspath(world.directory)!r})
guest.register(Counter())
guest.start(workers="process")
print(*guest.statistics()["workers"]["pids"].values(), flush=True)
guest.wait()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as guest:
        assert guest.stdout is not None
        pidfds = [os.pidfd_open(int(pid)) for pid in guest.stdout.readline().split()]
        guest.kill()
    for pidfd in pidfds:
        _wait_for_end(pidfd)
    with world.guest(Counter()) as successor:
        assert len(begin(successor)) == 2


def _wait_for_end(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(PATIENCE * 1000)
    os.close(pidfd)


def test_the_data_path_outlives_the_daemon(world: World) -> None:
    """SIGKILL of the daemon in a storm: signals go on, only control fails (docs/design.md section 1)."""
    offers = world.offer(8)
    with world.guest(Counter()) as guest:
        channels = begin(guest, "process")
        with Storm(offers) as storm:
            world.daemon.kill()
            eventually(lambda: guest._connection.lost is not None, "the guest notices")
            rounds = storm.rounds
            eventually(lambda: storm.rounds > rounds + 100, "the storm goes on")
            with pytest.raises(LinkLost):
                channels[0].retarget(1)
            with pytest.raises(LinkLost):
                channels[0].close()
        eventually(storm.all_seen, "the last signal of every channel seen")


@pytest.mark.parametrize("mode", MODES)
def test_the_daemons_farewell_ends_the_guest(runtime_dir: Path, mode: Mode) -> None:
    """When the daemon stops in order, `wait` raises its reason."""
    with (
        daemon(runtime_dir, "--partition", "demo:2") as running,
        Guest.attach("demo", runtime_dir=runtime_dir) as guest,
    ):
        begin(guest, mode)
        running.process.terminate()
        with pytest.raises(LinkClosed, match="stopping") as caught:
            guest.wait()
        assert not isinstance(caught.value, LinkLost)
        assert running.process.wait(PATIENCE) == 0


class OpenedElsewhere(Counter):
    """Opens its channel in a thread that is not the link's."""

    def probe(self, channel: Channel) -> None:
        opened: list[BaseException | None] = []

        def opens() -> None:
            try:
                channel.open()
                opened.append(None)
            except VmbusError as error:
                opened.append(error)

        thread = threading.Thread(target=opens)
        thread.start()
        thread.join()
        assert opened == [None]


class SignalsWhileItOpens(Signaller):
    """Signals before the guest has heard that its open succeeded."""

    def on_open(self, channel: HostChannel) -> None:
        super().on_open(channel)
        channel.memory(1)[:8] = (1).to_bytes(8, "little")
        channel.signal()


def test_an_interrupt_finds_the_slot_before_the_open_is_known(world: World) -> None:
    """The slot is there before the offer is, whoever opens the channel, so no scan misses it (case 226)."""
    offers = world.host.offer_many([SignalsWhileItOpens() for _ in range(8)])
    with world.guest(OpenedElsewhere()) as guest:
        begin(guest)
        eventually(lambda: all(seen(offer) == 1 for offer in offers), "every interrupt was delivered")
