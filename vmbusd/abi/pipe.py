"""A channel as a pipe: messages that keep their length, or a stream of bytes with an end.

Every packet begins with the pipe header (`dev_pipe`), because the ring itself rounds lengths up to 8. A byte
reader that takes only a part of a packet marks the packet in place, in the ring, and leaves it there: whoever
reads next, in whatever process, goes on behind it. The end of a stream is a packet without data; it stays on
the ring too. A writer keeps room for it at all times. Source: OpenVMM vmbus_async/pipe.rs, Linux 6.1
net/vmw_vsock/hyperv_transport.c.
"""

from typing import Final

from vmbusd.abi import dev_pipe
from vmbusd.abi.dev_pipe import MAX_DATA, PipePacket, PipeType
from vmbusd.abi.errors import ProtocolError, TimedOut, UsageError
from vmbusd.abi.packets import DESCRIPTOR, TRAILER_SIZE, Packet, PacketType
from vmbusd.abi.ring_wait import deadline_of
from vmbusd.abi.rings import SEND_TIMEOUT, Bytes, Rings, packet_of

HEADER_SIZE: Final = dev_pipe.HEADER.size
OVERHEAD: Final = DESCRIPTOR.size + HEADER_SIZE + TRAILER_SIZE
"""Bytes on the ring beside the data; a packet without data is so long."""
LEAST_CHUNK: Final = 2048
"""A stream's writer waits rather than write less than this of more, so that a slow reader gets no crumbs."""
_MAX_PACKET: Final = MAX_DATA + 64


class Pipe:
    """Reads and writes for one channel in pipe mode; any number of them may be made, threads may share one.

    `send` and `receive` are for message pipes, `write`, `read` and `end` for byte pipes. All raise
    ChannelGone when the other end drops the channel, also while they wait (case 277).
    """

    def __init__(self, rings: Rings) -> None:
        self._rings = rings

    # -- messages ------------------------------------------------------------------------------------------

    def send(self, message: Bytes, timeout: float | None = SEND_TIMEOUT) -> None:
        """Send one message of at most 16384 bytes. Errors as `Verbs.send`."""
        self._rings.port.send(dev_pipe.encode(dev_pipe.data_packet(bytes(message))), timeout=timeout)

    def receive(self, timeout: float | None = None) -> bytes | None:
        """The next message; None when none came in time. Raises ProtocolError for a packet that is none."""
        packet = self._rings.receive(timeout)
        return None if packet is None else dev_pipe.unread(_parse(packet))

    # -- bytes ---------------------------------------------------------------------------------------------

    def write(self, data: Bytes, timeout: float | None = SEND_TIMEOUT) -> None:
        """Write all of `data`. Raises RingFull when there was no room in time; a part may be written then."""
        rings, deadline = self._rings, deadline_of(timeout)
        rings.raise_closed()
        left = memoryview(data).cast("B")
        most = min(MAX_DATA, rings.writer.most_payload() - HEADER_SIZE - OVERHEAD)
        if most < 1:
            raise UsageError(f"{rings.name}: too small for a stream")
        while left:
            wanted = min(len(left), most, LEAST_CHUNK)
            # Strictly less than what is free, and room for the end behind it.
            free = (self._free() - 2 * OVERHEAD - 1) & ~7
            if free < wanted:
                rings.await_room(wanted + HEADER_SIZE + OVERHEAD, 0, deadline)
                continue
            chunk = left[: min(most, free)]
            if rings.port.put(dev_pipe.encode(dev_pipe.data_packet(bytes(chunk)))):
                left = left[len(chunk) :]

    def end(self, timeout: float | None = SEND_TIMEOUT) -> None:
        """Say that no more is written: the other side reads the end of the stream."""
        self._rings.port.send(dev_pipe.encode(dev_pipe.data_packet(b"")), timeout=timeout)

    def read(self, limit: int, timeout: float | None = None) -> bytes:
        """At least 1 and at most `limit` bytes, waiting for them; b"" at the end of the stream, and for ever.

        Raises TimedOut when nothing came in time, ProtocolError for a packet that is none; it stays.
        """
        rings, deadline = self._rings, deadline_of(timeout)
        if limit < 1:
            raise UsageError(f"{rings.name}: read at least 1 byte, not {limit}")
        try:
            while True:
                batch = rings.port.get_many(1, _MAX_PACKET)
                if batch is not None:
                    return self._part(packet_of(batch[0]), limit)
                if not rings.await_packet(deadline):
                    raise TimedOut(f"{rings.name}: nothing to read came in time")
        except UsageError:
            # Another thread closed the channel under this one.
            rings.raise_closed()
            raise

    def _part(self, packet: Packet, limit: int) -> bytes:
        rings = self._rings
        try:
            parsed = _parse(packet)
        except ProtocolError:
            rings.reader.revert()
            raise
        unread = dev_pipe.unread(parsed)
        if unread and len(unread) <= limit:
            rings.port.commit()
            return unread
        if unread:
            total = len(parsed.data)
            consumed = total - len(unread) + limit
            rings.reader.mark(PipeType.PARTIAL | total << 32 | consumed << 48)
        rings.reader.revert()
        return unread[:limit]

    def _free(self) -> int:
        self._rings.raise_closed()
        return self._rings.writer.room


def _parse(packet: Packet) -> PipePacket:
    """The pipe packet in a packet of the ring. Raises ProtocolError (case 276)."""
    if packet.type != PacketType.IN_BAND:
        raise ProtocolError(f"pipe: packet of type {packet.type}, only in-band data has a pipe header")
    parsed = dev_pipe.decode(packet.payload)
    if parsed.pkt_type not in (PipeType.DATA, PipeType.PARTIAL):
        raise ProtocolError(f"pipe: packet of type {parsed.pkt_type}, which nobody sends")
    if parsed.pkt_type == PipeType.PARTIAL and not dev_pipe.unread(parsed):
        raise ProtocolError(f"pipe: partly read packet with nothing left, length word {parsed.data_size:#x}")
    return parsed
