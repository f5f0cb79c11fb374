"""Signals at the worst moment, and the death of many processes at once: whoever comes next finds order."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from guest_client import Guest
from tests.live.daemon import PATIENCE, ROOT, Daemon, daemon, eventually
from tests.live.storms import judge, let_pass
from vmbusd.abi import paths
from vmbusd.abi.errors import RefusedError
from vmbusd.abi.link import Code
from vmbusd.demo.driver import StormDriver
from vmbusd.demo.processes import HostProcess, hosts
from vmbusd.demo.storm import Storm

pytestmark = pytest.mark.live

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PARTITIONS = tuple(word for name in "abcdefgh" for word in ("--partition", f"{name}:16"))
"""Enough objects for the stop to take a while."""


def objects_of(instance: str) -> list[str]:
    """What there is in /dev/shm of a daemon."""
    return [name for name in os.listdir("/dev/shm") if instance in name]


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_that_comes_again_does_not_cut_the_stop_short(
    runtime_dir: Path, number: signal.Signals
) -> None:
    """SIGTERM, Ctrl-C or SIGHUP repeated until the daemon is gone: exit status 0, and nothing stays."""
    running = Daemon(runtime_dir, *PARTITIONS)
    try:
        instance = running.wait_ready().objects()[0].split("-")[1]
        while running.process.poll() is None:
            running.process.send_signal(number)
        assert running.process.returncode == 0, running.text()
        assert objects_of(instance) == []
        assert os.listdir(runtime_dir) == []
    finally:
        running.close()


def test_a_signal_during_the_start_is_an_orderly_stop(runtime_dir: Path) -> None:
    """From the daemon's first file on SIGTERM ends it in order: exit status 0, and nothing stays."""
    for wanted in (paths.LOCK_FILE, paths.INSTANCE_FILE, paths.GUEST_SOCKET):
        running = Daemon(runtime_dir, *PARTITIONS)
        try:
            while not (runtime_dir / wanted).exists():
                assert running.process.poll() is None, running.text()
            running.process.terminate()
            assert running.process.wait(PATIENCE) == 0, (wanted, running.text())
            assert os.listdir(runtime_dir) == []
        finally:
            running.close()


class GuestProcess:
    """A storm's guest whose control half is a process of its own; `workers`: pidfds of its VPs'."""

    def __init__(self, runtime_dir: Path, vps: int) -> None:
        command = [sys.executable, "-m", "tests.live.storm_guest", str(runtime_dir), "a", str(vps)]
        self.control = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.control.stdout is not None
        self.workers = [os.pidfd_open(int(pid)) for pid in self.control.stdout.readline().split()]
        assert len(self.workers) == vps

    def kill_control(self) -> None:
        self.control.kill()
        self.control.wait()

    def workers_end(self) -> bool:
        """Whether every worker is gone, after some patience."""
        poll = select.poll()
        for pidfd in self.workers:
            poll.register(pidfd, select.POLLIN)
        while self.workers and (ended := poll.poll(PATIENCE * 1000)):
            for pidfd, _ in ended:
                poll.unregister(pidfd)
                self.workers.remove(pidfd)
                os.close(pidfd)
        return not self.workers

    def close(self) -> None:
        self.kill_control()
        assert self.control.stdout is not None
        self.control.stdout.close()
        for pidfd in self.workers:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)


@contextmanager
def storm_of_processes(runtime_dir: Path) -> Iterator[tuple[GuestProcess, list[HostProcess]]]:
    """A storm in partition a of which no part runs in this process."""
    with hosts(runtime_dir, "a", [16, 16]) as running:
        guest = GuestProcess(runtime_dir, 2)
        try:
            for host in running:
                host.tell("start")
                eventually(lambda host=host: reported(host, "signals") > 1000, "it blows")  # type: ignore[misc]
            yield guest, running
        finally:
            guest.close()


def reported(host: HostProcess, key: str) -> int:
    """A counter of the host's latest report."""
    host.read()
    counted: int = host.latest.get(key, 0)
    return counted


def attach_when_admitted(runtime_dir: Path) -> Guest:
    """A new guest of partition a, as soon as the daemon has recovered from the one before."""

    def attached() -> Guest | None:
        try:
            return Guest.attach("a", runtime_dir=runtime_dir)
        except RefusedError as error:
            if error.code not in (Code.RECOVERING, Code.CONTROL_TAKEN):
                raise
            return None

    guest = eventually(attached, "the next guest is admitted")
    assert isinstance(guest, Guest)
    return guest


def test_a_guest_killed_in_a_storm_makes_room_for_the_next(runtime_dir: Path) -> None:
    """kill -9 of the control: workers leave, hosts see the close, a new guest is served (case 176)."""
    with daemon(runtime_dir, "--partition", "a:2"), storm_of_processes(runtime_dir) as (first, devices):
        first.kill_control()
        assert first.workers_end()
        for host in devices:
            eventually(lambda host=host: reported(host, "open") == 0, "the host sees the close")  # type: ignore[misc]

        with attach_when_admitted(runtime_dir) as second:
            second.register(StormDriver())
            second.start(2, "process")
            assert second.wait_ready(PATIENCE)
            scene = Storm(second, devices, [channel for channel in second.channels if channel.is_open])
            try:
                assert len(scene.channels) == 32
                let_pass(scene, 2000)
                judge(scene)
            finally:
                scene.leave()


def test_one_start_after_the_death_of_everything_leaves_nothing(runtime_dir: Path) -> None:
    """kill -9 of daemon, hosts, guest, workers in a storm: the next daemon has an empty partition, and after
    its stop nothing is left (case 178).
    """
    killed = Daemon(runtime_dir, "--partition", "a:2")
    try:
        killed.wait_ready()
        with storm_of_processes(runtime_dir) as (guest, devices):
            instance = killed.objects()[0].split("-")[1]
            killed.process.kill()
            guest.control.kill()
            for pidfd in guest.workers:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            for host in devices:
                host.process.kill()
            killed.process.wait(PATIENCE)
            guest.kill_control()
            assert guest.workers_end()
        assert len(objects_of(instance)) > 8
        with daemon(runtime_dir) as second:
            # The partition goes on, and nobody of before is in it.
            view = second.status("a")
            assert (view["guest"], view["hosts"], view["channels"]) == (None, [], 0)
            assert second.stop() == 0
        assert objects_of(instance) == []
        assert os.listdir(runtime_dir) == []
    finally:
        killed.close()
