"""NVSP: how a network adapter's channel agrees on versions and buffers and moves RNDIS messages.

A message is its number and a struct in a union that Linux always sends whole: 40 bytes, 28 before NVSP 6.1.
`MESSAGES` is the table. Answers are completions with the request's transaction id.
Source: Linux 6.1 drivers/net/hyperv/hyperv_net.h.
"""

import struct
from typing import Annotated, Final

import msgspec

from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.packing import U16, U32, U64, Packing, Tail

MESSAGE_SIZE: Final = 40
OLD_MESSAGE_SIZE: Final = 28
"""Before NVSP 6.1; either size is accepted."""
NO_SECTION: Final = 0xFFFFFFFF
"""send_buf_section_index of an RNDIS message that is not in the send buffer."""
TABLE_ENTRIES: Final = 16
"""Entries of the send indirection table (Linux VRSS_SEND_TAB_SIZE)."""

TABLE_START: Final = 12
"""Where the table may begin: behind number, count and offset."""

V1: Final = 0x00002
V2: Final = 0x30002
V4: Final = 0x40000
V5: Final = 0x50000
V6: Final = 0x60000
V6_1: Final = 0x60001
SUCCESS: Final = 1

U32Pad4 = Annotated[int, "I4x"]


class Init(msgspec.Struct, frozen=True):
    """1: the version the guest wants, twice the same."""

    min_protocol_ver: U32
    max_protocol_ver: U32


class InitComplete(msgspec.Struct, frozen=True):
    """2: its answer."""

    negotiated_protocol_ver: U32
    max_mdl_chain_len: U32
    status: U32


class NdisVersion(msgspec.Struct, frozen=True):
    """100: has no answer."""

    ndis_major_ver: U32
    ndis_minor_ver: U32


class ReceiveBuffer(msgspec.Struct, frozen=True):
    """101: the guest's receive buffer."""

    gpadl_handle: U32
    id: U16


class ReceiveBufferComplete(msgspec.Struct, frozen=True):
    """102: how it is divided, in one section."""

    status: U32
    num_sections: U32
    offset: U32
    sub_alloc_size: U32
    num_sub_allocs: U32
    end_offset: U32


class RevokeReceiveBuffer(msgspec.Struct, frozen=True):
    """103: the guest takes it back."""

    id: U16


class SendBuffer(msgspec.Struct, frozen=True):
    """104: the guest's send buffer."""

    gpadl_handle: U32
    id: U16


class SendBufferComplete(msgspec.Struct, frozen=True):
    """105: how it is divided."""

    status: U32
    section_size: U32


class RevokeSendBuffer(msgspec.Struct, frozen=True):
    """106: the guest takes it back."""

    id: U16


class RndisPacket(msgspec.Struct, frozen=True):
    """107: an RNDIS message; `channel_type` 0 is data, 1 control."""

    channel_type: U32
    send_buf_section_index: U32
    send_buf_section_size: U32


class RndisPacketComplete(msgspec.Struct, frozen=True):
    """108: it was used."""

    status: U32


class NdisConfig(msgspec.Struct, frozen=True):
    """125: frame size with header and capabilities; has no answer."""

    mtu: U32Pad4
    capability: U64


class VfAssociation(msgspec.Struct, frozen=True):
    """128: a virtual function came or went."""

    allocated: U32
    serial: U32


class SwitchDataPath(msgspec.Struct, frozen=True):
    """129: 0 synthetic, 1 virtual function."""

    active_datapath: U32


class Subchannels(msgspec.Struct, frozen=True):
    """133: asked with operation 1, answered with a status."""

    op_or_status: U32
    num_subchannels: U32


class SendIndirectionTable(msgspec.Struct, frozen=True):
    """134: `count` u32 at `offset` from the beginning of the message; `rest` is what follows this head."""

    count: U32
    offset: U32
    rest: Tail

    def table(self) -> tuple[int, ...]:
        """Which sub-channel each hash value sends on. Raises ProtocolError when it is not in the message."""
        start, size = self.offset - TABLE_START, 4 * self.count
        if self.count > TABLE_ENTRIES or not 0 <= start <= len(self.rest) - size:
            raise ProtocolError(f"send indirection table: {self.count} entries at offset {self.offset}")
        return struct.unpack_from(f"<{self.count}I", self.rest, start)


Message = (
    Init
    | InitComplete
    | NdisVersion
    | ReceiveBuffer
    | ReceiveBufferComplete
    | RevokeReceiveBuffer
    | SendBuffer
    | SendBufferComplete
    | RevokeSendBuffer
    | RndisPacket
    | RndisPacketComplete
    | NdisConfig
    | VfAssociation
    | SwitchDataPath
    | Subchannels
    | SendIndirectionTable
)

MESSAGES: Final[dict[int, type[Message]]] = {
    1: Init,
    2: InitComplete,
    100: NdisVersion,
    101: ReceiveBuffer,
    102: ReceiveBufferComplete,
    103: RevokeReceiveBuffer,
    104: SendBuffer,
    105: SendBufferComplete,
    106: RevokeSendBuffer,
    107: RndisPacket,
    108: RndisPacketComplete,
    125: NdisConfig,
    128: VfAssociation,
    129: SwitchDataPath,
    133: Subchannels,
    134: SendIndirectionTable,
}
_NUMBER: Final = struct.Struct("<I")
_PACKING: Final[dict[type[msgspec.Struct], tuple[bytes, Packing[Message]]]] = {
    cls: (_NUMBER.pack(number), Packing(cls)) for number, cls in MESSAGES.items()
}


def send_indirection_table(table: tuple[int, ...]) -> SendIndirectionTable:
    """The message with the table right behind its head. Raises UsageError when it is too long."""
    if len(table) > TABLE_ENTRIES:
        raise UsageError(f"a send indirection table has at most {TABLE_ENTRIES} entries, not {len(table)}")
    return SendIndirectionTable(len(table), TABLE_START, struct.pack(f"<{len(table)}I", *table))


def encode(message: Message, size: int = MESSAGE_SIZE) -> bytes:
    """The message, filled up with zeros to `size` bytes; what is longer stays so (0: nothing is filled up).

    Raises UsageError for a value that does not fit its field.
    """
    number, packing = _PACKING[type(message)]
    return (number + packing.encode(message)).ljust(size, b"\0")


def decode(payload: bytes) -> Message:
    """The message in a ring payload; only its own struct must be there, not the rest of the union.

    Raises ProtocolError for an unknown number or a message that is cut short.
    """
    if len(payload) < _NUMBER.size:
        raise ProtocolError(f"an NVSP message of {len(payload)} bytes")
    (number,) = _NUMBER.unpack_from(payload)
    cls = MESSAGES.get(number)
    if cls is None:
        raise ProtocolError(f"NVSP message {number} is unknown")
    return _PACKING[cls][1].decode(payload, _NUMBER.size)
