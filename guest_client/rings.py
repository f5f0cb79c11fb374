"""Ring memory: pages of guest memory made ready to be the two rings of a channel, and who has which.

Both rings are zero but for what this side writes once into their control pages.
"""

from typing import Final

from guest_client.memory import PageAllocator, reserve_in
from vmbusd.abi import layout
from vmbusd.abi.attach import Attached
from vmbusd.abi.link import Object

FEATURE_BITS: Final = (64, b"\x01\0\0\0")
"""Offset in a ring's control page, and what we write there: this side honours pending_send_sz."""


class Rings:
    """The ring memory of one guest. Attributes: `memory`, the allocator it comes from."""

    def __init__(self, attached: Attached) -> None:
        self._attached = attached
        pages = attached.welcome.ram_size // layout.PAGE
        self.memory = PageAllocator(pages, reserve_in(attached[Object.RAM]))
        self._first: dict[int, int] = {}

    def make(self, upstream: int, downstream: int) -> int:
        """The first page of a run that is ready to be both rings, nobody's yet. Raises ResourceError."""
        first = self.memory.allocate(upstream + downstream)
        try:
            for page in range(first, first + upstream + downstream):
                with self._attached.page(page) as view:
                    view[:] = bytes(layout.PAGE)
            offset, bits = FEATURE_BITS
            for header in (first, first + upstream):
                with self._attached.page(header) as view:
                    view[offset : offset + len(bits)] = bits
        except BaseException:
            self.memory.free(first)
            raise
        return first

    def give(self, relid: int, first: int) -> None:
        """The run is the channel's now."""
        self._first[relid] = first

    def free(self, relid: int) -> None:
        """Nobody uses the rings of this channel any more."""
        self.memory.free(self._first.pop(relid))
