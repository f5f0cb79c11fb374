"""Saved: the whole bus of a partition as plain data, and the bytes of it for a disk.

Rules. What has this shape was checked for types and ranges by `decode`; what the parts say of each other is
for `judging` to check when a bus is made of them. Channels are named by their place in `SavedBus.channels`.
A newer field is added at the end of its struct with a default, so that an older state still reads (case 216);
any other change is a new FORMAT. The bytes carry a checksum: a state is read exactly or not at all.
Source: docs/design.md section 4, cases 200-217; the model is OpenVMM's
`vmbus_server/src/channels/saved_state.rs`.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

from vmbusd.abi.device_link import Offer
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.packing import NO_GUID
from vmbusd.bus.channels import OpenRequest, State
from vmbusd.bus.connection import ConnectionState
from vmbusd.bus.gpadls import GpadlState
from vmbusd.bus.negotiation import Pages, Plan

FORMAT: Final = 1
"""Of the bytes; a daemon reads no other."""
MAGIC: Final = b"VMBUSBUS"
_HEADER: Final = struct.Struct("<8sII")
"""Magic, format, CRC-32 of all that follows."""

U8 = Annotated[int, msgspec.Meta(ge=0, le=0xFF)]
U16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
U31 = Annotated[int, msgspec.Meta(ge=0, le=0x7FFFFFFF)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
U63 = Annotated[int, msgspec.Meta(ge=0, le=0x7FFFFFFFFFFFFFFF)]
Host = Annotated[int, msgspec.Meta(ge=-1, le=0xFFFFFFFF)]
"""A host link, or NO_HOST."""
Seconds = Annotated[float, msgspec.Meta(ge=0.0)]
Index = U16
"""Of a channel in `SavedBus.channels`."""


class SavedError(ProtocolError):
    """Saved data that cannot be used. Attribute `field`: where it is wrong, empty for the data as a whole."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"saved state: {field}: {text}" if field else f"saved state: {text}")
        self.field = field


class _Saved(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Written as an array: fields have a place, not a name."""


class SavedAssembly(_Saved, frozen=True):
    """A range buffer on its way: ranges announced, bytes missing, bytes that came."""

    range_count: U16
    missing: U16
    buffer: bytes


class SavedGpadl(_Saved, frozen=True):
    """A GPADL. `pages` counts towards the cap, `ring` is byte count and offset of its only range."""

    handle: U32
    state: GpadlState
    pages: U16 = 0
    ring: tuple[U32, U32] | None = None
    assembly: SavedAssembly | None = None


class SavedRecord(_Saved, frozen=True):
    """What the channel's slot was last filled with, as far as the channel may say otherwise by now."""

    host: Host
    connection_id: U32
    monitor_id: U8
    flags: U16
    offer_id: U32


class SavedChannel(_Saved, frozen=True):
    """A channel; fields as in `channels.Channel`.

    `opened` is only there while it has to be answered. `owns_monitor_id`: it goes back when the channel does.
    `held`: handles of GPADLs whose GPADL_TORNDOWN waits, in order.
    """

    offer: Offer
    host: Host
    state: State
    relid: U16
    flag: U16
    connection_id: U32
    monitor_id: U8
    armed: bool
    generation: U31
    target_vp: U32
    ring: U32 | None
    claim: U31
    device_open: bool
    reserved: tuple[U8, U8] | None
    reserved_in: tuple[U32, U32] | None
    abandoned: bool
    withdrawn: bool
    socket: bool
    expires: Seconds | None
    reopen: OpenRequest | None
    retarget: tuple[U8, U8] | None
    next_target: U8 | None
    unasked: bool
    opened: OpenRequest | None
    owns_monitor_id: bool
    record: SavedRecord | None
    gpadls: tuple[SavedGpadl, ...]
    held: tuple[U32, ...]


class SavedContact(_Saved, frozen=True):
    """A contact to be answered when the disconnect is done: the message, and whether it was trusted."""

    data: bytes
    trusted: bool


class SavedConnection(_Saved, frozen=True):
    """The connection; fields as in `connection.Current` and `Connection`.

    `spoken` and `spoken_features` are those of the last connection: channels that are open as reserved still
    live by them after its end.
    """

    state: ConnectionState
    plan: Plan
    offers_sent: bool
    pages: Pages
    modifying: Pages | None
    unload_asked: bool
    contact: SavedContact | None
    ticket: U63
    resets: U32
    capped: bool
    spoken: U32
    spoken_features: U32
    client_id: UUID = NO_GUID
    trusted: bool = False


class SavedSockets(_Saved, frozen=True):
    """Socket connects: `requests` are (id, message) in their order, `deadlines` (seconds, channel)."""

    provider: U32 | None = None
    now: Seconds = 0.0
    last_id: U63 = 0
    requests: tuple[tuple[U63, bytes], ...] = ()
    deadlines: tuple[tuple[Seconds, Index], ...] = ()


class SavedOutbox(_Saved, frozen=True):
    """Messages to the guest that are held back, as (bytes, VP), and why."""

    vp: U8
    blocked: bool
    held: tuple[tuple[bytes, U8], ...]
    paused: bool = False


class SavedBus(_Saved, frozen=True):
    """A bus between two inputs. `Bus.save` makes it, `Bus.restore` makes a bus of it.

    `channels` stand in the order of their offers; `bound` are those with a host, in the order in which they
    got it; `ghosts` are (host link, channels that it may still be signalling); `flag_waiters` are (event
    flag, channels whose open waits for it). `generations` are those of the event flags from 0 on, without
    the zeros at the end. `low_relids` may be given out although they are below the offset (case 307).
    `stand_ins` are (VP without worker, VP that took its channels). `waiting` are guest messages that nobody
    handled yet: bytes, connection id, trusted.
    """

    vps: U8
    ram_pages: U63
    connection: SavedConnection
    outbox: SavedOutbox
    channels: tuple[SavedChannel, ...] = ()
    bound: tuple[Index, ...] = ()
    ghosts: tuple[tuple[U32, tuple[Index, ...]], ...] = ()
    flag_waiters: tuple[tuple[U16, tuple[Index, ...]], ...] = ()
    generations: tuple[U31, ...] = ()
    low_relids: tuple[U16, ...] = ()
    stand_ins: tuple[tuple[U8, U8], ...] = ()
    sockets: SavedSockets = SavedSockets()
    waiting: tuple[tuple[bytes, U32, bool], ...] = ()


_STEP: Final = re.compile(r"\[\d+\]|\.\w+")
_ENCODER: Final = msgspec.msgpack.Encoder(uuid_format="bytes")
_DECODER: Final = msgspec.msgpack.Decoder(SavedBus)


HEADER_SIZE: Final = _HEADER.size


def encode(saved: SavedBus) -> bytes:
    """The bytes of a saved bus."""
    return frame(_ENCODER.encode(saved))


def frame(body: bytes) -> bytes:
    """The bytes of a saved bus whose content is `body`, header before it."""
    return _HEADER.pack(MAGIC, FORMAT, zlib.crc32(body)) + body


def decode(data: bytes) -> SavedBus:
    """The saved bus in `data`. Raises SavedError for bytes that are not exactly what `encode` made, for
    another format, and for a value out of its range."""
    if len(data) < HEADER_SIZE or data[: len(MAGIC)] != MAGIC:
        raise SavedError("", f"{len(data)} bytes that do not begin as one")
    _, written, checksum = _HEADER.unpack_from(data)
    if written != FORMAT:
        raise SavedError("", f"it has format {written}, this daemon reads format {FORMAT}")
    body = memoryview(data)[HEADER_SIZE:]
    if zlib.crc32(body) != checksum:
        raise SavedError("", f"its {len(body)} bytes are not those that were written")
    try:
        return _DECODER.decode(body)
    except msgspec.DecodeError as error:
        text, _, path = str(error).partition(" - at `$")
        raise SavedError(_in_words(path.strip("`")), text) from error


def _in_words(path: str) -> str:
    """A path into the arrays, as `[4][0][3]`, by the names of the fields: `channels[0].relid`."""
    at: Any = SavedBus
    words = ""
    for step in _STEP.findall(path):
        if isinstance(at, type) and issubclass(at, _Saved) and step[0] == "[":
            name = at.__struct_fields__[int(step[1:-1])]
            words += f".{name}"
            at = next((kind for kind in _kinds(get_type_hints(at)[name]) if kind), None)
        else:
            words += step
            at = next((kind for kind in _kinds(at) if kind is not at), None)
    return words.lstrip(".")


def _kinds(hint: Any) -> Iterator[Any]:
    """What a hint is made of that has fields of its own, the outermost array first."""
    if isinstance(hint, type) and issubclass(hint, _Saved):
        yield hint
    elif get_origin(hint) is tuple:
        yield hint
        for inner in get_args(hint):
            yield from _kinds(inner)
    else:
        for inner in get_args(hint):
            yield from _kinds(inner)
