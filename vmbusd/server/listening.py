"""Sockets that listen on the event loop, and can always refuse: also when descriptors are scarce.

Source: unix(7), accept(2).
"""

import asyncio
import errno
import grp
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from vmbusd.abi.errors import ResourceError, UsageError
from vmbusd.server import limits

BACKLOG: Final = 128


def bind(path: Path, kind: socket.SocketKind, mode: int, group: str | int | None) -> socket.socket:
    """A listening socket with this mode and group: nobody can connect before it has them.

    Raises UsageError for an unknown group, ResourceError naming the path for anything else.
    """
    gid = -1
    if group is not None:
        try:
            gid = group if isinstance(group, int) else grp.getgrnam(group).gr_gid
        except KeyError:
            raise UsageError(f"{path.name}: there is no group {group!r}") from None
    sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.bind(os.fspath(path))
        os.chown(path, -1, gid, follow_symlinks=False)
        os.chmod(path, stat.S_IMODE(mode))
        # Until here a connect is refused, whatever the mode was.
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ResourceError(f"{path}: {error.strerror}") from error
    return sock


class Listener:
    """Accepts connections of one socket and hands each over, with word when descriptors are scarce."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        accepted: Callable[[socket.socket, bool], None],
    ) -> None:
        """`accepted(socket, scarce)` owns the socket; when `scarce`, it must refuse and close at once."""
        self._loop = loop
        self._sock = sock
        self._accepted = accepted
        loop.add_reader(sock, self._readable)

    def _readable(self) -> None:
        for _ in range(limits.ACCEPT_BURST):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                # The machine itself is out of descriptors or memory: look again later instead of spinning.
                self._loop.remove_reader(self._sock)
                self._loop.call_later(limits.ACCEPT_RETRY, self._again)
                return
            sock.setblocking(False)
            self._accepted(sock, limits.scarce(sock.fileno()))

    def _again(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock, self._readable)

    def fileno(self) -> int:
        """The listening socket's descriptor."""
        return self._sock.fileno()

    def close(self) -> None:
        """Stop listening."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()
