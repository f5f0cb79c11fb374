"""The storm's driver: one callback in a channel's life, and everything about it that must not be.

The counters `produced` and `seen` of an open stand in a page of its own ring memory, as in the demo; what is
found wrong goes into the ledger, which outlives the ring. A callback now and then takes its time, so that a
kill or a stop meets one.
"""

import os
import time
from pathlib import Path
from typing import Final
from uuid import UUID

from guest_client import Channel, Driver
from tests.storm.ledger import Ledger
from vmbusd.abi.native import Words
from vmbusd.demo import cell

INTERFACE: Final = UUID("5b0a9c3e-71d4-4c8f-9d0e-6a2f1c7b8e50")
SLOW_ONE_OF: Final = 61
SLOW_SECONDS: Final = 0.0003
"""Of one callback in so many: long against the others, short enough that the storm goes on."""


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


class CellDriver(StormDriver):
    """Catches up with the device: seen = produced."""

    interface = INTERFACE
    ring_pages = cell.RING_PAGES

    def on_interrupt(self, channel: Channel) -> None:
        """One callback. The words are made anew each time: nothing of a ring is kept beyond it."""
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
        self.ledger.add("callbacks")
        self.leave(channel, words, cell.INSIDE)
