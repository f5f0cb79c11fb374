"""One open of a channel, as its device sees it: where to signal, its packets, and the ring memory.

A channel object lives from one open to its close and is never used again: the next open makes a new one, so
a thread that kept an old object cannot signal into, or write to, what came after it.
"""

import logging
import mmap
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from vmbusd.abi import device_link, ram
from vmbusd.abi.errors import ChannelGone, UsageError
from vmbusd.abi.gpadl import Range
from vmbusd.abi.native import Route, Sender
from vmbusd.abi.packets import Packet
from vmbusd.abi.rings import Rings
from vmbusd.abi.verbs import Verbs

if TYPE_CHECKING:
    from host_client.offer import Offer

log = logging.getLogger(__name__)


class Channel(Route, Verbs):
    """An open channel. `signal()` (0 -> 1: True) and `live` come from `native.Route`, packets from `Verbs`.

    The rings are mapped at the open for a device with `on_packets`, else at the first verb.

    Attributes: `offer`, what was opened; `relid`; `flag` and `event_flag`, the event flag; `generation`, the
    number of this open; `target_vp`, the VP interrupted last; `ring_pages`, page numbers of the ring GPADL;
    `downstream_page`, index of the first host-to-guest page among them; `user_data`, the guest's 120 bytes;
    `transfer_sets`, the buffers behind transfer page sets by their number, for `packet_memory`.
    """

    def __init__(
        self,
        sender: Sender,
        offer: "Offer",
        message: device_link.Open,
        ring_pages: tuple[int, ...],
        page: Callable[[int], memoryview],
        make_rings: Callable[["Channel"], Rings],
        memory: mmap.mmap,
    ) -> None:
        self.bind(sender, message.relid, message.event_flag)
        self.offer = offer
        self.event_flag = message.event_flag
        self.generation = message.generation
        self.connection_id = message.connection_id
        self.target_vp = message.target_vp
        self.ring_gpadl = message.ring_gpadl
        self.ring_pages = list(ring_pages)
        self.downstream_page = message.downstream_page
        self.user_data = message.user_data
        self.closed = False
        self.transfer_sets: dict[int, list[Range]] = {}
        self.delivered = False
        self.busy: int | None = None
        self.made: Rings | None = None
        self.name = f"relid {self.relid}: generation {self.generation}"
        self._reason = f"{self.name} is closed"
        self._making = threading.Lock()
        self._make_rings = make_rings
        self._memory = memory
        self._page = page
        self._views: dict[int, memoryview] = {}

    def __repr__(self) -> str:
        state = "live" if self.live else "closed"
        return f"<Channel relid {self.relid} generation {self.generation} vp {self.target_vp} {state}>"

    def memory(self, index: int) -> memoryview:
        """The 4096 bytes of page `index` of the ring GPADL, writable, the same view each time.

        Valid until the close, which releases it. Raises ChannelGone after it, UsageError outside the GPADL.
        """
        if self.closed:
            raise ChannelGone(self._reason)
        view = self._views.get(index)
        if view is None:
            if not 0 <= index < len(self.ring_pages):
                raise UsageError(f"relid {self.relid}: ring page {index} of {len(self.ring_pages)}")
            view = self._views.setdefault(index, self._page(self.ring_pages[index]))
        return view

    def rings(self) -> Rings:
        """Both rings; mapped at the first call. Raises ChannelGone, UsageError, ResourceError, RingDead."""
        with self._making:
            if self.made is None:
                if not self.live:
                    raise ChannelGone(self._reason)
                made = self._make_rings(self)
                made.delivered = self.delivered
                self.made = made
                self.bind_rings(made)
            return self.made

    def gpadl(self, handle: int) -> list[Range]:
        """The memory that the guest described on this channel by `handle`. Raises UsageError for none."""
        ranges = self.offer.gpadls.get(handle)
        if ranges is None:
            raise UsageError(f"relid {self.relid}: GPADL {handle:#x} is unknown")
        return list(ranges)

    def packet_memory(self, packet: Packet) -> list[memoryview]:
        """The guest memory that a packet names, in order, writable, as few views as pages allow.

        Release them before the close. Raises ProtocolError for what is outside of guest memory or of its set,
        ChannelGone.
        """
        if self.closed:
            raise ChannelGone(self._reason)
        named = ram.ranges(packet, self.transfer_sets)
        return [view for one in named for view in ram.views(self._memory, one)]

    # -- for the library -----------------------------------------------------------------------------------

    def end(self, reason: str) -> None:
        """No packet goes either way any more, and every verb says this."""
        with self._making:
            self._reason = reason
            if self.made is not None:
                self.made.close(reason)
                self.unbind_rings()

    def release(self) -> None:
        """End of this open: nothing signals and nobody gets ring memory any more."""
        self.live = False
        if self.closed:
            return
        self.closed = True
        self.end(self._reason)
        del self._page, self._make_rings, self._memory
        for index, view in list(self._views.items()):
            try:
                view.release()
            except BufferError:
                log.warning("relid %d: the device still uses ring page %d after its close", self.relid, index)
        self._views.clear()
