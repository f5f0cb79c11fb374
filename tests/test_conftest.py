"""The rule that a test leaves nothing behind notices every kind of thing, and removes it."""

import fcntl
import functools
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests import leftovers

# Nothing here ends by itself, but for one thread that needs a fifth of this.
remove_leftovers = functools.partial(leftovers.remove_leftovers, settle=0.5)
SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.mark.parametrize("prefix", ["vmbusd-", "sem.vmbusd-"])
def test_an_object_is_found_and_removed(prefix: str) -> None:
    """Objects and semaphores of a set that nobody holds alive are the test's own."""
    before = leftovers.snapshot()
    path = leftovers.SHM / f"{prefix}0123456789ab-leak-table"
    path.touch(mode=0o600)

    assert remove_leftovers(before) == [f"object {path}"]
    assert not path.exists()


@pytest.mark.parametrize("byte", [0, 1])
def test_a_set_that_is_held_alive_is_left_alone(byte: int) -> None:
    """A lock of a daemon (byte 0) or of a peer (byte 1) on the table keeps the whole set."""
    table = leftovers.SHM / "vmbusd-ba9876543210-held-table"
    before = leftovers.snapshot()
    try:
        with open(table, "w+b") as file:
            kind = fcntl.F_RDLCK if byte else fcntl.F_WRLCK
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, leftovers.FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))

            assert leftovers.held_alive("sem.vmbusd-ba9876543210-held-vp0")
            assert not leftovers.held_alive("vmbusd-000000000000-held-ram")
        assert remove_leftovers(before) == [f"object {table}"]
    finally:
        table.unlink(missing_ok=True)


def test_a_child_is_found_and_ended() -> None:
    """A process that runs on is named by its command line, killed and waited for."""
    before = leftovers.snapshot()
    child = subprocess.Popen(SLEEPER)

    (found,) = remove_leftovers(before)

    assert f"process {child.pid}: {sys.executable} -c import time" in found
    assert not Path("/proc", str(child.pid)).exists()
    child.wait()


def test_an_orphan_is_found_and_ended() -> None:
    """A grandchild whose parent is gone still carries the session's mark."""
    before = leftovers.snapshot()
    start = f"from subprocess import *; print(Popen({SLEEPER!r}, stdout=DEVNULL, stderr=DEVNULL).pid)"
    pid = int(subprocess.run([sys.executable, "-c", start], capture_output=True, check=True).stdout)

    (found,) = remove_leftovers(before)

    assert found.startswith(f"process {pid}: ")
    assert not leftovers.runs(pid)


def test_a_child_that_was_not_waited_for_is_found() -> None:
    """A zombie is a leftover too."""
    before = leftovers.snapshot()
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    assert remove_leftovers(before) == [f"process {pid}: ended, but nobody waited for it"]


def test_a_descriptor_is_found_and_closed() -> None:
    """An open socket is named by number and target, and closed."""
    before = leftovers.snapshot()
    number = socket.socket().detach()

    (found,) = remove_leftovers(before)

    assert found.startswith(f"descriptor {number}: socket:")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_a_thread_is_found() -> None:
    """A thread cannot be ended from outside, but it is named."""
    stop = threading.Event()
    before = leftovers.snapshot()
    thread = threading.Thread(target=stop.wait, name="straggler")
    thread.start()
    try:
        assert remove_leftovers(before) == ["thread straggler"]
    finally:
        stop.set()
        thread.join()


def test_what_ends_soon_is_no_leftover() -> None:
    """A thread and its descriptors get a moment to end by themselves."""
    before = leftovers.snapshot()
    read, write = os.pipe()

    def end() -> None:
        time.sleep(0.1)
        os.close(read)
        os.close(write)

    threading.Thread(target=end).start()

    assert leftovers.remove_leftovers(before) == []


def test_a_runtime_directory_is_short_and_empty(runtime_dir: Path) -> None:
    """There is room for a socket's name below it."""
    assert len(os.fsencode(runtime_dir)) < 80
    assert os.listdir(runtime_dir) == []
    assert runtime_dir.stat().st_mode & 0o777 == 0o700
