"""A real daemon in a process of its own, for live tests: started, awaited, asked, stopped or killed.

Ready means that the admin socket, which the daemon binds last, accepts a connection: nothing here sleeps
instead of waiting for a condition.
"""

import contextlib
import mmap
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests import leftovers
from vmbusd.abi import paths
from vmbusd.abi.errors import RefusedError, VmbusError
from vmbusd.abi.native import VpWork
from vmbusd.ctl.client import AdminClient
from vmbusd.server import requests

PATIENCE = 20.0
ROOT = Path(__file__).resolve().parent.parent.parent
# Mounts of its own; whoever is not root needs users of its own for that.
NAMESPACE = ["unshare", "-m", *(["-Ur"] if os.geteuid() else []), "sh", "-c"]


def eventually(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """The first true value of `condition`, looked at again and again; fails naming `what` in the end."""
    deadline = time.monotonic() + patience
    while True:
        # The clock first: whoever is halted between the two looks once more.
        late = time.monotonic() > deadline
        if value := condition():
            return value
        if late:
            raise AssertionError(f"within {patience:g} s: {what}")
        time.sleep(0.005)


GOES_ON = "it goes on"
"""In the error of an order that takes longer than the daemon waits."""
ORDER_PATIENCE = 60.0


def order(running: "Daemon", request: requests.Request) -> dict[str, Any]:
    """The result of an order once it is done, also when the machine takes longer than the daemon waits."""
    deadline = time.monotonic() + ORDER_PATIENCE
    while True:
        try:
            return running.ask(request)
        except RefusedError as error:
            if GOES_ON not in str(error) or time.monotonic() > deadline:
                raise


class Daemon:
    """A running `vmbusd run`. Its log is in `log`, a file outside the runtime directory."""

    def __init__(
        self, runtime_dir: Path, *arguments: str, descriptors: int | None = None, shm: str | None = None
    ) -> None:
        """`descriptors`: its hard limit of open files; `shm`: the size of a /dev/shm of its own."""
        self.runtime_dir = runtime_dir
        descriptor, self.log = leftovers.make_log()
        command = [sys.executable, "-m", "vmbusd", "run", "--runtime-dir", str(runtime_dir), *arguments]
        if descriptors is not None:
            command = ["sh", "-c", f'ulimit -n {descriptors} && exec "$0" "$@"', *command]
        if shm is not None:
            command = [*NAMESPACE, f'mount -t tmpfs -o size={shm} shm /dev/shm && exec "$0" "$@"', *command]
        with os.fdopen(descriptor, "wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_ready(self) -> "Daemon":
        """Wait until it accepts connections; fails with its log when it ends instead."""
        path = str(self.runtime_dir / paths.ADMIN_SOCKET)

        def connects() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"vmbusd ended with {self.process.returncode}: {self.text()}")
            with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
                probe.connect(path)
                return True
            return False

        eventually(connects, "vmbusd accepts connections")
        return self

    def text(self) -> str:
        """What it has logged so far."""
        return self.log.read_text()

    def ask(self, request: requests.Request) -> dict[str, Any]:
        """The result of one admin request, over a connection of its own."""
        with AdminClient(self.runtime_dir) as client:
            # Some answers come only shortly before the client would give up.
            client._sock.settimeout(ORDER_PATIENCE)
            return client.ask(request)

    def status(self, partition: str) -> dict[str, Any]:
        """The status of one partition."""
        views: list[dict[str, Any]] = self.ask(requests.Status())["partitions"]
        return next(view for view in views if view["name"] == partition)

    def objects(self) -> list[str]:
        """The names of its objects in /dev/shm."""
        instance = (self.runtime_dir / paths.INSTANCE_FILE).read_text().strip()
        return objects_of(instance)

    def processor_seconds(self) -> float:
        """Processor time that it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> int:
        """Stop it in order; returns its exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def close(self) -> None:
        """Stop it if it still runs; remove what a killed one left in its directory, and the log."""
        killed = self.process.poll() is not None and self.process.returncode != 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
                killed = True
        if killed:
            for path in self.runtime_dir.iterdir():
                path.unlink()
        self.log.unlink()


@contextlib.contextmanager
def daemon(runtime_dir: Path, *arguments: str) -> Iterator[Daemon]:
    """A daemon that is ready, for the time of the block."""
    running = Daemon(runtime_dir, *arguments)
    try:
        yield running.wait_ready()
    finally:
        running.close()


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """A runtime directory that other users may pass through."""
    path = leftovers.make_directory()
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def refused_start(runtime_dir: Path, *arguments: str) -> str:
    """The error of a daemon that must not start; fails if it does not end."""
    command = [sys.executable, "-m", "vmbusd", "run", "--runtime-dir", str(runtime_dir), *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    return done.stderr


def seqpacket(path: Path) -> socket.socket:
    """A raw connection, to say what no library would."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(str(path))
    sock.settimeout(PATIENCE)
    return sock


def as_user(uid: int | None, work: Callable[[], str]) -> str:
    """What `work` returns in a child process that has become user `uid` for good (root needed), if given.

    Forked and never executing anything: an unprivileged user may not even reach the interpreter's files.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = "the child raised"
        try:
            if uid is not None:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            text = work()
        except (OSError, ValueError, VmbusError) as error:
            text = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, text.encode())
            os._exit(0)
    os.close(writer)
    try:
        if not select.select([reader], [], [], PATIENCE)[0]:
            os.kill(pid, signal.SIGKILL)
        with os.fdopen(reader, "rb") as result:
            return result.read().decode()
    finally:
        os.waitpid(pid, 0)


def children(pid: int) -> dict[int, list[str]]:
    """The living children of a process by their command lines; none once it is gone."""
    found = {}
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                found[int(child)] = Path(f"/proc/{child}/cmdline").read_text().split("\0")
    return found


def daemon_of(pid: int) -> tuple[int, Path] | None:
    """The daemon that a demo or lab runs for itself, and its runtime directory; None while there is none."""
    for child, words in children(pid).items():
        if "--exit-with-parent" in words:
            return child, Path(words[words.index("--runtime-dir") + 1])
    return None


def objects_of(instance: str) -> list[str]:
    """The objects of a daemon in /dev/shm, whoever else has some there."""
    return sorted(name for name in os.listdir("/dev/shm") if f"vmbusd-{instance}-" in name)


def has_called(instance: str, partition: str, vps: int) -> bool:
    """Whether a worker of this partition has called a driver."""
    with (
        open(f"/dev/shm/vmbusd-{instance}-{partition}-vpwork", "rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory,
    ):
        work = VpWork(memory, vps)
        called = any(work.statistics(vp)["callbacks"] for vp in range(vps))
        del work
    return called
