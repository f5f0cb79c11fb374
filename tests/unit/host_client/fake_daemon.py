"""A daemon made of a socket pair and anonymous memory: grants like the real one, says what a test says.

The welcome lies in the socket before the client says hello, so attaching needs no second thread. Objects are
memfds, semaphores are POSIX ones whose names are gone at once. Nothing here decides anything.
"""

import array
import mmap
import os
import secrets
import select
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec
import posix_ipc  # type: ignore[import-not-found, unused-ignore]

from vmbusd.abi import device_link, layout, link
from vmbusd.abi.link import Grant, Object, Role
from vmbusd.abi.native import Doorbell, TableWriter

PATIENCE = 10.0
"""Seconds a test waits for a packet before it gives up."""

READ_ONLY = {Role.HOST: (Object.TABLE, Object.VPWORK)}
M = TypeVar("M", bound=msgspec.Struct)


def semaphore_fd() -> int:
    """The file of a new process-shared semaphore that has no name any more."""
    name = f"/vmbusd-test-{secrets.token_hex(6)}"
    posix_ipc.Semaphore(name, posix_ipc.O_CREX, mode=0o600).close()
    try:
        return os.open(f"/dev/shm/sem.{name[1:]}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        posix_ipc.unlink_semaphore(name)


class Peer:
    """The daemon's end of one link."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE)

    def send(self, packet: bytes, fds: Sequence[int] = ()) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([packet], rights)

    def ask(self, message: device_link.ToHost) -> None:
        self.send(device_link.encode(message))

    def receive(self) -> bytes:
        return self.sock.recv(link.MAX_HOST_PACKET)

    def expect(self, kind: type[M]) -> M:
        """The next packet, which must be of this class."""
        packet = self.receive()
        header = link.decode_header(packet)
        body = link.decode_body(header, packet) if header.kind < 16 else device_link.decode(header, packet)
        assert isinstance(body, kind), body
        return body

    def silent(self) -> bool:
        """True when there is no packet now."""
        return not select.select([self.sock], [], [], 0)[0]

    def close(self) -> None:
        self.sock.close()


class FakeDaemon:
    """The objects of one partition; `peers` are the links made so far."""

    def __init__(self, *, vps: int = 2, ram_size: int = 64 * layout.PAGE, partition: str = "demo") -> None:
        self.vps = vps
        self.ram_size = ram_size
        self.partition = partition
        self.peers: list[Peer] = []
        self.fds: dict[tuple[Object, int], int] = {}
        self.maps: dict[tuple[Object, int], mmap.mmap] = {}
        for what, size in (
            (Object.EVENTS, layout.events_size(vps)),
            (Object.TABLE, layout.TABLE_SIZE),
            (Object.VPWORK, layout.vpwork_size(vps)),
            (Object.GUEST, layout.GUEST_SIZE),
            (Object.RAM, ram_size),
        ):
            self.add(what, 0, size)
        for vp in range(vps):
            self.add(Object.VP_SEMAPHORE, vp, layout.SEMAPHORE_SIZE)
        self.table = TableWriter(self.maps[Object.TABLE, 0])
        self.table.format(vps=vps, epoch=1, ram_size=ram_size, partition=partition)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for peer in self.peers:
            peer.close()
        for fd in self.fds.values():
            os.close(fd)
        del self.table
        for mapping in self.maps.values():
            mapping.close()

    def add(self, what: Object, index: int, size: int) -> None:
        """Make an object and map it on the daemon's side."""
        if what in (Object.VP_SEMAPHORE, Object.HOST_SEMAPHORE):
            fd = semaphore_fd()
        else:
            fd = os.memfd_create(f"{what.name}{index}", os.MFD_CLOEXEC)
            os.ftruncate(fd, size)
        self.fds[what, index] = fd
        self.maps[what, index] = mmap.mmap(fd, size)

    def add_host(self, number: int) -> None:
        """Page and doorbell of a host link."""
        if (Object.HOST_PAGE, number) not in self.fds:
            self.add(Object.HOST_PAGE, number, layout.HOST_PAGE_SIZE)
            self.add(Object.HOST_SEMAPHORE, number, layout.SEMAPHORE_SIZE)

    def doorbell(self, what: Object, index: int) -> Doorbell:
        return Doorbell.semaphore(self.maps[what, index])

    def keys(self, role: Role, number: int) -> list[tuple[Object, int]]:
        """What a role is granted, in the daemon's order."""
        keys = [(Object.EVENTS, 0), (Object.TABLE, 0), (Object.VPWORK, 0)]
        keys += [] if role is Role.HOST else [(Object.GUEST, 0)]
        keys += [(Object.RAM, 0), *((Object.VP_SEMAPHORE, vp) for vp in range(self.vps))]
        hosts = [number] if role is Role.HOST else [i for what, i in self.fds if what is Object.HOST_PAGE]
        return keys + [(what, i) for i in hosts for what in (Object.HOST_PAGE, Object.HOST_SEMAPHORE)]

    def grant(self, key: tuple[Object, int], role: Role) -> tuple[Grant, int]:
        """A grant and a descriptor of its own for it, read-only where the role may only read."""
        writable = key[0] is not Object.TABLE and key[0] not in READ_ONLY.get(role, ())
        mode = os.O_RDWR if writable else os.O_RDONLY
        fd = os.open(f"/proc/self/fd/{self.fds[key]}", mode | os.O_CLOEXEC)
        return Grant(key[0], key[1], writable, os.fstat(fd).st_size), fd

    def welcome(self, role: Role, number: int = 0, vp: int = 0) -> tuple[link.Welcome, list[int]]:
        """A complete welcome and the descriptors that go with it, which the caller closes."""
        granted = [self.grant(key, role) for key in self.keys(role, number)]
        tail = link.encode_grants([grant for grant, _ in granted])
        body = link.Welcome(
            layout.ABI_VERSION, self.vps, self.ram_size, 1, number, vp, 1, bytes(16), 0, 0, 0, tail
        )
        return body, [fd for _, fd in granted]

    def socket_for(self, role: Role, number: int = 0, vp: int = 0) -> socket.socket:
        """A connected socket with a welcome in it, for `attach_socket`."""
        if role is Role.HOST:
            self.add_host(number)
        body, fds = self.welcome(role, number, vp)
        return self.socket_with(link.encode(body), fds)

    def socket_with(self, packet: bytes, fds: Sequence[int] = ()) -> socket.socket:
        """A connected socket with this packet in it; closes the descriptors."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.peers.append(Peer(ours))
        try:
            self.peers[-1].send(packet, fds)
        finally:
            for fd in fds:
                os.close(fd)
        return theirs

    def host_link(self, number: int) -> tuple[bytes, list[int]]:
        """A HostLink packet and its descriptors."""
        self.add_host(number)
        keys = [(Object.HOST_PAGE, number), (Object.HOST_SEMAPHORE, number)]
        granted = [self.grant(key, Role.GUEST_CONTROL) for key in keys]
        body = link.HostLink(number, 0, link.encode_grants([grant for grant, _ in granted]))
        return link.encode(body), [fd for _, fd in granted]

    @contextmanager
    def listening(self, runtime_dir: Path, name: str, role: Role) -> Iterator[None]:
        """Welcome one client that connects to socket `name` of `runtime_dir`; it joins `peers`."""
        if role is Role.HOST:
            self.add_host(0)
        path = runtime_dir / name
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(os.fspath(path))
            listener.listen()
            listener.settimeout(PATIENCE)

            def accept() -> None:
                peer = Peer(listener.accept()[0])
                self.peers.append(peer)
                body, fds = self.welcome(role)
                peer.send(link.encode(body), fds)
                for fd in fds:
                    os.close(fd)

            thread = threading.Thread(target=accept)
            thread.start()
            try:
                yield
            finally:
                thread.join()
                path.unlink()
