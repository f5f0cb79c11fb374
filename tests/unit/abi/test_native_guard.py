"""The SIGBUS guard: a truncated object is told, and every other fault ends the process as ever."""

import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.abi.world import World, memory_file
from vmbusd.abi import native
from vmbusd.abi.errors import ObjectDead, UsageError

ROOT = Path(__file__).resolve().parents[3]


def run(code: str) -> subprocess.CompletedProcess[str]:
    prelude = (
        "import faulthandler, mmap, os, signal\n"
        "from vmbusd.abi import native\n"
        "def mapping(size=8192):\n"
        "    fd = os.memfd_create('x'); os.truncate(fd, size); return fd, mmap.mmap(fd, size)\n"
        "fd, guarded = mapping()\n"
    )
    return subprocess.run(
        [sys.executable, "-c", prelude + code], cwd=ROOT, capture_output=True, text=True, timeout=30
    )


def test_a_truncated_object_reads_as_zeros_and_is_dead() -> None:
    """A fault inside a guarded mapping maps a zero page, is counted, and `check` names the object."""
    faults = native.faults()
    descriptor = memory_file(8192)
    try:
        mapping = mmap.mmap(descriptor, 8192)
        mapping[:] = b"x" * 8192
        guard = native.Guard(mapping, "the table of demo")
        guard.check()

        os.truncate(descriptor, 4096)
        assert mapping[4095] == ord("x")
        guard.check()
        assert mapping[4096:] == bytes(4096)
        assert guard.dead
        assert native.faults() == faults + 1
        mapping[5000] = 7
        assert mapping[5000] == 7
        with pytest.raises(ObjectDead, match="the table of demo was truncated"):
            guard.check()

        with pytest.raises(BufferError):
            mapping.close()
        guard.release()
        guard.release()
        mapping.close()
        assert guard.dead
        with pytest.raises(ObjectDead):
            guard.check()
    finally:
        os.close(descriptor)


def test_a_guard_ends_with_its_object() -> None:
    """Thousands of guards, one after the other, never use up the places."""
    mapping = mmap.mmap(-1, 4096)
    for _ in range(20_000):
        native.Guard(mapping, "page")
    mapping.close()


def test_a_read_only_mapping_can_be_guarded() -> None:
    """The zero page has the protection of the mapping."""
    descriptor = memory_file(4096)
    try:
        mapping = mmap.mmap(descriptor, 4096, prot=mmap.PROT_READ)
        guard = native.Guard(mapping, "page")
        os.truncate(descriptor, 0)
        assert mapping[:] == bytes(4096)
        assert guard.dead
    finally:
        os.close(descriptor)


def test_a_guard_needs_a_buffer() -> None:
    """The error names the object."""
    with pytest.raises(UsageError, match="the table: int is no buffer"):
        native.Guard(3, "the table")  # type: ignore[arg-type]


def test_a_worker_ends_when_its_pages_are_truncated(world: World) -> None:
    """`run` raises ObjectDead with the name, after at most one slice."""
    descriptor = memory_file(8192)
    try:
        events = mmap.mmap(descriptor, 8192)
        guard = native.Guard(events, "-events")
        worker = native.Worker(
            0,
            table=world.table,
            events=events,
            vpwork=world.vpwork,
            blocks=world.blocks,
            doorbell=world.bells[0],
            registry=world.registry,
            guards=[guard],
        )
        os.truncate(descriptor, 0)
        with pytest.raises(ObjectDead, match="-events was truncated"):
            worker.run()
        assert not world.work.is_idle(0)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("guards", [[1], [None], ["x"]])
def test_a_worker_takes_guards_only(guards: list[native.Guard], world: World) -> None:
    """Something else is refused when the worker is made, not in the middle of its run."""
    with pytest.raises(UsageError, match="is no guard"):
        world.worker(guards=guards)


def test_another_fault_still_ends_the_process() -> None:
    """A fault outside every guarded mapping, or in one released, is what it was without us."""
    for code in (
        "guard = native.Guard(guarded, 'g'); fd2, other = mapping(); os.truncate(fd2, 0); other[0]",
        "guard = native.Guard(guarded, 'g'); guard.release(); os.truncate(fd, 0); guarded[0]",
    ):
        done = run(code)
        assert done.returncode == -signal.SIGBUS, done.stderr


def test_the_handler_before_ours_is_called() -> None:
    """The interpreter's fault handler still tells where the process died."""
    done = run(
        "faulthandler.enable(); guard = native.Guard(guarded, 'g')\n"
        "os.truncate(fd, 0); print(guarded[0], guard.dead, flush=True)\n"
        "fd2, other = mapping(); os.truncate(fd2, 0); other[0]"
    )

    assert done.returncode == -signal.SIGBUS
    assert done.stdout == "0 True\n"
    assert "Fatal Python error: Bus error" in done.stderr


def test_a_signal_that_was_sent_is_no_fault() -> None:
    """SIGBUS by kill ends the process at once; a process that ignores it goes on."""
    guard = "guard = native.Guard(guarded, 'g'); os.kill(os.getpid(), signal.SIGBUS); print('alive')"

    assert run(guard).returncode == -signal.SIGBUS
    assert run("signal.signal(signal.SIGBUS, signal.SIG_IGN);" + guard).stdout == "alive\n"
