"""Who is at the other end of a socket, and the only proof that it is dead: its pidfd.

A closed link, a missed heartbeat or an expired grace time is not death; a stopped process may still continue
inside a callback. Source: docs/signal-protocol.md section 5, pidfd_open(2), socket(7).
"""

import asyncio
import os
import select
import socket
import struct
from collections.abc import Callable
from typing import Final

from vmbusd.abi.errors import ResourceError

_SO_PEERPIDFD: Final = 77
"""Linux 6.5: the pidfd of the very process that connected, even if its pid has been reused since."""
_UCRED: Final = struct.Struct("iII")
_START_TIME_FIELD: Final = 22


class Peer:
    """One peer process: who it is and whether it lives. Holds a pidfd until `close`.

    Attributes: `pid`, `uid`, `gid` at the time it connected; `start_time`, field 22 of /proc/<pid>/stat in
    clock ticks, 0 where we may not read it.
    """

    def __init__(self, sock: socket.socket) -> None:
        """Raises ResourceError when the process is gone already or cannot be watched."""
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        self.pid, self.uid, self.gid = _UCRED.unpack(raw)
        self._fd = _pidfd(sock, self.pid)
        self.start_time = _start_time(self.pid)
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def found_again(cls, pid: int, start_time: int, uid: int, gid: int) -> "Peer":
        """The process that a daemon before us knew; dead if it is gone or its pid is another's by now.

        Raises ResourceError when it cannot be watched. Where no start time is known, a pid that is in use
        counts as the same process: nothing is ever recovered from a process that may still live.
        """
        self = cls.__new__(cls)
        self.pid, self.uid, self.gid, self.start_time = pid, uid, gid, start_time
        self._loop = None
        self._fd = -1
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return self
        except OSError as error:
            raise ResourceError(f"process {pid} cannot be watched: {error.strerror}") from error
        if start_time and _start_time(pid) not in (0, start_time):
            self.close()
        return self

    def is_same(self, other: "Peer") -> bool:
        """Whether both are one process."""
        return (self.pid, self.uid, self.start_time) == (other.pid, other.uid, other.start_time)

    def is_dead(self) -> bool:
        """Whether the process is known to be gone; a look, not a wait."""
        if self._fd < 0:
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(0))

    def watch(self, loop: asyncio.AbstractEventLoop, dead: Callable[[], None]) -> None:
        """Call `dead` once the process is gone, unless closed before; of one that is gone already `is_dead`
        tells."""

        def readable() -> None:
            self._unwatch()
            dead()

        if self._fd >= 0:
            self._loop = loop
            loop.add_reader(self._fd, readable)

    def _unwatch(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._fd)
            self._loop = None

    def close(self) -> None:
        """Stop watching. May be called again."""
        self._unwatch()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _pidfd(sock: socket.socket, pid: int) -> int:
    try:
        fd = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        # An older kernel: between connect and here the pid could have been reused, but only by a process
        # that outlived a connection which nobody holds any more, and that ends this link at once.
        try:
            return os.pidfd_open(pid)
        except OSError as error:
            raise ResourceError(f"process {pid} cannot be watched: {error.strerror}") from error
    os.set_inheritable(fd, False)
    return fd


def _start_time(pid: int) -> int:
    """With the pid this names a process for ever; 0 where /proc hides other users' processes."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command in parentheses may contain anything, so count from the last one.
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[_START_TIME_FIELD - 3])
    except (OSError, ValueError, IndexError):
        return 0
