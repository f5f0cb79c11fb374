"""A new daemon in place of this one: same process, sockets and locks; everything else as after a crash.

What is handed over are descriptors: the lock of the runtime directory, so that nobody else can take it
meanwhile, the listening sockets, so that nobody who connects meanwhile is turned away, each partition's
table, locked as a peer locks it, so that no other start takes the partition for abandoned, and the
connections of administrators, so that what they ask meanwhile is answered. Their numbers stand in one
environment variable, which the new daemon takes out again. Links are not handed over: they lose their
sockets and resume, as after a crash, and so one mechanism is enough. Source: execve(2).
"""

import os
import socket
import stat
import sys
from collections.abc import MutableMapping
from typing import Final

import msgspec

from vmbusd.abi.errors import UsageError

VARIABLE: Final = "VMBUSD_HANDED_OVER"


class HandedOver(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Descriptors of the daemon before us: `lock`, None when there was none; listening `sockets`, by name;
    `tables`; `admins`, connections on which nothing is unanswered."""

    lock: int | None = None
    sockets: dict[str, int] = {}
    tables: tuple[int, ...] = ()
    admins: tuple[int, ...] = ()

    @property
    def all(self) -> list[int]:
        """Every descriptor."""
        lock = [self.lock] if self.lock is not None else []
        return [*self.sockets.values(), *self.tables, *self.admins, *lock]

    def lock_of(self, there: os.stat_result) -> int | None:
        """The lock's descriptor, if it is that of the file which lies `there`."""
        if self.lock is None:
            return None
        held = os.fstat(self.lock)
        return self.lock if (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino) else None

    def socket(self, name: str, path: str) -> socket.socket | None:
        """The listening socket of that name, if it listens at `path`."""
        if name not in self.sockets:
            return None
        taken = socket.socket(fileno=self.sockets[name])
        if taken.getsockname() == path:
            return taken
        taken.close()
        return None


def handed_over(environment: MutableMapping[str, str] = os.environ) -> HandedOver:
    """What this process was before it became this daemon, once.

    Raises UsageError for a variable that no daemon wrote, or descriptors that are something else.
    """
    text = environment.pop(VARIABLE, None)
    if text is None:
        return HandedOver()
    try:
        it = msgspec.json.decode(text, type=HandedOver, strict=True)
        for fd in it.all:
            os.set_inheritable(fd, False)
        if it.lock is not None and not stat.S_ISREG(os.fstat(it.lock).st_mode):
            raise UsageError(f"{VARIABLE}: descriptor {it.lock} is no lock file")
        for fd in it.tables:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise UsageError(f"{VARIABLE}: descriptor {fd} is no table")
        for name, fd in [*it.sockets.items(), *(("of an administrator", fd) for fd in it.admins)]:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                raise UsageError(f"{VARIABLE}: descriptor {fd} is not the socket {name}")
    except (msgspec.DecodeError, OSError, OverflowError) as error:
        raise UsageError(f"{VARIABLE}={text}: is nothing that a vmbusd hands over: {error}") from error
    return it


def become(given: HandedOver) -> None:
    """Run this program anew, as it was started. Raises OSError when that cannot be; then all is as it was."""
    for fd in given.all:
        os.set_inheritable(fd, True)
    content = msgspec.json.encode(given).decode()
    try:
        os.execve(sys.executable, sys.orig_argv, {**os.environ, VARIABLE: content})
    finally:
        for fd in given.all:
            os.set_inheritable(fd, False)
