"""Drivers for the live tests of packets, in a module that worker processes can import."""

import os
import struct
import zlib
from collections.abc import Sequence
from uuid import UUID

from guest_client import Channel, Driver
from vmbusd.abi.delivery import Mode
from vmbusd.abi.errors import ChannelGone, RingFull
from vmbusd.abi.packets import Packet

PACKETS = UUID("6b6c3a60-7b5b-4a3e-9c53-9d2f3b0f7b01")
HEAD = struct.Struct("<QII")
"""Number, size of what follows, checksum of number and rest."""
NOTES = struct.Struct("<QQQQ")
"""At the start of a channel's state: numbers taken, packets out of order, corrupt ones, the last process."""
FLOOD = 1000
"""Bytes of a packet that fills a ring soon."""


def packet(number: int, size: int = 24) -> bytes:
    """A numbered payload with a checksum."""
    body = (number * 2654435761 % 2**32).to_bytes(4, "little") * (size // 4)
    return HEAD.pack(number, size, zlib.crc32(body, number & 0xFFFFFFFF)) + body


def number_of(payload: bytes) -> int | None:
    """The number of a payload, None for one that is corrupt."""
    if len(payload) < HEAD.size:
        return None
    number, size, checksum = HEAD.unpack_from(payload)
    body = payload[HEAD.size : HEAD.size + size]
    return number if len(body) == size and zlib.crc32(body, number & 0xFFFFFFFF) == checksum else None


class Echo(Driver):
    """Sends back what is whole and new or next, and notes what is not."""

    interface = PACKETS
    ring_pages = (3, 3)

    def on_packets(self, channel: Channel, packets: Sequence[Packet]) -> None:
        taken, wild, corrupt, _ = NOTES.unpack_from(channel.state)
        for one in packets:
            number = number_of(one.payload)
            if number is None:
                corrupt += 1
            elif number > taken:
                wild += 1
            else:
                taken = max(taken, number + 1)
        channel.send_many([one.payload for one in packets])
        NOTES.pack_into(channel.state, 0, taken, wild, corrupt, os.getpid())


class Frugal(Echo):
    """Yields after every third packet."""

    budget_packets = 3


class Polling(Echo):
    """Reads its packets itself."""

    mode = Mode.ISR

    def on_interrupt(self, channel: Channel) -> None:
        while packets := channel.receive_many():
            self.on_packets(channel, packets)


class Direct(Echo):
    """Is signalled each time its ring was empty."""

    mode = Mode.DIRECT


class Flooder(Driver):
    """At its first packet sends until its ring is full, and then waits for room that never comes."""

    interface = PACKETS
    ring_pages = (3, 3)

    def on_packets(self, channel: Channel, _packets: Sequence[Packet]) -> None:
        sent = 0
        try:
            while True:
                channel.send(bytes(FLOOD))
                sent += 1
                channel.state[:8] = sent.to_bytes(8, "little")
        except ChannelGone as error:
            text = str(error).encode()[:200]
            with open(self.config, "wb") as note:
                note.write(text)
            raise


class Talker(Driver):
    """Answers a packet with 64 that its ring has no room for at once."""

    interface = PACKETS
    ring_pages = (3, 3)

    def on_packets(self, channel: Channel, _packets: Sequence[Packet]) -> None:
        for number in range(64):
            channel.send(packet(number, FLOOD), timeout=None)
            channel.state[:8] = (number + 1).to_bytes(8, "little")


class Asker(Driver):
    """Answers requests, notes the completions of its own."""

    interface = PACKETS
    ring_pages = (3, 3)

    def on_packets(self, channel: Channel, packets: Sequence[Packet]) -> None:
        for one in packets:
            if one.flags:
                channel.complete(one, b"answered")
            else:
                # The host says: ask me.
                channel.send(b"question", request=True)

    def on_completion(self, channel: Channel, one: Packet) -> None:
        count = int.from_bytes(channel.state[:8], "little") + (one.payload == b"by host!")
        channel.state[:8] = count.to_bytes(8, "little")


class Thrower(Driver):
    """Fails at every packet, after it has sent it back."""

    interface = PACKETS
    ring_pages = (3, 3)

    def on_packets(self, channel: Channel, packets: Sequence[Packet]) -> None:
        channel.send_many([one.payload for one in packets])
        raise RuntimeError("this driver always fails")


class Crosser(Driver):
    """In a callback of one channel sends on every other one that this process has ever served."""

    interface = PACKETS
    ring_pages = (3, 3)

    def __init__(self, config: str = "") -> None:
        super().__init__(config)
        self.served: dict[int, Channel] = {}

    def on_packets(self, channel: Channel, packets: Sequence[Packet]) -> None:
        for other in list(self.served.values()):
            if other is not channel:
                self.cross(other, [one.payload for one in packets])
        self.served[channel.relid] = channel

    def cross(self, other: Channel, payloads: list[bytes]) -> None:
        for payload in payloads:
            try:
                other.send(payload, timeout=0)
            except RingFull:
                continue
            except ChannelGone:
                del self.served[other.relid]
                return
