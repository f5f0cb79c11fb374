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
from typing import Any, Final, Protocol, cast
from uuid import UUID

from guest_client.driver import Driver
from guest_client.feed import Feed, takes_packets
from vmbusd.abi import layout, ram
from vmbusd.abi.attach import Attached
from vmbusd.abi.errors import ChannelGone, LinkClosed, UsageError
from vmbusd.abi.gpadl import Range
from vmbusd.abi.link import Object
from vmbusd.abi.native import Blocks, HostSender, RingLease, Table
from vmbusd.abi.packets import Packet
from vmbusd.abi.pipe import Pipe
from vmbusd.abi.rings import BATCH_PACKETS, SEND_TIMEOUT, Bytes, Rings
from vmbusd.abi.verbs import Verbs

log = logging.getLogger(__name__)

OPEN_TIMEOUT: Final = 10.0
"""Seconds a blocking call waits for the daemon and the host; both answer in milliseconds."""
HOST_LINK_TIMEOUT: Final = 5.0
"""Seconds a signal waits for descriptors of its host link, which were sent before the channel's offer."""


class Control(Protocol):
    """What a channel asks of the control process."""

    def begin_open(self, channel: "Channel", target_vp: int | None, user_data: bytes) -> "Future[None]": ...
    def begin_close(self, channel: "Channel", reason: str) -> "Future[None]": ...
    def begin_retarget(self, channel: "Channel", vp: int) -> "Future[None]": ...
    def is_inside(self, channel: "Channel") -> bool: ...


class HostEnds:
    """Guest-to-host senders by host link number; a link may still be on its way when a callback needs it."""

    def __init__(self, attached: Attached) -> None:
        self._attached = attached
        self._changed = threading.Condition()
        self._senders = {number: HostSender(*end) for number, end in attached.host_links.items()}

    def add(self, packet: bytes, fds: list[int]) -> None:
        """Take over what a HostLink packet grants. Raises as `Attached.add_host_link`."""
        number = self._attached.add_host_link(packet, fds)
        with self._changed:
            self._senders[number] = HostSender(*self._attached.host_links[number])
            self._changed.notify_all()

    def signal(self, number: int, flag: int) -> bool:
        """Set `flag` on host link `number` and wake the host if it sleeps. True for 0 -> 1."""
        return self.sender(number).signal(flag)

    def sender(self, number: int) -> HostSender:
        """What signals host link `number`. Raises LinkClosed when its descriptors do not come."""
        sender = self._senders.get(number)
        if sender is None:
            with self._changed:
                if not self._changed.wait_for(lambda: number in self._senders, HOST_LINK_TIMEOUT):
                    raise LinkClosed(f"host link {number} is not known here")
                sender = self._senders[number]
        return sender

    def statistics(self) -> dict[int, dict[str, int]]:
        """Signals, transitions and posts per host link."""
        return {number: sender.statistics() for number, sender in list(self._senders.items())}

    def close(self) -> None:
        """Let go of the host pages."""
        with self._changed:
            self._senders.clear()


class _Left:
    """Stands where a view of shared memory was: whoever still asks hears why there is none."""

    def __getattr__(self, name: str) -> Any:
        raise LinkClosed("this guest has left the daemon, its shared memory is gone")


class Space:
    """What all channels of one attachment share: its mappings, seen through the native core.

    Attributes: `attached`, `table`, `blocks`, `hosts`; `feed`, which whoever makes the space sets.
    """

    feed: Feed

    def __init__(self, attached: Attached) -> None:
        self.attached = attached
        self.table = Table(attached[Object.TABLE])
        self.blocks = Blocks(attached[Object.GUEST])
        self.hosts = HostEnds(attached)

    def close(self) -> None:
        """Let go of every mapping: while one is held, this process counts as attached."""
        self.hosts.close()
        self.feed = cast(Feed, _Left())
        self.table = cast(Table, _Left())
        self.blocks = cast(Blocks, _Left())

    def relid_of(self, flag: int) -> int:
        """The channel whose event flag this is, 0 if it has none now."""
        slot = self.table.slot(flag)
        offset = (slot & 0xFFFFFFFF) - layout.TABLE_RECORDS_OFFSET
        return offset // layout.RECORD_SIZE if slot and offset >= 0 else 0


class Channel(Verbs):
    """An offered channel. Its packets: see `Verbs`.

    Of rings that worker processes share only a channel's own callback reads, and a completion may be read in
    another process than the request was sent from: `request` and `request_future` are refused there.

    Attributes: `relid`; `event_flag`; `interface`, `instance`: UUID; `subchannel_index`; `host_link`;
    `driver`, None if nobody takes it; `user_defined`, the 120 bytes of the offer (control process only);
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
        user_defined: bytes = b"",
        control: Control | None = None,
    ) -> None:
        record = space.table.record(relid)
        self.relid = relid
        self.event_flag: int = record["event_flag"]
        self.interface = UUID(bytes_le=record["interface_id"])
        self.instance = UUID(bytes_le=record["instance_id"])
        self.subchannel_index: int = record["subchannel_index"]
        self.host_link: int = record["host_link"]
        self.driver = driver
        self.user_defined = user_defined
        self.generation = 0
        self.driver_data: Any = None
        self.close_reason = ""
        self._space = space
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
        """Signal the host: True if its flag went from 0 to 1."""
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

        Raises ResourceError without memory, RefusedError when the host says no, ChannelGone on a rescind.
        """
        self.begin_open(target_vp, user_data).result(timeout)

    def begin_open(self, target_vp: int | None = None, user_data: bytes = b"") -> "Future[None]":
        """As `open`, without waiting for it."""
        return self._controlled().begin_open(self, target_vp, user_data)

    def close(self, reason: str = "", timeout: float | None = OPEN_TIMEOUT) -> None:
        """Close and wait until no callback runs and the ring memory is back.

        From a callback of this very channel it cannot wait: then it returns at once, and the rest follows the
        end of the callback. Raises UsageError for a channel that is not open.
        """
        control = self._controlled()
        closed = control.begin_close(self, reason)
        if not control.is_inside(self):
            closed.result(timeout)

    def begin_close(self, reason: str = "") -> "Future[None]":
        """As `close`, without waiting for it."""
        return self._controlled().begin_close(self, reason)

    def retarget(self, vp: int, timeout: float | None = OPEN_TIMEOUT) -> None:
        """Move this channel's interrupts to `vp`; after it no event reaches the old VP."""
        self._controlled().begin_retarget(self, vp).result(timeout)

    def _controlled(self) -> Control:
        if self._control is None:
            raise UsageError(f"relid {self.relid}: only the control process opens, closes and moves channels")
        return self._control

    # -- for the library -----------------------------------------------------------------------------------

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


def log_failure(flag: int, error: BaseException) -> None:
    """What the workers do with an exception of a callback: it is logged, and the channel goes on."""
    log.error("event flag %d: its driver's callback failed", flag, exc_info=error)
