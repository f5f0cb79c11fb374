"""One shared object in this process: how large it must be, what tells it from another, how it is let go.

Source: docs/design.md section 2 for sizes and locks.
"""

import fcntl
import mmap
import os
import struct
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from vmbusd.abi import layout, link
from vmbusd.abi.errors import ResourceError
from vmbusd.abi.link import Object
from vmbusd.abi.native import Doorbell, Guard

_FLOCK: Final = struct.Struct("hhqqi0q")
"""struct flock of a 64-bit Linux: type, whence, start, length, pid (0 for OFD locks), padding."""

BELLS: Final = {
    Object.VP_SEMAPHORE: "vp",
    Object.VP_EVENTFD: "vp",
    Object.HOST_SEMAPHORE: "host",
    Object.HOST_EVENTFD: "host",
}
EVENTFDS: Final = (Object.VP_EVENTFD, Object.HOST_EVENTFD)

Key = tuple[Object, int]
"""What an object is and which one: VP or host link number, 0 for the objects of which there is one."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """One shared object in this process. `map` supports the buffer protocol, read-only unless `writable`;
    `identity` (device, inode) tells it from every other one while it is mapped.
    """

    name: str
    map: mmap.mmap
    guard: Guard
    writable: bool
    identity: tuple[int, int]


class HostEnd(NamedTuple):
    """The page and the doorbell of one host link."""

    page: mmap.mmap
    doorbell: Doorbell


def name_of(key: Key) -> str:
    """As it stands in errors."""
    what, index = key
    if what in BELLS:
        return f"-{BELLS[what]}{index} doorbell"
    return f"-host{index}" if what is Object.HOST_PAGE else f"-{what.name.lower()}"


def size_of(what: Object, welcome: link.Welcome) -> int:
    """Bytes that an object of this partition must have."""
    return {
        Object.EVENTS: layout.events_size(welcome.vps),
        Object.TABLE: layout.TABLE_SIZE,
        Object.VPWORK: layout.vpwork_size(welcome.vps),
        Object.GUEST: layout.GUEST_SIZE,
        Object.RAM: welcome.ram_size,
        Object.HOST_PAGE: layout.HOST_PAGE_SIZE,
    }.get(what, layout.SEMAPHORE_SIZE)


def identity_of(fd: int) -> tuple[int, int]:
    """Device and inode behind a descriptor."""
    stat = os.fstat(fd)
    return stat.st_dev, stat.st_ino


def hold(fd: int, name: str) -> None:
    """Say that somebody is attached to this set, until the last mapping of the table is gone."""
    request = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, layout.LOCK_BYTE_PEER, 1, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
    except OSError as error:
        raise ResourceError(f"{name}: is being reclaimed by another daemon ({error.strerror})") from error


def unmap(mapped: Mapped) -> Mapped | None:
    """Unmap; when somebody still uses the memory, guard it again and give it back."""
    mapped.guard.release()
    try:
        mapped.map.close()
    except BufferError:
        return replace(mapped, guard=Guard(mapped.map, mapped.name))
    return None
