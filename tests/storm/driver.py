"""The storm's driver: one callback in a channel's life, and everything about it that must not be.

The counters `produced` and `seen` of an open stand in a page of its own ring memory, as in the demo; what is
found wrong goes into the ledger, which outlives the ring. Many a callback takes its time, so that a kill, a
stop or a close meets one, and bits that wait behind it: before it has seen anything, or when it has.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

from guest_client import Channel, Driver
from tests.storm.ledger import Ledger
from vmbusd.abi.errors import ChannelGone
from vmbusd.abi.native import Words
from vmbusd.demo import cell

INTERFACE: Final = UUID("5b0a9c3e-71d4-4c8f-9d0e-6a2f1c7b8e50")
SLOW_ONE_OF: Final = 5
SLOW_SECONDS: Final = 0.004
"""Before one callback in so many has seen anything: workers are busy with it for most of their time, and the
storm goes on all the same."""
LINGERS_ONE_OF: Final = 7
LINGER_SECONDS: Final = 0.004
"""After one callback in so many has seen everything: it is still running when its sender goes on."""
LONG_ONE_OF: Final = 5
LONG_SECONDS: Final = 0.06
"""One in so many of those: longer than a close takes that does not wait for it."""


class StormDriver(Driver):
    """What every driver of the storm judges: callbacks that overlap, or outlive their open.

    `config` is the ledger's path. Attributes: `ledger`; `me`, our pid; `calls`, callbacks begun.
    """

    def __init__(self, config: str = "") -> None:
        super().__init__(config)
        self.me = os.getpid()
        self.ledger = Ledger(Path(config))
        self.calls = 0

    def removed(self, channel: Channel) -> None:
        """From now on a callback of its last open is a violation."""
        self.ledger.note_close(channel.event_flag, channel.generation)

    def enter(self, channel: Channel, words: Words, inside: int) -> None:
        """A callback begins; word `inside` names who is in it."""
        if self.ledger.closed(channel.event_flag) >= channel.generation:
            self.ledger.add("late")
        other = words.exchange(inside, self.me)
        if other and (other == self.me or cell.process_lives(other)):
            self.ledger.add("overlaps")

    def leave(self, channel: Channel, words: Words, inside: int) -> None:
        """It ends."""
        if words.exchange(inside, 0) != self.me:
            self.ledger.add("overlaps")
        if self.ledger.closed(channel.event_flag) >= channel.generation:
            self.ledger.add("late")

    @contextlib.contextmanager
    def booked(self) -> Iterator[None]:
        """Around a callback: the workers log what it raises and go on, so it is counted here."""
        try:
            yield
        except ChannelGone:
            # It was closed or rescinded under our feet.
            raise
        except BaseException:
            self.ledger.add("raised")
            raise


class CellDriver(StormDriver):
    """Catches up with the device: seen = produced."""

    interface = INTERFACE
    ring_pages = cell.RING_PAGES

    def on_interrupt(self, channel: Channel) -> None:
        """One callback. The words are made anew each time: nothing of a ring is kept beyond it."""
        with self.booked():
            self._catch_up(channel)

    def _catch_up(self, channel: Channel) -> None:
        words = Words(channel.memory(cell.CELL_PAGE))
        self.enter(channel, words, cell.INSIDE)
        if words.load(cell.GENERATION) not in (0, channel.generation):
            # 0: its device has not been asked yet, and the bit is one of an open before.
            self.ledger.add("stale")
        produced, seen = words.load(cell.PRODUCED), words.load(cell.SEEN)
        self.calls += 1
        if self.calls % SLOW_ONE_OF == 0:
            time.sleep(SLOW_SECONDS)
        if produced < seen:
            self.ledger.add("ahead")
        else:
            words.store(cell.SEEN, produced)
        if self.calls % LINGERS_ONE_OF == 0:
            time.sleep(LINGER_SECONDS if self.calls // LINGERS_ONE_OF % LONG_ONE_OF else LONG_SECONDS)
        self.ledger.add("callbacks")
        self.leave(channel, words, cell.INSIDE)
