"""Packets beside the storm: numbered, with checksums, there and back, judged at both ends.

The device sends at most a window of packets ahead of what came back, so neither ring is ever full for good;
the driver judges each packet, notes it in the channel's state, where any worker process finds it, and sends
it back. The device judges it again. A packet whose number is not the next one of its channel was lost,
repeated or overtaken.
"""

import struct
import time
import zlib
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

import msgspec

from guest_client import Channel, Driver
from host_client import Device
from host_client.channel import Channel as HostChannel
from vmbusd.abi.errors import ChannelGone
from vmbusd.abi.packets import Packet

PACKET_INTERFACE: Final = UUID("7d1c4c0e-5f0a-4e6b-9a53-2b1f6e3c9d11")
CHANNELS_PER_HOST: Final = 8
"""Enough that packets are on their way on every VP all the time, beside any number of other channels."""
RING_PAGES: Final = (5, 5)
WINDOW: Final = 32
"""Packets ahead: with the largest payload about half a ring."""
SIZES: Final = 31
"""Payloads have 0 .. 30 words of 8 bytes behind their head: packets begin everywhere in the ring."""
_HEAD: Final = struct.Struct("<QII")
"""Number, bytes that follow, checksum of both."""
_NOTES: Final = struct.Struct("<QQQ")
"""In the channel's state: packets received, of them corrupt, of them not the next one."""


class Judged(msgspec.Struct, frozen=True):
    """What one end saw of one or more channels."""

    received: int = 0
    corrupt: int = 0
    disordered: int = 0

    def plus(self, other: "Judged") -> "Judged":
        return Judged(
            self.received + other.received,
            self.corrupt + other.corrupt,
            self.disordered + other.disordered,
        )


def make(number: int) -> bytes:
    """The packet of this number: its size and content follow from it."""
    body = number.to_bytes(8, "little") * (number % SIZES)
    return _HEAD.pack(number, len(body), zlib.crc32(body, number & 0xFFFFFFFF)) + body


def sound(payload: bytes) -> int | None:
    """The number of this packet; None when it is not as it was made."""
    if len(payload) < _HEAD.size:
        return None
    number, size, checksum = _HEAD.unpack_from(payload)
    body = payload[_HEAD.size : _HEAD.size + size]
    whole = len(body) == size and zlib.crc32(body, number & 0xFFFFFFFF) == checksum
    return int(number) if whole else None


def judge(seen: Judged, payloads: Iterable[bytes]) -> Judged:
    """`seen` and these, the next ones of one channel; a corrupt one counts as its number."""
    received, corrupt, disordered = seen.received, seen.corrupt, seen.disordered
    for payload in payloads:
        number = sound(payload)
        if number is None:
            corrupt += 1
        elif number != received:
            disordered += 1
        received += 1
    return Judged(received, corrupt, disordered)


def noted(channel: Channel) -> Judged:
    """What the driver has noted, in whatever processes."""
    return Judged(*_NOTES.unpack_from(channel.state))


class PacketDriver(Driver):
    """Judges what comes, then sends it back."""

    interface = PACKET_INTERFACE
    ring_pages = RING_PAGES

    def on_packets(self, channel: Channel, packets: Sequence[Packet]) -> None:
        """One batch; the claim says that nobody else has this channel."""
        payloads = [packet.payload for packet in packets]
        seen = judge(noted(channel), payloads)
        channel.send_many(payloads)
        _NOTES.pack_into(channel.state, 0, seen.received, seen.corrupt, seen.disordered)


class PacketDevice(Device):
    """One channel: sends packets, judges what comes back."""

    interface = PACKET_INTERFACE

    def __init__(self) -> None:
        self.sent = 0
        self.back = Judged()
        self._channel: HostChannel | None = None

    def on_open(self, channel: HostChannel) -> None:
        """From now on packets can be sent."""
        self._channel = channel

    def on_close(self, _channel: HostChannel) -> None:
        """No more packets."""
        self._channel = None

    def on_packets(self, _channel: HostChannel, packets: Sequence[Packet]) -> None:
        """What the guest sent back."""
        self.back = judge(self.back, [packet.payload for packet in packets])

    def push(self) -> int:
        """Send what the window allows; how many. For one thread."""
        channel, many = self._channel, WINDOW - (self.sent - self.back.received)
        if channel is None or many <= 0:
            return 0
        try:
            channel.send_many([make(number) for number in range(self.sent, self.sent + many)])
        except ChannelGone:
            # The guest closed it between the two lines above; what is missing is told at the end.
            return 0
        self.sent += many
        return many


def report(devices: Sequence[PacketDevice]) -> dict[str, int]:
    """What a host process says of its devices, with keys of their own."""
    total = Judged()
    for device in devices:
        total = total.plus(device.back)
    return {
        "packets_sent": sum(device.sent for device in devices),
        "packets_back": total.received,
        "packets_corrupt": total.corrupt,
        "packets_disordered": total.disordered,
        "packets_behind": sum(device.sent != device.back.received for device in devices),
    }


def settle(devices: Sequence[PacketDevice], patience: float, look: float) -> None:
    """Wait until all is back, or nothing has come for `patience` seconds; look every `look` seconds."""
    last, since = -1, time.monotonic()
    while any(device.sent != device.back.received for device in devices):
        received = sum(device.back.received for device in devices)
        if received != last:
            last, since = received, time.monotonic()
        elif time.monotonic() - since >= patience:
            return
        time.sleep(look)
