"""The daemon's hand-overs go in the order that the interleaving programs of the real functions search.

Programs: tests/interleave/daemon_bodies.c (worker_0_died, move_away, left, mourn_a_host).
"""

import asyncio
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

import pytest

from vmbusd.server import log
from vmbusd.server.inputs import SeatSet, VpOrdered
from vmbusd.server.memory import Memory
from vmbusd.server.peer import Peer
from vmbusd.server.recovery import Vps
from vmbusd.server.seats import VpState


class Recorder:
    """Memory that does nothing, and the steps in the order in which they came."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.vps = 2
        self.doorbells = [SimpleNamespace(ring=partial(self.steps.append, f"ring {vp}")) for vp in range(2)]
        self.table = Mock()

    def recover(self, vp: int) -> tuple[int, int]:
        self.steps.append(f"recover {vp}")
        return 0, 0

    def sweep(self, vp: int, live: int) -> int:
        self.steps.append(f"sweep {vp} to {live}")
        return 0

    def keep(self, kept: SeatSet | VpOrdered) -> None:
        if isinstance(kept, SeatSet):
            done = ", handed over" if kept.handed_over else ""
            self.steps.append(f"keep {kept.vp} {VpState(kept.state).name}{done}")


class Worker:
    """A worker link of which nothing is asked."""

    def __init__(self) -> None:
        self.peer = cast(Peer, SimpleNamespace(pid=1, start_time=1))

    def catch_up(self) -> None:
        """Nothing happens behind our back here."""

    def ask_to_detach(self) -> None:
        """Nobody is asked here."""


@pytest.fixture
def scene() -> Iterator[tuple[Recorder, Vps]]:
    loop = asyncio.new_event_loop()
    recorder = Recorder()
    vps = Vps(
        loop,
        cast(Memory, recorder),
        log.get(),
        offline=lambda vp, live: recorder.steps.append(f"targets {vp} to {live}"),
        online=Mock(),
        keep=recorder.keep,
        tell=lambda what: recorder.steps.append(f"tell {what.vp} {VpState(what.state).name}"),
    )
    for vp in range(2):
        vps.admit(vp, Worker())
    recorder.steps.clear()
    yield recorder, vps
    vps.stop()
    loop.close()


def test_a_death_is_recovered_before_it_is_kept(scene: tuple[Recorder, Vps]) -> None:
    """recover, then what is known of the seat, then the ring."""
    recorder, vps = scene

    vps.dead(0)

    assert recorder.steps == ["recover 0", "keep 0 VACANT", "ring 0"]


def test_a_worker_that_left_is_kept_before_its_bits_go(scene: tuple[Recorder, Vps]) -> None:
    """The seat, then the hand-over to a VP that has a worker."""
    recorder, vps = scene

    vps.detached(0)

    assert recorder.steps == ["keep 0 VACANT", "sweep 0 to 1"]


def test_a_retired_vp_is_kept_then_loses_its_targets_then_its_bits(scene: tuple[Recorder, Vps]) -> None:
    """Saved as offline, targets, sweep; and a host's death sweeps it again before it rings everybody."""
    recorder, vps = scene
    vps.dead(0)
    recorder.steps.clear()

    vps._retire(vps.seats[0], 1)
    vps.sweep_and_ring()

    assert recorder.steps == [
        "keep 0 OFFLINE",
        "targets 0 to 1",
        "sweep 0 to 1",
        "keep 0 OFFLINE, handed over",
        "sweep 0 to 1",
        "ring 0",
        "ring 1",
    ]


def test_a_guest_is_told_that_its_vp_is_offline_when_it_is(scene: tuple[Recorder, Vps]) -> None:
    """Its channels and its bits are at another VP by then; and once, also if another daemon does it again."""
    recorder, vps = scene
    vps.unplug(0)
    recorder.steps.clear()

    vps.detached(0)

    assert recorder.steps == [
        "keep 0 VACANT",
        "keep 0 OFFLINE",
        "targets 0 to 1",
        "sweep 0 to 1",
        "keep 0 OFFLINE, handed over",
        "tell 0 OFFLINE",
    ]
    vps._retire(vps.seats[0], 1)
    assert recorder.steps.count("tell 0 OFFLINE") == 1
