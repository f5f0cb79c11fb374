"""Attach to a daemon: hello, welcome, every granted object mapped and guarded, for hosts and guests alike.

A descriptor is checked against what the welcome says, mapped, and closed at once: the mapping keeps the
object. Only guest memory's stays open, because rings are mapped later. Read-only grants are mapped PROT_READ,
so a store through them raises in Python instead of reaching memory. Every mapping has a `native.Guard`,
because a peer with a writable descriptor can truncate the object under us. While we are attached we hold an
OFD read lock on byte 1 of the table: the kernel drops it with the last of our mappings, however we end, and
only then may the set be reclaimed. Source: DESIGN sections 2, 4.
"""

import contextlib
import fcntl
import mmap
import os
import re
import socket
import struct
import time
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, NamedTuple

from vmbusd.abi import layout, link, paths
from vmbusd.abi.errors import LinkLost, ProtocolError, ResourceError, UsageError
from vmbusd.abi.link import Object, Role
from vmbusd.abi.link_socket import LinkSocket, close_all
from vmbusd.abi.native import Doorbell, Guard

WELCOME_TIMEOUT: Final = 10.0
"""Seconds to wait for the daemon's answer to hello; it answers at once unless it is stopped."""
PARTITION_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_FLOCK: Final = struct.Struct("hhqqi0q")
"""struct flock of a 64-bit Linux: type, whence, start, length, pid (0 for OFD locks), padding."""

_SOCKETS: Final = {
    Role.GUEST_CONTROL: (paths.GUEST_SOCKET, link.MAX_GUEST_PACKET),
    Role.GUEST_WORKER: (paths.GUEST_SOCKET, link.MAX_GUEST_PACKET),
    Role.HOST: (paths.HOST_SOCKET, link.MAX_HOST_PACKET),
}
_SHARED: Final = (Object.EVENTS, Object.TABLE, Object.VPWORK, Object.RAM)
_BELLS: Final = {
    Object.VP_SEMAPHORE: "vp",
    Object.VP_EVENTFD: "vp",
    Object.HOST_SEMAPHORE: "host",
    Object.HOST_EVENTFD: "host",
}
_EVENTFDS: Final = (Object.VP_EVENTFD, Object.HOST_EVENTFD)

Key = tuple[Object, int]
"""What an object is and which one: VP or host link number, 0 for the objects of which there is one."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """One shared object in this process. `map` supports the buffer protocol, read-only unless `writable`."""

    name: str
    map: mmap.mmap
    guard: Guard
    writable: bool


class HostEnd(NamedTuple):
    """The page and the doorbell of one host link."""

    page: mmap.mmap
    doorbell: Doorbell


class Attached(LinkSocket):
    """A live link to the daemon and everything that came with it. A context manager; leaving it closes.

    Attributes: `sock`, the socket (poll it, add it to an event loop); `partition`; `role`; `welcome`;
    `objects`, what is mapped; `vp_doorbells`, one per VP; `host_links`, number -> page and doorbell (a host
    has its own, `welcome.link`); `ram_fd`, the descriptor of guest memory, kept for the rings to be mapped.
    """

    def __init__(self, sock: socket.socket, role: Role, partition: str) -> None:
        super().__init__(sock, _SOCKETS[role][1])
        self.role = role
        self.partition = partition
        self.objects: dict[Key, Mapped] = {}
        self.vp_doorbells: list[Doorbell] = []
        self.host_links: dict[int, HostEnd] = {}
        self.welcome: link.Welcome
        self.ram_fd = -1
        self._bells: dict[tuple[str, int], Doorbell] = {}
        self._eventfds: dict[Key, int] = {}
        self._retired: list[Mapped] = []
        self._retired_eventfds: list[int] = []

    def __enter__(self) -> "Attached":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- what is mapped ------------------------------------------------------------------------------------

    def __getitem__(self, what: Object) -> mmap.mmap:
        """The mapping of an object of which there is one. Raises UsageError when this role has none."""
        try:
            return self.objects[what, 0].map
        except KeyError:
            raise UsageError(
                f"{self.partition}: no {what.name.lower()} object in a {self.role.name} link"
            ) from None

    def page(self, pfn: int) -> memoryview:
        """One 4096-byte page of guest memory, writable. Raises UsageError outside it."""
        if not 0 <= pfn < self.welcome.ram_size // layout.PAGE:
            raise UsageError(f"page {pfn} lies outside guest memory of {self.welcome.ram_size} bytes")
        return memoryview(self[Object.RAM])[pfn * layout.PAGE : (pfn + 1) * layout.PAGE]

    def check(self) -> None:
        """Raises ObjectDead, naming the object, once a peer truncated one of the mappings."""
        for mapped in list(self.objects.values()):
            mapped.guard.check()

    @property
    def guards(self) -> list[Guard]:
        """The guards of everything that is mapped now."""
        return [mapped.guard for mapped in self.objects.values()]

    def add_host_link(self, packet: bytes, fds: list[int]) -> int:
        """Map what a HostLink packet grants and return the link's number; takes over the descriptors.

        A number that comes again is a new link: the old mapping goes as soon as nobody uses it. Raises
        ProtocolError or ResourceError; no descriptor is left open then.
        """
        try:
            body = link.decode_body(link.decode_header(packet), packet)
            if not isinstance(body, link.HostLink):
                raise ProtocolError(f"a host link was expected, {type(body).__name__} came")
            grants = link.decode_grants(body.grants)
            allowed = (Object.HOST_PAGE, Object.HOST_SEMAPHORE, Object.HOST_EVENTFD)
            if any(grant.what not in allowed or grant.index != body.link for grant in grants):
                raise ProtocolError(f"host link {body.link}: grants of something else")
            self.host_links.pop(body.link, None)
            self._bells.pop(("host", body.link), None)
            for what in allowed:
                self._retire((what, body.link))
            self._unmap_retired()
        except BaseException:
            close_all(fds)
            raise
        self._take(grants, fds)
        if body.link not in self.host_links:
            raise ProtocolError(f"host link {body.link}: its page or its doorbell is missing")
        return body.link

    def _take(self, grants: list[link.Grant], fds: list[int]) -> None:
        """Map every grant. Owns `fds`: each is closed, or kept as an eventfd, whatever happens."""
        left = dict(enumerate(fds))
        try:
            if len(grants) != len(fds):
                raise ProtocolError(f"{len(grants)} objects granted, {len(fds)} descriptors came")
            for number, grant in enumerate(grants):
                try:
                    key = (Object(grant.what), grant.index)
                except ValueError:
                    raise ProtocolError(f"grant of an unknown object {grant.what}") from None
                if key in self.objects or key in self._eventfds:
                    raise ProtocolError(f"{_name(key)} was granted twice")
                if key[0] in _EVENTFDS:
                    self._bells[_BELLS[key[0]], key[1]] = Doorbell.eventfd(fds[number])
                    self._eventfds[key] = left.pop(number)
                else:
                    self._map(key, grant, fds[number])
        finally:
            close_all(left.values())
        for (what, index), mapped in self.objects.items():
            if what is Object.HOST_PAGE and ("host", index) in self._bells:
                self.host_links[index] = HostEnd(mapped.map, self._bells["host", index])

    def _map(self, key: Key, grant: link.Grant, fd: int) -> None:
        name = f"{self.partition}{_name(key)}"
        expected = _size(key[0], self.welcome)
        if grant.size != expected:
            raise ProtocolError(f"{name}: granted with {grant.size} bytes, must be {expected}")
        actual = os.fstat(fd).st_size
        if actual < expected:
            raise ResourceError(f"{name}: the object has {actual} bytes, {expected} are needed")
        if key[0] is Object.TABLE:
            _hold(fd, name)
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if grant.writable else 0)
        try:
            mapping = mmap.mmap(fd, expected, prot=protection)
        except OSError as error:
            raise ResourceError(f"{name}: cannot be mapped: {error.strerror}") from error
        self.objects[key] = Mapped(name, mapping, Guard(mapping, name), bool(grant.writable))
        if key[0] in _BELLS:
            self._bells[_BELLS[key[0]], key[1]] = Doorbell.semaphore(mapping)
        elif key[0] is Object.RAM:
            self.ram_fd = os.dup(fd)

    def _welcome(self, welcome: link.Welcome, fds: list[int]) -> None:
        self.welcome = welcome
        try:
            if welcome.abi_version != layout.ABI_VERSION:
                raise ProtocolError(f"the daemon speaks ABI {welcome.abi_version}, we {layout.ABI_VERSION}")
            if not 1 <= welcome.vps <= layout.MAX_VPS or welcome.ram_size % layout.PAGE:
                raise ProtocolError(f"welcome: {welcome.vps} VPs, {welcome.ram_size} bytes of guest memory")
            grants = link.decode_grants(welcome.grants)
        except BaseException:
            close_all(fds)
            raise
        self._take(grants, fds)
        needed = {(what, 0) for what in _SHARED}
        needed.add((Object.HOST_PAGE, welcome.link) if self.role is Role.HOST else (Object.GUEST, 0))
        missing = sorted(_name(key) for key in needed - self.objects.keys())
        missing += [f"-vp{vp} doorbell" for vp in range(welcome.vps) if ("vp", vp) not in self._bells]
        if self.role is Role.HOST and welcome.link not in self.host_links:
            missing.append(f"-host{welcome.link} doorbell")
        if missing:
            raise ProtocolError(f"welcome without {', '.join(missing)}")
        self.vp_doorbells = [self._bells["vp", vp] for vp in range(welcome.vps)]

    # -- the end -------------------------------------------------------------------------------------------

    def _retire(self, key: Key) -> None:
        if (mapped := self.objects.pop(key, None)) is not None:
            self._retired.append(mapped)
        if (fd := self._eventfds.pop(key, None)) is not None:
            # Not closed yet: a sender that still rings it must not hit whatever gets its number next.
            self._retired_eventfds.append(fd)

    def _unmap_retired(self) -> None:
        self._retired = [kept for old in self._retired if (kept := _unmap(old)) is not None]

    def close(self) -> None:
        """Let go of everything: doorbells, mappings, descriptors, and the socket last.

        May be called again. Nobody may signal any more. A mapping that somebody still holds a view of stays,
        guarded, until a later call.
        """
        self.host_links.clear()
        self.vp_doorbells.clear()
        self._bells.clear()
        for key in [*self.objects, *self._eventfds]:
            self._retire(key)
        self._unmap_retired()
        close_all(self._retired_eventfds)
        self._retired_eventfds.clear()
        if self.ram_fd >= 0:
            os.close(self.ram_fd)
            self.ram_fd = -1
        self.sock.close()


def attach(
    role: Role,
    partition: str,
    *,
    runtime_dir: str | os.PathLike[str] | None = None,
    vp: int = 0,
    timeout: float = WELCOME_TIMEOUT,
) -> Attached:
    """Connect to the daemon of `runtime_dir` and attach to `partition`; `vp` counts for workers only.

    Raises UsageError for a name that cannot be one, ResourceError without a daemon or without permission,
    RefusedError with the daemon's reason, ProtocolError or LinkClosed when its answer is none.
    """
    path = paths.runtime_dir(runtime_dir) / _SOCKETS[role][0]
    check_name(partition)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        sock.connect(os.fspath(path))
    except OSError as error:
        sock.close()
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            raise ResourceError(f"no vmbusd at {path}: is it running?") from error
        raise ResourceError(f"{path}: cannot connect: {error.strerror}") from error
    return attach_socket(sock, role, partition, vp=vp, timeout=timeout)


def attach_socket(
    sock: socket.socket, role: Role, partition: str, *, vp: int = 0, timeout: float = WELCOME_TIMEOUT
) -> Attached:
    """As `attach`, over a connected SEQPACKET socket, which is taken over."""
    attached = Attached(sock, role, partition)
    try:
        with contextlib.suppress(LinkLost):
            # Refused before we could speak: the reason is there to be read.
            attached.send(link.encode(link.Hello(layout.ABI_VERSION, role, vp, 0, partition)))
        deadline = time.monotonic() + timeout
        while (got := attached.receive_nowait()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ResourceError(f"vmbusd did not answer within {timeout:g} s")
            attached.wait_readable(left)
        packet, fds = got
        try:
            welcome = link.decode_body(link.decode_header(packet), packet)
            if not isinstance(welcome, link.Welcome):
                raise ProtocolError(f"a welcome was expected, {type(welcome).__name__} came")
        except BaseException:
            close_all(fds)
            raise
        attached._welcome(welcome, fds)
    except BaseException:
        attached.close()
        raise
    return attached


def check_name(partition: str) -> None:
    """Raises UsageError for a partition name that no daemon can have."""
    if not PARTITION_NAME.fullmatch(partition):
        raise UsageError(f"partition name {partition!r}: 1 to 32 of a-z, 0-9 and -, the first no -")


def _name(key: Key) -> str:
    what, index = key
    if what in _BELLS:
        return f"-{_BELLS[what]}{index} doorbell"
    return f"-host{index}" if what is Object.HOST_PAGE else f"-{what.name.lower()}"


def _size(what: Object, welcome: link.Welcome) -> int:
    return {
        Object.EVENTS: layout.events_size(welcome.vps),
        Object.TABLE: layout.TABLE_SIZE,
        Object.VPWORK: layout.vpwork_size(welcome.vps),
        Object.GUEST: layout.GUEST_SIZE,
        Object.RAM: welcome.ram_size,
        Object.HOST_PAGE: layout.HOST_PAGE_SIZE,
    }.get(what, layout.SEMAPHORE_SIZE)


def _hold(fd: int, name: str) -> None:
    """Say that somebody is attached to this set, until the last mapping of the table is gone."""
    request = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, layout.LOCK_BYTE_PEER, 1, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
    except OSError as error:
        raise ResourceError(f"{name}: is being reclaimed by another daemon ({error.strerror})") from error


def _unmap(mapped: Mapped) -> Mapped | None:
    """Unmap; when somebody still uses the memory, guard it again and give it back."""
    mapped.guard.release()
    try:
        mapped.map.close()
    except BufferError:
        return replace(mapped, guard=Guard(mapped.map, mapped.name))
    return None
