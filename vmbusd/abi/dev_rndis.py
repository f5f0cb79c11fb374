"""RNDIS: the subset that carries frames, queries and settings of a network adapter.

A message is a type and its total length, a fixed body and a tail. Offsets inside a message count from byte 8,
behind that header. `MESSAGES` is the table. Source: Linux 6.1
drivers/net/hyperv/hyperv_net.h.
"""

import enum
import struct
from typing import Final

import msgspec

from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.packing import U32, Packing, Tail

HEADER: Final = struct.Struct("<II")
COMPLETE: Final = 0x80000000
"""Set in the type of every answer."""
LINK_UP: Final = 0x4001000B
LINK_DOWN: Final = 0x4001000C
NOT_SUPPORTED: Final = 0xC00000BB


class Oid(enum.IntEnum):
    """Objects that guests ask for or set."""

    FRIENDLY_NAME = 0x00020216
    LINK_STATE = 0x00010114
    MAX_FRAME_SIZE = 0x00010106
    LINK_SPEED = 0x00010107
    PACKET_FILTER = 0x0001010E
    RSS_CAPABILITIES = 0x00010203
    RSS_PARAMETERS = 0x00010204
    PERMANENT_MAC = 0x01010101
    OFFLOAD_PARAMETERS = 0xFC01020C
    OFFLOAD_CAPABILITIES = 0xFC01020D


class Packet(msgspec.Struct, frozen=True):
    """1: per-packet information, then a frame, both in the tail."""

    data_offset: U32
    data_len: U32
    oob_data_offset: U32
    oob_data_len: U32
    num_oob_data_elements: U32
    per_pkt_info_offset: U32
    per_pkt_info_len: U32
    vc_handle: U32
    reserved: U32
    tail: Tail


class Initialize(msgspec.Struct, frozen=True):
    """2: the guest begins."""

    req_id: U32
    major_ver: U32
    minor_ver: U32
    max_xfer_size: U32
    tail: Tail = b""


class InitializeComplete(msgspec.Struct, frozen=True):
    """2 answered."""

    req_id: U32
    status: U32
    major_ver: U32
    minor_ver: U32
    dev_flags: U32
    medium: U32
    max_pkt_per_msg: U32
    max_xfer_size: U32
    pkt_alignment_factor: U32
    af_list_offset: U32
    af_list_size: U32
    tail: Tail = b""


class Halt(msgspec.Struct, frozen=True):
    """3: the guest ends; there is no answer."""

    req_id: U32
    tail: Tail = b""


class Query(msgspec.Struct, frozen=True):
    """4: what is this object?"""

    req_id: U32
    oid: U32
    info_buflen: U32
    info_buf_offset: U32
    dev_vc_handle: U32
    tail: Tail = b""


class QueryComplete(msgspec.Struct, frozen=True):
    """4 answered."""

    req_id: U32
    status: U32
    info_buflen: U32
    info_buf_offset: U32
    tail: Tail = b""


class Set(msgspec.Struct, frozen=True):
    """5: the object shall be this."""

    req_id: U32
    oid: U32
    info_buflen: U32
    info_buf_offset: U32
    dev_vc_handle: U32
    tail: Tail = b""


class SetComplete(msgspec.Struct, frozen=True):
    """5 answered."""

    req_id: U32
    status: U32
    tail: Tail = b""


class Indicate(msgspec.Struct, frozen=True):
    """7: the adapter's state changed."""

    status: U32
    status_buflen: U32
    status_buf_offset: U32
    tail: Tail = b""


class Keepalive(msgspec.Struct, frozen=True):
    """8: are you there?"""

    req_id: U32
    tail: Tail = b""


class KeepaliveComplete(msgspec.Struct, frozen=True):
    """8 answered."""

    req_id: U32
    status: U32
    tail: Tail = b""


Message = (
    Packet
    | Initialize
    | InitializeComplete
    | Halt
    | Query
    | QueryComplete
    | Set
    | SetComplete
    | Indicate
    | Keepalive
    | KeepaliveComplete
)

MESSAGES: Final[dict[int, type[Message]]] = {
    1: Packet,
    2: Initialize,
    COMPLETE | 2: InitializeComplete,
    3: Halt,
    4: Query,
    COMPLETE | 4: QueryComplete,
    5: Set,
    COMPLETE | 5: SetComplete,
    7: Indicate,
    8: Keepalive,
    COMPLETE | 8: KeepaliveComplete,
}
_PACKING: Final[dict[int, Packing[Message]]] = {number: Packing(cls) for number, cls in MESSAGES.items()}
_NUMBERS: Final[dict[type[msgspec.Struct], int]] = {cls: number for number, cls in MESSAGES.items()}


def encode(message: Message) -> bytes:
    """The message with its header. Raises UsageError for a value that does not fit its field."""
    number = _NUMBERS[type(message)]
    body = _PACKING[number].encode(message)
    return HEADER.pack(number, HEADER.size + len(body)) + body


def decode(data: bytes) -> Message:
    """The first message in `data`; its length is in its header (`length`), another may follow.

    Raises ProtocolError for an unknown type and a length that its body or `data` does not allow.
    """
    size = length(data)
    number = HEADER.unpack_from(data)[0]
    packing = _PACKING.get(number)
    if packing is None:
        raise ProtocolError(f"RNDIS message {number:#x} is unknown")
    if size < HEADER.size + packing.size:
        raise ProtocolError(f"{packing.cls.__name__} needs {HEADER.size + packing.size} bytes, not {size}")
    return packing.decode(data[:size], HEADER.size)


def length(data: bytes) -> int:
    """Bytes of the first message in `data`. Raises ProtocolError when they are not all there."""
    if len(data) < HEADER.size:
        raise ProtocolError(f"an RNDIS header needs {HEADER.size} bytes, {len(data)} came")
    size: int = HEADER.unpack_from(data)[1]
    if not HEADER.size <= size <= len(data):
        raise ProtocolError(f"an RNDIS message of {size} bytes where {len(data)} came")
    return size


def inside(message: Message, offset: int, size: int) -> bytes:
    """The bytes at `offset`, counted from behind the header, that a field of the message names.

    Raises ProtocolError when they are not in the tail.
    """
    start = offset - _PACKING[_NUMBERS[type(message)]].size
    if size and (start < 0 or start + size > len(message.tail)):
        raise ProtocolError(f"{type(message).__name__}: {size} bytes at offset {offset} are not in it")
    return message.tail[start : start + size] if size else b""


def frame(message: Packet) -> bytes:
    """The frame of a packet. Raises ProtocolError when it is not in it."""
    return inside(message, message.data_offset, message.data_len)
