"""Packets of a ring as bytes: descriptor, type header, payload, padding and trailer.

What stands on a ring between two indices, without the ring itself. A packet is a multiple of 8 bytes, so a
reader sees the payload rounded up: protocols that need the exact length carry it. Reserved words of the type
headers may hold garbage and are not looked at. Source: Linux 6.1 drivers/hv/channel.c,
OpenVMM vmbus_ring/src/lib.rs.
"""

import enum
import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.gpadl import Range, pages_spanned
from vmbusd.abi.layout import PAGE

WORD: Final = 8
DESCRIPTOR: Final = struct.Struct("<HHHHQ")
TRAILER_SIZE: Final = 8
MAX_LEN8: Final = 0xFFFF
COMPLETION_REQUESTED: Final = 1
_FLAGS: Final = COMPLETION_REQUESTED
_TRANSFER_PAGES: Final = struct.Struct("<HBxI")
_GPA_DIRECT: Final = struct.Struct("<II")
_RANGE: Final = struct.Struct("<II")
_U32: Final = 0xFFFFFFFF


class PacketType(enum.IntEnum):
    """Descriptor types; USED are the ones anybody still sends."""

    SYNCH = 1
    ADD_TRANSFER_PAGES = 2
    REMOVE_TRANSFER_PAGES = 3
    ESTABLISH_GPADL = 4
    TEARDOWN_GPADL = 5
    IN_BAND = 6
    TRANSFER_PAGES = 7
    GPADL = 8
    GPA_DIRECT = 9
    CANCEL = 10
    COMPLETION = 11
    USING_ADDITIONAL = 12
    ADDITIONAL = 13


USED: Final = frozenset(
    {PacketType.IN_BAND, PacketType.TRANSFER_PAGES, PacketType.GPA_DIRECT, PacketType.COMPLETION}
)
ALL: Final = frozenset(PacketType)
_LEAST_EXTRA: Final[dict[int, int]] = {
    PacketType.TRANSFER_PAGES: _TRANSFER_PAGES.size,
    PacketType.GPA_DIRECT: _GPA_DIRECT.size,
}


class Packet(msgspec.Struct, frozen=True):
    """One packet. `extra` is the type's header after the descriptor; a decoded payload ends in padding."""

    type: int
    flags: int
    transaction_id: int
    payload: bytes
    extra: bytes = b""


class TransferRange(msgspec.Struct, frozen=True):
    """`byte_count` bytes at `byte_offset` of a transfer page set."""

    byte_count: int
    byte_offset: int


class TransferPages(msgspec.Struct, frozen=True):
    """The header of a TRANSFER_PAGES packet."""

    set_id: int
    ranges: tuple[TransferRange, ...]
    sender_owns_set: int = 0


def size_on_ring(packet: Packet) -> int:
    """Bytes that a packet takes, trailer included."""
    return DESCRIPTOR.size + len(packet.extra) + _padded(len(packet.payload)) + TRAILER_SIZE


def encode(packet: Packet, start: int) -> bytes:
    """The packet as it stands on a ring from byte `start` of the data area on, before it is wrapped.

    Raises UsageError for a type header that is no multiple of 8, a value that does not fit, or too long.
    """
    offset, rest = divmod(DESCRIPTOR.size + len(packet.extra), WORD)
    padding = -len(packet.payload) % WORD
    whole = offset + (len(packet.payload) + padding) // WORD
    if rest or whole > MAX_LEN8:
        raise UsageError(f"packet: header of {len(packet.extra)}, payload of {len(packet.payload)} bytes")
    try:
        head = DESCRIPTOR.pack(packet.type, offset, whole, packet.flags, packet.transaction_id)
        trailer = struct.pack("<II", 0, start)
    except struct.error as error:
        raise UsageError(f"packet: {error}") from error
    return head + packet.extra + packet.payload + bytes(padding) + trailer


def decode(data: bytes, types: frozenset[int] = USED) -> tuple[Packet, int]:
    """The first packet in what a ring holds, unwrapped, and the bytes it took, trailer included.

    Raises ProtocolError for a type that is not in `types`, unknown flags, and lengths that do not fit each
    other, the type or `data` (the trailer must be there too).
    """
    if len(data) < DESCRIPTOR.size:
        raise ProtocolError(f"a descriptor needs {DESCRIPTOR.size} bytes, {len(data)} are there")
    kind, offset, whole, flags, transaction_id = DESCRIPTOR.unpack_from(data)
    start, end = offset * WORD, whole * WORD
    if kind not in types:
        raise ProtocolError(f"packet of type {kind}")
    if flags & ~_FLAGS:
        raise ProtocolError(f"packet with flags {flags:#x}")
    if not DESCRIPTOR.size + _LEAST_EXTRA.get(kind, 0) <= start <= end <= len(data) - TRAILER_SIZE:
        raise ProtocolError(f"packet: payload at {start}, end at {end}, {len(data)} bytes are there")
    packet = Packet(kind, flags, transaction_id, bytes(data[start:end]), bytes(data[DESCRIPTOR.size : start]))
    return packet, end + TRAILER_SIZE


def encode_gpa_direct(ranges: Sequence[Range]) -> bytes:
    """The type header that names guest pages. Raises UsageError for a wrong range or none."""
    parts = [_GPA_DIRECT.pack(0, len(ranges))]
    for one in ranges:
        pages = pages_spanned(one.byte_count, one.byte_offset)
        if one.byte_count < 1 or not 0 <= one.byte_offset < PAGE or len(one.pfns) != pages:
            raise UsageError(f"GPA range: {one.byte_count} bytes at {one.byte_offset}, {len(one.pfns)} pages")
        try:
            parts.append(struct.pack(f"<II{pages}Q", one.byte_count, one.byte_offset, *one.pfns))
        except struct.error as error:
            raise UsageError(f"GPA range: {error}") from error
    if not ranges:
        raise UsageError("a GPA direct packet without a range")
    return b"".join(parts)


def decode_gpa_direct(extra: bytes) -> list[Range]:
    """The guest pages that a type header names; unused bytes at its end are allowed.

    Raises ProtocolError for no range, an empty one, an offset outside the page, or too few page numbers.
    """
    if len(extra) < _GPA_DIRECT.size:
        raise ProtocolError(f"a GPA direct header of {len(extra)} bytes")
    count, at = _GPA_DIRECT.unpack_from(extra)[1], _GPA_DIRECT.size
    if not count:
        raise ProtocolError("a GPA direct packet without a range")
    ranges: list[Range] = []
    for index in range(count):
        if len(extra) - at < _RANGE.size:
            raise ProtocolError(f"GPA range {index} of {count} is missing")
        byte_count, byte_offset = _RANGE.unpack_from(extra, at)
        at += _RANGE.size
        pages = pages_spanned(byte_count, byte_offset)
        if not byte_count or byte_offset >= PAGE or byte_count + byte_offset > _U32:
            raise ProtocolError(f"GPA range {index}: {byte_count} bytes at offset {byte_offset:#x}")
        if len(extra) - at < pages * WORD:
            raise ProtocolError(f"GPA range {index}: {pages} pages needed, {(len(extra) - at) // WORD} came")
        ranges.append(Range(byte_count, byte_offset, struct.unpack_from(f"<{pages}Q", extra, at)))
        at += pages * WORD
    return ranges


def encode_transfer_pages(pages: TransferPages) -> bytes:
    """The type header that names parts of a transfer page set. Raises UsageError for what does not fit."""
    try:
        head = _TRANSFER_PAGES.pack(pages.set_id, pages.sender_owns_set, len(pages.ranges))
        return head + b"".join(_RANGE.pack(one.byte_count, one.byte_offset) for one in pages.ranges)
    except struct.error as error:
        raise UsageError(f"transfer pages: {error}") from error


def decode_transfer_pages(extra: bytes) -> TransferPages:
    """The parts that a type header names; unused bytes at its end are allowed.

    Raises ProtocolError when it is cut short.
    """
    if len(extra) < _TRANSFER_PAGES.size:
        raise ProtocolError(f"a transfer page header of {len(extra)} bytes")
    set_id, owns, count = _TRANSFER_PAGES.unpack_from(extra)
    room = (len(extra) - _TRANSFER_PAGES.size) // _RANGE.size
    if count > room:
        raise ProtocolError(f"{count} transfer page ranges, there is room for {room}")
    pairs = struct.unpack_from(f"<{2 * count}I", extra, _TRANSFER_PAGES.size)
    ranges = tuple(TransferRange(*pair) for pair in zip(pairs[::2], pairs[1::2], strict=True))
    return TransferPages(set_id, ranges, owns)


def _padded(size: int) -> int:
    return (size + WORD - 1) & ~(WORD - 1)
