"""kill -9 in the middle of a storm: of a worker, a host, the daemon. What stays open loses nothing."""

import gc
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.live.daemon import Daemon, daemon, eventually
from tests.live.storms import judge, let_pass
from vmbusd.demo.storm import Storm, storm

CHANNELS = 64
VPS = 3


def replaced(scene: Storm, vp: int, pid: int) -> bool:
    """Whether another process than `pid` plays the VP."""
    pids: dict[int, int] = scene.guest.statistics()["workers"]["pids"]
    return pids.get(vp, pid) != pid


@pytest.mark.live
def test_killed_workers_lose_nothing(runtime_dir: Path) -> None:
    """kill -9 of a worker: its claims are freed, its taken bits come back, a new worker plays its VP."""
    with (
        daemon(runtime_dir, "--partition", f"storm:{VPS}") as running,
        storm(runtime_dir, "storm", vps=VPS, channels=CHANNELS, host_processes=2) as scene,
    ):
        scene.start()
        for victim in (0, 1, 2, 0, 1, 2):
            let_pass(scene, 2000)
            pid = scene.guest.statistics()["workers"]["pids"][victim]
            os.kill(pid, signal.SIGKILL)
            eventually(partial(replaced, scene, victim, pid), f"a new worker for VP {victim}")
        let_pass(scene, 2000)
        scene.stop_retargeting()
        judge(scene)
        assert running.process.poll() is None


@pytest.mark.live
def test_a_killed_host_takes_only_its_own_channels(runtime_dir: Path) -> None:
    """kill -9 of a host rescinds its channels; every other channel goes on and loses nothing (case 177)."""
    with (
        daemon(runtime_dir, "--partition", f"storm:{VPS}"),
        storm(runtime_dir, "storm", vps=VPS, channels=CHANNELS, host_processes=2) as scene,
    ):
        scene.start()
        let_pass(scene, 5000)
        doomed = scene.channels[0].host_link
        lost = {channel.relid for channel in scene.channels if channel.host_link == doomed}
        assert len(lost) == CHANNELS // 2
        scene.stop_retargeting()
        # Their ring memory goes with them: the oracle must not look at it any more.
        scene.oracle.cells = [(relid, words) for relid, words in scene.oracle.cells if relid not in lost]
        host = next(host for host in scene.hosts if host.latest["link"] == doomed)
        host.process.kill()
        eventually(
            lambda: not {channel.relid for channel in scene.guest.channels} & lost, "its channels are gone"
        )
        let_pass(scene, 5000)
        judge(scene)


def storm_without_daemon(runtime_dir: Path, first: Daemon) -> list[str]:
    """A storm whose daemon dies in the middle. Returns the names of the daemon's objects."""
    with storm(runtime_dir, "storm", vps=VPS, channels=CHANNELS, host_processes=2) as scene:
        scene.start(retarget=False)
        let_pass(scene, 2000)
        names = first.objects()
        first.kill()
        let_pass(scene, 20_000)
        judge(scene)
    return names


@pytest.mark.live
def test_a_killed_daemon_is_not_in_the_data_path(runtime_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """kill -9 of the daemon: callbacks go on to the last signal; the next start reclaims its objects."""
    first = Daemon(runtime_dir, "--partition", f"storm:{VPS}", "--grace", "0.5").wait_ready()
    try:
        names = storm_without_daemon(runtime_dir, first)
        # This process was a guest: what it still has mapped counts as a living peer, and a captured log
        # record keeps an error, its frames and by them the guest.
        caplog.clear()
        gc.collect()
        assert all(Path("/dev/shm", name).exists() for name in names)
    finally:
        first.process.kill()
        first.process.wait()
        first.log.unlink()

    with daemon(runtime_dir, "--partition", f"storm:{VPS}") as second:
        assert second.status("storm")["name"] == "storm"
    assert [name for name in names if Path("/dev/shm", name).exists()] == []


@pytest.mark.live
def test_a_stopped_worker_holds_up_nobody_else(runtime_dir: Path) -> None:
    """SIGSTOP of a worker: others go on; continued, it serves what waited, and nothing is lost."""
    with (
        daemon(runtime_dir, "--partition", f"storm:{VPS}"),
        storm(runtime_dir, "storm", vps=VPS, channels=CHANNELS, host_processes=2) as scene,
    ):
        scene.start()
        let_pass(scene, 2000)
        pid = scene.guest.statistics()["workers"]["pids"][1]
        os.kill(pid, signal.SIGSTOP)
        try:
            let_pass(scene, 20_000)
        finally:
            os.kill(pid, signal.SIGCONT)
        let_pass(scene, 2000)
        scene.stop_retargeting()
        judge(scene)


@pytest.mark.live
def test_a_busy_worker_sleeps_by_the_batch(runtime_dir: Path) -> None:
    """In a storm of many channels a worker sleeps, its only system call, far less than once per callback."""
    with (
        daemon(runtime_dir, "--partition", "storm:4"),
        storm(runtime_dir, "storm", vps=4, channels=1024, host_processes=2) as scene,
    ):
        scene.start()
        let_pass(scene, 50_000)
        before = scene.vp_totals()
        let_pass(scene, 500_000, 100)
        after = scene.vp_totals()
        ran = after["callbacks"] - before["callbacks"]
        # A sender that wakes a VP for each word it sets, instead of for its batch, makes it 5 in 100.
        assert after["sleeps"] - before["sleeps"] < ran * 3 / 100
        scene.stop_retargeting()
        judge(scene)
