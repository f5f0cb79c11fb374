"""GPADLs: range lists as bytes, split over header and bodies by the guest, joined and checked by the host.

A range buffer is `rangecount` times an 8-byte range header (byte count, byte offset) and one u64 page number
per page that the range touches. Splitting is Linux's (drivers/hv/channel.c create_gpadl_header): as many
whole words as fit. Joining is OpenVMM's (vmbus_server/src/channels.rs): words past the announced length are
ignored, and nothing is judged before the buffer is full (cases 084, 090).
"""

import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.layout import PAGE
from vmbusd.abi.messages import GpadlBody, GpadlHeader
from vmbusd.abi.wire import MAX_MESSAGE, size

WORD: Final = 8
HEADER_ROOM: Final = (MAX_MESSAGE - size(GpadlHeader)) & ~(WORD - 1)
"""Bytes of range buffer in a GPADL_HEADER: 27 words, so 26 pages of a single range (case 082)."""
BODY_ROOM: Final = (MAX_MESSAGE - size(GpadlBody)) & ~(WORD - 1)
MAX_BUFFER: Final = 0xFFFF & ~(WORD - 1)
"""`range_buflen` has 16 bits."""
MAX_PAGES: Final = MAX_BUFFER // WORD - 1
"""Pages in one GPADL of a single range (case 308)."""
_U32: Final = 0xFFFFFFFF
_WORDS: Final = [struct.Struct(f"<{count}Q") for count in range(HEADER_ROOM // WORD + 1)]
"""For buffers that fit into one message, as nearly all do."""


class Range(msgspec.Struct, frozen=True, gc=False):
    """`byte_count` bytes that begin `byte_offset` bytes into page `pfns[0]`."""

    byte_count: int
    byte_offset: int
    pfns: tuple[int, ...]


def pages_spanned(byte_count: int, byte_offset: int) -> int:
    """Pages touched by `byte_count` bytes that begin `byte_offset` bytes into a page."""
    return (byte_offset + byte_count + PAGE - 1) // PAGE


def whole_pages(pfns: Sequence[int]) -> Range:
    """The range of whole pages that a ring or a buffer of the guest library is."""
    return Range(len(pfns) * PAGE, 0, tuple(pfns))


def encode_ranges(ranges: Sequence[Range]) -> bytes:
    """The range buffer of `ranges`. Raises UsageError if a range is wrong or they are too long together."""
    parts = []
    for one in ranges:
        pages = len(one.pfns)
        spanned = pages_spanned(one.byte_count, one.byte_offset)
        if one.byte_count < 1 or not 0 <= one.byte_offset < PAGE or pages != spanned:
            raise UsageError(
                f"GPADL range: {one.byte_count} bytes at offset {one.byte_offset}, {pages} pages"
            )
        try:
            parts.append(struct.pack(f"<II{pages}Q", one.byte_count, one.byte_offset, *one.pfns))
        except struct.error as error:
            raise UsageError(f"GPADL range: {error}") from error
    buffer = b"".join(parts)
    if not buffer or len(buffer) > MAX_BUFFER:
        raise UsageError(f"GPADL of {len(buffer)} bytes of ranges; 1 to {MAX_PAGES} pages fit in one range")
    return buffer


def decode_ranges(buffer: bytes, count: int) -> list[Range]:
    """The `count` ranges of a full buffer; unused words at its end are allowed.

    Raises ProtocolError for no range, an empty one, an offset outside the page, a 32-bit overflow or too few
    page numbers (cases 087-089).
    """
    if count < 1:
        raise ProtocolError("GPADL without a range")
    length = len(buffer) // WORD
    unpack = _WORDS[length].unpack_from if length < len(_WORDS) else struct.Struct(f"<{length}Q").unpack_from
    words = unpack(buffer)
    ranges: list[Range] = []
    at = 0
    for index in range(count):
        if at >= length:
            raise ProtocolError(f"GPADL range {index} of {count} is missing")
        byte_count, byte_offset = words[at] & _U32, words[at] >> 32
        end = at + 1 + (byte_offset + byte_count + PAGE - 1) // PAGE
        if byte_count == 0 or byte_offset >= PAGE or byte_count + byte_offset > _U32:
            raise ProtocolError(f"GPADL range {index}: {byte_count} bytes at offset {byte_offset:#x}")
        if end > length:
            raise ProtocolError(f"GPADL range {index}: {end - at - 1} pages needed, {length - at - 1} came")
        ranges.append(Range(byte_count, byte_offset, words[at + 1 : end]))
        at = end
    return ranges


def whole_buffer(header: GpadlHeader) -> bytes | None:
    """The range buffer of a GPADL whose header carries all of it, without padding; None if bodies follow."""
    length = header.range_buflen & ~(WORD - 1)
    return header.ranges[:length] if length <= len(header.ranges) else None


def split(child_relid: int, gpadl: int, ranges: Sequence[Range]) -> list[GpadlHeader | GpadlBody]:
    """The messages that create a GPADL, in order. Raises UsageError like `encode_ranges`."""
    buffer = encode_ranges(ranges)
    header = GpadlHeader(child_relid, gpadl, len(buffer), len(ranges), buffer[:HEADER_ROOM])
    bodies = [
        GpadlBody(0, gpadl, buffer[start : start + BODY_ROOM])
        for start in range(HEADER_ROOM, len(buffer), BODY_ROOM)
    ]
    return [header, *bodies]


class Assembly:
    """A range buffer on its way: bytes so far, bytes missing.

    Attributes: `range_count`, what the header announced; `missing`, bytes still to come (0: full).
    """

    __slots__ = ("_buffer", "missing", "range_count")

    def __init__(self, header: GpadlHeader) -> None:
        self.range_count = header.rangecount
        self.missing = header.range_buflen & ~(WORD - 1)
        self._buffer = bytearray()
        self.add(header.ranges)

    def add(self, words: bytes) -> None:
        """Take the words that are still missing; the rest is padding (case 084)."""
        taken = words[: min(len(words) & ~(WORD - 1), self.missing)]
        self._buffer += taken
        self.missing -= len(taken)

    def buffer(self) -> bytes:
        """The bytes so far."""
        return bytes(self._buffer)


class RingPages(msgspec.Struct, frozen=True):
    """The two rings of a channel as page numbers; the first page of each is its control page (case 067)."""

    guest_to_host: tuple[int, ...]
    host_to_guest: tuple[int, ...]


def check_ring(ranges: Sequence[Range], downstream_page: int) -> None:
    """Can these ranges be the rings of a channel, split at page `downstream_page`? Raises ProtocolError.

    One range, whole pages, and at least a page on each side (cases 065, 066).
    """
    if len(ranges) != 1 or ranges[0].byte_offset or ranges[0].byte_count % PAGE:
        raise ProtocolError("a ring GPADL is one range of whole pages")
    count = ranges[0].byte_count // PAGE
    if not 0 < downstream_page < count:
        raise ProtocolError(f"ring offset {downstream_page} in a GPADL of {count} pages")


def ring_pages(ranges: Sequence[Range], downstream_page: int) -> RingPages:
    """The rings in an accepted GPADL. Raises ProtocolError like `check_ring`."""
    check_ring(ranges, downstream_page)
    pfns = ranges[0].pfns
    return RingPages(pfns[:downstream_page], pfns[downstream_page:])
