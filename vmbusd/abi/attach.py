"""Attach to a daemon: hello, welcome, every granted object mapped and guarded, for hosts and guests alike.

A descriptor is checked against what the welcome says, mapped, and closed at once: the mapping keeps the
object. Only guest memory's stays open, because rings are mapped later. Read-only grants are mapped PROT_READ,
so a store through them raises in Python instead of reaching memory. Every mapping has a `native.Guard`,
because a peer with a writable descriptor can truncate the object under us. While we are attached we hold an
OFD read lock on byte 1 of the table: the kernel drops it with the last of our mappings, however we end, and
only then may the set be reclaimed. Source: docs/design.md sections 2 and 4.
"""

import contextlib
import mmap
import os
import re
import socket
import time
from types import TracebackType
from typing import Final

from vmbusd.abi import layout, link, paths
from vmbusd.abi.errors import LinkLost, NoDaemon, ProtocolError, ResourceError, UsageError
from vmbusd.abi.link import HelloFlag, Object, Role
from vmbusd.abi.link_socket import LinkSocket, close_all
from vmbusd.abi.mapped import (
    BELLS,
    EVENTFDS,
    HostEnd,
    Key,
    Mapped,
    hold,
    identity_of,
    name_of,
    size_of,
    unmap,
)
from vmbusd.abi.native import Doorbell, Guard

WELCOME_TIMEOUT: Final = 10.0
"""Seconds to wait for the daemon's answer to hello; it answers at once unless it is stopped."""
PARTITION_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_SOCKETS: Final = {
    Role.GUEST_CONTROL: (paths.GUEST_SOCKET, link.MAX_GUEST_PACKET),
    Role.GUEST_WORKER: (paths.GUEST_SOCKET, link.MAX_GUEST_PACKET),
    Role.HOST: (paths.HOST_SOCKET, link.MAX_HOST_PACKET),
}
_OF_HOST_LINK: Final = (Object.HOST_PAGE, Object.HOST_SEMAPHORE, Object.HOST_EVENTFD)
_SHARED: Final = (Object.EVENTS, Object.TABLE, Object.VPWORK, Object.RAM)


class Attached(LinkSocket):
    """A live link to the daemon and everything that came with it. A context manager; leaving it closes.

    Attributes: `sock`, the socket (poll it, add it to an event loop); `path`, where the daemon listens, None
    if somebody else connected; `partition`; `role`; `welcome`, of the first hello; `objects`, what is
    mapped; `vp_doorbells`, one per VP; `host_links`, number -> page and doorbell (a host has its own,
    `welcome.link`); `ram_fd`, the descriptor of guest memory, kept for the rings to be mapped.
    """

    def __init__(self, sock: socket.socket, role: Role, partition: str, path: str | None = None) -> None:
        super().__init__(sock, _SOCKETS[role][1])
        self.path = path
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
            if any(grant.what not in _OF_HOST_LINK or grant.index != body.link for grant in grants):
                raise ProtocolError(f"host link {body.link}: grants of something else")
        except BaseException:
            close_all(fds)
            raise
        self._replace_host_link(body.link, grants, fds)
        return body.link

    def _replace_host_link(self, number: int, grants: list[link.Grant], fds: list[int]) -> None:
        self.host_links.pop(number, None)
        self._bells.pop(("host", number), None)
        for what in _OF_HOST_LINK:
            self._retire((what, number))
        self._unmap_retired()
        self._take(grants, fds)
        if number not in self.host_links:
            raise ProtocolError(f"host link {number}: its page or its doorbell is missing")

    def renew(self, welcome: link.Welcome, fds: list[int], *, hosts: bool) -> list[int]:
        """Take the grants of a resume's welcome: what is mapped stays mapped, host links that are not, or are
        other ones by now, are mapped if `hosts`. Returns their numbers; takes over the descriptors.

        Raises ProtocolError when the daemon grants another partition than the one that is mapped.
        """
        left = list(fds)
        try:
            grants = link.decode_grants(welcome.grants)
            if len(grants) != len(fds):
                raise ProtocolError(f"{len(grants)} objects granted, {len(fds)} descriptors came")
            known = self.welcome
            for name in ("abi_version", "vps", "ram_size", "link", "vp"):
                if (now := getattr(welcome, name)) != (before := getattr(known, name)):
                    raise ProtocolError(f"resume with {name} {now}, it was {before}")
            changed: dict[int, list[tuple[link.Grant, int]]] = {}
            for grant, fd in zip(grants, fds, strict=True):
                if self.role is not Role.HOST and grant.what in _OF_HOST_LINK:
                    changed.setdefault(grant.index, []).append((grant, fd))
                elif not self._is_mapped(grant, fd):
                    raise ProtocolError(f"resume with another {name_of((Object(grant.what), grant.index))}")
            numbers = []
            for number, host in changed.items():
                if hosts and not all(self._is_mapped(grant, fd) for grant, fd in host):
                    for _, fd in host:
                        left.remove(fd)
                    self._replace_host_link(number, [grant for grant, _ in host], [fd for _, fd in host])
                    numbers.append(number)
            return numbers
        finally:
            close_all(left)

    def _is_mapped(self, grant: link.Grant, fd: int) -> bool:
        try:
            key = (Object(grant.what), grant.index)
        except ValueError:
            raise ProtocolError(f"grant of an unknown object {grant.what}") from None
        # Nothing tells one eventfd from another; those of a host come with its page, which does.
        mapped = self.objects.get(key)
        return key in self._eventfds if mapped is None else mapped.identity == identity_of(fd)

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
                    raise ProtocolError(f"{name_of(key)} was granted twice")
                if key[0] in EVENTFDS:
                    self._bells[BELLS[key[0]], key[1]] = Doorbell.eventfd(fds[number])
                    self._eventfds[key] = left.pop(number)
                else:
                    self._map(key, grant, fds[number])
        finally:
            close_all(left.values())
        for (what, index), mapped in self.objects.items():
            if what is Object.HOST_PAGE and ("host", index) in self._bells:
                self.host_links[index] = HostEnd(mapped.map, self._bells["host", index])

    def _map(self, key: Key, grant: link.Grant, fd: int) -> None:
        name = f"{self.partition}{name_of(key)}"
        expected = size_of(key[0], self.welcome)
        if grant.size != expected:
            raise ProtocolError(f"{name}: granted with {grant.size} bytes, must be {expected}")
        actual = os.fstat(fd).st_size
        if actual < expected:
            raise ResourceError(f"{name}: the object has {actual} bytes, {expected} are needed")
        if key[0] is Object.TABLE:
            hold(fd, name)
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if grant.writable else 0)
        try:
            mapping = mmap.mmap(fd, expected, prot=protection)
        except OSError as error:
            raise ResourceError(f"{name}: cannot be mapped: {error.strerror}") from error
        guard = Guard(mapping, name)
        self.objects[key] = Mapped(name, mapping, guard, bool(grant.writable), identity_of(fd))
        if key[0] in BELLS:
            self._bells[BELLS[key[0]], key[1]] = Doorbell.semaphore(mapping)
        elif key[0] is Object.RAM:
            self.ram_fd = os.dup(fd)

    def welcomed(self, welcome: link.Welcome, fds: list[int]) -> None:
        """Map what the first welcome grants; takes over the descriptors. Raises ProtocolError or
        ResourceError.
        """
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
        missing = sorted(name_of(key) for key in needed - self.objects.keys())
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
        self._retired = [kept for old in self._retired if (kept := unmap(old)) is not None]

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
    resumable: bool = False,
) -> Attached:
    """Connect to the daemon of `runtime_dir` and attach to `partition`; `vp` counts for workers only.

    A `resumable` link is to be served by `lasting.Lasting`: its packets are numbered. Raises UsageError for a
    name that cannot be one, ResourceError without a daemon (NoDaemon) or without permission, RefusedError
    with the daemon's reason, ProtocolError or LinkClosed when its answer is none.
    """
    path = os.fspath(paths.runtime_dir(runtime_dir) / _SOCKETS[role][0])
    check_name(partition)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            raise NoDaemon(f"no vmbusd at {path}: is it running?") from error
        raise ResourceError(f"{path}: cannot connect: {error.strerror}") from error
    return attach_socket(sock, role, partition, vp=vp, timeout=timeout, resumable=resumable, path=path)


def attach_socket(
    sock: socket.socket,
    role: Role,
    partition: str,
    *,
    vp: int = 0,
    timeout: float = WELCOME_TIMEOUT,
    resumable: bool = False,
    path: str | None = None,
) -> Attached:
    """As `attach`, over a connected SEQPACKET socket, which is taken over."""
    attached = Attached(sock, role, partition, path)
    flags = HelloFlag.RESUMABLE if resumable else 0
    try:
        with contextlib.suppress(LinkLost):
            # Refused before we could speak: the reason is there to be read.
            attached.send(link.encode(link.Hello(layout.ABI_VERSION, role, vp, flags, partition)))
        deadline = time.monotonic() + timeout
        while (got := attached.receive_nowait()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ResourceError(f"vmbusd did not answer within {timeout:g} s")
            attached.wait_readable(left)
        attached.welcomed(welcome_in(*got), got[1])
    except BaseException:
        attached.close()
        raise
    return attached


def welcome_in(packet: bytes, fds: list[int]) -> link.Welcome:
    """The welcome that a packet is; if it is none, ProtocolError, and its descriptors are closed."""
    try:
        welcome = link.decode_body(link.decode_header(packet), packet)
        if not isinstance(welcome, link.Welcome):
            raise ProtocolError(f"a welcome was expected, {type(welcome).__name__} came")
    except BaseException:
        close_all(fds)
        raise
    return welcome


def check_name(partition: str) -> None:
    """Raises UsageError for a partition name that no daemon can have."""
    if not PARTITION_NAME.fullmatch(partition):
        raise UsageError(f"partition name {partition!r}: 1 to 32 of a-z, 0-9 and -, the first no -")
