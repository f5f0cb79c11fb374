"""One fault in force: which occasions it means, and which of them have it.

The decision for the n-th occasion is a pure function of the rule and n, so a run with the same seed meets the
same faults, also when a daemon goes on for another. Chance is the finalizer of splitmix64 over seed and n.
Source: docs/faults.md; Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014).
"""

from typing import Final

import msgspec

from vmbusd.server.fault_requests import FaultSpec
from vmbusd.server.fault_rules import CHANNEL_MESSAGES, DEVICE_MESSAGES, Kind

_MASK: Final = 2**64 - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15


class FaultState(msgspec.Struct, frozen=True, array_like=True):
    """A fault as a snapshot keeps it: its id, its rule, occasions met and faults made so far."""

    id: int
    fault: FaultSpec
    seen: int = 0
    fired: int = 0


def draw(seed: int, number: int) -> int:
    """64 bits that depend on both and on nothing else."""
    mixed = (seed + number * _GOLDEN) & _MASK
    mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _MASK
    return mixed ^ mixed >> 31


class Armed:
    """A rule and its counts.

    Attributes: `id`; `fault`, the rule; `seen`, occasions that it met; `fired`, faults that it made.
    """

    def __init__(self, id_: int, fault: FaultSpec, seen: int = 0, fired: int = 0) -> None:
        self.id = id_
        self.fault = fault
        self.seen = seen
        self.fired = fired
        names = DEVICE_MESSAGES if fault.kind in _OF_DEVICES else CHANNEL_MESSAGES
        self._numbers = frozenset(names[name] for name in fault.messages)

    def means(self, number: int) -> bool:
        """Whether it is about messages of this number."""
        return not self._numbers or number in self._numbers

    @property
    def spent(self) -> bool:
        """Whether it has come as often as it may."""
        return self.fault.times is not None and self.fired >= self.fault.times

    def fires(self) -> bool:
        """Count an occasion; whether it has the fault."""
        fault = self.fault
        number, self.seen = self.seen, self.seen + 1
        if self.spent or number < fault.after or (number - fault.after) % fault.every:
            return False
        if fault.probability < 1 and draw(fault.seed, number) >= fault.probability * 2**64:
            return False
        self.fired += 1
        return True

    def state(self) -> FaultState:
        """What of it must survive the daemon."""
        return FaultState(self.id, self.fault, self.seen, self.fired)


_OF_DEVICES: Final = frozenset({Kind.DROP_DEVICE_MESSAGE, Kind.DELAY_DEVICE_MESSAGE})
