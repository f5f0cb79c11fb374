"""Drivers for the live guest tests, in a module of their own so that worker processes can import them."""

import os
import struct
import time
from uuid import UUID

from guest_client import Channel, Driver

COUNTED = UUID("6b6c3a60-7b5b-4a3e-9c53-9d2f3b0f7a01")
PINNED = UUID("6b6c3a60-7b5b-4a3e-9c53-9d2f3b0f7a02")
HELD = UUID("6b6c3a60-7b5b-4a3e-9c53-9d2f3b0f7a04")
RUNG = UUID("6b6c3a60-7b5b-4a3e-9c53-9d2f3b0f7a03")
SEEN = struct.Struct("<QQ")
"""At the start of a channel's state: callbacks so far, and the process that ran the last one."""


class Counter(Driver):
    """Counts its callbacks in the channel's state, where they survive the process; answers every one."""

    interface = COUNTED

    def __init__(self, config: str = "") -> None:
        super().__init__(config)
        self.removals: list[int] = []

    def on_interrupt(self, channel: Channel) -> None:
        count, _ = SEEN.unpack_from(channel.state)
        SEEN.pack_into(channel.state, 0, count + 1, os.getpid())
        # What the host counted up before it signalled is seen now.
        produced = int.from_bytes(channel.memory(1)[:8], "little")
        channel.memory(1)[8:16] = produced.to_bytes(8, "little")
        channel.signal()

    def removed(self, channel: Channel) -> None:
        self.removals.append(channel.relid)


class Slow(Counter):
    """Stays in its callback for a moment, so that something can happen meanwhile."""

    def on_interrupt(self, channel: Channel) -> None:
        time.sleep(0.3)
        super().on_interrupt(channel)


class Held(Counter):
    """Stays in its callback until the last byte of the channel's state says that it may go on."""

    interface = HELD

    def on_interrupt(self, channel: Channel) -> None:
        super().on_interrupt(channel)
        while not channel.state[-1]:
            time.sleep(0.005)


class Pinned(Counter):
    """Keeps what it knows in its process."""

    interface = PINNED
    pinned = True


class Failing(Counter):
    """Fails in its first callback."""

    def on_interrupt(self, channel: Channel) -> None:
        first = SEEN.unpack_from(channel.state)[0] == 0
        super().on_interrupt(channel)
        if first:
            raise RuntimeError("the first callback fails")


class CannotBeMade(Counter):
    """Fails where only worker processes make it."""

    def __init__(self, config: str = "") -> None:
        super().__init__(config)
        if config == "here":
            self.config = "there"
        elif config == "there":
            raise RuntimeError("not in this process")


class Rung(Driver):
    """Leaves open and close to the test, and says in the channel's state that its device has signalled."""

    interface = RUNG

    def probe(self, channel: Channel) -> None:
        """Not opened here."""

    def on_interrupt(self, channel: Channel) -> None:
        channel.state[0] = 1
