"""VSTOR: the packets of the SCSI controller's channel, 64 bytes each, 48 below version 5.1.

Operation, flags and status, then a union. The request's operation says which member it has; an answer is
always operation 1 and only the request that it answers (same transaction id) says what is in it, so `decode`
is told. Source: Linux 6.1 drivers/scsi/storvsc_drv.c.
"""

import enum
import struct
from typing import Annotated, Final

import msgspec

from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.packing import U8, U16, U32, Packing

PACKET_SIZE: Final = 64
OLD_PACKET_SIZE: Final = 48
"""Below VSTOR 5.1 the union ends with the 36 bytes of the old SRB."""
_HEADER: Final = struct.Struct("<III")
COMPLETION_WANTED: Final = 1


class Operation(enum.IntEnum):
    """What a packet is for."""

    COMPLETE_IO = 1
    REMOVE_DEVICE = 2
    EXECUTE_SRB = 3
    RESET_LUN = 4
    RESET_ADAPTER = 5
    RESET_BUS = 6
    BEGIN_INIT = 7
    END_INIT = 8
    QUERY_VERSION = 9
    QUERY_PROPERTIES = 10
    ENUMERATE_BUS = 11
    FC_HBA_DATA = 12
    CREATE_SUB_CHANNELS = 13
    EVENT_NOTIFICATION = 14


class VstorStatus(enum.IntEnum):
    """NTSTATUS values of the handshake."""

    OK = 0
    REVISION_MISMATCH = 0xC0000059
    INVALID_DEVICE_STATE = 0xC0000184
    INVALID_PARAMETER = 0xC000000D


U8Pad1 = Annotated[int, "Bx"]
U16Between = Annotated[int, "4xH2x"]
U32Pad8 = Annotated[int, "I8x"]
U8Pad3 = Annotated[int, "B3x"]
U8After2 = Annotated[int, "2xB"]
Bytes8 = Annotated[bytes, "8s"]
Bytes20 = Annotated[bytes, "20s"]


class Nothing(msgspec.Struct, frozen=True):
    """The union is unused and zero."""


class Protocol(msgspec.Struct, frozen=True):
    """The version the guest asks for: major << 8 | minor."""

    major_minor: U16
    revision: U16


class Properties(msgspec.Struct, frozen=True):
    """What the controller can do; `channel_flags` 1 is multi-channel."""

    max_channel_cnt: U16Between
    channel_flags: U32
    max_transfer_bytes: U32Pad8


class SubChannels(msgspec.Struct, frozen=True):
    """How many sub-channels the guest wants."""

    sub_channel_count: U16


class Wwn(msgspec.Struct, frozen=True):
    """The world-wide names of a fibre channel adapter."""

    primary_active: U8Pad3
    primary_port_wwn: Bytes8
    primary_node_wwn: Bytes8
    secondary_port_wwn: Bytes8
    secondary_node_wwn: Bytes8


class OldSrb(msgspec.Struct, frozen=True):
    """A SCSI request below 5.1."""

    length: U16
    srb_status: U8
    scsi_status: U8
    port_number: U8
    path_id: U8
    target_id: U8
    lun: U8
    cdb_length: U8
    sense_info_length: U8
    data_in: U8Pad1
    data_transfer_length: U32
    cdb_or_sense: Bytes20


class Srb(msgspec.Struct, frozen=True):
    """A SCSI request. `data_in`: 0 write, 1 read, 2 none; `cdb_or_sense`: 16 bytes of CDB or 20 of sense."""

    length: U16
    srb_status: U8
    scsi_status: U8
    port_number: U8
    path_id: U8
    target_id: U8
    lun: U8
    cdb_length: U8
    sense_info_length: U8
    data_in: U8Pad1
    data_transfer_length: U32
    cdb_or_sense: Bytes20
    queue_tag: U8After2
    queue_action: U8
    srb_flags: U32
    time_out_value: U32
    queue_sort_key: U32


Union = Nothing | Protocol | Properties | SubChannels | Wwn | OldSrb | Srb


class VstorPacket(msgspec.Struct, frozen=True):
    """One packet; `body` is the member of the union in use."""

    operation: int
    flags: int
    status: int
    body: Union = Nothing()


_PACKING: Final[dict[type[msgspec.Struct], Packing[Union]]] = {
    cls: Packing(cls) for cls in (Nothing, Protocol, Properties, SubChannels, Wwn, OldSrb, Srb)
}
REQUESTS: Final[dict[int, type[Union]]] = {
    Operation.EXECUTE_SRB: Srb,
    Operation.QUERY_VERSION: Protocol,
    Operation.CREATE_SUB_CHANNELS: SubChannels,
}
_ANSWERS: Final[dict[int, type[Union]]] = {
    Operation.EXECUTE_SRB: Srb,
    Operation.QUERY_PROPERTIES: Properties,
    Operation.FC_HBA_DATA: Wwn,
}
_OPERATIONS: Final = frozenset(int(operation) for operation in Operation)


def encode(packet: VstorPacket, size: int = PACKET_SIZE) -> bytes:
    """The packet in `size` bytes. Raises UsageError for a value that does not fit or another size."""
    if size not in (PACKET_SIZE, OLD_PACKET_SIZE):
        raise UsageError(f"a VSTOR packet has {PACKET_SIZE} or {OLD_PACKET_SIZE} bytes, not {size}")
    try:
        head = _HEADER.pack(packet.operation, packet.flags, packet.status)
    except struct.error as error:
        raise UsageError(f"VSTOR packet: {error}") from error
    data = head + _PACKING[type(packet.body)].encode(packet.body)
    if len(data) > size:
        raise UsageError(f"{type(packet.body).__name__} does not fit into {size} bytes")
    return data.ljust(size, b"\0")


def decode(payload: bytes, answers: int | None = None) -> VstorPacket:
    """The packet in a ring payload of 64 or 48 bytes.

    `answers` is the operation of the request that a completion answers, None for a request or an unsolicited
    packet. Raises ProtocolError for another size, an unknown operation and one that is no answer.
    """
    if len(payload) not in (PACKET_SIZE, OLD_PACKET_SIZE):
        raise ProtocolError(
            f"a VSTOR packet has {PACKET_SIZE} or {OLD_PACKET_SIZE} bytes, {len(payload)} came"
        )
    operation, flags, status = _HEADER.unpack_from(payload)
    if operation not in _OPERATIONS or (answers is not None and operation != Operation.COMPLETE_IO):
        raise ProtocolError(f"VSTOR operation {operation} as answer to {answers}")
    cls: type[Union]
    cls = REQUESTS.get(operation, Nothing) if answers is None else _ANSWERS.get(answers, Nothing)
    if cls is Srb and len(payload) == OLD_PACKET_SIZE:
        cls = OldSrb
    return VstorPacket(operation, flags, status, _PACKING[cls].decode(payload, _HEADER.size))
