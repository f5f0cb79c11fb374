"""A SEQPACKET link on the event loop, with a bounded queue.

uvloop has no transport for SEQPACKET, so it works with add_reader and system calls of its own, several
packets for each. We offer the kernel no room for descriptors when we receive: none of ours are ever expected,
and so whatever a peer attaches is closed by the kernel itself and cannot fill our table. Source: unix(7),
recvmmsg(2).
"""

import array
import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Sequence
from itertools import islice, takewhile
from typing import Protocol

from vmbusd.abi.native import SEND_BURST, send_packets
from vmbusd.server import limits
from vmbusd.server.turn import Turn


class Receiver(Protocol):
    """Who gets what arrives on a link."""

    def packet(self, data: bytes) -> None:
        """One whole packet, never longer than the link allows."""

    def broken(self, text: str) -> None:
        """A packet came that was too long: the link has to end."""

    def overflowed(self, text: str) -> None:
        """Too much waits for the peer to read it: the link has to end."""

    def drained(self) -> None:
        """What had to wait for the peer has left."""

    def ended(self, reason: str) -> None:
        """The link is over, called exactly once and last."""


class PacketLink:
    """One end of a SEQPACKET connection: packets in, packets and descriptors out, in order.

    What is sent leaves at the end of the turn, except packets with descriptors, which leave at once and take
    along what was sent before them. Attributes: `open`; `queued`, what waits for the peer, in bytes and the
    cost of packets; `packets_in`, `packets_out`, `descriptors_refused`, counters.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, max_packet: int, turn: Turn
    ) -> None:
        self.receiver: Receiver
        self.open = True
        self.packets_in = 0
        self.packets_out = 0
        self.descriptors_refused = 0
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._turn = turn
        self._inbox = turn.inbox(max_packet)
        self._unread: deque[bytes | None] = deque()
        self._said: list[bytes] = []
        self._queue: deque[tuple[bytes, Sequence[int]]] = deque()
        self.queued = 0
        self._timer: asyncio.TimerHandle | None = None
        self._listening = False
        self._unreachable = False
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.SOCKET_BUFFER)

    def start(self, receiver: Receiver) -> None:
        """Begin to read."""
        self.receiver = receiver
        self.listen(True)

    def listen(self, on: bool) -> None:
        """Read, or leave what comes in the kernel's queue, where it makes the peer wait."""
        if on is self._listening or not self.open:
            return
        self._listening = on
        if on:
            self._loop.add_reader(self._sock, self._readable)
            if self._unread:
                # These were taken together with the last one that was heard: no socket will tell of them.
                self._loop.call_soon(self._readable)
        else:
            self._loop.remove_reader(self._sock)

    # -- in ------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        unread = self._unread
        if not unread and self._listening:
            self._take()
        try:
            while unread and self._listening:
                self._hear(unread.popleft())
        finally:
            if unread and self._listening:
                # Only after an error of ours; the packets behind it are not to wait for the next one.
                self._loop.call_soon(self._readable)

    def read_one(self) -> bool:
        """Take one packet if there is one; False when there is none to take now, or the link is over."""
        if not self._listening:
            return False
        if not self._unread:
            self._take()
        if not self._unread:
            return False
        self._hear(self._unread.popleft())
        return self.open

    def _take(self) -> None:
        """Fetch what the kernel has, up to a burst: the others get their turn before more of it."""
        inbox = self._inbox
        try:
            self._unread.extend(inbox.take(self._fd))
        except OSError as error:
            self.close(f"the peer is gone ({error.strerror})")
            return
        if inbox.descriptors_refused:
            self.descriptors_refused += inbox.descriptors_refused

    def _hear(self, data: bytes | None) -> None:
        if data:
            self.packets_in += 1
            self.receiver.packet(data)
        elif data is None:
            self.receiver.broken(f"a packet longer than {self._inbox.max_packet} bytes")
        else:
            self.close("the peer closed the link")

    # -- out -----------------------------------------------------------------------------------------------

    @property
    def _speaks(self) -> bool:
        return self.open and not self._unreachable

    def _reaches_nobody(self, error: OSError) -> None:
        """The peer is gone; what it said before that counts all the same, its farewell above all."""
        if not self._unreachable:
            self._unreachable = True
            self._loop.call_soon(self._hear_the_rest, f"nothing reaches the peer ({error.strerror})")

    def _hear_the_rest(self, reason: str) -> None:
        try:
            for _ in range(limits.CATCH_UP):
                if not self.read_one():
                    break
        finally:
            self.close(reason)

    def send(self, packet: bytes, fds: Sequence[int] = ()) -> None:
        """Send one packet with descriptors, which stay the caller's; queue it if the peer is slow.

        A link whose peer does not read for too long is closed with that reason.
        """
        if not self._speaks:
            return
        if fds:
            self._send_descriptors(packet, fds)
            return
        said = self._said
        said.append(packet)
        if len(said) == 1:
            self._turn.add(self)
        elif len(said) >= SEND_BURST:
            self.flush()

    def flush(self) -> None:
        """Hand over what was said in this turn, now; what the kernel has no room for waits."""
        said = self._said
        if not said or not self._speaks:
            return
        self._said = []
        if not self._queue:
            sent = self._hand_over(said)
            if sent == len(said) or not self._speaks:
                return
            del said[:sent]
        for packet in said:
            self._wait(packet, ())
        self._check_queue()

    def _hand_over(self, packets: list[bytes]) -> int:
        """How many of the first packets the kernel has taken; 0 also when the peer is gone."""
        try:
            sent = send_packets(self._fd, packets)
        except OSError as error:
            self._reaches_nobody(error)
            return 0
        self.packets_out += sent
        return sent

    def _send_descriptors(self, packet: bytes, fds: Sequence[int]) -> None:
        self.flush()
        if not self._speaks or (not self._queue and self._transmit(packet, fds)) or not self._speaks:
            return
        try:
            keep = [os.dup(fd) for fd in fds]
        except OSError as error:
            self.close(f"the peer does not read, and we cannot keep its descriptors: {error.strerror}")
            return
        self._wait(packet, keep)
        self._check_queue()

    def _wait(self, packet: bytes, fds: Sequence[int]) -> None:
        if not self._queue:
            self._loop.add_writer(self._sock, self._room)
        self._queue.append((packet, fds))
        self.queued += len(packet) + limits.QUEUE_PACKET_COST

    def _check_queue(self) -> None:
        if self.queued > limits.MAX_QUEUE_BYTES:
            self.receiver.overflowed(f"the peer does not read: {len(self._queue)} packets wait for it")

    def _transmit(self, packet: bytes, fds: Sequence[int]) -> bool:
        """Hand one packet to the kernel; False when it has no room now, or when the peer is gone."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._sock.sendmsg([packet], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._reaches_nobody(error)
            return False
        self.packets_out += 1
        return True

    def _room(self) -> None:
        self._writable()
        if self.open and not self._queue:
            self.receiver.drained()

    def _writable(self) -> None:
        while self._queue:
            waiting = self._queue
            packet, fds = waiting[0]
            if fds:
                sent = int(self._transmit(packet, fds))
            else:
                # A socket holds few packets, so after a burst of ours most have waited here.
                plain = takewhile(lambda item: not item[1], islice(waiting, SEND_BURST))
                sent = self._hand_over([packet for packet, _ in plain])
            if not sent:
                return
            for _ in range(sent):
                packet, fds = waiting.popleft()
                self.queued -= len(packet) + limits.QUEUE_PACKET_COST
                for fd in fds:
                    os.close(fd)
        self._loop.remove_writer(self._sock)

    # -- end -----------------------------------------------------------------------------------------------

    def finish(self, packet: bytes, reason: str) -> None:
        """Send one last packet and close.

        A peer that has no room for it now gets nothing else that waits, and this one if it makes room soon:
        without a farewell it would take us for dead.
        """
        self.flush()
        if self._speaks and self._queue:
            self._writable()
        if not self._speaks or (not self._queue and self._transmit(packet, ())) or not self._speaks:
            self.close(reason)
            return
        self._stop()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)
        self._loop.add_writer(self._sock, self._say_farewell, packet)
        self._timer = self._loop.call_later(limits.FAREWELL_TIMEOUT, self._leave)
        self.receiver.ended(reason)

    def _say_farewell(self, packet: bytes) -> None:
        try:
            self._sock.send(packet, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            # It is gone: nobody is left to be told.
            pass
        self._leave()

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop.remove_writer(self._sock)
        close_politely(self._sock)

    def _stop(self) -> None:
        """No more reading, nothing of ours waits any more."""
        self.open = self._listening = False
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        for _, fds in self._queue:
            for fd in fds:
                os.close(fd)
        self._queue.clear()
        self._said.clear()
        self._unread.clear()

    def close(self, reason: str) -> None:
        """End the link; the receiver hears of it once. May be called again."""
        if not self.open:
            return
        if self._said and not self._queue:
            # The last words of this turn; who is gone already does not miss them.
            with contextlib.suppress(OSError):
                self.packets_out += send_packets(self._fd, self._said)
        self._stop()
        close_politely(self._sock)
        self.receiver.ended(reason)


def close_politely(sock: socket.socket) -> None:
    """Close so that the peer can still read what we sent last.

    Closing with unread packets in our own queue makes the kernel answer ECONNRESET to the peer's next
    receive instead: so nothing more may come in, and what has come is taken out.
    """
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RD)
        while sock.recv(4096, socket.MSG_DONTWAIT):
            pass
    sock.close()
