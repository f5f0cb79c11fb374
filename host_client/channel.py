"""One open of a channel, as its device sees it: where to signal, and the ring memory.

A channel object lives from one open to its close and is never used again: the next open makes a new one, so
a thread that kept an old object cannot signal into, or write to, what came after it.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from vmbusd.abi import device_link
from vmbusd.abi.errors import ChannelGone, UsageError
from vmbusd.abi.native import Route, Sender

if TYPE_CHECKING:
    from host_client.offer import Offer

log = logging.getLogger(__name__)


class Channel(Route):
    """An open channel. `signal()` (0 -> 1: True) and `live` come from `native.Route`.

    Attributes: `offer`, what was opened; `relid`; `flag` and `event_flag`, the event flag; `generation`, the
    number of this open; `target_vp`, the VP interrupted last; `ring_pages`, page numbers of the ring GPADL;
    `downstream_page`, index of the first host-to-guest page among them; `user_data`, the guest's 120 bytes.
    """

    def __init__(
        self,
        sender: Sender,
        offer: "Offer",
        message: device_link.Open,
        ring_pages: tuple[int, ...],
        page: Callable[[int], memoryview],
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
            raise ChannelGone(f"relid {self.relid}: generation {self.generation} is closed")
        view = self._views.get(index)
        if view is None:
            if not 0 <= index < len(self.ring_pages):
                raise UsageError(f"relid {self.relid}: ring page {index} of {len(self.ring_pages)}")
            view = self._views.setdefault(index, self._page(self.ring_pages[index]))
        return view

    def release(self) -> None:
        """End of this open: nothing signals and nobody gets ring memory any more."""
        self.live = False
        if self.closed:
            return
        self.closed = True
        del self._page
        for index, view in list(self._views.items()):
            try:
                view.release()
            except BufferError:
                log.warning("relid %d: the device still uses ring page %d after its close", self.relid, index)
        self._views.clear()
