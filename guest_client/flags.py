"""Event flags that a guest chooses itself: the lowest free one for each open (6.0, case 237).

Source: OpenVMM vmbus_client.
"""

from vmbusd.abi import layout
from vmbusd.abi.errors import ResourceError


class EventFlags:
    """The flags 1 .. 2047 of one connection; flag 0 is never a channel."""

    __slots__ = ("_free",)

    def __init__(self) -> None:
        self._free = (1 << layout.FLAGS) - 2

    def take(self) -> int:
        """The lowest free flag, now taken. Raises ResourceError when none is left (case 238)."""
        bit = self._free & -self._free
        if not bit:
            raise ResourceError(f"out of event flags: all {layout.MAX_RELID} are taken")
        self._free ^= bit
        return bit.bit_length() - 1

    def give_back(self, flag: int) -> None:
        """Nobody uses this flag any more; 0 is none."""
        if flag:
            self._free |= 1 << flag
