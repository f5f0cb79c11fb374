"""One channel as its driver sees it, in the control process and in worker processes alike.

Everything a callback needs is in shared memory: the record says which host link to signal, the channel's
block where its ring lies. Opening, closing and moving it are the control process's business alone; elsewhere
they raise UsageError. Memory views die with the ring: a view kept beyond the close raises instead of writing
into pages that belong to another channel by then. Packets go through `Verbs`; the rings are mapped when
they are first needed.
"""

import logging
import threading
from concurrent.futures import Future
from typing import Any, Final, Protocol
from uuid import UUID

from guest_client.driver import Driver
from guest_client.feed import takes_packets
from guest_client.monitor import is_monitored
from guest_client.space import Space
from guest_client.waiting import answered
from vmbusd.abi import layout, messages, ram
from vmbusd.abi.errors import ChannelGone, LinkClosed, ObjectDead, UsageError
from vmbusd.abi.gpadl import Range
from vmbusd.abi.link import Object
from vmbusd.abi.native import RingLease
from vmbusd.abi.packets import Packet
from vmbusd.abi.pipe import Pipe
from vmbusd.abi.rings import BATCH_PACKETS, SEND_TIMEOUT, Bytes, Rings
from vmbusd.abi.verbs import Verbs

log = logging.getLogger(__name__)

OPEN_TIMEOUT: Final = 10.0
"""Seconds a blocking call waits for the daemon and the host; both answer in milliseconds."""


class Control(Protocol):
    """What a channel asks of the control process."""

    def begin_open(self, channel: "Channel", target_vp: int | None, user_data: bytes) -> "Future[None]": ...
    def begin_close(self, channel: "Channel", reason: str) -> "Future[None]": ...
    def begin_retarget(self, channel: "Channel", vp: int) -> "Future[None]": ...
    def drop(self, channel: "Channel") -> None: ...
    def is_inside(self, channel: "Channel") -> bool: ...


class Channel(Verbs):
    """An offered channel. Its packets: see `Verbs`.

    Of rings that worker processes share only a channel's own callback reads, and a completion may be read in
    another process than the request was sent from: `request` and `request_future` are refused there.

    Attributes: `relid`; `event_flag`; `interface`, `instance`: UUID; `subchannel_index`; `host_link`;
    `monitor_id`, layout.NO_MONITOR for none; `driver`, None if nobody takes it; `user_defined`, the 120 bytes
    of the offer (control process only); `primary`, the device's first channel if this is a subchannel of it,
    and `subchannels`, those of a primary in the order of their offers (both in the control process only);
    `generation`, of the present or last open, 0 before; `driver_data`, the driver's own, in this process;
    `close_reason`, what `close` was told; `transfer_sets`, the memory behind transfer page sets by their
    number, for `packet_memory`.
    """

    def __init__(
        self,
        space: Space,
        relid: int,
        *,
        driver: Driver | None = None,
        offer: messages.Offer | None = None,
        control: Control | None = None,
    ) -> None:
        self.relid = relid
        self.event_flag = 0
        self.host_link = 0
        self.monitor_id = layout.NO_MONITOR
        self.driver = driver
        self.primary: Channel | None = None
        self.subchannels: list[Channel] = []
        self._space = space
        record = self.read_record()
        self.interface = UUID(bytes_le=record["interface_id"])
        self.instance = UUID(bytes_le=record["instance_id"])
        self.subchannel_index: int = record["subchannel_index"]
        self.user_defined = b""
        if offer is not None:
            self.read_offer(offer)
        self.generation = 0
        self.driver_data: Any = None
        self.close_reason = ""
        self._control = control
        self._pages: list[int] = []
        self._views: dict[int, memoryview] = {}
        self.transfer_sets: dict[int, list[Range]] = {}
        self.made: Rings | None = None
        self.served = False
        self.owed = False
        self._over = ""
        self._making = threading.Lock()

    def __repr__(self) -> str:
        return f"<Channel relid {self.relid} generation {self.generation} of {self.interface}>"

    @property
    def is_open(self) -> bool:
        """Whether the slot says so now."""
        slot = self._space.table.slot(self.event_flag)
        return bool(slot & layout.SLOT_OPEN) and layout.slot_generation(slot) == self.generation

    @property
    def target_vp(self) -> int:
        """The VP whose interrupts announce this channel now; layout.NO_TARGET for none."""
        return self._space.table.target(self.relid)

    @property
    def state(self) -> memoryview:
        """256 bytes that follow the channel from process to process; zero after each open."""
        return self._space.blocks.state(self.event_flag)

    @property
    def interrupts(self) -> int:
        """Callbacks begun since the open."""
        return self._space.blocks.interrupts(self.event_flag)

    @property
    def ring_pages(self) -> list[int]:
        """Page numbers of both rings, guest-to-host first; empty while there are none."""
        return list(self._pages)

    @property
    def downstream_page(self) -> int:
        """Index in `ring_pages` of the first page of the host-to-guest ring."""
        return self._space.blocks.ring(self.event_flag)[2]

    def memory(self, index: int) -> memoryview:
        """The 4096 bytes of page `index` of the rings, writable, the same view each time, until the close.

        Raises ChannelGone while there is no ring, UsageError outside it.
        """
        view = self._views.get(index)
        if view is None:
            pages = self._pages
            if not pages:
                raise ChannelGone(f"relid {self.relid} has no ring memory")
            if not 0 <= index < len(pages):
                raise UsageError(f"relid {self.relid}: ring page {index} of {len(pages)}")
            view = self._views.setdefault(index, self._space.attached.page(pages[index]))
        return view

    def signal(self) -> bool:
        """Signal the host: True if its flag, or the channel's monitor bit, went from 0 to 1."""
        if is_monitored(self.monitor_id, self.driver):
            first = self._space.monitor.trigger(self.monitor_id)
            if first is not None:
                return first
        return self._space.hosts.signal(self.host_link, self.event_flag)

    # -- packets -------------------------------------------------------------------------------------------

    def rings(self) -> Rings:
        """Both rings, mapped at the first call. Raises ChannelGone, UsageError, ResourceError, RingDead."""
        with self._making:
            if self._over or (self.made is None and not self.is_open):
                raise ChannelGone(self._over or f"relid {self.relid} is not open")
            if self.made is None:
                feed = self._space.feed
                self.made = feed.rings_of(self)
                self.made.delivered = takes_packets(self.driver)
                self.bind_rings(self.made)
                if feed.shared:
                    # Who may read is looked at each time.
                    self.__dict__.pop("receive_into", None)
                if self.driver is not None:
                    feed.bind(self)
            return self.made

    def receive(self, timeout: float | None = None) -> Packet | None:
        """See `Verbs`."""
        return self._reading().receive(timeout)

    def receive_many(self, limit: int = BATCH_PACKETS, timeout: float | None = 0) -> list[Packet]:
        """See `Verbs`."""
        return self._reading().receive_many(limit, timeout)

    def receive_into(self, buffer: bytearray | memoryview, *, timeout: float | None = None) -> int:
        """See `Verbs`."""
        return self._reading().receive_into(buffer, timeout=timeout)

    def receive_views(self, limit: int = BATCH_PACKETS, timeout: float | None = 0) -> RingLease | None:
        """See `Verbs`. In a callback of worker processes: release it before the callback ends."""
        return self._reading().receive_views(limit, timeout)

    def pipe(self) -> Pipe:
        """See `Verbs`."""
        return Pipe(self._reading())

    def request(self, payload: Bytes, *, timeout: float | None = SEND_TIMEOUT) -> bytes:
        """See `Verbs`."""
        self._answered_here()
        return super().request(payload, timeout=timeout)

    def request_future(self, payload: Bytes, *, timeout: float | None = SEND_TIMEOUT) -> "Future[bytes]":
        """See `Verbs`."""
        self._answered_here()
        return super().request_future(payload, timeout=timeout)

    def packet_memory(self, packet: Packet) -> list[memoryview]:
        """The guest memory that a packet names, in order, writable, as few views as pages allow.

        Raises ProtocolError for what is outside of guest memory or of its set.
        """
        memory = self._space.attached[Object.RAM]
        return [view for one in ram.ranges(packet, self.transfer_sets) for view in ram.views(memory, one)]

    def statistics(self) -> dict[str, int]:
        """Callbacks since the open, and what `Rings.statistics` counts in this process."""
        made = self.made
        return {"interrupts": self.interrupts, **(made.statistics() if made is not None else {})}

    def _reading(self) -> Rings:
        """The rings, for a thread that may read. Raises UsageError for another one."""
        rings = self.rings()
        if self._space.feed.shared and not self._space.feed.is_inside(self):
            raise UsageError(
                f"relid {self.relid}: with VPs as processes only a callback of the channel reads its packets"
            )
        return rings

    def _answered_here(self) -> None:
        if self._space.feed.shared:
            raise UsageError(
                f"relid {self.relid}: with VPs as processes any of them may read the completion:"
                " use send(request=True) and on_completion"
            )

    # -- control process only ------------------------------------------------------------------------------

    def open(
        self, target_vp: int | None = None, user_data: bytes = b"", timeout: float | None = OPEN_TIMEOUT
    ) -> None:
        """Open and wait for it; `target_vp` None takes the next VP in turn, layout.NO_TARGET wants none.

        Raises ResourceError without memory, RefusedError when the host says no, ChannelGone on a rescind,
        TimedOut after `timeout` seconds (None: never); then it goes on.
        """
        answered(self.begin_open(target_vp, user_data), timeout, f"relid {self.relid} was not opened")

    def begin_open(self, target_vp: int | None = None, user_data: bytes = b"") -> "Future[None]":
        """As `open`, without waiting for it."""
        return self._controlled().begin_open(self, target_vp, user_data)

    def close(self, reason: str = "", timeout: float | None = OPEN_TIMEOUT) -> None:
        """Close and wait until no callback runs and the ring memory is back; subchannels are closed first.

        From a callback of this very channel it cannot wait: then it returns at once, and the rest follows the
        end of the callback. Raises UsageError for a channel that is not open, and for a subchannel, which is
        closed with its primary; TimedOut as `open`.
        """
        control = self._controlled()
        closed = control.begin_close(self, reason)
        if not control.is_inside(self):
            answered(closed, timeout, f"relid {self.relid} was not closed")

    def begin_close(self, reason: str = "") -> "Future[None]":
        """As `close`, without waiting for it."""
        return self._controlled().begin_close(self, reason)

    def retarget(self, vp: int, timeout: float | None = OPEN_TIMEOUT) -> None:
        """Move this channel's interrupts to `vp`; after it no event reaches the old VP.

        From 4.1 to 5.2 nobody answers: then it returns when the host was asked. Below that it raises
        UsageError. TimedOut as `open`.
        """
        answered(self.begin_retarget(vp), timeout, f"relid {self.relid} was not moved to VP {vp}")

    def begin_retarget(self, vp: int) -> "Future[None]":
        """As `retarget`, without waiting for it."""
        return self._controlled().begin_retarget(self, vp)

    def drop(self) -> None:
        """Let go of this channel for good, without waiting: it is closed if it is open, cannot be opened any
        more, and its relid is released as soon as the host takes it back."""
        self._controlled().drop(self)

    def _controlled(self) -> Control:
        if self._control is None:
            raise UsageError(f"relid {self.relid}: only the control process opens, closes and moves channels")
        return self._control

    # -- for the library -----------------------------------------------------------------------------------

    def read_record(self) -> dict[str, Any]:
        """Learn from the record where signals go. It is filled before the offer, or at the open when the
        guest chooses event flags."""
        record = self._space.table.record(self.relid)
        self.event_flag, self.host_link = record["event_flag"], record["host_link"]
        self.monitor_id = record["monitor_id"]
        return record

    def read_offer(self, offer: messages.Offer) -> None:
        """Be what an offer says, which may name another relid than before."""
        self.relid = self.event_flag = offer.child_relid
        self.interface, self.instance = offer.if_type, offer.if_instance
        self.subchannel_index, self.user_defined = offer.sub_channel_index, offer.user_defined
        record = self._space.table.record(self.relid)
        self.host_link, self.monitor_id = record["host_link"], record["monitor_id"]

    def begin(self) -> None:
        """A new open begins."""
        with self._making:
            self._over = ""

    def end(self, reason: str) -> None:
        """No packet of this open goes either way any more, and every verb says this."""
        with self._making:
            self._over = self._over or reason
            made, self.made = self.made, None
            if made is not None:
                self.unbind_rings()
                made.close(reason)

    def locate_ring(self) -> None:
        """Read from the channel's block where the ring lies."""
        first, count, _, _ = self._space.blocks.ring(self.event_flag)
        self._pages = list(range(first, first + count))

    def drop_ring(self) -> None:
        """No page of the ring is ours any more."""
        self._pages = []
        for index, view in list(self._views.items()):
            try:
                view.release()
            except BufferError:
                log.warning("relid %d: its driver still uses ring page %d after the close", self.relid, index)
        self._views.clear()


def mistake(error: BaseException) -> BaseException | None:
    """The error itself, to log where a driver stood, if it may be its mistake; None if its channel ended
    under its feet."""
    return None if isinstance(error, ChannelGone | LinkClosed | ObjectDead) else error


def log_failure(flag: int, error: BaseException) -> None:
    """What the workers do with an exception of a callback: it is logged, and the channel goes on."""
    log.error("event flag %d: its driver's callback failed: %s", flag, error, exc_info=mistake(error))
