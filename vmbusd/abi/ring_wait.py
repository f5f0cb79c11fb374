"""The count of a channel's signals, and how a thread sleeps until it moves.

A thread that waits reads the count of signals, says in the ring what it waits for and looks again, and sleeps
until the count has moved. Whoever takes the channel's event flag calls `signalled`, also while a callback of
the channel runs. `pump` lets the thread that takes the flags wait too: it takes them itself then.

    waiter                                  taker of the flags
    w1 seen = signals                       t1 takes the flag
    w2 ask or rest (store, look again)      t2 signals += 1, notify, under the condition
    w3 sleep until signals != seen

The peer signals only after it saw the store of w2, so t1 and t2 of that signal follow w1: w3 cannot miss it.
Source: docs/rings.md section 3 for w2.
"""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from vmbusd.abi.errors import ChannelGone, UsageError

SLICE: Final = 1.0
"""Longest sleep before a thread looks whether it has to stop."""


def deadline_of(timeout: float | None) -> float | None:
    """The end of a wait on the monotonic clock, None for no end. Raises UsageError for a negative timeout."""
    if timeout is None:
        return None
    if not timeout >= 0:
        raise UsageError(f"timeout {timeout}: seconds, 0 for no wait, None for no end")
    return time.monotonic() + timeout


def no_pump(_seconds: float) -> bool:
    return False


class Waiting:
    """Who waits for the peer of one channel. Safe to use from any thread.

    Attributes: `name`; `signals`, how often the peer was heard; `reason`, why the channel is over, None while
    it is not; `changed`, the condition on which threads sleep, held for nothing else.
    """

    def __init__(
        self,
        name: str,
        changed: threading.Condition,
        pump: Callable[[float], bool] = no_pump,
        outside: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """`pump`: see `Rings`; `outside`: the context in which a thread sleeps, without its locks."""
        self.name = name
        self.changed = changed
        self.signals = 0
        self.reason: str | None = None
        self.pump = pump
        self.outside = outside
        self._wakers: list[Callable[[], object]] = []

    def signalled(self) -> None:
        """The peer was heard: whoever waits looks again. Callable from any thread."""
        with self.changed:
            self.signals += 1
            wakers, self._wakers = self._wakers, []
            self.changed.notify_all()
        for waker in wakers:
            waker()

    def call_once(self, waker: Callable[[], object], seen: int) -> None:
        """Call `waker` at the next signal or at the end, at once if `signals` is not `seen` any more."""
        with self.changed:
            late = self.signals != seen or self.reason is not None
            if not late:
                self._wakers.append(waker)
        if late:
            waker()

    def forget(self, waker: Callable[[], object]) -> None:
        """Do not call `waker` any more."""
        with self.changed:
            if waker in self._wakers:
                self._wakers.remove(waker)

    def raise_closed(self) -> None:
        """Raises ChannelGone once the channel is closed."""
        if self.reason is not None:
            raise ChannelGone(self.reason)

    def wait(self, seen: int, deadline: float | None, longest: float = SLICE) -> bool:
        """Until the peer was heard since `signals` was `seen`, or for `longest` when that is a poll.

        False at the deadline. Raises ChannelGone.
        """
        while self.signals == seen:
            self.raise_closed()
            left = longest if deadline is None else min(longest, deadline - time.monotonic())
            if left <= 0:
                return False
            if not self.pump(left):
                with self.outside(), self.changed:
                    self.changed.wait_for(lambda: self.signals != seen, left)
            if longest < SLICE:
                break
        self.raise_closed()
        return True
