"""The daemon is killed at each named step: the next one finishes what was half done."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from guest_client import Channel, Driver, Guest
from host_client import Host
from tests.live.daemon import PATIENCE, Daemon, eventually
from tests.live.guest_drivers import COUNTED
from tests.live.guest_support import Signaller
from tests.live.peers import worker
from tests.live.storms import judge, let_pass
from vmbusd.abi import layout
from vmbusd.abi.attach import attach
from vmbusd.abi.errors import LinkClosed, ResourceError
from vmbusd.abi.link import Object, Role
from vmbusd.abi.native import EventFlags, Table
from vmbusd.demo.storm import Storm, storm
from vmbusd.server import requests
from vmbusd.server.steps import Step
from vmbusd.testing.faults import Faults, Kind

pytestmark = pytest.mark.live

VPS = 4
NEVER = "3600"
"""A grace time that no test outlives."""


class Restarted:
    """A daemon that a fault kills, and the next one."""

    def __init__(self, runtime_dir: Path, partition: str) -> None:
        self.runtime_dir = runtime_dir
        self.partition = partition.partition(":")[0]
        self.arguments = ("--partition", partition, "--grace", NEVER)
        self.daemon = Daemon(runtime_dir, *self.arguments).wait_ready()

    def is_killed(self, *, start_dies: bool = False) -> None:
        """Wait for the death of this one, start the next; `start_dies`: that one too."""
        for _ in range(1 + start_dies):
            assert self.daemon.process.wait(PATIENCE) == -signal.SIGKILL, self.daemon.text()
            self.daemon.log.unlink()
            self.daemon = Daemon(self.runtime_dir, *self.arguments)
        self.daemon.wait_ready()

    def all_are_back(self) -> bool:
        """Whether guest and hosts have a socket again."""
        view = self.daemon.status(self.partition)
        return not any(each["away"] for each in (view["guest"], *view["hosts"]))


@contextlib.contextmanager
def restarted(runtime_dir: Path, partition: str) -> Iterator[Restarted]:
    made = Restarted(runtime_dir, partition)
    try:
        yield made
    finally:
        made.daemon.close()


class Untouched(Driver):
    """Opens nothing by itself."""

    interface = COUNTED

    def probe(self, channel: Channel) -> None:
        """The test does."""


def nothing(_scene: Storm, _restarted: Restarted) -> None:
    """The storm's own messages lead there."""


def a_worker_dies(scene: Storm, _restarted: Restarted) -> None:
    """kill -9 of a worker."""
    os.kill(scene.guest.statistics()["workers"]["pids"][1], signal.SIGKILL)


def a_snapshot(_scene: Storm, restarted: Restarted) -> None:
    """A reexec begins with one; its answer may come before the death, and the death before the question."""
    with contextlib.suppress(LinkClosed, ResourceError):
        restarted.daemon.ask(requests.Reexec())


def a_death(_scene: Storm, restarted: Restarted) -> None:
    """kill -9 of the daemon: the fault is met by the next one."""
    restarted.daemon.process.kill()


STEPS: dict[Step, Callable[[Storm, Restarted], None]] = {
    Step.APPENDED: nothing,
    Step.CARRYING: nothing,
    Step.SNAPSHOT_WRITTEN: a_snapshot,
    Step.SNAPSHOT_RENAMED: a_snapshot,
    Step.DEATH_SEEN: a_worker_dies,
    Step.RECOVERED: a_worker_dies,
    Step.RESUMED: a_death,
    Step.RECONCILED: a_death,
}


@pytest.mark.parametrize("step", STEPS)
def test_a_daemon_that_is_killed_at_a_step_is_gone_on_with(runtime_dir: Path, step: Step) -> None:
    """In the middle of a storm with retargets: nothing is lost, and the next daemon has the faults of the one
    before, with their counts, but does not die of the same one."""
    with (
        restarted(runtime_dir, f"storm:{VPS}") as scene_of,
        storm(runtime_dir, "storm", vps=VPS, channels=16, host_processes=2) as scene,
        Faults("storm", runtime_dir=runtime_dir) as faults,
    ):
        scene.start()
        let_pass(scene, 500)
        kept = faults.add(Kind.DELAY_MESSAGE, messages=["MODIFYCHANNEL"], delay=1, times=3)
        kill = faults.add(Kind.KILL_DAEMON, step=step, after=10 if STEPS[step] is nothing else 0)
        STEPS[step](scene, scene_of)
        scene_of.is_killed(start_dies=STEPS[step] is a_death)
        eventually(scene_of.all_are_back, "every link is back", 60)
        let_pass(scene, 500)
        assert faults.fired(kill) == 1
        eventually(lambda: faults.fired(kept) == 3, "three were delayed")
        scene.stop_retargeting()
        judge(scene)


@pytest.mark.parametrize("step", [Step.SWEPT, Step.RETIRE_WORD, Step.RETIRE_TARGETS])
def test_a_daemon_that_is_killed_while_a_vp_retires_is_gone_on_with(runtime_dir: Path, step: Step) -> None:
    """The VP is offline and its bits are at a VP with a worker: the next daemon has done the other half."""
    bits = {3, 77, 2047}
    with (
        restarted(runtime_dir, "a:2") as scene,
        Faults("a", runtime_dir=runtime_dir) as faults,
        attach(Role.GUEST_CONTROL, "a", runtime_dir=runtime_dir, resumable=True) as control,
        attach(Role.GUEST_WORKER, "a", runtime_dir=runtime_dir, vp=0, resumable=True),
    ):
        live = EventFlags(control[Object.EVENTS], 0)
        gone = EventFlags(control[Object.EVENTS], layout.PAGE)
        with worker(runtime_dir, vp=1):
            # Before it leaves: the retirement may begin before we are told that it has.
            faults.add(Kind.KILL_DAEMON, step=step)
            if step is Step.SWEPT:
                gone.set_many(bits)
        if step is not Step.SWEPT:
            eventually(lambda: not Table(control[Object.TABLE]).owner(1)[1], "it has left")
            gone.set_many(bits)
        scene.is_killed()
        eventually(lambda: scene.daemon.status("a")["workers"][1]["state"] == "offline", "it is retired")
        assert set(live.pending()) == bits
        assert gone.pending() == []
        assert faults.fired() == 1
        del live, gone


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Kind.DROP_MESSAGE, "OPENCHANNEL"),
        (Kind.DROP_MESSAGE, "OPENCHANNEL_RESULT"),
        (Kind.DROP_DEVICE_MESSAGE, "OPEN"),
        (Kind.DROP_DEVICE_MESSAGE, "OPENED"),
    ],
)
def test_no_daemon_brings_back_what_was_dropped(runtime_dir: Path, kind: Kind, message: str) -> None:
    """Neither replay nor resume: the open has no answer from the next daemon either, and all that is said
    later has its number (a link that disagreed would end)."""
    with (
        restarted(runtime_dir, "a:1") as scene,
        Host.connect("a", runtime_dir=runtime_dir) as host,
        host.serving(),
        Guest.attach("a", runtime_dir=runtime_dir) as guest,
    ):
        offer = host.offer(Signaller(), UUID(int=1))
        guest.register(Untouched())
        guest.start()
        assert guest.wait_ready(PATIENCE)
        with Faults("a", runtime_dir=runtime_dir) as faults:
            faults.add(kind, messages=[message], times=1)
            opening = guest.channels[0].begin_open()
            eventually(faults.fired, "it is dropped")
            scene.daemon.process.kill()
            scene.is_killed()
            eventually(scene.all_are_back, "every link is back")
            assert faults.fired() == 1
        other = host.offer(Signaller(), UUID(int=2))
        eventually(lambda: len(guest.channels) == 2, "links go on")
        guest.channels[1].open(timeout=PATIENCE)
        assert other.channel is not None
        assert not opening.done()
        host.revoke(offer)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Kind.DELAY_MESSAGE, "OPENCHANNEL"),
        (Kind.DELAY_MESSAGE, "OPENCHANNEL_RESULT"),
        (Kind.DELAY_DEVICE_MESSAGE, "OPEN"),
        (Kind.DELAY_DEVICE_MESSAGE, "OPENED"),
    ],
)
def test_what_a_dead_daemon_kept_back_is_not_lost(runtime_dir: Path, kind: Kind, message: str) -> None:
    """It is sent, or taken, by the next one, once."""
    with (
        restarted(runtime_dir, "a:1") as scene,
        Host.connect("a", runtime_dir=runtime_dir) as host,
        host.serving(),
        Guest.attach("a", runtime_dir=runtime_dir) as guest,
    ):
        device = Signaller()
        host.offer(device, UUID(int=1))
        guest.register(Untouched())
        guest.start()
        assert guest.wait_ready(PATIENCE)
        with Faults("a", runtime_dir=runtime_dir) as faults:
            faults.add(kind, messages=[message], times=1, delay=10_000_000)
            opening = guest.channels[0].begin_open()
            eventually(faults.fired, "it is kept back")
            assert not opening.done()
            scene.daemon.process.kill()
            scene.is_killed()
            opening.result(PATIENCE)
        assert device.opens == 1
