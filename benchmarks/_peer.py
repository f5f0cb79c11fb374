"""A second process for a measurement: forked, pinned, and gone when the measurement is over.

The child inherits every mapping, runs one function and leaves without returning into the caller's code. The
kernel ends it with its parent, and neither side waits for the other longer than LIMIT.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from vmbusd.abi import native

# Seconds; far longer than any single measurement, also on a machine that is busy with something else.
LIMIT = 30


class BenchError(Exception):
    """A measurement could not run: no tool, no second core, or the other process failed."""


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """The caller runs on one core, and its garbage collector rests."""
    before = os.sched_getaffinity(0)
    gc.collect()
    gc.disable()
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        gc.enable()


@contextmanager
def peer(body: Callable[[], object], cores: tuple[int, int]) -> Iterator[Callable[[], None]]:
    """Runs `body` in a process on the second core while the caller measures on the first.

    Yields a function that asks the process to end by SIGTERM, for bodies that do not end by themselves.
    Raises BenchError when the other process failed or when LIMIT passed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # A child that is told to end before it can hear it hears it later: see at_stop.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    child = os.fork()
    if child == 0:
        _be_the_child(body, cores[1])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(LIMIT)
    try:
        with pinned(cores[0]):
            yield lambda: os.kill(child, signal.SIGTERM)
        status = os.waitpid(child, 0)[1]
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if status:
        raise BenchError(f"the other process ended with status {os.waitstatus_to_exitcode(status)}")


def at_stop(action: Callable[[], object]) -> None:
    """Calls `action`, from a signal handler, when the other side asks this process to end."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: action())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


@contextmanager
def after(seconds: float, action: Callable[[], object]) -> Iterator[None]:
    """Calls `action` once, `seconds` from now, from a signal handler; inside `peer` only."""

    def act(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGALRM, _give_up)
        signal.alarm(LIMIT)
        action()

    signal.signal(signal.SIGALRM, act)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, _give_up)
        signal.alarm(LIMIT)


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise BenchError(f"no answer from the other process for {LIMIT} s")


def _be_the_child(body: Callable[[], object], core: int) -> None:
    status = 1
    try:
        native.exit_with_parent(signal.SIGKILL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(LIMIT)
        with pinned(core):
            body()
        status = 0
    except BaseException:  # noqa: BLE001 - nothing may return into the code of the parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
