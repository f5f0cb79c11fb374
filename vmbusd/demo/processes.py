"""The demo's own processes: a daemon in a temporary runtime directory and the hosts, gone when the demo is.

The daemon ends with its parent, hosts when their standard input ends: no process survives a demo, however it
ends. One that is killed leaves the temporary directory with the daemon's log; every other end removes it.
"""

import contextlib
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from guest_client.supervisor import same_imports
from vmbusd.abi import paths
from vmbusd.demo.cell import DemoError

START_SECONDS: Final = 30.0
"""Importing Python packages on a loaded two-core machine takes seconds, not tens of them."""
STOP_SECONDS: Final = 10.0
TERMINAL: Final = (signal.SIGINT, signal.SIGHUP)
"""What a terminal sends to all processes that it runs: Ctrl-C, and that it is gone."""


def start(module: str, *arguments: str, **more: Any) -> "subprocess.Popen[bytes]":
    """A process of ours that runs `module`, with what it inherits of SIGINT and SIGHUP blocked; `more` as of
    Popen.

    What the terminal sends does not reach it then, from its first instruction on: this process acts upon it,
    and takes the others down in order.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL)
    try:
        return subprocess.Popen(command, env=same_imports(), **more)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class HostProcess:
    """One host process: commands in, JSON reports out."""

    def __init__(
        self,
        runtime_dir: Path,
        partition: str,
        channels: int,
        packet_channels: int = 0,
        *,
        cpu: int | None = None,
    ) -> None:
        arguments = ["--runtime-dir", str(runtime_dir), "--partition", partition, "--channels", str(channels)]
        arguments += ["--packet-channels", str(packet_channels)]
        if cpu is not None:
            arguments += ["--cpu", str(cpu)]
        self.process = start("vmbusd.demo.host", *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in: IO[bytes] = self.process.stdin
        self._out: IO[bytes] = self.process.stdout
        os.set_blocking(self._out.fileno(), False)
        self._rest = b""
        self.latest: dict[str, Any] = {}
        self.event = ""

    def tell(self, command: str) -> None:
        """Send a command; what is expected next was not heard before. A host that is gone is found then."""
        self.event = ""
        with contextlib.suppress(BrokenPipeError):
            self._in.write(command.encode() + b"\n")
            self._in.flush()

    def read(self) -> None:
        """Take the reports that have come so far."""
        while chunk := self._out.read():
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self.latest = msgspec.json.decode(line)
                if self.latest["event"] != "progress":
                    self.event = self.latest["event"]

    def expect(self, event: str, seconds: float = START_SECONDS) -> None:
        """Wait for a report. Raises DemoError when the host ends or takes longer."""
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            while True:
                self.read()
                if self.event == event:
                    return
                if (status := self.process.poll()) is not None:
                    raise DemoError(f"host process {self.process.pid} ended with {status} before '{event}'")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise DemoError(f"host process {self.process.pid}: no '{event}' within {seconds:g} s")
                selector.select(min(left, 0.2))

    def end(self) -> None:
        """Quit, then kill after a grace; reaped either way."""
        self.tell("quit")
        with contextlib.suppress(BrokenPipeError):
            self._in.close()
        reap(self.process)
        self._out.close()


def reap(process: "subprocess.Popen[bytes]", seconds: float = STOP_SECONDS) -> int:
    """Wait for a process that was asked to end; kill it when it does not. Returns its status."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def wait_for_daemon(process: "subprocess.Popen[bytes]", runtime_dir: Path) -> None:
    """Until the daemon's sockets answer. Raises DemoError when it ends or takes longer than START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe,
            contextlib.suppress(FileNotFoundError, ConnectionRefusedError),
        ):
            probe.connect(str(runtime_dir / paths.ADMIN_SOCKET))
            return
        if (status := process.poll()) is not None:
            raise DemoError(f"the daemon ended with {status} before it served")
        if time.monotonic() > deadline:
            raise DemoError(f"the daemon did not serve within {START_SECONDS:g} s")
        time.sleep(0.01)


@contextmanager
def own_daemon(partition: str, vps: int) -> Iterator[Path]:
    """A daemon with one partition in a temporary runtime directory; both are gone afterwards.

    Its log is shown when it ends badly, before or during the run.
    """
    directory = Path(tempfile.mkdtemp(prefix="vmbusd-"))
    runtime_dir = directory / "run"
    with (directory / "log").open("w+b") as log, _removed(directory):
        # A process group of its own: a daemon takes its stop signals whatever it inherits. The hosts are in
        # ours, so that Ctrl-Z stops the storm.
        process = start(
            *("vmbusd", "run", "--exit-with-parent", "--runtime-dir", str(runtime_dir)),
            *("--partition", f"{partition}:{vps}"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        )
        try:
            wait_for_daemon(process, runtime_dir)
            yield runtime_dir
        finally:
            process.terminate()
            if reap(process) != 0:
                log.seek(0)
                sys.stderr.buffer.write(b"the daemon's log:\n" + log.read())


@contextmanager
def _removed(directory: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def hosts(
    runtime_dir: Path, partition: str, shares: Sequence[int], packet_channels: int = 0
) -> Iterator[list[HostProcess]]:
    """One host process per share of channels, each with all its channels offered.

    Each has `packet_channels` more, on which packets go there and back.
    """
    running: list[HostProcess] = []
    try:
        for channels in shares:
            running.append(HostProcess(runtime_dir, partition, channels, packet_channels))
        for host in running:
            host.expect("offered")
        yield running
    finally:
        for host in running:
            host.tell("quit")
        for host in running:
            host.end()
