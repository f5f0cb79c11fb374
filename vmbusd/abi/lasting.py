"""A client's link for its whole life: it outlives its sockets when the daemon lets it, and nobody notices.

When a socket ends without a farewell the link is *away*: what is posted waits, and `receive` connects again,
with back-off, until the grace time of the last welcome has passed; then the end is told as ever, LinkLost. A
farewell (Bye, Refused) is final at once. Posting is safe from any thread and never waits; one thread
receives. The socket changes with each resume, so whoever polls asks `fileno` each time, or has `socket_hooks`
called. A plain link, whose welcome had no token, works the same and ends with its socket.
Source: docs/design.md section 4, docs/sockets.md "A link that lives on".
"""

import contextlib
import errno
import logging
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from vmbusd.abi import layout, link
from vmbusd.abi.attach import Attached, welcome_in
from vmbusd.abi.away import Away
from vmbusd.abi.errors import LinkLost, ProtocolError, RefusedError, ResourceError, VmbusError
from vmbusd.abi.link import Code, HelloFlag, Kind
from vmbusd.abi.link_socket import WAIT_SLICE, close_all
from vmbusd.abi.session import Session

log = logging.getLogger(__name__)

FAREWELL_TIMEOUT: Final = 1.0
"""Seconds that our own farewell may take; then the daemon learns of the end by the grace time, or our death.
"""
_LATER: Final = (Code.LIMIT, Code.RECOVERING)
"""Refusals of a resume that may pass: the daemon is short of something, or not ready."""
_NEVER: Final = float("inf")
OUT_OF_BUFFERS: Final = (errno.ENOBUFS, errno.ENOMEM)
"""What a send says when the kernel has no memory for it now; a full socket says EAGAIN instead."""


class Tries(Protocol):
    """When a packet for which there were no buffers is tried again, in seconds; None: it is given up."""

    def failed(self) -> float | None: ...
    def succeeded(self) -> None: ...


SocketHooks = tuple[Callable[[int], None], Callable[[int], None]]


class _Plain:
    """What a plain link has to send: nothing is numbered, and what the socket took is forgotten."""

    def __init__(self) -> None:
        self._packets: deque[bytes] = deque()

    def stamp_and_post(self, packet: bytes) -> None:
        self._packets.append(packet)

    def peek(self) -> bytes | None:
        return self._packets[0] if self._packets else None

    def shift(self) -> None:
        self._packets.popleft()

    @property
    def waiting(self) -> int:
        return len(self._packets)


class Lasting:
    """Serves the link of `attached`, which stays the owner of what is mapped.

    `hosts(numbers)` is called after a resume that brought new host links; without it they are not mapped.
    `socket_hooks` are called with the descriptor before a socket is closed, and after one is connected; from
    the thread that receives. `tries` says how long a machine without buffers is borne: then a plain link
    loses the packet, and a resumable one, whose packets are numbered, ends. Attributes: `attached`;
    `resumed`, how often it came back; `received`, `sent`, packets, not counting confirmations.
    """

    def __init__(
        self,
        attached: Attached,
        *,
        hosts: Callable[[list[int]], None] | None = None,
        socket_hooks: SocketHooks | None = None,
        connect: Callable[[], socket.socket] | None = None,
        tries: Tries | None = None,
    ) -> None:
        self.attached = attached
        self.resumed = 0
        self.received = 0
        self.sent = 0
        self._hosts = hosts
        self._hooks = socket_hooks or (lambda _: None, lambda _: None)
        self._connect = connect or self._connect_to_path
        self._token = attached.welcome.token
        self._grace = attached.welcome.grace / 1000
        self._session = Session() if any(self._token) else None
        self._out: Session | _Plain = self._session or _Plain()
        self._lock = threading.Lock()
        self._away: Away | None = None
        self._tries = tries
        self._send_at = 0.0
        self._no_buffers = False
        self.given_up: list[bytes] = []  # of a plain link; whoever tells of them empties it
        self._final = False
        self._wants_write = False
        if self._session is not None:
            # The daemon learns by it that its welcome has arrived.
            self._hand_over(link.encode(link.Confirm(0)))

    # -- out -----------------------------------------------------------------------------------------------

    def post(self, packet: bytes) -> bool:
        """Send a packet that was encoded without a number, in the order of the calls, without waiting.

        False if it is left to the receiving thread, which has to poll for `events` then. What is posted after
        the end goes nowhere: the receiving thread tells of the end.
        """
        with self._lock:
            self._out.stamp_and_post(packet)
            self._flush()
            return not (self._wants_write or self._send_at or self._no_buffers)

    def flush(self, *, idle: bool = False) -> None:
        """Send what may go; when `idle`, confirm whatever came."""
        with self._lock:
            self._flush(idle=idle)

    @property
    def waiting(self) -> int:
        """Packets that no socket has taken yet."""
        return self._out.waiting

    @property
    def unheard(self) -> int:
        """Packets that may be lost with the socket of now; of a plain link, those that it has not taken."""
        session = self._session
        return self._out.waiting if session is None else session.last - session.confirmed

    @property
    def events(self) -> int:
        """What to poll the socket for."""
        return select.POLLIN | (select.POLLOUT if self._wants_write else 0)

    def _flush(self, *, idle: bool = False) -> None:
        if self._away is not None or (self._send_at and time.monotonic() < self._send_at):
            return
        self._send_at = 0.0
        session = self._session
        if session is not None and (number := session.confirmation(idle=idle)) is not None:
            if not self._hand_over(link.encode(link.Confirm(number))):
                return
            session.told(number)
        while (packet := self._out.peek()) is not None:
            if not self._hand_over(packet):
                return
            self._out.shift()
            self.sent += 1
        self._wants_write = False

    def _hand_over(self, packet: bytes) -> bool:
        try:
            self.attached.sock.send(packet, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            self._wants_write = True
            return False
        except OSError as error:
            # The receiving thread meets the end and says why, or goes on over another socket. Without buffers
            # a socket counts as writable all the same: time decides when to try again.
            self._wants_write = False
            if self._tries is not None and error.errno in OUT_OF_BUFFERS:
                self._try_later(self._tries)
            return False
        if self._tries is not None:
            self._tries.succeeded()
        return True

    def _try_later(self, tries: Tries) -> None:
        """The machine has no buffers now."""
        delay = tries.failed()
        if delay is not None:
            self._send_at = time.monotonic() + delay
            return
        # A number that is never sent would be a gap: without a session only is the packet alone lost.
        self._no_buffers = self._session is not None
        if self._session is None and (packet := self._out.peek()) is not None:
            self._out.shift()
            self.given_up.append(packet)
            self._send_at = time.monotonic()

    # -- in ------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """The socket of now, -1 while there is none."""
        return self.attached.fileno()

    def due(self) -> float:
        """Seconds until `receive` is to be called though nothing can be read; infinite while linked."""
        if self._no_buffers:
            return 0.0
        if self._away is not None:
            return self._away.due(time.monotonic())
        return max(0.0, self._send_at - time.monotonic()) if self._send_at else _NEVER

    def wait(self, timeout: float) -> None:
        """Return when `receive` is worth a call, or after `timeout` seconds."""
        poll = select.poll()
        if (fd := self.fileno()) >= 0:
            poll.register(fd, self.events)
        poll.poll(min(timeout, self.due(), WAIT_SLICE) * 1000)
        if self._wants_write:
            self.flush()

    def receive(self) -> tuple[link.Header, bytes, list[int]] | None:
        """The next packet that came, and its descriptors, which the caller owns; None when there is none now.

        Raises LinkClosed with the daemon's reason, RefusedError when it does not resume this link, LinkLost
        at the end of a plain link or of the grace time, ResourceError when a packet never got a buffer, and
        ProtocolError and ResourceError as `LinkSocket.receive_nowait`. After an error it must not be called
        again.
        """
        if self._no_buffers:
            raise ResourceError("the machine had no buffers to send with, for as long as we tried")
        while self._away is None or self._come_back(self._away):
            try:
                got = self.attached.receive_nowait()
            except LinkLost as error:
                if self._session is None or (self._final and not self.unheard):
                    # From here: a function that raised its own argument would keep all our callers' frames.
                    raise
                self._lose(str(error))
                continue
            if got is None:
                return None
            packet, fds = got
            try:
                header = link.decode_header(packet)
                wanted = self._session is None or self._in_session(self._session, header, packet)
            except BaseException:
                close_all(fds)
                raise
            if wanted:
                self.received += 1
                return header, packet, fds
            close_all(fds)
        return None

    def _in_session(self, session: Session, header: link.Header, packet: bytes) -> bool:
        """Whether the caller is to see this packet."""
        with self._lock:
            if header.kind == Kind.CONFIRM:
                body = link.decode_body(header, packet)
                assert isinstance(body, link.Confirm)
                session.take_confirmation(body.received)
                self._flush()
                return False
            if header.kind == Kind.HOST_LINK:
                # Bound to its socket: the welcome of a resume grants all there are.
                return True
            if not session.take(header.sequence):
                return False
            self._flush()
        return True

    # -- away ----------------------------------------------------------------------------------------------

    def _lose(self, why: str) -> None:
        """The socket has ended without a farewell, and the link goes on."""
        with self._lock:
            self._away = Away(why, self._grace, time.monotonic())
            self._wants_write = False
        self._drop_socket()

    def _drop_socket(self) -> None:
        self._hooks[0](self.fileno())
        self.attached.sock.close()

    def _again_later(self, away: Away) -> None:
        if self.fileno() >= 0:
            self._drop_socket()
        away.failed(time.monotonic())

    def _come_back(self, away: Away) -> bool:
        """One step of coming back; True once the link goes on. Raises what ends the link."""
        now = time.monotonic()
        if away.is_over(now):
            raise LinkLost(f"{away.why}, and not back within {away.grace:g} s")
        if self.fileno() < 0:
            if not away.may_try(now):
                return False
            self._say_hello(away)
        if self.fileno() < 0:
            return False
        try:
            got = self.attached.receive_nowait()
            if got is not None:
                self._go_on(*got)
                return True
        except LinkLost:
            self._again_later(away)
        except RefusedError as error:
            if error.code not in _LATER:
                raise
            self._again_later(away)
        else:
            if away.is_unanswered(now):
                self._again_later(away)
        return False

    def _connect_to_path(self) -> socket.socket:
        if self.attached.path is None:
            raise LinkLost(self._away.why if self._away is not None else "")
        sock = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        try:
            sock.connect(self.attached.path)
        except BaseException:
            sock.close()
            raise
        return sock

    def _say_hello(self, away: Away) -> None:
        assert self._session is not None
        attached = self.attached
        hello = link.Hello(
            layout.ABI_VERSION,
            attached.role,
            attached.welcome.vp,
            HelloFlag.RESUMABLE,
            attached.partition,
            self._token,
            self._session.received,
        )
        try:
            sock = self._connect()
        except OSError:
            # Nobody there, or more at the door than it lets wait.
            self._again_later(away)
            return
        attached.sock = sock
        self._hooks[1](sock.fileno())
        away.asked(time.monotonic())
        with contextlib.suppress(LinkLost):
            # Turned away before we could speak: the reason is there to be read.
            attached.send(link.encode(hello))

    def _go_on(self, packet: bytes, fds: list[int]) -> None:
        welcome = welcome_in(packet, fds)
        if not any(welcome.token):
            close_all(fds)
            raise ProtocolError("the welcome of a resume has no token")
        numbers = self.attached.renew(welcome, fds, hosts=self._hosts is not None)
        with self._lock:
            assert self._session is not None
            self._session.resume(welcome.received)
            self._token = welcome.token
            self._grace = welcome.grace / 1000
            self._away = None
            self.resumed += 1
            # And that the new token has.
            self._hand_over(link.encode(link.Confirm(self._session.received)))
            self._flush()
        if numbers and self._hosts is not None:
            self._hosts(numbers)

    # -- the end -------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """What was posted last is our farewell: once it is heard, the end of the socket ends the link.

        Until then a lost socket is replaced, as ever: a daemon that did hear it refuses the token, and that
        is the end too.
        """
        self._final = True

    def farewell(self, packet: bytes, timeout: float = FAREWELL_TIMEOUT) -> None:
        """Post our farewell and wait, a little, until it is heard; whatever comes meanwhile is dropped.

        Whoever closed at once could lose it: with a socket that is cut, or to a daemon that finds the socket
        gone when it wants to send. For the thread that receives. The link is not to be used afterwards.
        """
        self.post(packet)
        self.finish()
        deadline = time.monotonic() + timeout
        try:
            while self.unheard and (left := deadline - time.monotonic()) > 0:
                if (got := self.receive()) is not None:
                    close_all(got[2])
                elif self.unheard:
                    self.wait(left)
        except VmbusError as error:
            log.debug("%s: the link ended while we said farewell: %s", self.attached.partition, str(error))
