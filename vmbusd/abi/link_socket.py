"""One end of a SEQPACKET link: whole packets and their descriptors, and nothing leaks on any error.

Sending is safe from any thread, receiving from one at a time. Waits are cut into slices so that Ctrl-C works.
A farewell of the daemon (Bye, Refused) never reaches the caller as a packet: it is raised, with its text.
Source: docs/design.md section 4, unix(7) and recvmsg(2) for what becomes of descriptors that do not fit.
"""

import array
import os
import select
import socket
import time
from collections.abc import Iterable
from typing import Final

from vmbusd.abi import link
from vmbusd.abi.errors import LinkClosed, LinkLost, ProtocolError, RefusedError, ResourceError

WAIT_SLICE: Final = 1.0
"""Longest single system call, in seconds: a signal that arrives just before one is seen this much later."""
_FD: Final = array.array("i").itemsize
_LOST: Final = "the daemon is gone without a farewell"


def close_all(fds: Iterable[int]) -> None:
    """Close received descriptors that nobody wants."""
    for fd in fds:
        os.close(fd)


class LinkSocket:
    """A connected SEQPACKET socket `sock`, taken over; no packet of it is longer than `max_packet` bytes."""

    def __init__(self, sock: socket.socket, max_packet: int) -> None:
        self.sock = sock
        sock.setblocking(False)
        # One byte more than allowed: a packet that fills it is too long.
        self._buffer = bytearray(max_packet + 1)

    def fileno(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return self.sock.fileno()

    def send(self, packet: bytes) -> None:
        """Send one packet, waiting for room if the daemon is slow. Raises LinkLost."""
        while True:
            try:
                self.sock.send(packet, socket.MSG_NOSIGNAL)
                return
            except BlockingIOError:
                _wait(self.sock, select.POLLOUT, WAIT_SLICE)
            except OSError as error:
                raise LinkLost(f"{_LOST} ({error.strerror})") from error

    def wait_readable(self, timeout: float) -> bool:
        """True once a packet (or the end of the link) can be received, False after `timeout` seconds."""
        return _wait(self.sock, select.POLLIN, timeout)

    def receive(self) -> tuple[bytes, list[int]]:
        """Wait for one packet and its descriptors, which the caller owns. Raises as `receive_nowait`."""
        while True:
            got = self.receive_nowait()
            if got is not None:
                return got
            _wait(self.sock, select.POLLIN, WAIT_SLICE)

    def receive_nowait(self) -> tuple[bytes, list[int]] | None:
        """A packet and its descriptors, which the caller owns, or None when there is none.

        Raises LinkClosed with the daemon's reason at the end of the link, LinkLost when it gave none,
        RefusedError when it said no, ProtocolError for a packet that is too long, ResourceError when
        descriptors got lost on the way.
        """
        try:
            size, ancillary, flags, _ = self.sock.recvmsg_into(
                [self._buffer],
                socket.CMSG_SPACE(link.MAX_DESCRIPTORS * _FD),
                socket.MSG_CMSG_CLOEXEC,
            )
        except BlockingIOError:
            return None
        except OSError as error:
            raise LinkLost(f"{_LOST} ({error.strerror})") from error
        fds = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data[: len(data) - len(data) % _FD])
        try:
            if flags & socket.MSG_CTRUNC:
                # The kernel passes what fits below RLIMIT_NOFILE and drops the rest.
                raise ResourceError(f"only {len(fds)} descriptors came: the limit of open files is reached")
            if flags & socket.MSG_TRUNC or size >= len(self._buffer):
                raise ProtocolError(f"a packet longer than {len(self._buffer) - 1} bytes")
            if not size:
                raise LinkLost(_LOST)
            packet = bytes(memoryview(self._buffer)[:size])
            _farewell(packet)
        except BaseException:
            close_all(fds)
            raise
        return packet, list(fds)


def _farewell(packet: bytes) -> None:
    """Raise what a Bye or a Refused means, do nothing for any other packet."""
    header = link.decode_header(packet)
    if header.kind not in (link.Kind.BYE, link.Kind.REFUSED):
        return
    body = link.decode_body(header, packet)
    assert isinstance(body, link.Bye | link.Refused)
    text = body.text.decode("utf-8", "replace")
    if isinstance(body, link.Refused):
        raise RefusedError(text, body.code)
    raise LinkClosed(text)


def _wait(sock: socket.socket, events: int, timeout: float) -> bool:
    """Poll in slices, so that a signal handler of Python runs at most a slice late."""
    if sock.fileno() < 0:
        raise LinkClosed("the link was closed on our side")
    poll = select.poll()
    poll.register(sock, events)
    deadline = time.monotonic() + timeout
    while True:
        left = deadline - time.monotonic()
        if poll.poll(max(0.0, min(left, WAIT_SLICE)) * 1000):
            return True
        if left <= WAIT_SLICE:
            return False
