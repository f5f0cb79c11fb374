"""The verbs of a channel, the same on the host and on the guest: names, defaults, documentation.

While the channel is open `send`, `send_many` and `receive_into` of an object are the native port's own
methods, set by `bind_rings`: no Python stands between a caller and the ring. The methods here are what is
found before and after that; they ask `rings()` of the channel, which makes them or says why there are none.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import Future

from vmbusd.abi import ring_async
from vmbusd.abi.gpadl import Range
from vmbusd.abi.native import RingLease
from vmbusd.abi.packets import Packet, TransferPages
from vmbusd.abi.pipe import Pipe
from vmbusd.abi.rings import BATCH_PACKETS, SEND_TIMEOUT, Bytes, Rings

_BOUND = ("send", "send_many", "receive_into")


class Verbs(ABC):
    """Base of both channels. Timeouts are seconds: 0 does not wait, None waits for ever.

    Every verb raises ChannelGone once the channel is closed or rescinded, and RingDead, which is one, once
    the peer broke the ring. Whoever has callbacks for packets (`on_packets`) does not call `receive*`.
    """

    @abstractmethod
    def rings(self) -> Rings:
        """Both rings of the open channel. Raises ChannelGone when there are none."""

    def bind_rings(self, rings: Rings) -> None:
        """For the library: make the native verbs this object's own."""
        for name in _BOUND:
            if name != "receive_into" or not rings.delivered:
                self.__dict__[name] = getattr(rings.port, name)

    def unbind_rings(self) -> None:
        """For the library: the verbs are those of the class again."""
        for name in _BOUND:
            self.__dict__.pop(name, None)

    # -- out -----------------------------------------------------------------------------------------------

    def send(
        self,
        payload: Bytes,
        *,
        request: bool = False,
        ranges: Sequence[Range] | TransferPages | None = None,
        transaction_id: int | None = None,
        timeout: float | None = SEND_TIMEOUT,
    ) -> int | None:
        """Send one packet; waits for room. Returns the transaction id of a `request`, else None.

        In-band, or with `ranges` of guest memory: a list of them makes a GPA direct packet, TransferPages one
        that names parts of a set. `transaction_id` is used as it is and not entered in the table of requests.
        Raises RingFull after `timeout`, or at once when all ids are outstanding; UsageError for what can
        never fit, before anything is written.
        """
        return self.rings().port.send(
            payload, request=request, ranges=ranges, transaction_id=transaction_id, timeout=timeout
        )

    def send_many(self, payloads: Iterable[Bytes], *, timeout: float | None = SEND_TIMEOUT) -> int:
        """Send in-band packets in order and return how many: all of them.

        Published, and the peer signalled, once for as many as there is room for. Errors as `send`; what was
        sent before stays sent.
        """
        return self.rings().port.send_many(payloads, timeout=timeout)

    def complete(
        self, packet: Packet | int, payload: Bytes = b"", *, timeout: float | None = SEND_TIMEOUT
    ) -> None:
        """Answer a request, named by packet or id. Errors as `send`; UsageError if it asked for none."""
        self.rings().complete(packet, payload, timeout)

    def request(self, payload: Bytes, *, timeout: float | None = SEND_TIMEOUT) -> bytes:
        """Send a request and wait for its completion; returns its payload, which ends in padding.

        Packets that come meanwhile are kept for `receive`. Errors as `send`; TimedOut without an answer in
        time; UsageError in a callback of packets, for which `request_future` is there.
        """
        # From now on packets may be held, which the native verb does not know of.
        self.__dict__.pop("receive_into", None)
        return self.rings().request(payload, timeout)

    def request_future(self, payload: Bytes, *, timeout: float | None = SEND_TIMEOUT) -> "Future[bytes]":
        """Send a request; the future gets the payload of its completion, or ChannelGone.

        It is set by whoever reads the completion: the callbacks of the channel or a `receive`.
        """
        return self.rings().request_future(payload, timeout)

    # -- in ------------------------------------------------------------------------------------------------

    def receive(self, timeout: float | None = None) -> Packet | None:
        """The next packet, waiting for it; None when none came in time. Payloads end in padding.

        The answer of `send(..., request=True)` is a packet too, of type COMPLETION and with its id.
        """
        return self.rings().receive(timeout)

    def receive_many(self, limit: int = BATCH_PACKETS, timeout: float | None = 0) -> list[Packet]:
        """At most `limit` packets that are there, waiting for the first of them only."""
        return self.rings().receive_many(limit, timeout)

    def receive_into(self, buffer: bytearray | memoryview, *, timeout: float | None = None) -> int:
        """Copy the next payload, and its type header behind it, without allocating. Bytes of payload; or -1.

        A bytearray is fastest. Raises UsageError naming the size that is needed; then the packet stays.
        """
        return self.rings().receive_into(buffer, timeout=timeout)

    def receive_views(self, limit: int = BATCH_PACKETS, timeout: float | None = 0) -> RingLease | None:
        """The packets that are there, where they lie in the ring; None if none came in time.

        A context manager and a buffer with `spans`; nothing else is read until its release. Only for peers
        that are trusted: they can change what is being read. Completions are among the packets.
        """
        return self.rings().receive_views(limit, timeout)

    # -- the rest ------------------------------------------------------------------------------------------

    def pipe(self) -> Pipe:
        """The channel as a pipe: for offers with the pipe flag, whose packets say how long they are."""
        return Pipe(self.rings())

    async def async_send(self, payload: Bytes, *, timeout: float | None = SEND_TIMEOUT) -> None:
        """As `send`, in-band, for any event loop."""
        await ring_async.send(self.rings(), payload, timeout)

    async def async_receive(self, timeout: float | None = None) -> Packet | None:
        """As `receive`, for any event loop."""
        return await ring_async.receive(self.rings(), timeout)

    async def async_request(self, payload: Bytes, *, timeout: float | None = SEND_TIMEOUT) -> bytes:
        """As `request`, for any event loop."""
        return await ring_async.request(self.rings(), payload, timeout)
