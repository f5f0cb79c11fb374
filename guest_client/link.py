"""One link to the daemon in a thread of its own: packets in, packets out, neither blocking the other.

The thread alone receives. Anybody sends: what the socket does not take at once waits in a queue that the
thread empties, so a guest that sends much while the daemon holds back never stops reading, which is what the
daemon waits for. Host links are taken over here, before the caller hears of anything that came after them.
A socket that is lost is replaced here too (`vmbusd.abi.lasting`), and the caller hears of nothing.
"""

import contextlib
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Final

from guest_client.posting import TRIES, Backoff
from guest_client.space import HostEnds
from vmbusd.abi import link
from vmbusd.abi.attach import Attached
from vmbusd.abi.errors import LinkClosed, LinkLost, ResourceError, VmbusError
from vmbusd.abi.lasting import FAREWELL_TIMEOUT, Lasting
from vmbusd.abi.link_socket import close_all

log = logging.getLogger(__name__)

SLICE: Final = 1.0
"""Longest wait in seconds; then the mappings are looked at, whether a peer truncated one."""
BURST: Final = 64
"""Packets handled between two looks at everything else."""


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
        self._link = Lasting(attached, hosts=None if hosts is None else hosts.renew, tries=Backoff())
        self._packet = packet
        self._ended = ended
        self._hosts = hosts
        self._idle = idle
        self._unsent = unsent
        self._watch = watch or {}
        self._wake_lock = threading.Lock()
        self._closing = False
        self._closed_at = self._patience = 0.0
        self._hurried = False
        self._queued = 0
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def post(self, packet: bytes) -> None:
        """Send a packet, in the order of the calls, without waiting."""
        if not self._link.post(packet):
            self._queued += 1
            self.wake()

    def wake(self) -> None:
        """Run `idle` soon."""
        with self._wake_lock, contextlib.suppress(BlockingIOError):
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def close(self, farewell: bytes | None = None, patience: float = FAREWELL_TIMEOUT) -> None:
        """End the thread, after a farewell that gets `patience` seconds to be heard. May be called again."""
        if farewell is not None and not self._closing:
            self._link.finish()
            self.post(farewell)
            self._closed_at, self._patience = time.monotonic(), patience
        self._closing = True
        self.wake()
        if self._thread.ident is not None:
            self._thread.join()
        with self._wake_lock:
            if self._wake >= 0:
                os.close(self._wake)
                self._wake = -1

    def hurry(self) -> None:
        """Whoever closes the link, now or later, waits FAREWELL_TIMEOUT at most, or the slice that has begun.
        For signal handlers too: no lock is taken."""
        self._hurried = True

    def statistics(self) -> dict[str, int]:
        """Packets received and sent, how many sends found the socket full, how often the link came back."""
        return {
            "received": self._link.received,
            "sent": self._link.sent,
            "queued": self._queued,
            "resumed": self._link.resumed,
        }

    def _tell_given_up(self) -> None:
        """Tell of the packets that will never be sent."""
        packets, self._link.given_up = self._link.given_up, []
        for packet in packets:
            log.error("%s: no buffers for a packet in %d tries", self._thread.name, TRIES)
            if self._unsent is not None:
                reason = f"the machine had no buffers to send with in {TRIES} tries"
                self._unsent(packet, ResourceError(reason))

    def _run(self) -> None:
        try:
            self._serve()
        except VmbusError as error:
            self._tell_end(error)
        except Exception as error:
            log.exception("%s: the link ends", self._thread.name)
            self._tell_end(LinkClosed(f"{type(error).__name__}: {error}"))

    def _tell_end(self, reason: VmbusError) -> None:
        # Whoever is closing the link knows.
        if not self._closing:
            self._ended(reason)

    def _serve(self) -> None:
        link_, is_over, polled = self._link, False, -1
        poll = select.poll()
        for fd in (self._wake, *self._watch):
            poll.register(fd, select.POLLIN)
        while not self._is_done(is_over):
            self.attached.check()
            fd = -1 if is_over else link_.fileno()
            if polled not in (fd, -1):
                poll.unregister(polled)
            if fd >= 0:
                poll.register(fd, link_.events)
            polled = fd
            timeout = min(self._idle(), SLICE, SLICE if is_over else link_.due())
            ready = poll.poll(timeout * 1000)
            for fd, _ in ready:
                if fd == self._wake:
                    os.eventfd_read(fd)
                elif fd in self._watch and not self._watch[fd]():
                    poll.unregister(fd)
            if is_over:
                continue
            if any(fd == polled for fd, _ in ready) or link_.due() <= 0:
                is_over = self._receive()
            link_.flush(idle=not ready and timeout >= SLICE)
            if self._link.given_up:
                self._tell_given_up()

    def _is_done(self, is_over: bool) -> bool:
        if not self._closing:
            return False
        patience = min(self._patience, FAREWELL_TIMEOUT) if self._hurried else self._patience
        return is_over or not self._link.unheard or time.monotonic() >= self._closed_at + patience

    def _receive(self) -> bool:
        """Handle what came. True at the end of a link whose daemon died; raises any other end."""
        for _ in range(BURST):
            try:
                got = self._link.receive()
            except LinkLost as error:
                self._tell_end(error)
                return True
            if got is None:
                return False
            header, packet, fds = got
            if header.kind == link.Kind.HOST_LINK and self._hosts is not None:
                self._hosts.add(packet, fds)
                continue
            close_all(fds)
            self._packet(header, packet)
        return False
