"""The scenes of the recovery benchmark, and the processes in them: `python -m benchmarks._recovery KIND ...`.

host RUNTIME_DIR PARTITION     offers a channel and signals it a thousand times a second while it is open
flood RUNTIME_DIR PARTITION    a guest that asks without a pause and takes every answer
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks import _control
from benchmarks._control import ROOT
from benchmarks._peer import LIMIT, BenchError
from guest_client import Channel, Driver, Guest
from host_client import Device, Host
from host_client.channel import Channel as HostChannel
from vmbusd.abi import device_link, link, messages, paths, wire
from vmbusd.bus import saved
from vmbusd.bus.bus import Bus
from vmbusd.ctl.client import AdminClient
from vmbusd.demo.processes import hosts
from vmbusd.demo.storm import storm
from vmbusd.server import inputs, journal, log, requests
from vmbusd.server.journal import Journal
from vmbusd.server.journal_file import Identity
from vmbusd.server.keeper import Keeper

PARTITION = "bench"
INTERFACE = UUID("c1d1f7a2-6e35-4a6b-8a0e-5a8d7c2b9e01")
PERIOD = 0.001
WINDOW = 2.0
KILL_AT = 0.5
VPS = 2
ASKS = 2000
IMPORTS = "import os, vmbusd.__main__, vmbusd.server.config, vmbusd.server.process; os._exit(0)"


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look every millisecond. Raises BenchError in the end."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {LIMIT} s for {what}")
        time.sleep(0.001)


class Gap(Driver):
    """Keeps the time of its last callback and the longest time between two, in the channel's state."""

    interface = INTERFACE

    def on_interrupt(self, channel: Channel) -> None:
        now = time.monotonic_ns()
        state = channel.state.cast("Q")
        if state[0]:
            state[1] = max(state[1], now - state[0])
        state[0] = now


class Ticker(Device):
    """Signals once per PERIOD while it is open."""

    interface = INTERFACE

    def __init__(self) -> None:
        self.channel: HostChannel | None = None

    def on_open(self, channel: HostChannel) -> None:
        self.channel = channel

    def on_close(self, _channel: HostChannel) -> None:
        self.channel = None

    def tick(self) -> None:
        """For ever."""
        due = time.monotonic()
        while True:
            due += PERIOD
            if (channel := self.channel) is not None:
                channel.signal()
            time.sleep(max(0.0, due - time.monotonic()))


class Daemon:
    """A real daemon that can be killed and started again."""

    def __init__(self, directory: Path, *partitions: str) -> None:
        self.directory = directory
        words = [word for name in partitions for word in ("--partition", name)]
        self._command = [sys.executable, "-P", "-m", "vmbusd", "run", "--runtime-dir", str(directory), *words]
        self.start()
        self.wait()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def wait(self) -> None:
        """Until it serves."""
        path = str(self.directory / paths.ADMIN_SOCKET)

        def serves() -> bool:
            with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
                probe.connect(path)
                return True
            return False

        wait_until(serves, "the daemon to serve")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def status(self) -> dict[str, Any]:
        with AdminClient(self.directory) as client:
            (view,) = client.ask(requests.Status())["partitions"]
        return dict(view)

    def all_are_back(self) -> bool:
        """Whether every link has a socket."""
        view = self.status()
        return not any(each is None or each["away"] for each in (view["guest"], *view["hosts"]))

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(LIMIT)


@contextlib.contextmanager
def running(*partitions: str) -> Iterator[Daemon]:
    """A daemon in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="vmbb-", dir="/tmp") as folder:
        made = Daemon(Path(folder) / "run", *partitions)
        try:
            yield made
        finally:
            made.close()


@contextlib.contextmanager
def child(*words: str) -> Iterator[subprocess.Popen[str]]:
    """One of the processes above, ready; killed at the end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", "benchmarks._recovery", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise BenchError(f"{words[0]}: the process did not start")
            yield process
        finally:
            process.kill()


def imported() -> float:
    """ms from exec to the end of the imports of an interpreter that imports what the daemon does."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, check=True, timeout=LIMIT)
    return (time.perf_counter() - begun) * 1000


@contextlib.contextmanager
def open_channels(count: int) -> Iterator[Daemon]:
    """A daemon with so many open channels."""
    with (
        running(f"{PARTITION}:{VPS}") as daemon,
        storm(daemon.directory, PARTITION, vps=VPS, channels=count, host_processes=1),
    ):
        yield daemon


def restarted(daemon: Daemon) -> float:
    """ms from exec to serving of the daemon that goes on after a kill -9."""
    wait_until(daemon.all_are_back, "every link to be back")
    daemon.kill()
    begun = time.perf_counter()
    daemon.start()
    daemon.wait()
    return (time.perf_counter() - begun) * 1000


class Ticking:
    """A channel that is signalled each millisecond."""

    def __init__(self, daemon: Daemon, guest: Guest) -> None:
        self.daemon = daemon
        self.guest = guest
        (self.channel,) = guest.channels

    def _window(self, strike: Callable[[], object]) -> float:
        """ms of the longest gap of a window in which that happens."""
        wait_until(self.daemon.all_are_back, "every link to be back")
        state = self.channel.state.cast("Q")
        state[1] = 0
        begun = time.monotonic()
        time.sleep(KILL_AT)
        strike()
        time.sleep(max(0.0, begun + WINDOW - time.monotonic()))
        return state[1] / 1e6

    def quiet(self) -> float:
        """Nothing happens."""
        return self._window(lambda: None)

    def killed(self) -> float:
        """The daemon is killed and started again."""

        def strike() -> None:
            self.daemon.kill()
            self.daemon.start()

        gap = self._window(strike)
        self.daemon.wait()
        return gap

    def orphaned(self) -> float:
        """The worker of the channel's VP is killed: its bits are delivered by another."""
        pid = self.guest.statistics()["workers"]["pids"][self.channel.target_vp]
        before = self.guest.statistics()["workers"]["started"]
        gap = self._window(lambda: os.kill(pid, signal.SIGKILL))
        wait_until(lambda: self.guest.statistics()["workers"]["started"] > before, "a new worker")
        return gap


@contextlib.contextmanager
def ticking() -> Iterator[Ticking]:
    """The whole scene: daemon, host process, guest with worker processes."""
    os.environ["PYTHONPATH"] = str(ROOT)
    with (
        running(f"{PARTITION}:{VPS}") as daemon,
        child("host", str(daemon.directory), PARTITION),
        Guest.attach(PARTITION, runtime_dir=daemon.directory) as guest,
    ):
        guest.register(Gap())
        guest.start(VPS, "process")
        if not guest.wait_ready(LIMIT):
            raise BenchError("the channel was not opened")
        yield Ticking(daemon, guest)


class Journalled:
    """A journal on disk whose snapshots hold a bus with so many channels."""

    def __init__(self, folder: Path, channels: int) -> None:
        bus = Bus(vps=VPS, ram_pages=1 << 14)
        for number in range(1, channels + 1):
            bus.host_message(0, device_link.Offer(number, UUID(int=1), UUID(int=number)))
        self._directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        who = Identity(1, "", "0" * 12, f"p{channels}", VPS, 1 << 26, b"")
        self._keeper = Keeper(Journal(self._directory, who), lambda: saved.encode(bus.save()), log.get())
        self._keeper.begin()

    def cost(self) -> float:
        """ns of one channel message, the share of a snapshot included."""
        message = wire.encode(messages.GpadlTeardown(1, 1))
        packet = inputs.GuestPacket(link.encode_message(message, where=1))
        keep, settle = self._keeper.keep, self._keeper.settle
        begun = time.perf_counter_ns()
        for _ in range(journal.RECORDS):
            keep(packet)
            settle()
        return (time.perf_counter_ns() - begun) / journal.RECORDS

    def close(self) -> None:
        self._keeper.remove()
        os.close(self._directory)


def asked(guest: _control.Guest, asks: int) -> float:
    """us that all but one in a hundred requests of a guest take at most."""
    relid = guest.relids[0]
    header = _control.request(relid)
    times = []
    for _ in range(asks):
        begun = time.perf_counter_ns()
        guest.link.send(header)
        guest.hear(messages.GpadlCreated, 1)
        times.append(time.perf_counter_ns() - begun)
        guest.say(messages.GpadlTeardown(relid, 0))
        guest.hear(messages.GpadlTorndown, 1)
    return sorted(times)[len(times) * 99 // 100] / 1000


@contextlib.contextmanager
def polite() -> Iterator[tuple[Daemon, _control.Guest]]:
    """A guest that asks one thing at a time, in a daemon with room for another."""
    with (
        running("polite", "flood") as daemon,
        hosts(daemon.directory, "polite", [1]),
        hosts(daemon.directory, "flood", [1]),
    ):
        guest = _control.Guest(daemon.directory, "polite", 1)
        with guest.link:
            yield daemon, guest


def _host(directory: str, partition: str) -> None:
    with Host.connect(partition, runtime_dir=directory) as host, host.serving():
        ticker = Ticker()
        host.offer(ticker)
        print("ready", flush=True)
        ticker.tick()


def _flood(directory: str, partition: str) -> None:
    guest = _control.Guest(Path(directory), partition, 1)
    relid = guest.relids[0]
    teardown = link.encode_message(
        wire.encode(messages.GpadlTeardown(relid, 0)), where=link.MESSAGE_CONNECTION_OLD
    )
    header = _control.request(relid)
    print("ready", flush=True)
    while True:
        guest.link.send(header)
        guest.link.send(teardown)
        while guest.link.receive_nowait() is not None:
            pass


if __name__ == "__main__":
    {"host": _host, "flood": _flood}[sys.argv[1]](*sys.argv[2:])
