"""The POSIX objects of one partition: made exclusively, reserved, watched, removed; nobody else makes any.

Rules: `-table` comes first and is locked at once, and goes last, so that a half-made or half-removed set is
recognized (see `reclaim`). What somebody may store to without asking is reserved before it is handed out, so
a full /dev/shm is an error here and never a SIGBUS there. Whatever is removed is removed only while the name
still means our object. Source: docs/design.md section 2, shm_overview(7), sem_overview(7).
"""

import contextlib
import errno
import fcntl
import os
import re
import stat
from dataclasses import dataclass
from typing import Final

import posix_ipc  # type: ignore[import-not-found, unused-ignore]

from vmbusd.abi import layout
from vmbusd.abi.errors import ResourceError
from vmbusd.abi.link import Object
from vmbusd.server import limits, ofd
from vmbusd.server.runtime import owner_name

SHM: Final = "/dev/shm"
"""Where glibc and musl keep shared memory; a named semaphore is the file `sem.<name>` there."""
MODE: Final = 0o600
_WORDS: Final = {
    Object.EVENTS: "events",
    Object.TABLE: "table",
    Object.VPWORK: "vpwork",
    Object.GUEST: "guest",
    Object.RAM: "ram",
}
_WHOLE: Final = frozenset({Object.EVENTS, Object.TABLE, Object.VPWORK, Object.HOST_PAGE})

# The seams at which tests let the machine run out of memory.
_allocate = os.posix_fallocate
_truncate = os.ftruncate


@dataclass(frozen=True, slots=True)
class SharedObject:
    """One object: its descriptor (opened read-write by us), its path (None for an eventfd) and its bytes."""

    what: Object
    index: int
    fd: int
    path: str | None
    size: int

    def truncated(self) -> bool:
        """Whether somebody made it smaller than it was created."""
        return self.path is not None and os.fstat(self.fd).st_size < self.size

    def is_named(self) -> bool:
        """Whether its name still leads to it."""
        if self.path is None:
            return True
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        ours = os.fstat(self.fd)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def post_by_name(self) -> None:
        """Post a semaphore the way any program does that opens it by its name."""
        assert self.path is not None
        try:
            semaphore = posix_ipc.Semaphore("/" + self.path.removeprefix(f"{SHM}/sem."))
        except (posix_ipc.Error, OSError) as error:
            raise ResourceError(f"{self.path}: cannot be opened by its name: {error}") from error
        semaphore.release()
        semaphore.close()

    def remove(self) -> None:
        """Unlink the name if it still means this object."""
        if self.path is not None and self.is_named():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)


def _collision(path: str) -> ResourceError:
    try:
        uid = os.stat(path, follow_symlinks=False).st_uid
    except OSError:
        return ResourceError(f"{path}: somebody made and removed it while we wanted to make it")
    return ResourceError(f"{path}: exists already and belongs to {owner_name(uid)}")


def _failure(path: str, error: OSError, size: int = 0) -> ResourceError:
    if error.errno == errno.ENOSPC:
        return ResourceError(f"{path}: no space left in {SHM}" + (f" for {size} bytes" if size else ""))
    return ResourceError(f"{path}: {error.strerror or error}")


def _make_memory(name: str) -> tuple[int, str]:
    path = f"{SHM}/{name}"
    try:
        return posix_ipc.SharedMemory(f"/{name}", posix_ipc.O_CREX, mode=MODE).fd, path
    except posix_ipc.ExistentialError:
        raise _collision(path) from None
    except posix_ipc.PermissionsError as error:
        raise ResourceError(f"{path}: no permission to make it") from error
    except OSError as error:
        raise _failure(path, error) from error


def _make_semaphore(name: str) -> tuple[int, str]:
    path = f"{SHM}/sem.{name}"
    try:
        posix_ipc.Semaphore(f"/{name}", posix_ipc.O_CREX, mode=MODE).close()
    except posix_ipc.ExistentialError:
        raise _collision(path) from None
    except posix_ipc.PermissionsError as error:
        raise ResourceError(f"{path}: no permission to make it") from error
    except OSError as error:
        raise _failure(path, error) from error
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW), path
    except OSError as error:
        with contextlib.suppress(posix_ipc.Error):
            posix_ipc.unlink_semaphore(f"/{name}")
        raise _failure(path, error) from error


class WrongObject(ResourceError):
    """An object that a daemon before us left is gone, is another, or is being taken away."""


class MissingObject(WrongObject):
    """An object that a daemon before us left is gone."""


class ObjectSet:
    """All objects of one partition of one daemon. Raises ResourceError naming the object when it cannot be.

    Attributes: `prefix`, what the names begin with; `objects`, (what, index) -> SharedObject.
    """

    def __init__(
        self,
        instance: str,
        partition: str,
        *,
        vps: int,
        ram_size: int,
        eventfd: bool,
        there: bool = False,
    ) -> None:
        """Make the set. `ram_size` in bytes; `eventfd`: doorbells are eventfds instead of semaphores;
        `there`: a daemon before us made it, take it over, and the objects of hosts with `take_host`."""
        self.prefix = f"vmbusd-{instance}-{partition}"
        self.eventfd = eventfd
        self.objects: dict[tuple[Object, int], SharedObject] = {}
        self._reserved: set[tuple[Object, int]] = set()
        sizes = {
            Object.EVENTS: layout.events_size(vps),
            Object.VPWORK: layout.vpwork_size(vps),
            Object.GUEST: layout.GUEST_SIZE,
            Object.RAM: ram_size,
        }
        try:
            if there:
                self._take(sizes, vps)
            else:
                self._make(sizes, vps)
            self._refuse_scarcity()
        except BaseException:
            if there:
                self.close()
            else:
                self.remove()
            raise

    def _make(self, sizes: dict[Object, int], vps: int) -> None:
        table = self._memory(Object.TABLE, 0, 0)
        if not ofd.lock(table.fd, fcntl.F_WRLCK, layout.LOCK_BYTE_DAEMON) or not table.is_named():
            raise ResourceError(f"{table.path}: another vmbusd took it away while we made it")
        self._size(table, layout.TABLE_SIZE)
        for what, size in sizes.items():
            self._memory(what, 0, size)
        for vp in range(vps):
            self._doorbell(Object.VP_EVENTFD if self.eventfd else Object.VP_SEMAPHORE, vp)

    def __getitem__(self, key: tuple[Object, int]) -> SharedObject:
        return self.objects[key]

    def name(self, what: Object, index: int) -> str:
        """The name of an object, without the leading slash."""
        if what in _WORDS:
            return f"{self.prefix}-{_WORDS[what]}"
        return f"{self.prefix}-{'vp' if what in (Object.VP_SEMAPHORE, Object.VP_EVENTFD) else 'host'}{index}"

    def _memory(self, what: Object, index: int, size: int) -> SharedObject:
        fd, path = _make_memory(self.name(what, index))
        made = self.objects[what, index] = SharedObject(what, index, fd, path, size)
        return self._size(made, size) if size else made

    def _size(self, made: SharedObject, size: int) -> SharedObject:
        sized = self.objects[made.what, made.index] = SharedObject(
            made.what, made.index, made.fd, made.path, size
        )
        try:
            _truncate(made.fd, size)
            if made.what in _WHOLE:
                _allocate(made.fd, 0, size)
        except OSError as error:
            raise _failure(str(made.path), error, size) from error
        return sized

    def _doorbell(self, what: Object, index: int) -> None:
        if what in (Object.VP_EVENTFD, Object.HOST_EVENTFD):
            try:
                fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            except OSError as error:
                raise _failure(self.name(what, index), error) from error
            self.objects[what, index] = SharedObject(what, index, fd, None, 0)
            return
        fd, path = _make_semaphore(self.name(what, index))
        made = self.objects[what, index] = SharedObject(what, index, fd, path, layout.SEMAPHORE_SIZE)
        if made.truncated():
            raise ResourceError(f"{path}: this C library keeps no {layout.SEMAPHORE_SIZE}-byte sem_t in it")

    # -- what a daemon before us made ----------------------------------------------------------------------

    def _take(self, sizes: dict[Object, int], vps: int) -> None:
        if self.eventfd:
            raise WrongObject(f"{self.prefix}: its doorbells are eventfds, which ended with their daemon")
        table = self._take_one(Object.TABLE, 0, layout.TABLE_SIZE)
        if not ofd.lock(table.fd, fcntl.F_WRLCK, layout.LOCK_BYTE_DAEMON) or not table.is_named():
            raise WrongObject(f"{table.path}: another vmbusd is taking it away")
        for what, size in sizes.items():
            self._take_one(what, 0, size)
        for vp in range(vps):
            self._take_one(Object.VP_SEMAPHORE, vp, layout.SEMAPHORE_SIZE)

    def _take_one(self, what: Object, index: int, size: int) -> SharedObject:
        is_bell = what in (Object.VP_SEMAPHORE, Object.HOST_SEMAPHORE)
        path = f"{SHM}/{'sem.' if is_bell else ''}{self.name(what, index)}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise MissingObject(f"{path}: is gone") from error
        except OSError as error:
            raise _failure(path, error) from error
        taken = self.objects[what, index] = SharedObject(what, index, fd, path, size)
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
            raise WrongObject(f"{path}: is not what we made, it belongs to {owner_name(status.st_uid)}")
        if status.st_size != size:
            raise WrongObject(f"{path}: has {status.st_size} bytes, not {size}")
        return taken

    def take_host(self, number: int) -> None:
        """Take over page and doorbell of host link `number`. Raises WrongObject naming what is missing."""
        self._take_one(Object.HOST_PAGE, number, layout.HOST_PAGE_SIZE)
        self._take_one(Object.HOST_SEMAPHORE, number, layout.SEMAPHORE_SIZE)

    def remove_strays(self) -> list[str]:
        """Remove what bears our prefix and is none of ours, such as a host's page that was made when its
        daemon died; returns the names."""
        ours = {made.path for made in self.objects.values()}
        strays = [
            f"{SHM}/{name}"
            for name in os.listdir(SHM)
            if name.removeprefix("sem.").startswith(f"{self.prefix}-") and f"{SHM}/{name}" not in ours
        ]
        # The name of another partition may begin with ours and go on with a dash: only what we could make.
        kinds = re.compile(rf"(?:sem\.)?{re.escape(self.prefix)}-(?:vp|host)[0-9]+")
        strays = [path for path in strays if kinds.fullmatch(path.removeprefix(f"{SHM}/"))]
        for path in strays:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        return strays

    def _refuse_scarcity(self) -> None:
        if any(limits.scarce(made.fd) for made in self.objects.values()):
            raise ResourceError(
                f"{self.prefix}: too few file descriptors left, raise the limit of open files"
            )

    def reserve(self, what: Object, offset: int, length: int) -> None:
        """Allocate a range of a sparse object. Raises ResourceError naming it when there is no memory."""
        made = self.objects[what, 0]
        try:
            _allocate(made.fd, offset, length)
        except OSError as error:
            raise _failure(str(made.path), error, length) from error

    def reserve_block(self, flag: int) -> None:
        """Allocate the `-guest` block of an event flag, once."""
        if (Object.GUEST, flag) not in self._reserved:
            self.reserve(Object.GUEST, flag * layout.BLOCK_SIZE, layout.BLOCK_SIZE)
            self._reserved.add((Object.GUEST, flag))

    def host_objects(self, number: int) -> list[SharedObject]:
        """Page and doorbell of a host link; empty when it has none."""
        whats = (Object.HOST_PAGE, Object.HOST_SEMAPHORE, Object.HOST_EVENTFD)
        return [self.objects[what, number] for what in whats if (what, number) in self.objects]

    def add_host(self, number: int) -> None:
        """Make page and doorbell of host link `number`."""
        try:
            self._memory(Object.HOST_PAGE, number, layout.HOST_PAGE_SIZE)
            self._doorbell(Object.HOST_EVENTFD if self.eventfd else Object.HOST_SEMAPHORE, number)
        except BaseException:
            self.remove_host(number)
            raise

    def remove_host(self, number: int) -> None:
        """Remove what `add_host` made."""
        for made in self.host_objects(number):
            del self.objects[made.what, made.index]
            made.remove()
            os.close(made.fd)

    def reopen_read_only(self, what: Object) -> int:
        """A new read-only open file description of an object: what is passed to those who may only read."""
        made = self.objects[what, 0]
        try:
            return os.open(f"/proc/self/fd/{made.fd}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _failure(str(made.path), error) from error

    def hold(self) -> int:
        """A new description of the table that holds the set as a peer does, until it is closed.

        Raises ResourceError when there is none to be had.
        """
        table = self.objects[Object.TABLE, 0]
        try:
            fd = os.open(f"/proc/self/fd/{table.fd}", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise _failure(str(table.path), error) from error
        try:
            ofd.hold_for_peer(fd, str(table.path))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def close(self) -> None:
        """Let go of every object and leave it there. May be called again."""
        for made in self.objects.values():
            os.close(made.fd)
        self.objects.clear()

    def remove(self) -> None:
        """Remove every object, the table last. May be called again."""
        for made in reversed(list(self.objects.values())):
            made.remove()
            os.close(made.fd)
        self.objects.clear()
