"""Numbers the bus gives out: the lowest free relid, a generation per event flag, the event connection id.

A relid is free again only when nothing of its channel is left. Generations belong to the event flag and
survive its reuse: a flag never sees the same generation twice, so every stale answer shows. Sources: OpenVMM
channels.rs for the order of relids, vmbus_core for the connection id, DESIGN section 2 for generations.
"""

from typing import Final

from vmbusd.abi.errors import UsageError
from vmbusd.abi.layout import FLAGS, MAX_RELID, SINT, next_generation

EVENT_CONNECTION_BASE: Final = SINT << 12
"""Event connection ids: relid in the low bits, SINT in bits 12-15, VTL in bits 16-17 (case 036)."""


def event_connection_id(relid: int) -> int:
    """The connection id with which a guest signals the channel's host."""
    return EVENT_CONNECTION_BASE + relid


class Ids:
    """Relids 1..2047 and the generations of their event flags.

    Attribute: `in_use`, how many relids are taken.
    """

    __slots__ = ("_free", "_generations", "in_use")

    def __init__(self) -> None:
        self._free = ((1 << FLAGS) - 1) & ~1  # bit r is set while relid r is free
        self._generations = [0] * FLAGS
        self.in_use = 0

    def take(self) -> int:
        """The lowest free relid, now taken (case 124). Raises UsageError when there is none."""
        if not self._free:
            raise UsageError(f"all {MAX_RELID} relids are taken")
        bit = self._free & -self._free
        self._free ^= bit
        self.in_use += 1
        return bit.bit_length() - 1

    def give_back(self, relid: int) -> None:
        """Make a taken relid free."""
        self._free |= 1 << relid
        self.in_use -= 1

    def new_generation(self, flag: int) -> int:
        """The generation of the next open of this event flag."""
        generation = self._generations[flag] = next_generation(self._generations[flag])
        return generation
