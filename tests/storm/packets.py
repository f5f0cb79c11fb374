"""The storm's packets: what each says of itself, and what must not come after what.

Behind a head of the storm's is a packet of the demo, whose content follows from its number. The head names
the open and the worker that sent it, and where that worker's last batch began: with that the judge is exact.
Packets of a channel come in order, each once, with one exception. A worker that dies may have handed out a
batch and not given it back, or sent a batch and not noted it: the next one begins that very batch again. So a
packet is the next one, or the first one of a batch whose worker no longer lives; all else is wrong.
"""

import struct
import zlib
from typing import Final
from uuid import UUID

import msgspec

from tests.storm.ledger import Ledger
from vmbusd.demo import cell, packets

INTERFACE: Final = UUID("8e0d6c52-3f1b-49a7-b2c4-95d07e6a1f38")
RING_PAGES: Final = (3, 3)
"""Two pages of data each: the ring goes round after a few batches, and over its end with a packet often."""
WINDOW: Final = 12
"""Packets that may be under way on a channel. Twice as many of the largest fit a ring, so that those have
room which came back and were not given back yet: only after several deaths in a row somebody waits for it."""
_EVERY: Final = 3
_HEAD: Final = struct.Struct("<QQII")
"""Generation; where the sender's batch began; its pid; the checksum of these three and the number."""
_FIELDS: Final = struct.Struct("<QQIQ")

NEXT: Final = 0
"""Words of `Channel.state`, which follows the channel from worker to worker. First: the number expected."""
BEGUN: Final = 1
"""The number at which the last batch that was judged began."""
WORKER: Final = 2
"""The pid of the worker that judged it."""
BACK_SENT: Final = 3
"""The number that is to be sent back next."""
INSIDE: Final = 4
"""The pid of the process in the callback, 0 for none."""

PLACES: Final = 4
"""Places in a callback where a worker takes its time, or dies: see `packet_driver`."""


class Numbered(msgspec.Struct, frozen=True):
    """What a packet says of itself."""

    generation: int
    number: int
    begun: int = 0
    sender: int = 0


class Position(msgspec.Struct, frozen=True):
    """What one end of a channel expects: number `next`, or `begun` again if process `worker` is dead."""

    next: int = 0
    begun: int = 0
    worker: int = 0


class Progress(msgspec.Struct, frozen=True):
    """The state of an open channel as its guest notes it, and what its rings look like, for people."""

    next: int
    back_sent: int
    worker: int
    rings: str = ""


def is_of_packets(number: int) -> bool:
    """Whether this device of a host, counted from 0, has packets: three of eight do."""
    return number % _EVERY == 0


def make(packet: Numbered) -> bytes:
    """Its bytes."""
    return _HEAD.pack(packet.generation, packet.begun, packet.sender, _checksum(packet)) + packets.make(
        packet.number
    )


def read(payload: bytes) -> Numbered | None:
    """What it says; None when it is not as it was made."""
    if len(payload) < _HEAD.size or (number := packets.sound(payload[_HEAD.size :])) is None:
        return None
    generation, begun, sender, checksum = _HEAD.unpack_from(payload)
    packet = Numbered(generation, number, begun, sender)
    return packet if checksum == _checksum(packet) else None


def _checksum(packet: Numbered) -> int:
    return zlib.crc32(_FIELDS.pack(packet.generation, packet.begun, packet.sender, packet.number))


def largest() -> int:
    """Bytes of the largest payload."""
    return max(len(make(Numbered(1, number))) for number in range(packets.SIZES))


def follow(at: Position, payload: bytes, generation: int, ledger: Ledger) -> Numbered:
    """Judge the next packet of an open, and book it; one that is corrupt counts as the one expected."""
    packet = read(payload)
    if packet is None:
        ledger.add("corrupt")
        return Numbered(generation, at.next)
    if packet.generation != generation:
        ledger.add("foreign_packets")
    elif packet.number > at.next:
        ledger.add("gap")
    elif packet.number < at.next:
        if packet.number == at.begun and at.worker and not cell.process_lives(at.worker):
            ledger.add("repeats", at.next - packet.number)
        else:
            ledger.add("repeated")
    return packet
