"""One link to the daemon in a thread of its own: packets in, packets out, neither blocking the other.

The thread alone receives. Anybody sends: what the socket does not take at once waits in a queue that the
thread empties, so a guest that sends much while the daemon holds back never stops reading, which is what the
daemon waits for. Host links are taken over here, before the caller hears of anything that came after them.
"""

import contextlib
import errno
import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from guest_client.channel import HostEnds
from guest_client.posting import TRIES, Backoff
from vmbusd.abi import link
from vmbusd.abi.attach import Attached
from vmbusd.abi.errors import LinkClosed, LinkLost, ResourceError, VmbusError
from vmbusd.abi.link_socket import close_all

log = logging.getLogger(__name__)

SLICE: Final = 1.0
"""Longest wait in seconds; then the mappings are looked at, whether a peer truncated one."""
BURST: Final = 64
"""Packets handled between two looks at everything else."""
OUT_OF_BUFFERS: Final = (errno.ENOBUFS, errno.ENOMEM)
"""What a send says when the kernel has no memory for it now; a full socket says EAGAIN instead."""


class LinkThread:
    """Serves one link.

    `packet` gets each packet that is neither a farewell nor a host link; `ended` is called once, with the
    reason, when the link ends before `close`: last of all, except when the daemon died. Then the rest goes
    on, for signals need no daemon. `idle` runs between packets and returns the seconds until it wants to run
    again; `unsent` gets a packet of ours that the machine had no buffers for, however often it was tried, and
    why (case 294); `watch` maps further descriptors to what is called when they can be read, until it returns
    False. All are called in the thread; an exception that is not ours ends the link too.
    """

    def __init__(
        self,
        attached: Attached,
        *,
        name: str,
        packet: Callable[[link.Header, bytes], None],
        ended: Callable[[VmbusError], None],
        hosts: HostEnds | None = None,
        idle: Callable[[], float] = lambda: SLICE,
        unsent: Callable[[bytes, VmbusError], None] | None = None,
        watch: dict[int, Callable[[], bool]] | None = None,
    ) -> None:
        self.attached = attached
        self._packet = packet
        self._ended = ended
        self._hosts = hosts
        self._idle = idle
        self._unsent = unsent
        self._backoff = Backoff()
        self._retry_at = 0.0
        self._given_up: list[bytes] = []
        self._watch = watch or {}
        self._queue: deque[bytes] = deque()
        self._queue_lock = threading.Lock()
        self._closing = False
        self._counts = {"received": 0, "sent": 0, "queued": 0}
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def post(self, packet: bytes) -> None:
        """Send a packet, in the order of the calls, without waiting."""
        with self._queue_lock:
            self._queue.append(packet)
            self._send_queued()
            if not self._queue:
                return
            self._counts["queued"] += 1
        self.wake()

    def wake(self) -> None:
        """Run `idle` soon."""
        with self._queue_lock, contextlib.suppress(BlockingIOError):
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """End the thread. What is queued and does not go out at once is dropped."""
        self._closing = True
        self.wake()
        if self._thread.ident is not None:
            self._thread.join()
        with self._queue_lock:
            if self._wake >= 0:
                os.close(self._wake)
                self._wake = -1

    def statistics(self) -> dict[str, int]:
        """Packets received and sent, and how many sends had to wait."""
        return dict(self._counts)

    def _send_queued(self) -> None:
        while self._queue and time.monotonic() >= self._retry_at:
            try:
                self.attached.sock.send(self._queue[0], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in OUT_OF_BUFFERS:
                    # The thread meets the end of the link and says why; nothing can be sent any more.
                    self._queue.clear()
                    return
                delay = self._backoff.failed()
                if delay is not None:
                    self._retry_at = time.monotonic() + delay
                    return
                self._given_up.append(self._queue.popleft())
                continue
            self._backoff.succeeded()
            self._queue.popleft()
            self._counts["sent"] += 1

    def _next_look(self) -> float:
        """Seconds until there is something to do that no descriptor tells of."""
        look = min(self._idle(), SLICE)
        return min(look, max(0.0, self._retry_at - time.monotonic())) if self._backoff.failures else look

    def _give_up(self) -> None:
        """Tell of the packets that will never be sent; without the lock, as it may send others."""
        with self._queue_lock:
            packets, self._given_up = self._given_up, []
        for packet in packets:
            log.error("%s: no buffers for a packet in %d tries", self._thread.name, TRIES)
            if self._unsent is not None:
                reason = f"the machine had no buffers to send with in {TRIES} tries"
                self._unsent(packet, ResourceError(reason))

    def _run(self) -> None:
        try:
            self._serve()
        except VmbusError as error:
            self._ended(error)
        except Exception as error:
            log.exception("%s: the link ends", self._thread.name)
            self._ended(LinkClosed(f"{type(error).__name__}: {error}"))

    def _serve(self) -> None:
        sock = self.attached.sock
        poll = select.poll()
        for fd in (self._wake, *self._watch):
            poll.register(fd, select.POLLIN)
        is_lost = False
        while not self._closing:
            self.attached.check()
            if not is_lost:
                # Without buffers a socket counts as writable all the same.
                waits = self._queue and not self._backoff.failures
                poll.register(sock, select.POLLIN | (select.POLLOUT if waits else 0))
            for fd, _ in poll.poll(self._next_look() * 1000):
                if fd == self._wake:
                    os.eventfd_read(fd)
                elif fd in self._watch:
                    if not self._watch[fd]():
                        poll.unregister(fd)
                elif (lost := self._receive()) is not None:
                    is_lost = True
                    poll.unregister(sock)
                    self._ended(lost)
            if self._queue:
                with self._queue_lock:
                    self._send_queued()
            if self._given_up:
                self._give_up()

    def _receive(self) -> LinkLost | None:
        """Handle what came; returns the end of a link whose daemon died, and raises any other."""
        for _ in range(BURST):
            try:
                got = self.attached.receive_nowait()
            except LinkLost as error:
                return error
            if got is None:
                return None
            self._counts["received"] += 1
            packet, fds = got
            try:
                header = link.decode_header(packet)
            except BaseException:
                close_all(fds)
                raise
            if header.kind == link.Kind.HOST_LINK and self._hosts is not None:
                self._hosts.add(packet, fds)
                continue
            close_all(fds)
            self._packet(header, packet)
        return None
