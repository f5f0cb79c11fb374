"""The storm's device for packets: sends what its window allows, judges what comes back.

All it knows of an open is in the process: the process's death ends its opens. What comes back is judged by
the same rule as in the guest. A worker that dies between sending and noting it sends again: from where it had
begun, as its packets say.
"""

import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from host_client import Channel, Device
from tests.storm import packets
from tests.storm.ledger import Ledger
from tests.storm.lines import Pause
from tests.storm.opens import Opens
from tests.storm.packets import Numbered, Position
from vmbusd.abi.errors import ChannelGone
from vmbusd.abi.packets import Packet

STILL_SECONDS: Final = 10.0
"""Packets are missing and none has come for so long: the busiest machine schedules a worker much sooner."""
MOST: Final = 7
"""Packets sent at once, by turns from one up: a batch that is lost must not be all that the window allows, or
nothing would come behind the gap to show it."""


class PacketDevice(Device):
    """One offer."""

    interface = packets.INTERFACE

    def __init__(self, ledger: Ledger, opens: Opens, pause: Pause) -> None:
        self._ledger = ledger
        self._opens = opens
        self._pause = pause
        self._lock = threading.Lock()
        self._pushing = threading.Lock()
        self._answers = 0
        self._channel: Channel | None = None
        self._generation = 0
        self._sent = 0
        self._back = Position()

    def on_open(self, channel: Channel) -> None:
        """A new open begins at packet 0."""
        self._opens.begin(channel)
        with self._lock:
            self._channel, self._generation = channel, channel.generation
            self._sent, self._back = 0, Position()

    def on_close(self, channel: Channel) -> None:
        """Send nothing more."""
        self._opens.end(channel)
        with self._lock:
            self._channel = None

    def on_packets(self, channel: Channel, batch: Sequence[Packet]) -> None:
        """What the guest sent back. After every other batch it gets more at once: just when its worker has
        read everything and goes to sleep."""
        with self._lock:
            for packet in batch:
                seen = packets.follow(self._back, packet.payload, channel.generation, self._ledger)
                self._back = Position(seen.number + 1, seen.begun, seen.sender)
        self._ledger.add("packets_back", len(batch))
        self._answers += 1
        if self._answers % 2:
            self.push()

    def push(self) -> None:
        """Send what the window allows; after a death that may have to wait for room.

        Nothing if another thread is at it, or in a pause: who finds all packets back in one knows that there
        will be no others.
        """
        if self._pushing.acquire(blocking=False):
            try:
                if not self._pause.on:
                    self._push()
            finally:
                self._pushing.release()

    def _push(self) -> None:
        with self._lock:
            channel, generation = self._channel, self._generation
            most = self._sent + 1 + self._sent % MOST
            numbers = range(self._sent, min(most, self._back.next + packets.WINDOW))
        if channel is None or not numbers:
            return
        try:
            channel.send_many(
                [packets.make(Numbered(generation, number)) for number in numbers], timeout=None
            )
        except ChannelGone:
            # It is over; `on_close` follows.
            return
        with self._lock:
            if self._generation == generation:
                self._sent = numbers.stop

    @property
    def back(self) -> int:
        """The number that is to come back next."""
        return self._back.next

    @property
    def is_even(self) -> bool:
        """Whether nothing is under way."""
        with self._pushing, self._lock:
            return self._channel is None or self._sent == self._back.next

    def report(self) -> dict[str, Any]:
        """The last open: its generation, packets sent, and the number that is to come back next."""
        with self._lock:
            return {"generation": self._generation, "sent": self._sent, "back": self._back.next}


class Standstill:
    """Whether in a pause all packets of these devices are back, or have stopped coming."""

    def __init__(self, devices: Sequence[PacketDevice]) -> None:
        self._devices = devices
        self._seen = (0, 0)
        self._since = 0.0

    def is_reached(self, pause: int) -> bool:
        """Look now; the time of a standstill begins with the pause of this number at the earliest."""
        if all(device.is_even for device in self._devices):
            return True
        seen = (pause, sum(device.back for device in self._devices))
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        return time.monotonic() - self._since > STILL_SECONDS
