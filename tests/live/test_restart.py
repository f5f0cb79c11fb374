"""A daemon that dies or is replaced: who stays does not notice, who died meanwhile is dealt with."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import leftovers
from tests.live.daemon import Daemon, daemon, eventually
from tests.live.peers import farewell
from tests.live.restart_storm import CHANNELS, PATIENCE, VPS, Scene, kill_often, restart_storm
from tests.live.storms import judge, let_pass
from vmbusd.abi import paths
from vmbusd.abi.attach import attach
from vmbusd.abi.errors import RefusedError
from vmbusd.abi.link import Role
from vmbusd.ctl.client import AdminClient
from vmbusd.demo.processes import hosts
from vmbusd.demo.storm import Storm, storm
from vmbusd.server import requests
from vmbusd.server.reclaim import reclaim

pytestmark = pytest.mark.live

KILLS = 20
NEVER = "3600"
"""A grace time that no test outlives: what is done before its end is done because somebody is known dead."""


def test_twenty_kills_of_the_daemon_lose_nothing(runtime_dir: Path) -> None:
    """Signals, retargets, opens and closes go on over kill -9: each answered once, relids and generations as
    they were (cases 200, 211)."""
    with restart_storm(runtime_dir) as scene:
        kill_often(scene, KILLS)
        result = scene.judge()
    assert result["resumed"] >= KILLS // 2
    assert result["retargets"] > 0


def reexec(daemon: Scene | Daemon) -> None:
    """Have the daemon replaced, and wait until a new one answers."""

    def epoch() -> int:
        (view,) = daemon.ask(requests.Status())["partitions"]
        return int(view["epoch"])

    before = epoch()
    daemon.ask(requests.Reexec())
    eventually(lambda: epoch() == before + 1, "it is a new one")


def test_reexec_under_load_loses_nothing(runtime_dir: Path) -> None:
    """vmbusctl reexec: another program under the same pid, on the same sockets; nobody is turned away."""
    with restart_storm(runtime_dir) as scene:
        pid = scene.daemon.pid
        inodes = {name: os.stat(runtime_dir / name).st_ino for name in (paths.GUEST_SOCKET, paths.LOCK_FILE)}
        for _ in range(3):
            let_pass(scene.storm, 500)
            reexec(scene)
            eventually(scene.all_are_back, "every link is back", PATIENCE)
            scene.check()
        assert scene.daemon.process.poll() is None
        assert scene.ask(requests.Status())["daemon"]["pid"] == pid
        for name, inode in inodes.items():
            assert os.stat(runtime_dir / name).st_ino == inode
        scene.judge()


def test_a_partition_without_peers_is_not_reclaimed_during_a_reexec(runtime_dir: Path) -> None:
    """Another daemon that starts meanwhile finds its table held, whatever the old or the new one is doing."""
    with daemon(runtime_dir, "--partition", "lonely:1") as running, ThreadPoolExecutor(1) as threads:
        objects = running.objects()
        replaced = threads.submit(reexec, running)
        while not replaced.done():
            assert not [name for name in reclaim("0" * 12).removed if "-lonely-" in name]
        replaced.result()
        assert running.objects() == objects
        assert "is lost" not in running.text()


def test_an_administrator_keeps_the_connection_through_a_reexec(runtime_dir: Path) -> None:
    """What is asked while a daemon becomes another is answered, by the one or the other."""

    def epoch(asked: AdminClient) -> int:
        (view,) = asked.ask(requests.Status())["partitions"]
        return int(view["epoch"])

    with daemon(runtime_dir, "--partition", "p:1"), AdminClient(runtime_dir) as admin:
        first = epoch(admin)
        for before in range(first, first + 3):
            with AdminClient(runtime_dir) as other:
                other.ask(requests.Reexec())
                while epoch(other) == before:
                    assert epoch(admin) in (before, before + 1)
                assert (epoch(other), epoch(admin)) == (before + 1, before + 1)
        eventually(
            lambda: admin.ask(requests.Status())["daemon"]["limits"]["admin_links"]["used"] == 1,
            "those that were closed are forgotten",
        )


class Absence:
    """A storm, and what happens to it while there is no daemon."""

    def __init__(self, runtime_dir: Path, *arguments: str) -> None:
        self.runtime_dir = runtime_dir
        self.arguments = ("--partition", f"storm:{VPS}", "--grace", NEVER, *arguments)
        self.daemon = Daemon(runtime_dir, *self.arguments).wait_ready()

    def all_are_back(self) -> bool:
        """Whether guest and hosts have a socket again."""
        view = self.daemon.status("storm")
        return not any(each["away"] for each in (view["guest"], *view["hosts"]))

    @contextlib.contextmanager
    def gone(self) -> Iterator[None]:
        """Without a daemon during the block; then there is one again."""
        self.daemon.kill()
        try:
            yield
        finally:
            self.daemon.log.unlink()
            self.daemon = Daemon(self.runtime_dir, *self.arguments).wait_ready()


@pytest.fixture
def absence(runtime_dir: Path) -> Iterator[Absence]:
    """A daemon that can be gone for a while."""
    made = Absence(runtime_dir)
    yield made
    made.daemon.close()


def killed_worker(scene: Storm, vp: int) -> int:
    """kill -9 the worker of a VP; returns its pid."""
    pid: int = scene.guest.statistics()["workers"]["pids"][vp]
    os.kill(pid, signal.SIGKILL)
    return pid


def test_a_worker_that_dies_while_no_daemon_runs_loses_nothing(absence: Absence) -> None:
    """The next daemon knows its death, frees its claims and puts its bits back; its VP is played again."""
    with storm(absence.runtime_dir, "storm", vps=VPS, channels=CHANNELS, host_processes=2) as scene:
        scene.start()
        let_pass(scene, 2000)
        with absence.gone():
            pid = killed_worker(scene, 1)
        eventually(lambda: absence.daemon.status("storm")["workers"][1]["recoveries"], "it was recovered")
        eventually(lambda: scene.guest.statistics()["workers"]["pids"].get(1, pid) != pid, "a new worker")
        let_pass(scene, 2000)
        scene.stop_retargeting()
        judge(scene)


def test_a_worker_that_died_just_before_the_daemon_loses_nothing(absence: Absence) -> None:
    """Whether or not the first daemon had begun to recover it; the steps of a recovery may be done twice."""
    with storm(absence.runtime_dir, "storm", vps=VPS, channels=CHANNELS, host_processes=2) as scene:
        scene.start()
        for vp in (0, 1, 2):
            let_pass(scene, 2000)
            pid = scene.guest.statistics()["workers"]["pids"][vp]
            os.kill(pid, signal.SIGKILL)
            with absence.gone():
                pass
            eventually(replaced(scene, vp, pid), f"a new worker for VP {vp}")
            # A retarget has ten seconds; on a busy machine that is less than three daemons need to start.
            eventually(absence.all_are_back, "every link is back")
        let_pass(scene, 2000)
        scene.stop_retargeting()
        judge(scene)


def replaced(scene: Storm, vp: int, pid: int) -> Callable[[], bool]:
    """Whether another process than `pid` plays the VP."""
    return lambda: scene.guest.statistics()["workers"]["pids"].get(vp, pid) != pid


def test_a_host_that_dies_while_no_daemon_runs_takes_only_its_own_channels(absence: Absence) -> None:
    """They are rescinded by the next daemon; all others go on and lose nothing (case 177)."""
    with storm(absence.runtime_dir, "storm", vps=VPS, channels=CHANNELS, host_processes=2) as scene:
        scene.start()
        let_pass(scene, 2000)
        scene.stop_retargeting()
        doomed = scene.channels[0].host_link
        lost = {channel.relid for channel in scene.channels if channel.host_link == doomed}
        scene.oracle.cells = [(relid, words) for relid, words in scene.oracle.cells if relid not in lost]
        host = next(host for host in scene.hosts if host.latest["link"] == doomed)
        with absence.gone():
            host.process.kill()
            host.process.wait()
        eventually(lambda: not {each.relid for each in scene.guest.channels} & lost, "its channels are gone")
        let_pass(scene, 2000)
        judge(scene)
        eventually(lambda: len(absence.daemon.status("storm")["hosts"]) == 1, "its number is free")


def test_a_guest_that_dies_while_no_daemon_runs_is_unloaded(absence: Absence) -> None:
    """The next daemon closes its channels at their hosts, which can serve another guest (case 176)."""
    directory = absence.runtime_dir
    command = [sys.executable, "-m", "tests.live.storm_guest", str(directory), "storm", str(VPS)]
    with hosts(directory, "storm", [CHANNELS]):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as guest:
            assert guest.stdout is not None
            workers = [int(pid) for pid in guest.stdout.readline().split()]
            assert len(workers) == VPS
            with absence.gone():
                guest.kill()
                guest.wait()
        eventually(lambda: absence.daemon.status("storm")["connection"] == "disconnected", "it is unloaded")
        eventually(
            lambda: all(seat["pid"] is None for seat in absence.daemon.status("storm")["workers"]),
            "its workers have left",
        )
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as guest:
            assert guest.stdout is not None
            workers = [int(pid) for pid in guest.stdout.readline().split()]
            assert len(workers) == VPS
            guest.terminate()
        eventually(lambda: not any(map(leftovers.runs, workers)), "its workers have ended")


def test_a_host_that_is_stopped_over_a_restart_answers_when_it_goes_on(absence: Absence) -> None:
    """A retarget and a close wait for a stopped host, over a daemon's death, and are answered once."""
    with storm(absence.runtime_dir, "storm", vps=VPS, channels=2, host_processes=1) as scene:
        scene.start(retarget=False)
        let_pass(scene, 100)
        host = scene.hosts[0].process
        host.send_signal(signal.SIGSTOP)
        first, second = scene.channels
        target = (first.target_vp + 1) % VPS
        with ThreadPoolExecutor(2) as threads:
            moved = threads.submit(first.retarget, target, PATIENCE)
            scene.oracle.cells = [each for each in scene.oracle.cells if each[0] == first.relid]
            closed = threads.submit(second.close, "", PATIENCE)
            eventually(lambda: not second.is_open and first.target_vp == target, "both are under way")
            with absence.gone():
                pass
            assert not moved.done()
            host.send_signal(signal.SIGCONT)
            moved.result(PATIENCE)
            closed.result(PATIENCE)
        let_pass(scene, 100)
        judge(scene)
        assert scene.guest.statistics()["refused"] == {}


def test_a_stop_is_no_restart(absence: Absence) -> None:
    """SIGTERM: links are told and end, objects, journals and snapshots are gone, and nothing is resumed."""
    with attach(Role.HOST, "storm", runtime_dir=absence.runtime_dir, resumable=True) as host:
        assert (absence.runtime_dir / "storm.journal").exists()
        assert absence.daemon.stop() == 0
        assert "stopping" in farewell(host)
    assert os.listdir(absence.runtime_dir) == []


@pytest.mark.parametrize("name", ["storm.journal", "storm.snapshot"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "older version", "another partition"])
def test_what_cannot_be_believed_is_refused_with_a_word_on_what_is_lost(
    absence: Absence, name: str, damage: str
) -> None:
    """The log names the file and what is lost, a clean start follows, and the other partition goes on (case
    212)."""
    absence.daemon.ask(requests.PartitionAdd("other", 1, "1M"))
    path = absence.runtime_dir / name
    before = absence.daemon.status("other")["epoch"]
    # With a peer: a daemon that starts elsewhere meanwhile may not take it for abandoned.
    with attach(Role.HOST, "other", runtime_dir=absence.runtime_dir, resumable=True), absence.gone():
        content = bytearray(path.read_bytes())
        if damage == "cut":
            del content[len(content) // 2 :]
        elif damage == "flipped":
            content[60] ^= 4
        elif damage == "older version":
            content[8] ^= 1
        elif damage == "another partition":
            content = bytearray(path.with_stem("other").read_bytes())
        path.write_bytes(content)
        if damage == "missing":
            path.unlink()
    text = next(line for line in absence.daemon.text().splitlines() if "cannot be resumed" in line)
    assert "storm" in text
    assert "lost" in text
    assert absence.daemon.status("storm")["epoch"] == 1
    assert absence.daemon.status("other")["epoch"] == before + 1


def reclaimed(name: str) -> bool:
    """Whether another daemon's start has removed this partition's objects."""
    return any(f"-{name}-" in removed for removed in reclaim("0" * 12).removed)


def test_a_partition_that_another_daemon_took_for_abandoned_is_made_anew(absence: Absence) -> None:
    """Nobody was attached and no daemon ran, so another one's start removed its memory: the next daemon makes
    it again as it was asked for, also one of which the configuration says nothing."""
    absence.daemon.ask(requests.PartitionAdd("other", 2, "1M"))
    with absence.gone():
        eventually(lambda: reclaimed("other"), "it is old enough to be taken for abandoned")
    assert "other" in [each["name"] for each in absence.daemon.ask(requests.Status())["partitions"]]
    view = absence.daemon.status("other")
    assert (view["epoch"], view["vps"]) == (1, 2)
    assert "nobody was attached: it is made anew" in absence.daemon.text()


def test_a_partition_whose_memory_was_taken_from_a_living_peer_is_lost(absence: Absence) -> None:
    """Somebody was attached, so it was no reclaim: what the journal says is lost, and the log says so."""
    absence.daemon.ask(requests.PartitionAdd("other", 1, "1M"))
    with attach(Role.HOST, "other", runtime_dir=absence.runtime_dir, resumable=True), absence.gone():
        assert not reclaimed("other")
        (table,) = Path("/dev/shm").glob("vmbusd-*-other-table")
        table.unlink()
    assert "other" not in [each["name"] for each in absence.daemon.ask(requests.Status())["partitions"]]
    assert "everything in the journal of other is lost" in absence.daemon.text()


def test_a_daemon_with_eventfd_doorbells_is_not_replaced(absence: Absence) -> None:
    """They exist in processes alone: reexec is refused, and after a crash the partition starts clean."""
    absence.daemon.ask(requests.PartitionAdd("bells", 1, "1M", "eventfd"))
    with pytest.raises(RefusedError, match="partition bells has eventfd doorbells"):
        absence.daemon.ask(requests.Reexec())
    with absence.gone():
        pass
    assert "its doorbells are eventfds" in absence.daemon.text()
    names = [view["name"] for view in absence.daemon.ask(requests.Status())["partitions"]]
    assert names == ["storm"]
