"""One slice: a design under the storm for a while, then at rest, and what the counters say.

A drop is counted in the same way for both designs, from what a worker does with a bit that it took:

    dropped = taken - callbacks - left to the owner - spurious (the slot was not open)

`taken` is counted by the pass, the callbacks by the drivers in their cells, the others by vmb_dispatch: a
callback that the core counted and no driver had is a drop too. The old design also counts its failed lookups,
and per channel; both counts must agree. The table has no lookup that fails: whether it lost anything is the
oracle's to say, not this sum's. The oracle judges from outside, by cells that the code under test does not
know: a channel that is behind at rest has lost its last interrupt, so it must be one with a drop. The reverse
does not hold: in burst mode a later signal makes good for a dropped one, and a sender that sees the target
change sets the bit on both VPs. So hung <= dropped, and dropped == 0 means that nothing hangs.
"""

import time
from typing import Final

import msgspec

from vmbusd.lab.percpu import GLOBAL, PER_CPU
from vmbusd.lab.scene import Scene

SAMPLE_SECONDS: Final = 0.02
"""Between two readings of the drop counter: fifty points a second of the picture."""
DESIGNS: Final = {"per_cpu": PER_CPU, "global": GLOBAL}
NO_CALLBACK: Final = ("spurious", "left_again")
"""What vmb_dispatch counts of bits that are to lead to no callback."""


class Slice(msgspec.Struct, frozen=True):
    """What one slice counted. `drops`: (seconds since its begin, drops so far); `moves`: answered ones."""

    design: str
    seconds: float
    signals: int
    callbacks: int
    moves: int
    dropped: int
    missed: int
    hung: int
    lost: int
    overlaps: int
    unexplained: int
    first_drop_seconds: float | None
    drops: list[tuple[float, int]]

    @property
    def agrees(self) -> bool:
        """Whether both ways to count drops, and the oracle, say the same. The table has but one way."""
        if DESIGNS[self.design] == GLOBAL:
            return self.dropped >= 0
        return self.dropped == self.missed and not self.unexplained


class _Reading(msgspec.Struct, frozen=True):
    """The counters at one moment at rest."""

    produced: int
    callbacks: int
    overlaps: int
    moves: int
    answered: int

    @classmethod
    def of(cls, scene: Scene) -> "_Reading":
        verdict = scene.storm.oracle.verdict()
        totals = scene.storm.vp_totals()
        return cls(
            verdict.produced,
            verdict.callbacks,
            verdict.overlaps,
            scene.retargeter.moved,
            verdict.callbacks + sum(totals[name] for name in NO_CALLBACK),
        )


def play(scene: Scene, design: str, seconds: float) -> Slice:
    """Let the storm blow for so long in one design.

    Raises DemoError when it does not come to rest or when a process of it ends, TimedOut when a move is not
    answered.
    """
    scene.begin(DESIGNS[design])
    before = _Reading.of(scene)
    begun = time.monotonic_ns()
    for host in scene.storm.hosts:
        host.tell("start")
    scene.retargeter.start()
    drops = _watch(scene, begun, seconds)
    # Hosts first, so that slices are equally long however long the last moves take.
    scene.storm.stop_hosts()
    took = (time.monotonic_ns() - begun) / 1e9
    scene.retargeter.stop()
    scene.rest()
    scene.check()
    return _judge(scene, design, before, begun, took, drops)


def _counts(scene: Scene, name: str) -> list[int]:
    return [scene.lists.counts(vp)[name] for vp in range(scene.storm.guest.vps)]


def _watch(scene: Scene, begun: int, seconds: float) -> list[tuple[float, int]]:
    """Sleep for so long, noting when the drop counter moved."""
    drops = [(0.0, 0)]
    while (now := (time.monotonic_ns() - begun) / 1e9) < seconds:
        time.sleep(min(SAMPLE_SECONDS, seconds - now))
        so_far = sum(_counts(scene, "dropped"))
        drops.append(((time.monotonic_ns() - begun) / 1e9, so_far))
        for host in scene.storm.hosts:
            host.read()
        scene.check()
    return drops


def _judge(
    scene: Scene,
    design: str,
    before: _Reading,
    begun: int,
    took: float,
    drops: list[tuple[float, int]],
) -> Slice:
    after = _Reading.of(scene)
    verdict = scene.storm.oracle.verdict()
    dropped = sum(_counts(scene, "taken")) - (after.answered - before.answered)
    return Slice(
        design=design,
        seconds=round(took, 3),
        signals=after.produced - before.produced,
        callbacks=after.callbacks - before.callbacks,
        moves=after.moves - before.moves,
        dropped=dropped,
        missed=sum(_counts(scene, "dropped")),
        hung=len(verdict.behind),
        lost=verdict.lost,
        overlaps=after.overlaps - before.overlaps,
        unexplained=len(set(verdict.behind) - set(scene.lists.dropped_of())),
        first_drop_seconds=_first(scene, begun, took, dropped),
        drops=[*drops, (took, dropped)],
    )


def _first(scene: Scene, begun: int, took: float, dropped: int) -> float | None:
    """Seconds until the first drop: a failed lookup has a time, another drop only a slice."""
    stamps = [when for when in _counts(scene, "first_drop") if when]
    if stamps:
        return (min(stamps) - begun) / 1e9
    return took if dropped else None
