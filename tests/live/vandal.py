"""A peer in the midst of a storm that keeps every descriptor it was handed, to do with them what it likes."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.live.daemon import PATIENCE, eventually
from tests.live.peers import hello
from tests.live.storms import let_pass
from vmbusd.abi import link, paths
from vmbusd.abi.errors import LinkClosed
from vmbusd.abi.link import Object, Role
from vmbusd.abi.link_socket import LinkSocket, close_all
from vmbusd.demo.storm import Storm, storm

STORM_VPS = 2
SPARE_VP = STORM_VPS
"""A VP that the storm does not use: the vandal plays it."""


class Vandal:
    """A worker link of partition a that keeps every descriptor it was handed, by what it is."""

    def __init__(self, runtime_dir: Path) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(str(runtime_dir / paths.GUEST_SOCKET))
        self.link = LinkSocket(sock, link.MAX_GUEST_PACKET)
        self.link.send(hello(role=Role.GUEST_WORKER, vp=SPARE_VP))
        packet, fds = self.link.receive()
        welcome = link.decode_body(link.decode_header(packet), packet)
        assert isinstance(welcome, link.Welcome)
        grants = link.decode_grants(welcome.grants)
        self.fds = {(Object(g.what), g.index): fd for g, fd in zip(grants, fds, strict=True)}

    def path(self, what: Object, index: int) -> str:
        """The object's name in the file system."""
        return os.readlink(f"/proc/self/fd/{self.fds[what, index]}")

    def truncate(self, what: Object, index: int, size: int = 0) -> None:
        """By descriptor if it was handed over writable, by name if not: that takes the daemon's own uid."""
        try:
            os.ftruncate(self.fds[what, index], size)
        except OSError:
            assert what is Object.TABLE
            os.truncate(self.path(what, index), size)

    def reason(self) -> str:
        """Why the daemon ended its link."""
        try:
            while self.link.wait_readable(PATIENCE):
                close_all(self.link.receive()[1])
        except LinkClosed as ended:
            return str(ended)
        return "it did not"

    def close(self) -> None:
        close_all(self.fds.values())
        self.link.sock.close()


@contextlib.contextmanager
def stormy_partition(runtime_dir: Path) -> Iterator[tuple[Storm, Vandal]]:
    """A storm in partition a with a vandal in its midst."""
    with storm(runtime_dir, "a", vps=STORM_VPS, channels=32, host_processes=1) as scene:
        scene.start(retarget=False)
        let_pass(scene, 500)
        vandal = Vandal(runtime_dir)
        try:
            yield scene, vandal
        finally:
            vandal.close()


def expect_processes_to_leave(scene: Storm) -> None:
    """Workers and host end by themselves, none by a signal."""
    eventually(lambda: not scene.guest.statistics()["workers"]["pids"], "the workers leave")
    workers = scene.guest.statistics()["workers"]
    assert (workers["died"], workers["killed"]) == (0, 0)
    (host,) = scene.hosts
    assert host.process.wait(PATIENCE) == 1
