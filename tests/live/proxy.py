"""A daemon behind bad sockets: passes packets and descriptors on, and loses connections when it is told to.

It runs in threads of the test's process, so the daemon sees the process of the clients. Everything that is
between the two ends of a connection when it is cut is lost, on both ways.
"""

import array
import contextlib
import random
import select
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from tests import leftovers
from vmbusd.abi import link, paths
from vmbusd.abi.link_socket import close_all

SLICE = 0.2
_FD = array.array("i").itemsize
SOCKETS = (paths.GUEST_SOCKET, paths.HOST_SOCKET)


class Proxy:
    """Stands before the sockets of `real`; clients use `directory`.

    `patience`: a connection is cut after a random number of packets up to this, if given. Attributes: `cuts`.
    """

    def __init__(self, real: Path, *, patience: int | None = None, seed: int = 1) -> None:
        self.directory = leftovers.make_directory()
        self.patience = patience
        self.cuts = 0
        self._real = real
        self._dice = random.Random(seed)
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._closed_door = threading.Event()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._listeners = {}
        self._threads = [threading.Thread(target=self._listen, args=(name,)) for name in SOCKETS]
        for name in SOCKETS:
            self._listeners[name] = self._bound(name)
        for thread in self._threads:
            thread.start()

    def _bound(self, name: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(self.directory / name))
        listener.listen()
        return listener

    def cut(self) -> None:
        """Lose every connection there is now."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._cut(pair)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Lose every connection, and let none through inside the block."""
        self._closed_door.set()
        self.cut()
        try:
            yield
        finally:
            self._closed_door.clear()

    def _cut(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self.cuts += 1
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End everything."""
        self._ending.set()
        self.cut()
        for thread in self._threads:
            thread.join()
        for listener in self._listeners.values():
            listener.close()
        shutil.rmtree(self.directory)

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- threads -------------------------------------------------------------------------------------------

    def _listen(self, name: str) -> None:
        listener = self._listeners[name]
        while not self._ending.is_set():
            if not select.select([listener], [], [], SLICE)[0]:
                continue
            client = listener.accept()[0]
            upstream = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                if self._closed_door.is_set():
                    raise ConnectionRefusedError
                upstream.connect(str(self._real / name))
            except OSError:
                client.close()
                upstream.close()
                continue
            thread = threading.Thread(target=self._pass, args=(client, upstream))
            self._threads.append(thread)
            with self._lock:
                self._pairs.add((client, upstream))
            thread.start()

    def _pass(self, client: socket.socket, upstream: socket.socket) -> None:
        other = {client: upstream, upstream: client}
        left = self._dice.randint(1, self.patience) if self.patience else -1
        poll = select.poll()
        for end in other:
            poll.register(end, select.POLLIN)
        by_fd = {end.fileno(): end for end in other}
        try:
            while not self._ending.is_set():
                for fd, _ in poll.poll(SLICE * 1000):
                    if left == 0:
                        self.cuts += 1
                        return
                    left -= 1
                    end = by_fd[fd]
                    if not _pass_on(end, other[end]):
                        return
        except OSError:
            # One end is gone, and so goes the other.
            return
        finally:
            with self._lock:
                self._pairs.discard((client, upstream))
            client.close()
            upstream.close()


def _pass_on(source: socket.socket, target: socket.socket) -> bool:
    data, ancillary, _, _ = source.recvmsg(
        link.MAX_HOST_PACKET, socket.CMSG_SPACE(link.MAX_DESCRIPTORS * _FD), socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for _, _, rights in ancillary:
        fds.frombytes(rights)
    try:
        if data:
            target.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else [])
    finally:
        close_all(fds)
    return bool(data)
