"""Waits for the claims of closing channels, on the control path, without blocking anybody.

close(r): the open bit is cleared, then RUN must be seen absent from the claim once; only then is the close
completed, whoever held the claim. A stopped worker delays its own channel and nothing else. The block is
cleared between the look and the completion: nobody claims it with an open slot in that time. Source: docs/
signal-protocol.md section 6.
"""

import asyncio
from collections.abc import Callable

from vmbusd.server import limits


class Closing:
    """The channels of one partition whose close has begun and is not completed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settle: Callable[[int], bool],
        completed: Callable[[int, int], None],
    ) -> None:
        """`settle(flag)` looks at the claim once and cleans the block if it is free; then
        `completed(flag, generation)` is called, exactly once for each `add`."""
        self._loop = loop
        self._settle = settle
        self._completed = completed
        self._waiting: set[tuple[int, int]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._pause = limits.CLAIM_POLL_FIRST

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, flag: int, generation: int) -> None:
        """The open bit of this generation has just been cleared."""
        if self._is_completed(flag, generation):
            return
        self._waiting.add((flag, generation))
        self._pause = limits.CLAIM_POLL_FIRST
        self._schedule()

    def _is_completed(self, flag: int, generation: int) -> bool:
        if not self._settle(flag):
            return False
        self._completed(flag, generation)
        return True

    def _schedule(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = self._loop.call_later(self._pause, self._look)

    def _look(self) -> None:
        self._timer = None
        self._pause = min(2 * self._pause, limits.CLAIM_POLL_MAX)
        for flag, generation in sorted(self._waiting):
            if self._is_completed(flag, generation):
                self._waiting.discard((flag, generation))
        self._schedule()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()
