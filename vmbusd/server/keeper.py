"""Keeps one partition's inputs, and its state every so often, so that the next daemon can go on.

There is always something true on disk or nothing: when there is no room for another input and none for a
snapshot, the files are removed, because an incomplete journal is a lie. The partition then goes on without;
a snapshot is tried again at every look, and with it everything is kept again. Source: docs/design.md
section 4.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

from structlog.typing import FilteringBoundLogger

from vmbusd.abi.errors import ResourceError
from vmbusd.server import inputs, limits
from vmbusd.server.journal import Journal

NOT_KEPT: Final = "a restart of the daemon would lose this partition"


class Keeper:
    """The journal of a living partition, in use.

    Attributes: `number`, of the last input; `snapshots`, written so far; `trouble`, why nothing is kept now,
    None while all is.
    """

    def __init__(self, journal: Journal, state: Callable[[], bytes], log: FilteringBoundLogger) -> None:
        """`state()` gives the bytes of a snapshot; it is asked between two inputs only. `begin` follows."""
        self.number = 0
        self.snapshots = 0
        self.trouble: str | None = None
        self._journal = journal
        self._state = state
        self._log = log
        self._kept = True
        self._over = False
        self._holds = 0
        self._again = 0.0

    def begin(self, number: int = 0) -> None:
        """Write a snapshot, whose state has every input up to `number` in it. Raises ResourceError."""
        self._journal.begin(number, self._state())
        self.number = number
        self.snapshots += 1

    def resume(self, number: int) -> None:
        """As `begin`, for a partition that lives already: without room it goes on and is not kept."""
        self.number = number
        try:
            self.begin(number)
        except ResourceError as error:
            self._give_up(str(error))

    def keep(self, what: inputs.Input) -> int:
        """Keep an input before anything comes of it; returns its number."""
        self.number += 1
        if self._kept and not self._journal.append(inputs.encode(what)):
            self._give_up("its journal is full, or was truncated")
        return self.number

    def _give_up(self, reason: str) -> None:
        self._kept = False
        self._journal.remove()
        self.trouble = f"{reason}: {NOT_KEPT}"
        self._log.error("not kept", reason=self.trouble)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A packet is taken and what it asks is not kept yet, while others are heard: inside, no snapshot."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1

    def settle(self, *, now: bool = False) -> None:
        """Between two inputs: write a snapshot if it is time for one, or if it is wanted `now`."""
        if (self._kept and not now and not self._journal.due) or self._over or self._holds:
            return
        time_now = time.monotonic()
        if time_now < self._again and not now:
            return
        try:
            self.begin(self.number)
        except ResourceError as error:
            self._again = time_now + limits.SNAPSHOT_RETRY
            if self.trouble is None:
                self.trouble = f"{error}: {NOT_KEPT}" if not self._kept else f"{error}: tried again"
                self._log.error("snapshot", reason=str(error))
        else:
            self._again = 0.0
            self._kept = True
            if self.trouble is not None:
                self.trouble = None
                self._log.info("kept again")

    def statistics(self) -> dict[str, int]:
        """For the status: the last input's number, inputs and bytes since the snapshot, snapshots."""
        journal = self._journal
        return {
            "inputs": self.number,
            "since_snapshot": self.number - journal.follows,
            "bytes": journal.appended_bytes,
            "snapshots": self.snapshots,
        }

    def close(self) -> None:
        """The daemon ends and the next one is to go on."""
        self._journal.close()

    def remove(self) -> None:
        """The partition ends: nothing of it is to be found again, and nothing more is kept."""
        self._kept = False
        self._over = True
        self._journal.remove()
