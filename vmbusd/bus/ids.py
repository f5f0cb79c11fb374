"""Numbers the bus gives out: relids, monitor ids, generations of event flags, the event connection id.

A relid is free again only when nothing of its channel is left. Generations belong to the event flag and
survive its reuse: a flag never sees the same generation twice, so every stale answer shows. Sources: OpenVMM
channels.rs for the order of relids, vmbus_core for connection ids, docs/design.md section 2 for generations.
"""

from typing import Final

from vmbusd.abi.errors import UsageError
from vmbusd.abi.layout import FLAGS, MAX_RELID, SINT, next_generation

EVENT_CONNECTION_BASE: Final = SINT << 12
"""Event connection ids: relid in the low bits, SINT in bits 12-15, VTL in bits 16-17 (case 036)."""

MONITOR_IDS: Final = 128
"""Bits of a monitor page: 4 groups of 32 (Linux 6.1 hyperv_vmbus.h)."""


def event_connection_id(relid: int) -> int:
    """The connection id with which a guest signals the channel's host."""
    return EVENT_CONNECTION_BASE + relid


class Ids:
    """Relids 1..2047 and the generations of the event flags.

    Attributes: `in_use`, how many relids are taken; `generations`, the last one of each event flag.
    """

    __slots__ = ("_free", "_low", "_offset", "generations", "in_use")

    def __init__(self, offset: int = 0) -> None:
        """`offset`: no relid up to this one is given out (case 307)."""
        self._free = ((1 << FLAGS) - 1) & ~((2 << offset) - 1)  # bit r is set while relid r is free
        self._offset = offset
        self._low: set[int] = set()
        self.generations = [0] * FLAGS
        self.in_use = 0

    @property
    def room(self) -> int:
        """How many relids there are."""
        return MAX_RELID - self._offset + len(self._low)

    @property
    def low(self) -> tuple[int, ...]:
        """Relids below the offset that may be given out all the same, in order."""
        return tuple(sorted(self._low))

    def lower(self, relid: int) -> None:
        """This relid was given out by a bus with a lower offset: while it is in use it takes nobody's room,
        and later somebody else may have it (case 307)."""
        if 0 < relid <= self._offset and relid not in self._low:
            self._low.add(relid)
            self._free |= 1 << relid

    def claim(self, relid: int) -> bool:
        """Take this very relid; False when it is taken, or none of ours."""
        free = bool(self._free >> relid & 1)
        if free:
            self._free ^= 1 << relid
            self.in_use += 1
        return free

    def take(self, avoid: int = 0) -> int:
        """The lowest free relid, now taken, but none whose bit is set in `avoid` (case 124).

        Raises UsageError when there is none.
        """
        free = self._free & ~avoid
        if not free:
            raise UsageError(f"all {MAX_RELID} relids are taken")
        bit = free & -free
        self._free ^= bit
        self.in_use += 1
        return bit.bit_length() - 1

    def give_back(self, relid: int) -> None:
        """Make a taken relid free."""
        self._free |= 1 << relid
        self.in_use -= 1

    def new_generation(self, flag: int, channel: int) -> int:
        """The generation of the next open of this event flag by a channel whose last one was `channel`.

        It is new for both: a channel may change its flag, and an answer to its last open must still show.
        """
        generation = self.generations[flag] = next_generation(max(self.generations[flag], channel))
        return generation


class MonitorIds:
    """The 128 monitor ids of a partition, the lowest free one first (cases 297, 298)."""

    __slots__ = ("_free",)

    def __init__(self) -> None:
        self._free = (1 << MONITOR_IDS) - 1

    def take(self) -> int | None:
        """The lowest free id, now taken; None when all are."""
        bit = self._free & -self._free
        self._free ^= bit
        return bit.bit_length() - 1 if bit else None

    def claim(self, monitor_id: int) -> bool:
        """Take this very id; False when it is taken."""
        free = bool(self._free >> monitor_id & 1)
        self._free &= ~(1 << monitor_id)
        return free

    def give_back(self, monitor_id: int) -> None:
        """Make a taken id free."""
        self._free |= 1 << monitor_id
