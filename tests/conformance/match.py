"""Compares what came with what a script expects of it, and writes messages the way scripts do."""

import struct
from collections.abc import Callable
from typing import Final
from uuid import UUID

import msgspec

from tests.conformance.script import ANYTHING, FAILED, Attributes, Fields, Value
from tests.conformance.vocabulary import BY_FORM, SHORT, Kind
from vmbusd.abi import messages, wire

_EVERY_FEATURE: Final = 0xFFFFFFFF
_LONG_OPEN: Final = 156
_RANGE_FIELDS: Final = ("words", "pfns", "page_count", "byte_count", "byte_offset")
RelidOf = Callable[[msgspec.Struct], int]


def decode(data: bytes, sender: wire.Sender) -> msgspec.Struct | str:
    """The message in bytes that are exactly one, or what is wrong with them."""
    features = _EVERY_FEATURE
    if sender is wire.Sender.GUEST and len(data) < _LONG_OPEN:
        features &= ~3
    try:
        message = wire.decode(data, wire.V6_0, features, sender=sender)
    except wire.WireError as error:
        return str(error)
    if wire.encode(message) != data:
        return f"{len(data)} bytes that are no exact {type(message).__name__}"
    return message


def words(message: msgspec.Struct) -> tuple[int, ...]:
    """The u64 words of a range buffer, or of the part that a message carries."""
    data: bytes = message.ranges  # type: ignore[attr-defined]
    return struct.unpack(f"<{len(data) // 8}Q", data[: len(data) & ~7])


def _range_value(name: str, message: msgspec.Struct) -> Value:
    """What a range buffer holds, seen as one range; a body holds page numbers only."""
    all_words = words(message)
    first = 0 if isinstance(message, messages.GpadlBody) else 1
    if name == "words":
        return all_words
    if name == "pfns":
        return all_words[first:]
    if name == "page_count":
        return len(all_words) - first
    low, high = (all_words[0] & 0xFFFFFFFF, all_words[0] >> 32) if all_words else (0, 0)
    return low if name == "byte_count" else high


def _show(name: str, value: Value) -> str:
    if isinstance(value, bytes):
        stripped = value.rstrip(b"\0")
        return stripped.hex() + ("" if len(stripped) == len(value) else "..00") if stripped else "00"
    if isinstance(value, UUID):
        return str(value) if value.int >= 1 << 32 else str(value.int)
    if isinstance(value, tuple):
        return ",".join(map(str, value)) if len(value) < 6 else f"{value[0]},{value[1]},..({len(value)})"
    if isinstance(value, int) and (value > 0xFFFF or "flags" in name or "status" in name):
        return hex(value)
    return str(value)


def shown(message: msgspec.Struct, relid_of: RelidOf | None = None) -> str:
    """A message as a script would write it; blobs of zeros are left out."""
    kind = BY_FORM.get(type(message))
    if kind is None:
        return repr(message)
    parts = [kind.name]
    if relid_of is not None and not hasattr(message, "relid") and not hasattr(message, "child_relid"):
        relid = relid_of(message)
        if relid:
            parts.append(f"relid={relid}")
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, bytes) and not value.strip(b"\0"):
            continue
        if name == "ranges":
            parts.append(f"words={_show('', words(message))}")
            continue
        short = SHORT.get(name, (name,))[0]
        parts.append(f"{short}={_show(name, value)}")
    return " ".join(parts)


def _equal(want: Value, got: Value) -> bool:
    if want is ANYTHING:
        return True
    if want is FAILED:
        return isinstance(got, int) and bool(got & messages.FAILED_BIT)
    return want == got


def difference(kind: Kind, fields: Fields, message: msgspec.Struct, relid_of: RelidOf | None = None) -> str:
    """Where a message is not what was expected, "" if it is. What is not named is not compared."""
    if BY_FORM.get(type(message)) is None or BY_FORM[type(message)].name != kind.name:
        return "another message"
    for name, want in fields.items():
        if name in _RANGE_FIELDS:
            got = _range_value(name, message)
        elif name == "relid" and not hasattr(message, "relid"):
            got = relid_of(message) if relid_of else 0
        elif hasattr(message, name):
            got = getattr(message, name)
        else:
            return f"{type(message).__name__} has no field {name}"
        if not _equal(want, got):
            return f"{SHORT.get(name, (name,))[0]} is {_show(name, got)}, not {_show(name, want)}"
    return ""


def wrong_attribute(want: Attributes, vp: int, sint: int, size: int, connection: int | None = None) -> str:
    """Which attribute of a message differs, "" if none does."""
    for name, expected, got in (
        ("vp", want.vp, vp),
        ("sint", want.sint, sint),
        ("vtl", want.vtl, 0),
        ("size", want.size, size),
        ("connection", want.connection, connection),
    ):
        if expected is not None and got is not None and expected != got:
            return f"@{name} is {got}, not {expected}"
    return ""
