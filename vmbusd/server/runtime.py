"""The runtime directory: safe to use, held by one daemon at a time, and where the instance name is kept.

Rules: the directory is ours, nobody else may write to it, no symbolic link leads to it; all files in it are
reached through its descriptor. The lock is flock on a file whose name is checked again after locking,
because the daemon before us removes it when it stops. Source: docs/design.md section 4.
"""

import contextlib
import fcntl
import os
import pwd
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from vmbusd.abi import paths
from vmbusd.abi.errors import ResourceError
from vmbusd.server.reexec import HandedOver

INSTANCE_DIGITS: Final = 12
_INSTANCE: Final = re.compile(rf"[0-9a-f]{{{INSTANCE_DIGITS}}}")
_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def owner_name(uid: int) -> str:
    """A uid with its user name, for messages."""
    try:
        return f"uid {uid} ({pwd.getpwuid(uid).pw_name})"
    except KeyError:
        return f"uid {uid}"


def _open_directory(path: Path, mode: int | None) -> tuple[int, bool]:
    """(descriptor, whether we made it) of a directory that is safe to put sockets into."""
    made = False
    for ancestor in path.parents:
        with contextlib.suppress(OSError):
            bits = ancestor.stat().st_mode
            if bits & stat.S_IWOTH and not bits & stat.S_ISVTX:
                raise ResourceError(
                    f"runtime directory {path}: anybody may replace it, {ancestor} is open to all"
                )
    try:
        os.mkdir(path, 0o700)
        made = True
    except FileExistsError:
        pass
    except OSError as error:
        raise ResourceError(f"runtime directory {path}: cannot be made: {error.strerror}") from error
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        why = "is a symbolic link or no directory" if path.is_symlink() or path.exists() else error.strerror
        raise ResourceError(f"runtime directory {path}: {why}") from error
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid():
            raise ResourceError(
                f"runtime directory {path}: belongs to {owner_name(status.st_uid)}, not to us"
            )
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            bits = stat.S_IMODE(status.st_mode)
            raise ResourceError(f"runtime directory {path}: others may write to it (mode {bits:04o})")
        if mode is not None:
            os.fchmod(fd, mode)
    except BaseException:
        os.close(fd)
        raise
    return fd, made


class Runtime:
    """A runtime directory that this process holds until `close`.

    Attributes: `path`; `instance`, the 12 hex digits in the names of this daemon's objects.
    """

    def __init__(self, path: Path, mode: int | None = None, handed_over: HandedOver | None = None) -> None:
        """Take the directory. `mode`: permission bits to give it (default: 0700 if we make it);
        `handed_over`: the lock that this process holds already.

        Raises ResourceError naming the directory: not safe, no permission, or held by another daemon.
        """
        self.path = path
        self._fd, self._made = _open_directory(path, mode)
        try:
            self._lock = self._lock_of(handed_over) if handed_over is not None else None
            if self._lock is None:
                self._lock = self._take_lock()
        except BaseException:
            os.close(self._fd)
            raise
        self.instance = self._read_instance() or self.renew_instance()

    @property
    def fd(self) -> int:
        """The directory's descriptor."""
        return self._fd

    @property
    def lock(self) -> int:
        """The descriptor that holds the lock."""
        assert self._lock is not None
        return self._lock

    def _lock_of(self, handed_over: HandedOver) -> int | None:
        try:
            return handed_over.lock_of(os.stat(paths.LOCK_FILE, dir_fd=self._fd, follow_symlinks=False))
        except FileNotFoundError:
            return None

    def _take_lock(self) -> int:
        while True:
            try:
                fd = os.open(paths.LOCK_FILE, _FILE, 0o600, dir_fd=self._fd)
            except OSError as error:
                raise ResourceError(f"{self.path / paths.LOCK_FILE}: {error.strerror}") from error
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                named = os.stat(paths.LOCK_FILE, dir_fd=self._fd, follow_symlinks=False)
            except BlockingIOError:
                pid = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(fd)
                raise ResourceError(
                    f"runtime directory {self.path}: another vmbusd (pid {pid}) runs here"
                ) from None
            except FileNotFoundError:
                os.close(fd)
                continue
            if (named.st_dev, named.st_ino) == ((held := os.fstat(fd)).st_dev, held.st_ino):
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                return fd
            os.close(fd)

    def _read_instance(self) -> str | None:
        try:
            fd = os.open(paths.INSTANCE_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._fd)
        except OSError:
            return None
        try:
            text = os.read(fd, INSTANCE_DIGITS + 1).decode("ascii", "replace").strip()
        finally:
            os.close(fd)
        return text if _INSTANCE.fullmatch(text) else None

    def renew_instance(self) -> str:
        """Take a new instance name, kept in the directory before it is used."""
        self.instance = secrets.token_hex(INSTANCE_DIGITS // 2)
        fresh = paths.INSTANCE_FILE + ".new"
        try:
            fd = os.open(fresh, _FILE | os.O_TRUNC, 0o600, dir_fd=self._fd)
            with os.fdopen(fd, "w") as file:
                file.write(self.instance + "\n")
            os.replace(fresh, paths.INSTANCE_FILE, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError as error:
            raise ResourceError(f"{self.path / paths.INSTANCE_FILE}: {error.strerror}") from error
        return self.instance

    def remove_socket(self, name: str) -> None:
        """Remove a socket that we, or a daemon before us, left. Raises ResourceError if it is none."""
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            if not stat.S_ISSOCK(status.st_mode):
                raise ResourceError(f"{self.path / name}: is in the way and no socket")
            os.unlink(name, dir_fd=self._fd)

    def close(self) -> None:
        """An orderly end: nothing of ours stays, and the directory goes if we made it and it is empty."""
        for name in (paths.INSTANCE_FILE, paths.LOCK_FILE):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._fd)
        if self._made:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
        os.close(self.lock)
        os.close(self._fd)
