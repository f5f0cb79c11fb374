"""Golden vectors of the control plane: channel messages, and GPADLs split into several of them."""

import struct
from collections.abc import Callable
from typing import Any, Final

import msgspec

from vmbusd.abi import gpadl, messages, wire
from vmbusd.testing.vector_fields import Fields, VectorError, same, same_bytes, same_structure, version

ALL_FEATURES: Final = 0xFF
_HEAD: Final = struct.Struct("<II")
_DIRECTIONS: Final = {sender.value: sender for sender in wire.Sender}


def version_of(entry: Fields) -> int:
    """The version to decode with; a layout that depends on none is read with the newest."""
    text = entry.text("protocol_version")
    if text == "any":
        return wire.V6_0
    major, minor = version("protocol_version", text)
    return major << 16 | minor


def sender_of(entry: Fields) -> wire.Sender:
    """Who sends the message."""
    direction = entry.text("direction")
    if direction not in _DIRECTIONS:
        raise VectorError("direction", f"{direction!r} is none of {', '.join(_DIRECTIONS)}")
    return _DIRECTIONS[direction]


def channel_message(name: str, entry: Fields, fields: Fields) -> None:
    """Both ways between the fields of a channel message and its bytes."""
    data, at, sender = entry.hex("hex"), version_of(entry), sender_of(entry)
    row = _row(name, fields)
    same("direction", row.sender.value, sender.value)
    same("fields.msgtype", row.number, fields.number("msgtype", bits=32))
    message = _message(row.cls, fields)
    fields.finish()
    same_bytes("hex", wire.encode(message), data)
    # Without the feature OPENCHANNEL has its short form; every other form shows in its bytes.
    features = 0 if row.cls is messages.Open else ALL_FEATURES
    same_structure(wire.decode(data, at, features, sender=sender), message)


def _row(name: str, fields: Fields) -> wire.Row:
    rows = [row for row in wire.MESSAGES if row.name == name]
    # INITIATE_CONTACT below 5.0 shares the name: the version asked for decides.
    if name == "INITIATE_CONTACT":
        old = fields.number("vmbus_version_requested", bits=32) < wire.V5_0
        rows = [row for row in rows if (row.cls is messages.InitiateContactOld) == old]
    return rows[0]


def _message(cls: type[msgspec.Struct], fields: Fields) -> msgspec.Struct:
    """The message; what is a range buffer in ours are its first range and page numbers in a vector."""
    given: dict[str, Any] = {}
    if "ranges" in cls.__struct_fields__:
        words = fields.numbers("pfns")
        given["ranges"] = struct.pack(f"<{len(words)}Q", *words)
        if cls is messages.GpadlHeader:
            counts = (fields.number(f"range0_byte_{what}", bits=32) for what in ("count", "offset"))
            given["ranges"] = _HEAD.pack(*counts) + given["ranges"]
    return fields.structure(cls, **given)


def gpadl_sequence(_name: str, entry: Fields, fields: Fields) -> None:
    """One range, split into messages as Linux does, and joined again also when they are padded."""
    at = version_of(entry)
    same("direction", wire.Sender.GUEST, sender_of(entry))
    expected = [
        Fields({"hex": part}, f"messages[{index}].").hex("hex")
        for index, part in enumerate(entry.items("messages"))
    ]
    pfns = fields.numbers("pfns")
    one = gpadl.Range(
        fields.number("byte_count", bits=32), fields.number("byte_offset", bits=32), tuple(pfns)
    )
    same("fields.page_count", len(pfns), fields.number("page_count"))
    relid, handle = fields.number("child_relid", bits=32), fields.number("gpadl", bits=32)
    fields.finish()
    ours = [wire.encode(part) for part in gpadl.split(relid, handle, [one])]
    same("messages", len(ours), len(expected))
    for index, (mine, theirs) in enumerate(zip(ours, expected, strict=True)):
        same_bytes(f"messages[{index}]", mine, theirs)
    for padding in (0, wire.MAX_MESSAGE):
        same("messages", _join([part.ljust(padding, b"\xee") for part in expected], at, relid, handle), [one])


def _join(parts: list[bytes], at: int, relid: int, handle: int) -> list[gpadl.Range]:
    header, *bodies = (wire.decode(part, at) for part in parts)
    if not isinstance(header, messages.GpadlHeader):
        raise VectorError("messages[0]", f"is no GPADL_HEADER but {type(header).__name__}")
    same("messages[0]", (header.child_relid, header.gpadl), (relid, handle))
    assembly = gpadl.Assembly(header)
    for index, body in enumerate(bodies, 1):
        if not isinstance(body, messages.GpadlBody) or body.gpadl != handle or not assembly.missing:
            raise VectorError(f"messages[{index}]", "is no GPADL_BODY that was still missing")
        assembly.add(body.ranges)
    same("messages", assembly.missing, 0)
    return gpadl.decode_ranges(assembly.buffer(), assembly.range_count)


Check = Callable[[str, Fields, Fields], None]
KINDS: Final[dict[str, Check]] = {row.name: channel_message for row in wire.MESSAGES} | {
    "GPADL_SEQUENCE": gpadl_sequence
}
