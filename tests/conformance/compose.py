"""Builds the messages that a script sends: what a line leaves out gets the value that an ordinary peer uses.

Open id and GPADL handle are the relid, rings are four pages split in the middle, a contact asks for the
version of the script, and a range buffer that is too long for one message goes on in the next GPADL_BODY.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import msgspec

from tests.conformance.script import FAILED, Fields, Value
from tests.conformance.vocabulary import Kind
from vmbusd.abi import gpadl, layout, link, messages, wire
from vmbusd.abi.layout import PAGE

FIRST_PAGE: Final = 16
RING_PAGES: Final = 4
RING_SPLIT: Final = 2
DEFAULT_RELID: Final = 1
_SIGNALS: Final = messages.Feature.GUEST_SIGNAL_PARAMETERS | messages.Feature.INTERRUPT_REDIRECTION
_RANGE_FIELDS: Final = ("words", "pfns", "page_count", "byte_count", "byte_offset")


@dataclass
class Context:
    """What the defaults depend on. `unfinished`: GPADL handle -> bytes that no message has carried yet."""

    version: int = wire.V5_3
    features: int = 0
    unfinished: dict[int, bytes] = field(default_factory=dict)
    gpadls: dict[int, int] = field(default_factory=dict)
    """Guest's side: relid -> the handle that the client chose."""


def _status(value: Value) -> Value:
    return 0xFFFFFFFF if value is FAILED else value


def range_buffer(fields: Mapping[str, Value]) -> bytes:
    """The range buffer that the fields describe: its words, or one range of pages."""
    if "ranges" in fields:
        data = fields["ranges"]
        assert isinstance(data, bytes)
        return data
    words = fields.get("words")
    if isinstance(words, tuple):
        return struct.pack(f"<{len(words)}Q", *words)
    offset = fields.get("byte_offset", 0)
    size, count = fields.get("byte_count"), fields.get("page_count")
    pfns = fields.get("pfns")
    assert isinstance(offset, int)
    if not isinstance(pfns, tuple):
        if not isinstance(count, int):
            count = gpadl.pages_spanned(size, offset) if isinstance(size, int) else RING_PAGES
        pfns = tuple(range(FIRST_PAGE, FIRST_PAGE + count))
    if not isinstance(size, int):
        size = max(len(pfns) * PAGE - offset, 0)
    return struct.pack(f"<II{len(pfns)}Q", size, offset, *pfns)


def _form(kind: Kind, fields: Fields, context: Context) -> type[msgspec.Struct]:
    """The shortest form that has every field given; a contact's depends on the version it asks for."""
    forms = list(reversed(kind.forms))
    if kind.number == 5 and context.features & _SIGNALS:
        forms = forms[-1:]
    asked = fields.get("vmbus_version_requested", context.version)
    if kind.number == 14 and isinstance(asked, int) and asked >= wire.V5_0 and "interrupt_page" not in fields:
        forms = forms[1:]
    wanted = set(fields) - {*_RANGE_FIELDS, "relid"}
    return next((form for form in forms if wanted <= set(form.__struct_fields__)), forms[-1])


def _default(name: str, kind: type, fields: Fields, context: Context) -> Value:
    relid = fields.get("child_relid", DEFAULT_RELID)
    assert isinstance(relid, int)
    version = fields.get("vmbus_version_requested", context.version)
    usual: dict[str, Value] = {
        "child_relid": relid,
        "openid": relid,
        "ringbuffer_gpadlhandle": relid,
        "gpadl": context.gpadls.get(relid, relid),
        "downstream_ringbuffer_pageoffset": RING_SPLIT,
        "rangecount": 1,
        "vmbus_version_requested": version,
        "msg_sint": layout.SINT,
        "target_sint": layout.SINT,
        "version_supported": 1,
        "selected_version_or_connection_id": context.version
        if context.version < wire.V5_0
        else link.MESSAGE_CONNECTION_OLD,
        "if_type": UUID(int=1),
        "if_instance": UUID(int=relid),
        "monitorid": layout.NO_MONITOR,
        "is_dedicated_interrupt": 1,
        "guest_endpoint_id": UUID(int=1),
        "host_service_id": UUID(int=2),
    }
    if name == "connection_id":
        return (0x2000 + relid) & 0xFFFFFFFF
    return usual.get(name, UUID(int=0) if kind is UUID else b"" if kind is bytes else 0)


def _sized(data: bytes, size: int | None) -> bytes:
    """Cut, or padded with zeros, to `size` bytes."""
    return data if size is None else data[:size].ljust(size, b"\0")


def channel_message(kind: Kind, fields: Fields, context: Context, size: int | None = None) -> list[bytes]:
    """The bytes of a channel message; several messages only for a whole GPADL."""
    if kind.number == 8:
        return [_sized(data, size) for data in _gpadl(kind, fields, context)]
    if kind.number == 9:
        return [_sized(_body(fields, context), size)]
    form = _form(kind, fields, context)
    given = {name: _status(value) for name, value in fields.items()}
    filled = [
        given[name] if name in given else _default(name, kind.types[name][0], fields, context)
        for name in form.__struct_fields__
    ]
    if kind.number == 15 and not given.get("version_supported", 1) and len(given) < 2:
        filled = [0] * len(filled)
    return [_sized(wire.encode(form(*filled)), size)]


def _gpadl(kind: Kind, fields: Fields, context: Context) -> list[bytes]:
    relid = fields.get("child_relid", DEFAULT_RELID)
    handle = fields.get("gpadl", relid)
    assert isinstance(relid, int)
    assert isinstance(handle, int)
    buffer = range_buffer(fields)
    length = fields.get("range_buflen", len(buffer) & 0xFFFF)
    count = fields.get("rangecount", 1)
    assert isinstance(length, int)
    assert isinstance(count, int)
    first = wire.encode(messages.GpadlHeader(relid, handle, length, count, buffer[: gpadl.HEADER_ROOM]))
    rest = buffer[gpadl.HEADER_ROOM :]
    if kind.name == "GPADL_HEADER":
        context.unfinished[handle] = rest
        return [first]
    parts = [rest[at : at + gpadl.BODY_ROOM] for at in range(0, len(rest), gpadl.BODY_ROOM)]
    return [first, *(wire.encode(messages.GpadlBody(0, handle, part)) for part in parts)]


def _body(fields: Fields, context: Context) -> bytes:
    handle = fields.get("gpadl", DEFAULT_RELID)
    number = fields.get("msgnumber", 0)
    assert isinstance(handle, int)
    assert isinstance(number, int)
    words = fields.get("words", fields.get("pfns"))
    if isinstance(words, tuple):
        data = struct.pack(f"<{len(words)}Q", *words)
    elif isinstance(fields.get("page_count"), int):
        data = struct.pack(
            f"<{fields['page_count']}Q", *range(FIRST_PAGE, FIRST_PAGE + int(str(fields["page_count"])))
        )
    elif isinstance(fields.get("ranges"), bytes):
        data = range_buffer(fields)
    else:
        data = context.unfinished.get(handle, b"")[: gpadl.BODY_ROOM]
        context.unfinished[handle] = context.unfinished.get(handle, b"")[gpadl.BODY_ROOM :]
    return wire.encode(messages.GpadlBody(number, handle, data))


def device_message(kind: Kind, fields: Fields, defaults: Fields) -> msgspec.Struct:
    """A device message; `defaults` are what the host knows of the channel."""
    form = kind.struct
    given = defaults | {name: _status(value) for name, value in fields.items()}
    values = {name: value for name, value in given.items() if name in form.__struct_fields__}
    optional = set(form.__struct_fields__[len(form.__struct_fields__) - len(form.__struct_defaults__) :])
    for name in form.__struct_fields__:
        if name not in values and name not in optional:
            field_type = kind.types[name][0]
            values[name] = UUID(int=0) if field_type is UUID else b"" if field_type is bytes else 0
    return form(**values)
