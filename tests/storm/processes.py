"""The storm's processes as its runner sees them: started, watched by pidfd, killed, stopped, continued."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.storm.nursery import MARK

ROOT: Final = Path(__file__).resolve().parents[2]
EVENT_LIMIT: Final = 4096
"""Bytes of what the nursery tells."""
LINE_LIMIT: Final = 4 << 20
"""Bytes of a child's longest line: the report of all its channels."""


class Process:
    """One process, by its pidfd: a pid that is another's by now is never hit.

    Attributes: `kind`; `pid`; `ended`, done with the moment of its end; `ready`, done when it serves;
    `wanted`, the exit status that its end is to have, None while it is not to end; `paused`, its report of
    the pause that is on.
    """

    def __init__(self, kind: str, pid: int) -> None:
        self.kind = kind
        self.pid = pid
        self.begun = time.monotonic()
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[float] = loop.create_future()
        self.ready: asyncio.Future[float] = loop.create_future()
        self.wanted: int | None = None
        self.paused: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._pidfd = os.pidfd_open(pid)
        loop.add_reader(self._pidfd, self._on_end)

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self.ended.set_result(time.monotonic())

    @property
    def lives(self) -> bool:
        """Whether nobody has seen its end yet."""
        return self._pidfd >= 0

    @property
    def is_ready(self) -> bool:
        """Whether it serves."""
        return self.lives and self.ready.done()

    def set_ready(self) -> None:
        """It serves."""
        if not self.ready.done():
            self.ready.set_result(time.monotonic())

    async def one_of(self, other: "asyncio.Future[Any]") -> None:
        """Wait for its end or for something else."""
        await asyncio.wait([self.ended, other], return_when=asyncio.FIRST_COMPLETED)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; one that has ended does not mind."""
        if self.lives:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """kill -9."""
        self.wanted = -signal.SIGKILL
        self.send(signal.SIGKILL)


class Child(Process):
    """A process with a socket to us, over which it takes orders and tells what it does."""

    def __init__(self, kind: str, pid: int, sock: socket.socket, hear: Callable[..., None]) -> None:
        super().__init__(kind, pid)
        self._sock = sock
        self._hear = hear
        self._pauses = 0
        self._line = b""
        sock.setblocking(False)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._on_lines)

    def _on_lines(self) -> None:
        try:
            data = self._sock.recv(LINE_LIMIT)
        except ConnectionResetError:
            data = b""
        if not data:
            self.close()
            return
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._hear(self, **msgspec.json.decode(line))

    def tell(self, do: str, **more: Any) -> None:
        """An order. A child that is gone does not need it; none gets so many that its socket is full."""
        if self._sock.fileno() >= 0:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._sock.sendall(msgspec.json.encode({"do": do, **more}) + b"\n")

    def pause(self) -> None:
        """Ask for a pause; `paused` is done when it has confirmed."""
        self.paused = asyncio.get_running_loop().create_future()
        self._pauses += 1
        self.tell("pause", number=self._pauses)

    def confirmed(self, report: dict[str, Any]) -> None:
        """It says that a pause is on: the last one that was asked for, or one before."""
        if report["number"] == self._pauses and not self.paused.done():
            self.paused.set_result(report)

    def close(self) -> None:
        """Let go of the socket."""
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()


class Nursery:
    """Our end of the process that forks. `ended(pid, status)` tells of a child that it has reaped."""

    def __init__(self, mark: str, directory: Path, ended: Callable[[int, int], None]) -> None:
        self._ended = ended
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, (directory / "processes.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.storm.nursery", str(theirs.fileno()), mark, str(directory)],
                cwd=ROOT,
                env={**os.environ, MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        self._sock = ours
        # Until it is ready nothing else can be done anyway.
        if not ours.recv(EVENT_LIMIT):
            raise RuntimeError(f"the nursery ended: {(directory / 'processes.log').read_text()}")

    def watch(self) -> None:
        """Hear of ends from now on."""
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._on_event)

    def _on_event(self) -> None:
        try:
            data = self._sock.recv(EVENT_LIMIT, socket.MSG_DONTWAIT)
        except BlockingIOError:
            # `fork` has taken it since the loop saw it.
            return
        if not data:
            raise RuntimeError("the nursery has ended")
        self._take(msgspec.json.decode(data))

    def _take(self, event: dict[str, Any]) -> None:
        if event["event"] == "ended":
            self._ended(event["pid"], event["status"])

    def fork(self, kind: str, spec: dict[str, Any]) -> tuple[int, socket.socket]:
        """A new child and our end of its socket."""
        ours, theirs = socket.socketpair()
        with theirs:
            request = msgspec.json.encode({"kind": f"tests.storm.{kind}", "spec": spec})
            socket.send_fds(self._sock, [request], [theirs.fileno()])
        while True:
            event = msgspec.json.decode(self._sock.recv(EVENT_LIMIT))
            if event["event"] == "born":
                return event["pid"], ours
            self._take(event)

    def close(self) -> None:
        """It clears up what is left, and ends."""
        with contextlib.suppress(ValueError):
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
        self._sock.close()
        self.process.wait()
