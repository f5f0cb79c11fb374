"""The loop of a worker: sleeping, waking, stopping, and what a hostile doorbell can do to it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.unit.abi.world import World
from vmbusd.abi import native
from vmbusd.abi.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]


def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition that other threads bring about; the test's own watchdog ends it."""
    while not condition():
        time.sleep(0.0005)


@contextmanager
def running(world: World, vp: int = 0, **options: Any) -> Iterator[native.Worker]:
    """A worker that runs in a thread of its own and is asleep when the block begins."""
    worker = world.worker(vp, **options)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        until(lambda: world.work.is_idle(vp))
        yield worker
    finally:
        worker.stop()
        thread.join()


def test_a_sleeping_worker_is_rung_once_for_each_sleep(world: World) -> None:
    """A signal wakes it, its callback runs, and it sleeps again under another number (case 218)."""
    route = world.open(5)
    with running(world):
        for count in range(1, 21):
            before = world.statistics()["idle"]
            route.signal()
            until(lambda count=count: len(world.called) == count)  # type: ignore[misc]
            until(lambda before=before: world.statistics()["idle"] >= before + 2 and world.work.is_idle(0))  # type: ignore[misc]

    assert world.called == [5] * 20
    assert world.sender.statistics() == {
        "signals": 20,
        "transitions": 20,
        "posts": 20,
        "moved": 0,
        "faults": 0,
    }
    assert not world.work.is_idle(0)


def test_a_thousand_rings_before_the_wait_are_bounded(world: World) -> None:
    """All bits are served; what was rung too often is drained in few passes (case 230)."""
    world.open(5)
    world.pages[0].set(5)
    for _ in range(1000):
        world.bells[0].ring()
    with running(world):
        until(lambda: world.called == [5])
        until(lambda: world.statistics()["storms"] == 1)
    assert world.statistics()["empty_wakes"] <= 65


def test_only_the_channels_own_doorbell_is_rung(world: World) -> None:
    """Signals for VP 1 never wake VP 0 (case 233)."""
    route = world.open(5, vp=1)
    with running(world, 0), running(world, 1):
        before = world.statistics(0)
        route.signal()
        until(lambda: world.called == [5])
        assert world.statistics(0) == before
    assert world.statistics(1)["callbacks"] == 1


def test_stop_before_run_is_remembered(world: World) -> None:
    """`run` serves what is pending and returns."""
    world.open(5)
    world.pages[0].set(5)
    worker = world.worker()
    worker.stop()
    worker.run()

    assert world.called == [5]
    with running(world):
        pass


def test_stop_from_a_callback(world: World) -> None:
    """`run` returns after it served what the callback left behind."""
    worker = world.worker()

    def stop(relid: int) -> None:
        worker.stop()
        world.pages[0].set(6)

    world.open(5, call=stop)
    world.open(6)
    world.pages[0].set(5)
    worker.run()

    assert world.called == [6]


def test_a_page_that_never_falls_silent_cannot_keep_a_stopped_worker(world: World) -> None:
    """After some more passes `run` returns, and the bit stays for whoever comes next."""
    worker = world.worker()

    def again(relid: int) -> None:
        world.pages[0].set(relid)
        worker.stop()

    world.open(5, call=again)
    world.pages[0].set(5)
    worker.run()

    assert world.pages[0].pending() == [5]


def test_two_threads_cannot_run_one_worker(world: World) -> None:
    """Neither `run` nor `dispatch` while it sleeps in another thread."""
    with running(world) as worker:
        for call in (worker.run, worker.dispatch):
            with pytest.raises(UsageError, match="VP 0: this worker runs already"):
                call()


def test_what_a_callback_raises_leaves_run(world: World) -> None:
    """SystemExit ends `run` awake and with everything served; it can run again."""

    def leave(_: int) -> None:
        raise SystemExit(3)

    world.open(5, call=leave)
    world.open(6)
    world.pages[0].set_many([5, 6])
    worker = world.worker()
    with pytest.raises(SystemExit):
        worker.run()

    assert world.called == [6]
    assert not world.work.is_idle(0)
    worker.stop()
    worker.run()


def test_ctrl_c_ends_a_sleeping_worker(world: World) -> None:
    """The main thread wakes at once, raises KeyboardInterrupt, and leaves an even idle word."""
    timer = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        world.worker().run()
    timer.join()

    assert time.monotonic() - begun < 10
    assert not world.work.is_idle(0)


SLEEPER = """
from tests.unit.abi.world import World
world = World()
worker = world.worker()
print("ready", flush=True)
try:
    worker.run()
except KeyboardInterrupt:
    print("interrupted", world.work.is_idle(0))
"""


def test_ctrl_c_ends_a_worker_process() -> None:
    """The same from outside."""
    command = [sys.executable, "-c", SLEEPER]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        state = Path(f"/proc/{process.pid}/wchan")
        until(lambda: "futex" in state.read_text() or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[0] == "interrupted False\n"


def test_a_doorbell_rung_for_nothing_cannot_keep_a_worker_busy(world: World) -> None:
    """A peer that rings 100 000 times is counted as a storm, and a real signal is served within few passes
    (case 312)."""
    route = world.open(5)
    over = threading.Event()

    def ring() -> None:
        for _ in range(100_000):
            world.bells[0].ring()
        over.set()

    with running(world):
        thread = threading.Thread(target=ring)
        thread.start()
        until(lambda: world.statistics()["storms"] > 0)
        before = world.statistics()["passes"]
        route.signal()
        until(lambda: world.called == [5])
        passes = world.statistics()["passes"] - before
        thread.join()
        assert over.is_set()
        route.signal()
        until(lambda: world.called == [5, 5])

    assert passes <= 200
    assert world.statistics()["empty_wakes"] < 10_000


def test_a_second_look_is_off_unless_asked_for(world: World) -> None:
    """A bit without a doorbell stays for more than a slice, and goes with the next wake."""
    world.open(5)
    with running(world):
        world.pages[0].set(5)
        begun = time.monotonic()
        until(lambda: time.monotonic() - begun > 1.3)
        assert world.called == []
        assert world.statistics()["rescued"] == 0
        world.bells[0].ring()
        until(lambda: world.called == [5])


def test_a_second_look_counts_what_it_rescued(world: World) -> None:
    """With `relook` the bits are found after a slice and counted."""
    world.open(5)
    world.open(6)
    with running(world, relook=True):
        world.pages[0].set_many([5, 6])
        until(lambda: world.called == [5, 6])

    assert world.statistics()["rescued"] == 2


def test_a_spin_that_pays_saves_the_sleep(world: World) -> None:
    """What comes within the spin is served without a sleep."""
    world.open(5)
    worker = world.worker(spin=1.0)
    thread = threading.Thread(target=worker.run)
    thread.start()
    until(lambda: world.statistics()["passes"] > 0)
    world.pages[0].set(5)
    until(lambda: world.called == [5])
    worker.stop()
    thread.join()

    assert world.statistics()["spins_won"] == 1


def test_a_spin_that_does_not_pay_switches_itself_off(world: World) -> None:
    """Of many sleeps only a few spin first."""
    route = world.open(5)
    with running(world, spin=1e-6):
        for count in range(1, 201):
            route.signal()
            until(lambda count=count: len(world.called) == count and world.work.is_idle(0))  # type: ignore[misc]
        statistics = world.statistics()

    assert 1 <= statistics["spins_lost"] <= 8 + 2 * statistics["spins_won"] * 8
    assert statistics["sleeps"] >= 100 - statistics["spins_won"]


@pytest.mark.parametrize("spin", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_spin_has_bounds(spin: float, world: World) -> None:
    """Between 0 and 1 second."""
    with pytest.raises(UsageError, match="spin"):
        world.worker(spin=spin)


def test_a_worker_goes_on_from_its_predecessor(world: World) -> None:
    """Pending bits are served and the number of a sleep never comes back."""
    world.open(5)
    world.pages[0].set(5)
    native.Words(world.vpwork, 0, 1).store(0, 41)
    worker = world.worker()
    worker.stop()
    worker.run()

    assert world.called == [5]
    assert world.statistics()["idle"] == 42


def test_an_eventfd_wakes_a_worker(world: World) -> None:
    """The other doorbell does the same."""
    descriptor = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        world.bells[0] = native.Doorbell.eventfd(descriptor)
        world.sender = world.new_sender()
        route = world.open(5)
        with running(world):
            route.signal()
            until(lambda: world.called == [5])
    finally:
        os.close(descriptor)
