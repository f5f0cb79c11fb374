"""The storm's program: what happens when, drawn from the seed alone.

Every other segment between two calm points is gentle: nothing in it ends an open. An interrupt that is lost
shows only until its open ends, and where everything is killed and closed an open lives for a second.

Actions follow each other at exponentially distributed distances in storm time, which stands still at calm
points; those come at more even ones, so that a short storm has some too. Which process or channel an action
meets is decided when its time comes, by the lots that it carries: what exists then depends on the machine,
what is tried does not.
"""

import random
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

RATES: Final[Mapping[str, float]] = {
    "kill worker": 1.00,
    "kill host": 1.00,
    "kill guest": 2.00,
    "kill daemon": 0.60,
    "reexec": 0.20,
    "stop worker": 0.20,
    "stop host": 0.15,
    "stop guest": 0.10,
    "stop daemon": 0.12,
    "close": 12.0,
    "rescind": 1.0,
    "revoke": 1.0,
    "retarget": 1.5,
    "offline": 0.35,
    "online": 1.0,
    "truncate": 0.30,
    "bad bytes": 0.6,
    "fault": 0.60,
    "fault host": 0.60,
}
"""Actions per second of storm time, those of ENDS where it is not gentle. docs/storm.md says what each is."""
ENDS: Final = frozenset({"kill guest", "kill host", "close", "rescind", "revoke", "fault host"})
"""What ends an open, or every open of a process."""
LONGEST_STOP: Final = 0.8
"""Seconds: longer than every wait of the protocol on a quiet machine, short enough to have many."""
GENTLE_SECONDS: Final = 3.0
HARSH_SECONDS: Final = 7.0
"""Seconds of storm between two calm points, in the mean, half as much to half as much again: a loss needs
little time, kills need more."""


class Action(msgspec.Struct, frozen=True):
    """One action: its moment in seconds of storm time, what, and three lots in 0 .. 1."""

    at: float
    what: str
    lots: tuple[float, float, float]

    def pick(self, count: int) -> int:
        """One of `count` by the first lot."""
        return min(int(self.lots[0] * count), count - 1)

    @property
    def number(self) -> int:
        """A large number by the first lot."""
        return int(self.lots[0] * (1 << 30))


def program(seed: int, rates: Mapping[str, float] = RATES) -> Iterator[Action]:
    """The actions of this seed, without end. `calm` is one of them."""
    draw = random.Random(seed)
    gentle = {name: rate for name, rate in rates.items() if name not in ENDS}
    at = 0.0
    while True:
        for now, seconds in ((gentle, GENTLE_SECONDS), (rates, HARSH_SECONDS)):
            end = at + seconds * draw.uniform(0.5, 1.5)
            names, weights = list(now), list(now.values())
            while (at := at + draw.expovariate(sum(weights))) < end:
                (what,) = draw.choices(names, weights)
                yield Action(at, what, (draw.random(), draw.random(), draw.random()))
            at = end
            yield Action(at, "calm", (draw.random(), draw.random(), draw.random()))
