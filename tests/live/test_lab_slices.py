"""Slices of the lab in which something goes wrong that is not the lists' fault: it is told, not hidden."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.live.daemon import daemon_of, eventually
from tests.live.lab_drivers import Forgetful
from vmbusd.abi.errors import TimedOut
from vmbusd.demo.cell import DemoError
from vmbusd.demo.processes import own_daemon
from vmbusd.lab import scene as scenes
from vmbusd.lab.percpu import GLOBAL, PER_CPU
from vmbusd.lab.scene import Scene
from vmbusd.lab.slices import play

pytestmark = pytest.mark.live


@contextmanager
def lab_scene(vps: int = 2, channels: int = 16) -> Iterator[Scene]:
    with (
        own_daemon("lab", vps) as runtime_dir,
        scenes.scene(runtime_dir, "lab", vps=vps, channels=channels, hosts=1, rate=None) as running,
    ):
        yield running


@contextmanager
def once_moving(running: Scene, act: Callable[[], None]) -> Iterator[None]:
    """Does something from another thread as soon as channels are being moved."""

    def wait() -> None:
        eventually(lambda: running.retargeter.moved, "a move")
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_counting_begins_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers that bring the lists home are awake: they sleep again before anything is counted."""
    rests: list[tuple[int, list[int | None]]] = []
    with lab_scene(channels=4) as running:

        def rest() -> None:
            lists = [running.lists.vp_of(channel.relid) for channel in running.storm.channels]
            rests.append((running.lists.design, lists))

        targets = [channel.target_vp for channel in running.storm.channels]
        monkeypatch.setattr(running, "rest", rest)
        running.begin(PER_CPU)

        assert running.lists.design == PER_CPU
    assert rests == [(GLOBAL, targets)]


def test_a_callback_that_never_reaches_its_driver_is_a_drop_of_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cells say what was called, not the core: the sum, the picture and the first drop show it."""
    monkeypatch.setattr(scenes, "LabDriver", Forgetful)
    with lab_scene() as running:
        slice_ = play(running, "global", 3)

    assert slice_.dropped > 0
    assert slice_.hung > 0
    assert slice_.missed == 0
    assert slice_.drops[-1][1] == slice_.dropped
    assert slice_.first_drop_seconds == slice_.drops[-1][0]


@pytest.mark.parametrize("design", ["per_cpu", "global"])
def test_a_move_that_is_not_answered_ends_the_slice(design: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that stands still is told with the channel, long before the slice would be over."""
    monkeypatch.setattr(scenes, "ORDER_SECONDS", 3.0)
    with lab_scene() as running:
        found = daemon_of(os.getpid())
        assert found is not None
        daemon = found[0]
        try:
            with (
                once_moving(running, lambda: os.kill(daemon, signal.SIGSTOP)),
                pytest.raises(TimedOut, match=r"the move of relid \d+ was not answered within 3 s"),
            ):
                play(running, design, 60)
        finally:
            os.kill(daemon, signal.SIGCONT)


def test_a_worker_that_dies_ends_the_slice() -> None:
    """It had taken what no counter knows: that is no drop of either design, and no result."""
    with lab_scene() as running:
        pid = running.storm.guest.statistics()["workers"]["pids"][1]
        with (
            once_moving(running, lambda: os.kill(pid, signal.SIGKILL)),
            pytest.raises(DemoError, match="the worker of VP 1 died in the middle of a slice"),
        ):
            play(running, "global", 60)
