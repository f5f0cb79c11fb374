"""Both rings of one open channel, seen from one side: everything about packets that may wait or raise.

`native.Port` does the common case of every verb without Python; what it cannot end comes here: a full or an
empty ring, options, completions that somebody waits for, the end of the channel. Hosts and guests share this.
What differs is told at construction: how signals go out (the port's arguments) and how a thread waits.

Source: docs/rings.md; Linux 6.1 drivers/hv/channel.c for the verbs.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from vmbusd.abi.errors import ResourceError, RingFull, TimedOut, UsageError
from vmbusd.abi.gpadl import Range
from vmbusd.abi.layout import REQUESTS
from vmbusd.abi.native import Port, Requests, RingLease, RingReader, RingView, RingWriter
from vmbusd.abi.packets import (
    COMPLETION_REQUESTED,
    Packet,
    PacketType,
    TransferPages,
    encode_gpa_direct,
    encode_transfer_pages,
)
from vmbusd.abi.requests import Answers
from vmbusd.abi.ring_wait import SLICE, Waiting, deadline_of, no_pump

Bytes = bytes | bytearray | memoryview

SEND_TIMEOUT: Final = 10.0
"""Seconds that a send waits for room: a peer that reads nothing for so long is stuck."""
BATCH_BYTES: Final = 65536
"""Bytes of the ring in one batch, so that a batch and its copy stay within the second-level cache."""
BATCH_PACKETS: Final = 1024
HELD_PACKETS: Final = 1024
"""Packets kept for `receive` while a `request` waits for its answer: bounds what a peer can make us hold."""
POLL: Final = 0.001
"""Seconds between looks at a full ring whose reader does not say that it signals room (feature bit 0)."""


def map_rings(fd: int, pfns: Sequence[int], downstream: int, name: str) -> tuple[RingView, RingView]:
    """Both rings of a ring GPADL, mapped: guest to host, host to guest.

    `fd` is guest memory, `downstream` the index of the first host-to-guest page. Raises UsageError for a
    page outside or a ring of one page, ResourceError for too many runs of pages or when it cannot be mapped.
    """
    up = RingView.mapped(fd, pfns[:downstream], f"{name}, ring to the host")
    try:
        return up, RingView.mapped(fd, pfns[downstream:], f"{name}, ring to the guest")
    except BaseException:
        up.release()
        raise


class Rings(Waiting):
    """The packets of one open channel. Safe to use from any thread.

    Attributes: `name`; `port`, `writer`, `reader`, `requests` of the native core; `signals`, how often the
    peer was heard; `reason`, why it is over, None while it is not; `delivered`, True when callbacks get the
    packets, so that `receive` is refused.
    """

    def __init__(
        self,
        name: str,
        outgoing: RingView,
        incoming: RingView,
        *,
        changed: threading.Condition,
        requests: Requests,
        announce: bool = False,
        shared: bool = False,
        pump: Callable[[float], bool] = no_pump,
        outside: Callable[[], AbstractContextManager[object]] = nullcontext,
        first_word: int = 1,
        **port: Any,
    ) -> None:
        """`announce`: as of RingWriter (a host's open); `shared`: other processes write the ring too.

        `changed`, `outside`: as of `Waiting`.
        `pump(seconds)`: False when the calling thread takes no flags, else True after it took some, or after
        about that time. `first_word`: words of requests count from here, apart from those of other processes.
        `port`: the keyword arguments of `native.Port` that say how to signal. Raises RingDead for indices
        that are none.
        """
        super().__init__(name, changed, pump, outside)
        self.writer = RingWriter(outgoing, announce=announce)
        self.reader = RingReader(incoming)
        self.requests = requests
        self.port = Port(self.writer, self.reader, self, requests=requests, **port)
        self.delivered = False
        self.dropped = 0
        self._answers = Answers(first_word)
        self._views = (outgoing, incoming)
        self._shared = shared
        self._asking = 0
        self._held: deque[Packet] = deque()

    # -- the side that takes the flags ---------------------------------------------------------------------

    def close(self, reason: str) -> None:
        """Every verb raises ChannelGone with this reason from now on, also those that wait. Twice is fine.

        What was not read is lost with the ring. The rings are unmapped, or when the last lease is gone.
        """
        if self.reason is not None:
            return
        self.reason = reason
        self.dropped += self.requests.unknown
        self.port.close()
        # These may be what holds the mappings of a whole link.
        self.pump, self.outside = no_pump, nullcontext
        self.requests = Requests()
        self._held.clear()
        self.signalled()
        self._answers.fail(reason)
        views, self._views = self._views, None  # type: ignore[assignment]
        for view in views:
            try:
                view.release()
            except UsageError:
                # A lease is out: its end drops the last reference, and that unmaps.
                continue

    def unstick(self, force: bool = False) -> bool:
        """Signal the peer if it sleeps on packets or room that it has (case 296); True if it was signalled.

        For the moments when a wake-up may have been lost: after the answer to an open, after a recovery.
        `force` wakes both ends whatever the rings look like.
        """
        if self.reason is not None:
            return False
        outgoing, incoming = self._views
        stuck = force or outgoing.stuck()[0] or incoming.stuck()[1]
        if stuck:
            self.port.signal()
        if force or incoming.stuck()[0] or outgoing.stuck()[1]:
            self.signalled()
        return stuck

    def statistics(self) -> dict[str, int]:
        """Counters since the open: sent_* of the writer, received_* of the reader; requests outstanding,
        completions that named none (unknown) or came too late (late); signals heard and sent.
        """
        return {
            **{f"sent_{key}": value for key, value in self.writer.statistics().items()},
            **{f"received_{key}": value for key, value in self.reader.statistics().items()},
            "outstanding": self.requests.outstanding,
            "unknown": self.requests.unknown + self.dropped,
            "late": self._answers.late,
            "heard": self.signals,
            "signalled": self.port.signalled,
        }

    # -- waiting -------------------------------------------------------------------------------------------

    def await_room(self, size: int, extra: int, deadline: float | None) -> None:
        """Wait until `size` bytes of payload may fit. Raises RingFull at the deadline, ChannelGone."""
        seen = self.signals
        longest = SLICE if self.port.peer_frees else POLL
        with self.asking():
            if not self.port.ask(size, extra):
                if deadline is None or time.monotonic() < deadline:
                    return
            elif self.wait(seen, deadline, longest):
                return
            raise RingFull(f"{self.name}: no room for {size + extra} bytes now")

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around a use of `port.ask` and the wait for its answer."""
        with self.changed:
            self._asking += 1
        try:
            yield
        finally:
            with self.changed:
                self._asking -= 1
                others = self._asking
            if not self._shared and self.reason is None:
                self.port.withdraw()
                if others:
                    # Ours was the wish of all who sleep: they must say it again.
                    self.signalled()

    def await_packet(self, deadline: float | None) -> bool:
        """Wait until there may be a packet. False at the deadline; then the next one is signalled."""
        seen = self.signals
        if not self.port.rest():
            return True
        if not self.wait(seen, deadline):
            return False
        self.port.mask()
        return True

    # -- out -----------------------------------------------------------------------------------------------

    def send(
        self,
        payload: Bytes,
        *,
        request: bool = False,
        ranges: Sequence[Range] | TransferPages | None = None,
        transaction_id: int | None = None,
        timeout: float | None = SEND_TIMEOUT,
        word: int = 0,
    ) -> int | None:
        """What `Port.send` leaves: the verb as documented at `Verbs.send`."""
        self.raise_closed()
        deadline = deadline_of(timeout)
        kind, extra = _header(ranges)
        taken = None
        if transaction_id is None:
            transaction_id = 0
            if request:
                taken = self.requests.begin(word)
                if taken is None:
                    raise RingFull(f"{self.name}: no transaction id is free, all requests are outstanding")
                transaction_id = taken
        try:
            self._put(payload, kind, COMPLETION_REQUESTED if request else 0, transaction_id, extra, deadline)
        except BaseException:
            if taken is not None and self.reason is None:
                self.requests.end(taken)
            raise
        return transaction_id if request else None

    def _put(
        self, payload: Bytes, kind: int, flags: int, transaction_id: int, extra: bytes, deadline: float | None
    ) -> None:
        while not self.port.put(payload, kind, flags, transaction_id, extra):
            self.await_room(memoryview(payload).nbytes, len(extra), deadline)

    def send_many(self, items: list[Bytes], sent: int, timeout: float | None) -> None:
        """Send items[sent:], as much at a time as there is room. Raises RingFull: some may have been sent."""
        self.raise_closed()
        deadline = deadline_of(timeout)
        while sent < len(items):
            self.await_room(memoryview(items[sent]).nbytes, 0, deadline)
            sent += self.port.put_many(items, sent)

    def complete(self, packet: Packet | int, payload: Bytes, timeout: float | None) -> None:
        """Answer a request: as documented at `Verbs.complete`."""
        if isinstance(packet, Packet):
            if not packet.flags & COMPLETION_REQUESTED:
                raise UsageError(f"{self.name}: the packet did not ask for a completion")
            packet = packet.transaction_id
        self._put(payload, PacketType.COMPLETION, 0, packet, b"", deadline_of(timeout))

    # -- requests ------------------------------------------------------------------------------------------

    def request_future(self, payload: Bytes, timeout: float | None = SEND_TIMEOUT) -> "Future[bytes]":
        """Send a request; the future gets the completion's payload, or ChannelGone."""
        word, future = self._answers.begin()
        try:
            self.port.send(payload, request=True, timeout=timeout, word=word)
        except BaseException:
            self._answers.forget(future)
            raise
        return future

    def request(self, payload: Bytes, timeout: float | None) -> bytes:
        """Send a request and wait for its completion: as documented at `Verbs.request`."""
        deadline = deadline_of(timeout)
        future = self.request_future(payload, timeout)
        if self.delivered:
            return self._await_answer(future, deadline)
        while not self.look_for(future):
            if not self.await_packet(deadline):
                raise self.unanswered(future)
        return future.result()

    def ids_used_up(self) -> bool:
        """All transaction ids are outstanding."""
        self.raise_closed()
        return self.requests.outstanding >= REQUESTS

    def look_for(self, future: "Future[bytes]") -> bool:
        """Read on until the answer has come, and say whether it has; other packets are kept for `receive`.

        Raises ResourceError when too many come before it.
        """
        while not future.done() and (packet := self._next()) is not None:
            if len(self._held) >= HELD_PACKETS:
                raise ResourceError(
                    f"{self.name}: {HELD_PACKETS} packets came before the answer to a request"
                )
            self._held.append(packet)
        return future.done()

    def _await_answer(self, future: "Future[bytes]", deadline: float | None) -> bytes:
        if self.pump(0.0):
            raise UsageError(
                f"{self.name}: a callback cannot wait for a completion, which only callbacks read:"
                " take request_future or on_completion"
            )
        future.add_done_callback(self._answered)
        with self.outside(), self.changed:
            while not future.done():
                left = SLICE if deadline is None else min(SLICE, deadline - time.monotonic())
                if left <= 0:
                    raise self.unanswered(future)
                self.changed.wait_for(future.done, left)
        return future.result()

    def _answered(self, _future: "Future[bytes]") -> None:
        with self.changed:
            self.changed.notify_all()

    def unanswered(self, future: "Future[bytes]") -> TimedOut:
        """Nobody waits for it any more: forget it, so that a late answer is dropped and counted."""
        self._answers.forget(future)
        return TimedOut(f"{self.name}: the request was not completed in time")

    def completed(self, word: int, payload: bytes) -> None:
        """The request with this word is over: hand its answer to whoever waits for it."""
        self._answers.give(word, payload)

    # -- in ------------------------------------------------------------------------------------------------

    def _next(self) -> Packet | None:
        raw = self.port.get()
        return None if raw is None else packet_of(raw)

    def _mine(self) -> None:
        if self.delivered:
            raise UsageError(f"{self.name}: its packets go to on_packets, nobody else receives them")

    def receive(self, timeout: float | None) -> Packet | None:
        """The next packet; None at the end of the time: as documented at `Verbs.receive`."""
        self._mine()
        deadline = deadline_of(timeout)
        while True:
            self.raise_closed()
            if self._held:
                return self._held.popleft()
            packet = self._next()
            if packet is not None or not self.await_packet(deadline):
                return packet

    def receive_many(self, limit: int, timeout: float | None) -> list[Packet]:
        """At most `limit` packets: as documented at `Verbs.receive_many`."""
        first = self.receive(timeout) if limit > 0 else None
        if first is None:
            return []
        packets = [first]
        while len(packets) < limit and (packet := self._held.popleft() if self._held else self._next()):
            packets.append(packet)
        return packets

    def receive_into(self, buffer: bytearray | memoryview, *, timeout: float | None) -> int:
        """What `Port.receive_into` leaves: an empty ring, another kind of buffer, the end."""
        self._mine()
        deadline = deadline_of(timeout)
        while True:
            self.raise_closed()
            if self._held:
                return self._held_into(memoryview(buffer).cast("B"))
            got = self.port.try_into(buffer)
            if got >= 0 or not self.await_packet(deadline):
                return got

    def _held_into(self, buffer: memoryview) -> int:
        packet = self._held[0]
        size, whole = len(packet.payload), packet.payload + packet.extra
        if len(whole) > len(buffer):
            raise UsageError(f"{self.name}: a packet of {len(whole)} bytes, the buffer has {len(buffer)}")
        buffer[: len(whole)] = whole
        self._held.popleft()
        return size

    def receive_views(self, limit: int, timeout: float | None) -> RingLease | None:
        """Packets where they lie in the ring: as documented at `Verbs.receive_views`."""
        self._mine()
        deadline = deadline_of(timeout)
        while True:
            lease = self.port.lease_many(limit, BATCH_BYTES)
            if lease is not None or not self.await_packet(deadline):
                return lease


def packet_of(raw: tuple[int, int, int, bytes, bytes]) -> Packet:
    """A packet as the reader hands it out. Without flag 0 an id means nothing but in a completion: then 0."""
    kind, flags, transaction_id, payload, extra = raw
    if not flags and kind != PacketType.COMPLETION:
        transaction_id = 0
    return Packet(kind, flags, transaction_id, payload, extra)


def _header(ranges: Sequence[Range] | TransferPages | None) -> tuple[int, bytes]:
    if ranges is None:
        return PacketType.IN_BAND, b""
    if isinstance(ranges, TransferPages):
        return PacketType.TRANSFER_PAGES, encode_transfer_pages(ranges)
    return PacketType.GPA_DIRECT, encode_gpa_direct(ranges)
