"""Objects truncated under load by a peer that was handed them: its partition ends, no other notices."""

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.live.daemon import PATIENCE, Daemon, daemon, eventually
from tests.live.peers import hello
from tests.live.storms import bystander, judge, let_pass
from vmbusd.abi import link, paths
from vmbusd.abi.errors import LinkClosed, ObjectDead, VmbusError
from vmbusd.abi.link import Object, Role
from vmbusd.abi.link_socket import LinkSocket, close_all
from vmbusd.demo.storm import Storm, storm
from vmbusd.server import requests

pytestmark = pytest.mark.live

VPS = 2
SPARE_VP = VPS
"""A VP that the storm does not use: the vandal plays it."""
VICTIMS = [
    (Object.EVENTS, 0),
    (Object.TABLE, 0),
    (Object.VPWORK, 0),
    (Object.GUEST, 0),
    (Object.RAM, 0),
    (Object.HOST_PAGE, 0),
    (Object.VP_SEMAPHORE, 0),
    (Object.VP_SEMAPHORE, 1),
    (Object.HOST_SEMAPHORE, 0),
]


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
    with storm(runtime_dir, "a", vps=VPS, channels=32, host_processes=1) as scene:
        scene.start(retarget=False)
        let_pass(scene, 500)
        vandal = Vandal(runtime_dir)
        try:
            yield scene, vandal
        finally:
            vandal.close()


def move_until_it_fails(scene: Storm) -> Exception:
    """Retarget every channel again and again; returns the error that ends it."""
    while True:
        moves = [(channel, 1 - channel.target_vp) for channel in scene.channels]
        for outcome in scene.guest.retarget_many(moves, window=16):
            if outcome is not None:
                return outcome


def expect_orderly_end(scene: Storm, moving: "Future[Exception]", name: str) -> None:
    """Guest, workers and host hear of the object `name`, and nobody dies or waits."""
    with pytest.raises((LinkClosed, ObjectDead), match=re.escape(name)):
        scene.guest.wait()
    assert isinstance(moving.result(PATIENCE), VmbusError), moving.result()
    expect_processes_to_leave(scene)


def expect_processes_to_leave(scene: Storm) -> None:
    """Workers and host end by themselves, none by a signal."""
    eventually(lambda: not scene.guest.statistics()["workers"]["pids"], "the workers leave")
    workers = scene.guest.statistics()["workers"]
    assert (workers["died"], workers["killed"]) == (0, 0)
    (host,) = scene.hosts
    assert host.process.wait(PATIENCE) == 1


def test_each_object_truncated_in_a_storm_ends_its_partition_alone(
    runtime_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each object cut to nothing in a storm ends its partition in order, by name; another loses nothing."""
    with daemon(runtime_dir, "--partition", "a:3", "--partition", "b:2") as running, bystander(runtime_dir):
        for victim in VICTIMS:
            _truncate_in_a_storm(running, *victim)
            running.ask(requests.PartitionRemove("a"))
            running.ask(requests.PartitionAdd("a", vps=3))
        with storm(runtime_dir, "a", vps=VPS, channels=32, host_processes=1) as again:
            again.start(retarget=False)
            let_pass(again, 500)
            judge(again)
        assert "internal error" not in running.text()
    assert "Traceback" not in capfd.readouterr().err


def _truncate_in_a_storm(running: Daemon, what: Object, index: int) -> None:
    with stormy_partition(running.runtime_dir) as (scene, vandal), ThreadPoolExecutor(1) as threads:
        path = vandal.path(what, index)
        moving = threads.submit(move_until_it_fails, scene)
        vandal.truncate(what, index)

        assert vandal.reason() == f"partition a is dead: {path} was truncated"
        view = running.status("a")
        assert (view["state"], view["reason"]) == ("dead", f"{path} was truncated")
        expect_orderly_end(scene, moving, path.rpartition("-")[2])


def test_an_object_that_shrinks_and_grows_again_kills_nobody(
    runtime_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Pages that vanish and come back as zeros between two looks end at most their own partition."""
    with daemon(runtime_dir, "--partition", "a:3", "--partition", "b:2") as running, bystander(runtime_dir):
        with stormy_partition(runtime_dir) as (scene, vandal):
            sizes = {key: os.fstat(fd).st_size for key, fd in vandal.fds.items() if key[0] != Object.TABLE}
            for _ in range(20):
                for key, size in sizes.items():
                    vandal.truncate(*key, 16)
                    vandal.truncate(*key, size)
            running.ask(requests.PartitionRemove("a"))
            with pytest.raises((LinkClosed, ObjectDead)):
                scene.guest.wait()
            expect_processes_to_leave(scene)
        assert "internal error" not in running.text()
    assert "Traceback" not in capfd.readouterr().err
