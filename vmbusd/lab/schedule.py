"""A controlled scheduler: threads that are held at named steps, and every order that their steps can have.

Whoever is held at a step has done everything before it and nothing of it. The scheduler lets one go at a time
and reads the shared words only when all are held or asleep: what it reads is exact.

    scheduler                                    held thread, in `at_step`
    s1 until = a step; let go; notify            a1 until is not None: go on
    s2 wait: until is None, and held again       a2 the step is `until`: until = None, go on, do it
                                                 a3 the next step: held, notify, wait until let go

All under one condition, so that the scheduler never reads while a thread is between a1 and a3.
"""

import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from typing import Final, TypeVar

from vmbusd.abi.errors import VmbusError

PATIENCE: Final = 30.0
"""Seconds for one step; it takes microseconds unless the machine is very busy."""
LOOK_SECONDS: Final = 0.0005
"""Between looks at a condition in shared memory, which nobody announces."""

Step = TypeVar("Step", bound=Hashable)


class ReplayError(VmbusError):
    """The replay could not be carried out; the text says where and how."""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something in shared memory. Raises ReplayError when it does not come."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise ReplayError(f"{what}: not within {PATIENCE:g} s")
        time.sleep(LOOK_SECONDS)


class Hold:
    """Holds one thread at its steps, or lets it run. `name` is for errors."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._is_free = True
        self._until: str | None = None
        self._at: str | None = None

    @property
    def at(self) -> str | None:
        """The step that the thread is held at, None while it is not held."""
        with self._changed:
            return self._at

    def at_step(self, step: str) -> None:
        """Called by the thread before each of its steps."""
        with self._changed:
            if not self._is_free and self._until is None:
                self._at = step
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._at is None)
            if step == self._until:
                self._until = None

    def until_past(self, step: str) -> None:
        """Let the thread go until it has done `step`; it is held at the step that follows.

        Raises ReplayError when it does not come there, and lets it run.
        """
        with self._changed:
            self._is_free, self._until, self._at = False, step, None
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._until is None and self._at is not None, PATIENCE):
                self.release()
                raise ReplayError(f"{self._name}: did not get past {step} within {PATIENCE:g} s")

    def release(self) -> None:
        """Let the thread run, until `hold`."""
        with self._changed:
            self._is_free, self._until, self._at = True, None, None
            self._changed.notify_all()

    def hold(self) -> None:
        """Hold the thread at its next step, whenever it comes to one."""
        with self._changed:
            self._is_free = False


def orders(steps: Sequence[Step], before: Collection[tuple[Step, Step]]) -> Iterator[tuple[Step, ...]]:
    """Every order of `steps` in which, for each pair of `before`, the first comes before the second."""
    if not steps:
        yield ()
    for step in steps:
        if not any(second == step and first in steps for first, second in before):
            rest = [other for other in steps if other != step]
            for tail in orders(rest, before):
                yield (step, *tail)
