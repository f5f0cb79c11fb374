"""The storm's driver for packets: judges each, notes it, sends it back, and dies anywhere in between.

Nothing is kept in the process. The claim admits one callback, so each word of the state has one writer; each
is stored by itself, because a kill comes between any two:

    read a batch, judge it          1      not noted, not given back: it comes again, as if for the first time
    BEGUN = its first number               the same: that is the number that is expected, or was begun before
    WORKER = us                            the same
    NEXT = behind its last number   2      it comes again: it begins at BEGUN, and we are dead
    send from BACK_SENT to NEXT     3      the host gets them again: they begin at BACK_SENT, and we are dead
    BACK_SENT = NEXT                4      the batch comes again until it is given back; nothing is sent again

At the numbered places a callback now and then takes its time, and a worker that is doomed dies.

What goes back follows from its number alone, so it does not matter which worker read a packet.
"""

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from typing import Final

from guest_client import Channel
from tests.storm import packets
from tests.storm.driver import StormDriver
from tests.storm.packets import BACK_SENT, BEGUN, INSIDE, NEXT, WORKER, Numbered, Position
from vmbusd.abi.errors import ChannelGone
from vmbusd.abi.native import Words
from vmbusd.abi.packets import Packet

SLOW_ONE_OF: Final = 5
SLOW_SECONDS: Final = 0.004
"""Of so many callbacks one takes its time at each place: a kill or a stop has to meet them there, and a batch
has to wait behind it."""


class PacketDriver(StormDriver):
    """Sends everything back. `config` is the ledger's path."""

    interface = packets.INTERFACE
    ring_pages = packets.RING_PAGES

    def on_packets(self, channel: Channel, batch: Sequence[Packet]) -> None:
        """One batch."""
        with self.booked():
            self._take(channel, batch)

    def _take(self, channel: Channel, batch: Sequence[Packet]) -> None:
        words = Words(channel.state)
        self.enter(channel, words, INSIDE)
        self.calls += 1
        self._judge(channel, words, batch)
        # Closed or rescinded under our feet: what this open has left to send nobody wants any more.
        with contextlib.suppress(ChannelGone):
            self._send_back(channel, words)
        self.leave(channel, words, INSIDE)

    def _judge(self, channel: Channel, words: Words, batch: Sequence[Packet]) -> None:
        at = Position(words.load(NEXT), words.load(BEGUN), words.load(WORKER))
        begun = None
        for packet in batch:
            seen = packets.follow(at, packet.payload, channel.generation, self.ledger)
            begun = seen.number if begun is None else begun
            at = Position(seen.number + 1, begun, self.me)
        self.ledger.add("packets_there", len(batch))
        self._dawdle(1)
        words.store(BEGUN, at.begun)
        words.store(WORKER, at.worker)
        words.store(NEXT, at.next)

    def _send_back(self, channel: Channel, words: Words) -> None:
        begun, end = words.load(BACK_SENT), words.load(NEXT)
        self._dawdle(2)
        channel.send_many(
            [
                packets.make(Numbered(channel.generation, number, begun, self.me))
                for number in range(begun, end)
            ],
            timeout=None,
        )
        self._dawdle(3)
        if end > begun:
            words.store(BACK_SENT, end)
        self._dawdle(4)

    def _dawdle(self, place: int) -> None:
        if self.ledger.is_doomed(place):
            os.kill(self.me, signal.SIGKILL)
        if self.calls % SLOW_ONE_OF == place:
            time.sleep(SLOW_SECONDS)
