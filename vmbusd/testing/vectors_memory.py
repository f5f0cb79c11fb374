"""Golden vectors of shared memory: packets of a ring as bytes, SynIC pages, and how a guest signals."""

import struct
from collections.abc import Callable
from typing import Final, TypeVar

from vmbusd.abi import packets, synic
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.gpadl import Range, pages_spanned
from vmbusd.testing.vector_fields import Fields, VectorError, same, same_bytes, same_structure

Check = Callable[[str, Fields, Fields], None]
T = TypeVar("T")


def ring_packet(_name: str, entry: Fields, fields: Fields) -> None:
    """The bytes of a packet and where they land; when the reader is signalled is for the ring to say."""
    size, start = fields.number("ring_data_size", bits=32), fields.number("write_index", bits=32)
    read_index = fields.number("read_index", bits=32)
    if not size or size % packets.WORD or max(start, read_index) >= size:
        raise VectorError("fields.ring_data_size", f"{size} with indices {start} and {read_index}")
    fields.number("interrupt_mask", bits=32)
    entry.flag("signal")
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
    if result == "full":
        return
    data = entry.hex("hex")
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
        ranges = _each(fields.objects("ranges"), _gpa_range)
        same_bytes("fields.header_extra", _laid_out(ranges), packet.extra)
        if all(len(one.pfns) == pages_spanned(one.byte_count, one.byte_offset) for one in ranges):
            same_bytes("fields.ranges", packets.encode_gpa_direct(ranges), packet.extra)
            same("fields.header_extra", packets.decode_gpa_direct(packet.extra), ranges)
        else:
            _is_refused(packet.extra)
    elif packet.type == packets.PacketType.TRANSFER_PAGES and fields.has("ranges"):
        parts = _each(fields.objects("ranges"), _transfer_range)
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
    """Ranges with too few pages are Linux's bytes, but no reader may follow them."""
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


def synic_message(_name: str, entry: Fields, fields: Fields) -> None:
    """A slot of the message page."""
    payload, data = fields.hex("payload"), entry.hex("hex")
    same("fields.slot_offset", synic.slot_offset(fields.number("sint")), fields.number("slot_offset"))
    same("fields.payload_size", len(payload), fields.number("payload_size"))
    kind, sender = fields.number("message_type", bits=32), fields.number("sender")
    message = synic.SlotMessage(kind, payload, sender, fields.flag("msg_pending"))
    fields.finish()
    same_bytes("hex", synic.encode_slot(message), data)
    decoded = synic.decode_slot(data)
    same("fields.payload", decoded.payload, payload)
    same_structure(decoded, message)


def event_flag(_name: str, entry: Fields, fields: Fields) -> None:
    """The position of a flag in the event page; there are no bytes."""
    position = synic.flag_position(fields.number("sint"), fields.number("flag"))
    fields.finish()
    for name, value in position._asdict().items():
        same(name, value, entry.number(name))


def post_message(_name: str, entry: Fields, fields: Fields) -> None:
    """The input of HvPostMessage."""
    payload, data = fields.hex("payload"), entry.hex("hex")
    same("fields.call_code", synic.POST_MESSAGE, fields.number("call_code"))
    same("fields.payload_size", len(payload), fields.number("payload_size"))
    kind = fields.number("message_type", bits=32)
    call = synic.PostMessage(fields.number("connection_id", bits=32), payload, kind)
    fields.finish()
    # Some senders hand over the whole 256 bytes of the input.
    same_bytes("hex", synic.encode_post(call).ljust(len(data), b"\0"), data)
    same("fields.payload", synic.decode_post(data).payload, payload)
    same_structure(synic.decode_post(data), call)


def signal_event(_name: str, entry: Fields, fields: Fields) -> None:
    """The input of HvSignalEvent."""
    data = entry.hex("hex")
    same("fields.call_code", synic.SIGNAL_EVENT, fields.number("call_code"))
    call = synic.SignalEvent(fields.number("connection_id", bits=32), fields.number("flag_number", bits=16))
    fields.finish()
    same_bytes("hex", synic.encode_signal(call), data)
    same_structure(synic.decode_signal(data), call)


def guest_signal(_name: str, entry: Fields, fields: Fields) -> None:
    """What a guest writes or calls to signal its host; there are no bytes."""
    monitor = fields.number("monitorid", bits=8)
    ours = synic.guest_signal(
        fields.number("child_relid", bits=32),
        fields.number("connection_id", bits=32),
        dedicated=fields.flag("is_dedicated_interrupt"),
        monitor=monitor if fields.flag("monitor_allocated") else None,
        low_latency=fields.flag("low_latency"),
    )
    fields.finish()
    _writes("interrupt_page_writes", ours.interrupt_page, entry)
    _writes("monitor_page_child_to_parent_writes", ours.monitor_page, entry)
    vector = entry.raw("hypercall")
    call: dict[str, int] | None = None
    if ours.call is not None:
        (register,) = struct.unpack("<Q", synic.encode_signal(ours.call))
        call = {"code": synic.SIGNAL_EVENT, "fast_input": register}
    same("hypercall", call, vector)


def _writes(name: str, ours: tuple[tuple[int, int], ...], entry: Fields) -> None:
    writes = _each(entry.objects(name), lambda write: (write.number("offset"), write.number("value")))
    same(name, list(ours), writes)


def _each(items: list[Fields], read: Callable[[Fields], T]) -> list[T]:
    """What `read` makes of every object, which must use all its fields."""
    values = []
    for item in items:
        values.append(read(item))
        item.finish()
    return values


KINDS: Final[dict[str, Check]] = {
    "RING_PACKET": ring_packet,
    "SYNIC_MESSAGE": synic_message,
    "EVENT_FLAG": event_flag,
    "POST_MESSAGE_INPUT": post_message,
    "SIGNAL_EVENT_INPUT": signal_event,
    "GUEST_SIGNAL": guest_signal,
}
