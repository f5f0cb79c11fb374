"""The demo's driver: a Python callback per interrupt that notes what it saw in the channel's cell."""

import time
from typing import Final
from uuid import UUID

from guest_client import Channel, Driver
from vmbusd.abi.native import Words
from vmbusd.demo import cell

STORM_INTERFACE: Final = UUID("7d1c4c0e-5f0a-4e6b-9a53-2b1f6e3c9d10")


class StormDriver(Driver):
    """Catches up with the device: seen = produced, as a driver that drains its ring does.

    `timed`: whether credit mode notes its latencies, which costs more than all the rest of a callback.
    """

    timed = True
    interface = STORM_INTERFACE
    ring_pages = cell.RING_PAGES

    def __init__(self, config: str = "") -> None:
        super().__init__(config)
        self._me = cell.identity()

    def removed(self, channel: Channel) -> None:
        """Let go of the ring memory."""
        channel.driver_data = None

    def on_interrupt(self, channel: Channel) -> None:
        """One callback; the claim says that nobody else is in one of this channel."""
        words: Words | None = channel.driver_data
        if words is None:
            words = channel.driver_data = Words(channel.memory(cell.CELL_PAGE))
        cell.enter(words, self._me)
        produced = words.load(cell.PRODUCED)
        if words.load(cell.GENERATION) != channel.generation:
            words.add(cell.STALE, 1)
        if produced != words.load(cell.SEEN):
            if self.timed and cell.is_credit(channel.relid):
                latency = time.monotonic_ns() - words.load(cell.STAMP)
                words.add(cell.HISTOGRAM + cell.bucket(latency), 1)
            words.store(cell.SEEN, produced)
        words.add(cell.CALLBACKS, 1)
        cell.leave(words, self._me)
