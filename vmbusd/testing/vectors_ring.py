"""Golden vectors of rings, through the native ring: a packet as it is written and read, and who is signalled.

The bytes of a packet are checked twice: by the codec of `packets`, and by a ring that is made to look like
the vector's before the write. Nothing else on that ring may change.
"""

import struct
from collections.abc import Callable
from typing import Final

from vmbusd.abi import packets
from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.gpadl import Range, pages_spanned
from vmbusd.abi.layout import PAGE
from vmbusd.abi.native import RingReader, RingView, RingWriter
from vmbusd.testing.vector_fields import Fields, VectorError, each, same, same_bytes, same_structure

Check = Callable[[str, Fields, Fields], None]

_INDICES: Final = struct.Struct("<4I")
"""write_index, read_index, interrupt_mask, pending_send_sz: the first words of a ring's header page."""
_FEATURES: Final = 64
_WORD: Final = 8


def ring_packet(_name: str, entry: Fields, fields: Fields) -> None:
    """The bytes of a packet, where they land, and whether the reader is signalled."""
    size, start = fields.number("ring_data_size", bits=32), fields.number("write_index", bits=32)
    read_index = fields.number("read_index", bits=32)
    if not size or size % packets.WORD or max(start, read_index) >= size:
        raise VectorError("fields.ring_data_size", f"{size} with indices {start} and {read_index}")
    mask, signal = fields.number("interrupt_mask", bits=32), entry.flag("signal")
    packet = packets.Packet(
        type=fields.number("packet_type", bits=16),
        flags=fields.number("packet_flags", bits=16),
        transaction_id=fields.number("transaction_id"),
        extra=fields.hex("header_extra"),
        payload=fields.hex("payload"),
    )
    _type_header(packet, fields)
    fields.finish()
    need, room = packets.size_on_ring(packet), size - (start - read_index) % size
    result = "ok" if room > need else "full"
    same("result", result, entry.text("result"))
    after = (start + need) % size if room > need else start
    same("write_index_after", after, entry.number("write_index_after"))
    memory = _memory(size, start, read_index, mask)
    written = _write(memory, packet)
    same("signal", written is True, signal)
    same("result", "full" if written is None else "ok", result)
    same("write_index_after", _INDICES.unpack_from(memory)[0], after)
    if result == "full":
        return
    data = entry.hex("hex")
    _stands(memory, data, start, size)
    _reads(memory, start, packet, data)
    same_bytes("hex", packets.encode(packet, start), data)
    _lands(data, start, size, entry.objects("segments"))
    decoded, taken = packets.decode(data, packets.ALL)
    same("hex", taken, len(data))
    if len(decoded.payload) - len(packet.payload) not in range(packets.WORD):
        raise VectorError("hex", f"decodes to a payload of {len(decoded.payload)} bytes")
    same_structure(decoded, packet)


def _type_header(packet: packets.Packet, fields: Fields) -> None:
    """`ranges`, where a vector has them, are what `header_extra` says."""
    if packet.type == packets.PacketType.GPA_DIRECT and fields.has("ranges"):
        ranges = each(fields.objects("ranges"), _gpa_range)
        same_bytes("fields.header_extra", _laid_out(ranges), packet.extra)
        if all(len(one.pfns) == pages_spanned(one.byte_count, one.byte_offset) for one in ranges):
            same_bytes("fields.ranges", packets.encode_gpa_direct(ranges), packet.extra)
            same("fields.header_extra", packets.decode_gpa_direct(packet.extra), ranges)
        else:
            _is_refused(packet.extra)
    elif packet.type == packets.PacketType.TRANSFER_PAGES and fields.has("ranges"):
        parts = each(fields.objects("ranges"), _transfer_range)
        set_id = fields.number("transfer_page_set_id", bits=16)
        owns = fields.number("sender_owns_set", 0, bits=8)
        pages = packets.TransferPages(set_id, tuple(parts), owns)
        same_bytes("fields.ranges", packets.encode_transfer_pages(pages), packet.extra)
        same("fields.header_extra", packets.decode_transfer_pages(packet.extra), pages)


def _laid_out(ranges: list[Range]) -> bytes:
    """The header as a guest writes it that does not look whether a range has all its pages (Linux)."""
    parts = (
        struct.pack(f"<II{len(one.pfns)}Q", one.byte_count, one.byte_offset, *one.pfns) for one in ranges
    )
    return struct.pack("<II", 0, len(ranges)) + b"".join(parts)


def _is_refused(extra: bytes) -> None:
    """Ranges with too few pages are Linux's bytes, but no reader may follow them (docs/rings.md)."""
    try:
        decoded = packets.decode_gpa_direct(extra)
    except ProtocolError:
        return
    raise VectorError("fields.ranges", f"a range has too few pages, but decodes as {decoded}")


def _gpa_range(one: Fields) -> Range:
    pfns = tuple(one.numbers("pfns"))
    return Range(one.number("byte_count", bits=32), one.number("byte_offset", bits=32), pfns)


def _transfer_range(one: Fields) -> packets.TransferRange:
    return packets.TransferRange(one.number("byte_count", bits=32), one.number("byte_offset", bits=32))


def _lands(data: bytes, start: int, size: int, segments: list[Fields]) -> None:
    """One segment, or two when the data area ends in between."""
    first = data[: size - start]
    expected = [(start, first), (0, data[len(first) :])] if len(first) < len(data) else [(start, first)]
    same("segments", len(expected), len(segments))
    for index, ((offset, part), segment) in enumerate(zip(expected, segments, strict=True)):
        same(f"segments[{index}].offset", offset, segment.number("offset"))
        same_bytes(f"segments[{index}].hex", part, segment.hex("hex"))
        segment.finish()


def _memory(size: int, write_index: int, read_index: int, mask: int) -> bytearray:
    """A ring of `size` bytes with these words in its header."""
    memory = bytearray(PAGE + size)
    _INDICES.pack_into(memory, 0, write_index, read_index, mask, 0)
    memory[_FEATURES] = 1
    return memory


def _write(memory: bytearray, packet: packets.Packet) -> bool | None:
    """Whether the reader is to be signalled, None when there is no room, now or ever."""
    writer = RingWriter(RingView(memory))
    try:
        return writer.put(packet.payload, packet.type, packet.flags, packet.transaction_id, packet.extra)
    except UsageError:
        return None


def _stands(memory: bytearray, data: bytes, start: int, size: int) -> None:
    """The data area holds these bytes, over its end if need be, and zeros everywhere else."""
    area = bytearray(size)
    for at, byte in enumerate(data):
        area[(start + at) % size] = byte
    same_bytes("hex", bytes(memory[PAGE:]), bytes(area))


def _reads(memory: bytearray, start: int, packet: packets.Packet, data: bytes) -> None:
    """The reader finds the packet at `start`, whatever was before it."""
    struct.pack_into("<I", memory, 4, start)
    got = RingReader(RingView(memory)).get()
    if got is None:
        raise VectorError("hex", "the reader finds nothing")
    kind, flags, transaction_id, payload, extra = got
    seen = packets.Packet(kind, flags, transaction_id, payload, extra)
    same("hex", packets.size_on_ring(seen), len(data))
    same_structure(seen, packet)


def read_signal(_name: str, entry: Fields, fields: Fields) -> None:
    """Whether a reader that gives room back signals the writer, and where the indices stand then."""
    size = fields.number("ring_data_size", bits=32)
    start, end = fields.number("read_index", bits=32), fields.number("write_index", bits=32)
    if not size or size % _WORD or max(start, end) >= size:
        raise VectorError("fields.ring_data_size", f"{size} with indices {start} and {end}")
    sizes = fields.numbers("packet_payload_sizes")
    count = fields.number("packets_read", bits=32)
    pending, features = fields.number("pending_send_sz", bits=32), fields.number("feature_bits", bits=32)
    free = fields.number("free_bytes_before", bits=32)
    fields.finish()
    memory = _memory(size, start, start, 0)
    writer = RingWriter(RingView(memory))
    for index, payload in enumerate(sizes):
        if writer.put(bytes(payload)) is None:
            raise VectorError("fields.packet_payload_sizes", f"packet {index} finds no room")
    same("fields.write_index", _INDICES.unpack_from(memory)[0], end)
    same("fields.free_bytes_before", size - (end - start) % size, free)
    struct.pack_into("<I", memory, 12, pending)
    struct.pack_into("<I", memory, _FEATURES, features)
    reader = RingReader(RingView(memory))
    for index in range(count):
        if reader.get(commit=False) is None:
            raise VectorError("fields.packets_read", f"{count}, but {index} are there")
    same("signal", reader.commit(), entry.flag("signal"))
    after = _INDICES.unpack_from(memory)[1]
    same("read_index_after", after, entry.number("read_index_after"))
    same("free_bytes_after", size - (end - after) % size, entry.number("free_bytes_after"))


KINDS: Final[dict[str, Check]] = {"RING_PACKET": ring_packet, "READ_SIGNAL": read_signal}
