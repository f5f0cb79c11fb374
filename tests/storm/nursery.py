"""Forks the storm's processes, ready imported, and ends everything when the runner is gone.

A kill each second is a start each second, and most of a start is importing: here it is done once, by a
process that holds no link. Its runner asks over a SEQPACKET socket, with the child's own socket attached.
Whatever the storm starts inherits its mark in the environment; when the runner vanishes, everything that
bears the mark is killed, stopped processes and orphans too, and its objects and its directory are removed.
"""

import contextlib
import gc
import importlib
import os
import select
import shutil
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.storm.lines import Lines

MARK: Final = "VMBUSD_STORM"
KINDS: Final = ("tests.storm.host", "tests.storm.guest", "tests.storm.victim")
REQUEST_LIMIT: Final = 64 << 10
_SHM: Final = Path("/dev/shm")


def marked(mark: str) -> list[int]:
    """Living processes with this mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for name in os.listdir("/proc"):
        # They end while we look, and those of others may not be looked at; a zombie has no environment.
        with contextlib.suppress(OSError):
            if name.isdigit() and wanted in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                found.append(int(name))
    return found


def objects(mark: str) -> list[str]:
    """Names in /dev/shm of the storm's partitions, whatever daemon made them."""
    return sorted(name for name in os.listdir(_SHM) if "vmbusd-" in name and f"-{mark}" in name)


def clear(mark: str, directory: Path) -> None:
    """End every process with the mark but this one, and remove what they leave."""
    while others := [pid for pid in marked(mark) if pid != os.getpid()]:
        for pid in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    for name in objects(mark):
        (_SHM / name).unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


def _child(kind: str, spec: dict[str, Any], sock: socket.socket) -> int:
    try:
        status: int = importlib.import_module(kind).main(spec, Lines(sock))
    except BaseException as error:  # noqa: BLE001
        # Whatever it is ends the child, and is told.
        text = f"{type(error).__name__}: {error}"
        print(f"{kind} {os.getpid()}: {text}", file=sys.stderr)
        traceback.print_exc()
        sys.stderr.flush()
        Lines(sock).tell(event="failed", text=text)
        return 1
    sys.stderr.flush()
    return status


class Nursery:
    """The process's state: children by pidfd."""

    def __init__(self, runner: socket.socket, mark: str, directory: Path) -> None:
        self._runner = runner
        self._mark = mark
        self._directory = directory
        self._children: dict[int, int] = {}

    def run(self) -> None:
        """Serve until the runner is gone or has said that it needs us no more."""
        for kind in KINDS:
            importlib.import_module(kind)
        gc.collect()
        gc.freeze()
        try:
            self._runner.send(b'{"event":"ready"}')
            self._serve_all()
        finally:
            clear(self._mark, self._directory)

    def _serve_all(self) -> None:
        poll = select.poll()
        poll.register(self._runner, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd != self._runner.fileno():
                    poll.unregister(fd)
                    self._reap(fd)
                elif (pidfd := self._serve()) is None:
                    return
                else:
                    poll.register(pidfd, select.POLLIN)

    def _serve(self) -> int | None:
        try:
            data, fds, _, _ = socket.recv_fds(self._runner, REQUEST_LIMIT, 1)
        except ConnectionResetError:
            # It died with something of ours unread.
            return None
        if not data:
            return None
        request = msgspec.json.decode(data)
        if not fds:
            return None
        pid = os.fork()
        if pid == 0:
            self._runner.close()
            for pidfd in self._children:
                os.close(pidfd)
            os._exit(_child(request["kind"], request["spec"], socket.socket(fileno=fds[0])))
        os.close(fds[0])
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = pid
        self._runner.send(msgspec.json.encode({"event": "born", "pid": pid}))
        return pidfd

    def _reap(self, pidfd: int) -> None:
        pid = self._children.pop(pidfd)
        _, status = os.waitpid(pid, 0)
        os.close(pidfd)
        with contextlib.suppress(OSError):
            self._runner.send(
                msgspec.json.encode(
                    {"event": "ended", "pid": pid, "status": os.waitstatus_to_exitcode(status)}
                )
            )


def main() -> None:
    fd, mark, directory = sys.argv[1:]
    Nursery(socket.socket(fileno=int(fd)), mark, Path(directory)).run()


if __name__ == "__main__":
    main()
