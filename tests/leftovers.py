"""What a test may leave behind on the machine: nothing. Finds it, removes it, and says what it was.

Directories for sockets and logs are made here, under names by which they are found when their session is
dead.

A test owns what appeared while it ran: shared-memory objects of sets nobody holds alive, processes, threads
and descriptors. Other daemons of the same machine go on meanwhile and are left alone: a set whose table is
locked belongs to a living daemon or peer, and a process counts only if it is our child or carries our mark.
"""

import contextlib
import fcntl
import gc
import os
import shutil
import signal
import struct
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SHM = Path("/dev/shm")
PREFIXES = ("vmbusd-", "sem.vmbusd-")
# Every process started by a test inherits this variable, also one that was orphaned since.
MARK = "VMBUSD_TEST_SESSION"
# Sockets' names are short, so that their directories cannot lie where pytest has its own.
TEMPORARY = Path("/tmp")
# Processes told to end, and descriptors in the hands of a thread that ends, get this long: a child may only
# just have begun to start when its parent ends, and the machine may halt it for a second or two.
SETTLE = 5.0
# struct flock: type, whence, start, length, pid.
FLOCK = struct.Struct("hhqqi")


@dataclass(frozen=True)
class Snapshot:
    """What was there at one moment."""

    objects: frozenset[str]
    processes: frozenset[int]
    threads: frozenset[threading.Thread]
    descriptors: frozenset[tuple[int, str]]


def snapshot() -> Snapshot:
    return Snapshot(_objects(), _processes(), frozenset(threading.enumerate()), _descriptors())


def remove_leftovers(before: Snapshot, settle: float = SETTLE) -> list[str]:
    """Removes what is there and was not before; returns a line for each. Slow only if there is something."""
    deadline = time.monotonic() + settle
    stayed = _objects() - before.objects
    while _differs(before, now := snapshot()) and time.monotonic() < deadline:
        # What comes and goes meanwhile belongs to others: nobody holds a set in the moments of its making and
        # of its removal.
        stayed &= _objects()
        # What only a reference cycle still holds is no leftover.
        gc.collect()
        time.sleep(0.02)
    found = []
    # Processes first: what they keep alive falls with them.
    for pid in sorted(now.processes - before.processes):
        found.append(f"process {pid}: {_command_line(pid) or 'ended, but nobody waited for it'}")
        _end_process(pid)
    found += [f"thread {thread.name}" for thread in now.threads - before.threads]
    for descriptor, target in sorted(now.descriptors - before.descriptors):
        found.append(f"descriptor {descriptor}: {target}")
        with contextlib.suppress(OSError):
            os.close(descriptor)
    for name in sorted(stayed & _objects()):
        if not held_alive(name):
            found.append(f"object /dev/shm/{name}")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(SHM / name)
    return found


def make_directory() -> Path:
    """A directory of this session with a path short enough for a socket's name."""
    return Path(tempfile.mkdtemp(prefix=_prefix(), dir=TEMPORARY))


def make_log() -> tuple[int, Path]:
    """A new file of this session, open, for what a daemon has to say."""
    descriptor, name = tempfile.mkstemp(prefix=_prefix(), suffix=".log", dir=TEMPORARY)
    return descriptor, Path(name)


def remove_files() -> None:
    """Remove what `make_directory` and `make_log` of this session have made and nobody removed."""
    for path in TEMPORARY.glob(f"{_prefix()}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _prefix() -> str:
    return f"vmb-{os.environ.get(MARK, '')[:8]}-"


def held_alive(name: str) -> bool:
    """Whether somebody holds a lock on the table of the set that this object belongs to.

    An object that a test made by itself has no table; it bears the process id of its test session. Byte 0 of
    a table is the daemon's and byte 1 its peers'; both locks belong to open file descriptions, so a
    description of our own sees them, whoever the holder is.
    """
    instance = name.removeprefix("sem.").split("-")[1]
    if (session := instance.removeprefix("test")).isdigit() and instance != session:
        return int(session) != os.getpid() and runs(int(session))
    for table in SHM.glob(f"vmbusd-{instance}-*-table"):
        with contextlib.suppress(OSError), open(table, "rb") as file:
            question = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 2, 0)
            answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, question)
            if FLOCK.unpack(answer)[0] != fcntl.F_UNLCK:
                return True
    return False


def _differs(before: Snapshot, now: Snapshot) -> bool:
    return not (
        now.processes <= before.processes
        and now.threads <= before.threads
        and now.descriptors <= before.descriptors
        and all(held_alive(name) for name in now.objects - before.objects)
    )


def _objects() -> frozenset[str]:
    """Names of this user's objects: another user's are another's business."""
    found = set()
    for name in os.listdir(SHM):
        with contextlib.suppress(FileNotFoundError):
            if name.startswith(PREFIXES) and (SHM / name).stat().st_uid == os.geteuid():
                found.add(name)
    return frozenset(found)


def _descriptors() -> frozenset[tuple[int, str]]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        # The descriptor of the listing itself is gone by now.
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"/proc/self/fd/{name}")
            # The interpreter opens this one once and keeps it; what the first three are is for pytest to say.
            if target != "/dev/urandom" and int(name) > 2:
                found.add((int(name), target))
    return frozenset(found)


def _processes() -> frozenset[int]:
    """Children of ours, unreaped ones too, and everything that inherited our mark."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        # Processes end while we look, and those of others may not be looked at.
        with contextlib.suppress(OSError):
            status = Path("/proc", name, "stat").read_text(errors="replace")
            parent = int(status[status.rindex(")") + 2 :].split()[1])
            if parent == os.getpid() or mark in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                found.add(int(name))
    return frozenset(found)


def _command_line(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _end_process(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        # An orphan: all we can do is to wait until it ended. Not every container's first process reaps.
        deadline = time.monotonic() + SETTLE
        while runs(pid) and time.monotonic() < deadline:
            time.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended, reaped or not."""
    try:
        status = Path("/proc", str(pid), "stat").read_text(errors="replace")
    except OSError:
        return False
    return status[status.rindex(")") + 2] not in "ZX"
