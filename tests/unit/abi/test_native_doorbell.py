"""Doorbells: what a ring is worth, how a wait ends, and what a peer cannot do with them."""

import math
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import posix_ipc  # type: ignore[import-not-found, unused-ignore]
import pytest

from tests.unit.abi.world import semaphore_mapping
from vmbusd.abi import native
from vmbusd.abi.errors import ResourceError, UsageError

ROOT = Path(__file__).resolve().parents[3]
SEM_VALUE_MAX = 0x7FFFFFFF


@pytest.fixture
def eventfd() -> Iterator[int]:
    descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(params=["semaphore", "eventfd"])
def bell(request: pytest.FixtureRequest, eventfd: int) -> native.Doorbell:
    if request.param == "eventfd":
        return native.Doorbell.eventfd(eventfd)
    return native.Doorbell.semaphore(semaphore_mapping())


def test_a_ring_before_the_wait_counts(bell: native.Doorbell) -> None:
    """A wait returns at once when it was rung before (case 231)."""
    bell.ring()

    assert bell.wait(5) is True
    assert bell.wait(0) is False


def test_a_wait_is_never_early(bell: native.Doorbell) -> None:
    """The timeout is a minimum on CLOCK_MONOTONIC, also when it is longer than a slice."""
    for timeout in (0.0, 0.001, 0.0213, 1.05):
        begun = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        assert bell.wait(timeout) is False
        assert time.clock_gettime_ns(time.CLOCK_MONOTONIC) - begun >= timeout * 1e9


def test_a_strange_timeout_is_told_or_harmless(bell: native.Doorbell) -> None:
    """Not a number is refused; what is over is over; endless is long."""
    with pytest.raises(UsageError, match="nan"):
        bell.wait(math.nan)
    assert bell.wait(-1) is False
    assert bell.wait(-math.inf) is False
    for timeout in (math.inf, 1e300):
        bell.ring()
        assert bell.wait(timeout) is True


def test_waiting_lets_other_threads_run(bell: native.Doorbell) -> None:
    """The thread that rings needs the interpreter lock that the waiter has given up."""
    thread = threading.Thread(target=bell.ring)
    timer = threading.Timer(0.05, thread.start)
    timer.start()

    assert bell.wait(30) is True
    timer.join()
    thread.join()


def test_a_signal_handler_may_raise_through_a_wait(bell: native.Doorbell) -> None:
    """Ctrl-C ends a wait of the main thread."""
    timer = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        bell.wait(30)
    timer.join()
    assert time.monotonic() - begun < 10


def test_rings_are_counted_by_a_semaphore_and_not_by_an_eventfd(eventfd: int) -> None:
    """`drain` says how many wakes were waiting; an eventfd keeps them as one (case 230)."""
    semaphore = native.Doorbell.semaphore(semaphore_mapping())
    event = native.Doorbell.eventfd(eventfd)
    for bell, left in ((semaphore, 1000), (event, 1)):
        for _ in range(1000):
            bell.ring()
        assert bell.drain() == left
        assert bell.drain() == 0
        assert bell.wait(0) is False


def test_a_semaphore_that_is_full_counts_as_rung() -> None:
    """A post that would overflow changes nothing and raises nothing."""
    mapping = semaphore_mapping()
    mapping[:4] = SEM_VALUE_MAX.to_bytes(4, "little")
    bell = native.Doorbell.semaphore(mapping)
    bell.ring()

    assert mapping[:4] == SEM_VALUE_MAX.to_bytes(4, "little")
    assert bell.wait(0) is True


def test_an_eventfd_that_is_full_counts_as_rung(eventfd: int) -> None:
    """The write that would block is not needed."""
    os.eventfd_write(eventfd, (1 << 64) - 2)
    bell = native.Doorbell.eventfd(eventfd)
    bell.ring()

    assert bell.wait(0) is True
    assert bell.wait(0) is False


def test_an_eventfd_must_not_block() -> None:
    """A blocking one, and a descriptor that is none, are refused."""
    descriptor = os.eventfd(0)
    try:
        with pytest.raises(UsageError, match=f"eventfd {descriptor} is blocking"):
            native.Doorbell.eventfd(descriptor)
    finally:
        os.close(descriptor)
    for wrong in (descriptor, -1):
        with pytest.raises(UsageError, match=f"eventfd {wrong}: Bad file descriptor"):
            native.Doorbell.eventfd(wrong)


def test_a_descriptor_closed_under_the_doorbell_is_told() -> None:
    """Neither ring nor wait goes on as if nothing had happened, and the wait does not spin."""
    descriptor = os.eventfd(0, os.EFD_NONBLOCK)
    bell = native.Doorbell.eventfd(descriptor)
    os.close(descriptor)

    with pytest.raises(ResourceError, match="eventfd doorbell: Bad file descriptor"):
        bell.ring()
    with pytest.raises(ResourceError, match="doorbell: there is nothing to wait on"):
        bell.wait(5)


def test_a_doorbell_says_what_it_is(eventfd: int) -> None:
    """Only an eventfd can be waited for by a loop."""
    event = native.Doorbell.eventfd(eventfd)
    semaphore = native.Doorbell.semaphore(semaphore_mapping())

    assert (event.kind, event.fileno()) == ("eventfd", eventfd)
    assert semaphore.kind == "semaphore"
    with pytest.raises(UsageError, match="a semaphore has no descriptor"):
        semaphore.fileno()
    with pytest.raises(UsageError, match=r"Doorbell\.semaphore or Doorbell\.eventfd"):
        native.Doorbell()


def test_the_library_and_the_core_use_one_semaphore() -> None:
    """A post through posix_ipc wakes the core's wait, and the core's ring wakes a wait in posix_ipc."""
    name = f"vmbusd-test{os.getpid()}-library"
    library = posix_ipc.Semaphore(f"/{name}", posix_ipc.O_CREX, mode=0o600)
    try:
        with open(f"/dev/shm/sem.{name}", "r+b") as file:
            bell = native.Doorbell.semaphore(mmap.mmap(file.fileno(), 32))
        timer = threading.Timer(0.05, library.release)
        timer.start()
        assert bell.wait(30) is True
        timer.join()
        timer = threading.Timer(0.05, bell.ring)
        timer.start()
        library.acquire(30)
        timer.join()
        bell.ring()
        library.acquire(0)
        assert bell.wait(0) is False
    finally:
        library.unlink()
        library.close()


SCRIBBLE = """
import sys
from tests.unit.abi.world import semaphore_mapping
from vmbusd.abi import native
mapping = semaphore_mapping()
bell = native.Doorbell.semaphore(mapping)
for byte in (0x7F, 0xFF, 1):
    mapping[4:32] = bytes([byte]) * 28
    bell.ring()
    assert bell.wait(1)
    bell.wait(0.01)
    bell.drain()
print("alive")
"""


def test_no_bytes_in_a_semaphore_end_the_process() -> None:
    """A peer may write anything into a semaphore it may post: nobody else dies or hangs of it."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIBBLE], cwd=ROOT, capture_output=True, text=True, timeout=30
    )

    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
