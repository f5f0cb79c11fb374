"""A peer is known by its credentials and dead when its process is gone, not before."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmbusd.server import peer
from vmbusd.server.peer import Peer


@contextlib.contextmanager
def child() -> Iterator[tuple[int, socket.socket]]:
    """A process that holds one end of a connection it made itself, and our end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"\0vmbusd-test-{os.getpid()}")
        listener.listen()
        pid = os.fork()
        if pid == 0:
            client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            client.connect(listener.getsockname())
            signal.pause()
            os._exit(1)
        ours, _ = listener.accept()
    try:
        with ours:
            yield pid, ours
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.fixture(params=["socket", "pid"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernel's pidfd of the socket, and as on a kernel that has none."""
    if request.param == "pid":
        # No such option on any kernel.
        monkeypatch.setattr(peer, "_SO_PEERPIDFD", 9999)


def test_it_is_who_connected(way: None) -> None:
    """Pid, user and the time it was started, which with the pid names it for ever."""
    with child() as (pid, sock):
        made = Peer(sock)
        fields = Path(f"/proc/{pid}/stat").read_text().split()

        assert (made.pid, made.uid, made.gid) == (pid, os.getuid(), os.getgid())
        assert made.start_time == int(fields[21])
        made.close()


def test_only_a_gone_process_is_dead(way: None) -> None:
    """Stopped is alive; killed is dead, seen by a look and by the loop, once."""
    loop = asyncio.new_event_loop()
    deaths: list[int] = []
    with child() as (pid, sock):
        made = Peer(sock)
        made.watch(loop, lambda: deaths.append(pid))
        os.kill(pid, signal.SIGSTOP)
        sock.close()
        loop.run_until_complete(asyncio.sleep(0.02))
        assert not made.is_dead()
        assert deaths == []

        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert made.is_dead()
        loop.run_until_complete(asyncio.sleep(0.02))

    assert deaths == [pid]
    made.close()
    made.close()
    loop.close()


def test_a_closed_watch_is_silent() -> None:
    """Nobody is told after close."""
    loop = asyncio.new_event_loop()
    deaths: list[int] = []
    with child() as (pid, sock):
        made = Peer(sock)
        made.watch(loop, lambda: deaths.append(pid))
        made.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        loop.run_until_complete(asyncio.sleep(0.02))

    assert deaths == []
    loop.close()
