"""The storm's program: what happens when, drawn from the seed alone.

Actions follow each other at exponentially distributed distances in storm time, which stands still at calm
points. Which process or channel an action meets is decided when its time comes, by the lots that it carries:
what exists then depends on the machine, what is tried does not.
"""

import random
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

RATES: Final[Mapping[str, float]] = {
    "kill worker": 0.60,
    "kill host": 0.40,
    "kill guest": 0.60,
    "kill daemon": 0.40,
    "reexec": 0.12,
    "stop worker": 0.20,
    "stop host": 0.15,
    "stop guest": 0.10,
    "stop daemon": 0.12,
    "close": 4.0,
    "rescind": 0.5,
    "revoke": 0.5,
    "retarget": 1.5,
    "offline": 0.35,
    "online": 0.45,
    "truncate": 0.12,
    "bad bytes": 0.6,
}
"""Actions per second of storm time. `docs/storm.md` says what each is."""
LONGEST_STOP: Final = 0.8
"""Seconds: longer than every wait of the protocol on a quiet machine, short enough to have many."""
CALM_EVERY: Final = 7.0
"""Seconds of storm between two calm points, in the mean."""


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
    all_rates = {**rates, "calm": 1 / CALM_EVERY}
    names, weights = list(all_rates), list(all_rates.values())
    total = sum(weights)
    at = 0.0
    while True:
        at += draw.expovariate(total)
        (what,) = draw.choices(names, weights)
        yield Action(at, what, (draw.random(), draw.random(), draw.random()))
