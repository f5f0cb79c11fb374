"""One fault in force: which occasions it means, and which of them have it.

The decision for the n-th occasion is a pure function of the rule and n, so a run with the same seed meets the
same faults, also when a daemon goes on for another. Chance is that of the rules on the data path.
Source: docs/faults.md, `vmbusd.abi.faults`.
"""

from typing import Final

import msgspec

from vmbusd.abi.faults import decision
from vmbusd.server.fault_requests import FaultSpec
from vmbusd.server.fault_rules import CHANNEL_MESSAGES, DEVICE_MESSAGES, Kind

NO_SLOT: Final = -1
"""Instead of an index in the table: the daemon makes this fault itself."""
_ALWAYS: Final = 2**31


class FaultState(msgspec.Struct, frozen=True, array_like=True):
    """A fault as a snapshot keeps it: its id, its rule, occasions met and faults made so far; `slot`, its
    index in the table if it is of the data path, whether it covers the other channels of its `device`, and
    what host links that have ended counted, by whom it came to."""

    id: int
    fault: FaultSpec
    seen: int = 0
    fired: int = 0
    slot: int = NO_SLOT
    device: bool = False
    ended: dict[str, int] = {}


def draw(seed: int, number: int) -> int:
    """31 bits that depend on both and on nothing else."""
    return decision(seed, 0, 0, 0, number)


class Armed:
    """A rule and its counts, from a `state` of before.

    Attributes: `id`; `fault`, the rule; `seen`, occasions that it met; `fired`, faults that it made (of the
    data path both are counted elsewhere); `slot`, `device`, `ended`, as in its state.
    """

    def __init__(self, state: FaultState) -> None:
        self.id, self.fault, self.seen, self.fired = state.id, state.fault, state.seen, state.fired
        self.slot, self.device, self.ended = state.slot, state.device, state.ended
        names = DEVICE_MESSAGES if self.fault.kind in _OF_DEVICES else CHANNEL_MESSAGES
        self._numbers = frozenset(names[name] for name in self.fault.messages)

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
        if fault.probability < 1 and draw(fault.seed, number) >= fault.probability * _ALWAYS:
            return False
        self.fired += 1
        return True

    def state(self) -> FaultState:
        """What of it must survive the daemon."""
        return FaultState(self.id, self.fault, self.seen, self.fired, self.slot, self.device, self.ended)


_OF_DEVICES: Final = frozenset({Kind.DROP_DEVICE_MESSAGE, Kind.DELAY_DEVICE_MESSAGE})
