"""The pipe header: how a channel with offer flag 0x10 says exactly how long its data is.

8 bytes before the data of every in-band packet, because the ring itself only knows multiples of 8
(Linux 6.1 hyperv.h). A data packet of no bytes is the end of a byte stream; a message of an integration
component is one data packet. Source: Linux 6.1 net/vmw_vsock/hyperv_transport.c, OpenVMM vmbus_async/pipe.rs.
"""

import enum
import struct
from typing import Final

import msgspec

from vmbusd.abi.errors import ProtocolError, UsageError

HEADER: Final = struct.Struct("<II")
MAX_DATA: Final = 16384
"""Data of one packet; OpenVMM's reader refuses more."""


class PipeType(enum.IntEnum):
    """What a packet is. PARTIAL is never sent: a reader makes it of what it has read in part."""

    DATA = 1
    PARTIAL = 2
    SETUP_GPA_DIRECT = 3
    TEARDOWN_GPA_DIRECT = 4


_TYPES: Final = frozenset(int(kind) for kind in PipeType)


class PipePacket(msgspec.Struct, frozen=True):
    """One packet: its type, the length word as it stands in the header, and the data it leaves to be read."""

    pkt_type: int
    data_size: int
    data: bytes


def data_packet(data: bytes) -> PipePacket:
    """A packet with these bytes; none are the end of the stream."""
    return PipePacket(PipeType.DATA, len(data), data)


def encode(packet: PipePacket) -> bytes:
    """The ring payload. Raises UsageError when header and data do not agree."""
    if packet.pkt_type not in _TYPES or len(packet.data) > MAX_DATA:
        raise UsageError(f"pipe packet of type {packet.pkt_type} with {len(packet.data)} bytes")
    total, _ = _extent(packet.pkt_type, packet.data_size)
    if total != len(packet.data):
        raise UsageError(f"pipe packet: length word {packet.data_size:#x}, {len(packet.data)} bytes of data")
    return HEADER.pack(packet.pkt_type, packet.data_size) + packet.data


def decode(payload: bytes) -> PipePacket:
    """The packet in a ring payload; bytes after its data are the ring's padding.

    Of a PARTIAL packet `data` is still everything: how much was consumed is in the length word.
    Raises ProtocolError for an unknown type and for data that is longer than the payload or than MAX_DATA.
    """
    if len(payload) < HEADER.size:
        raise ProtocolError(f"a pipe header needs {HEADER.size} bytes, {len(payload)} came")
    kind, word = HEADER.unpack_from(payload)
    if kind not in _TYPES:
        raise ProtocolError(f"pipe packet of unknown type {kind}")
    total, consumed = _extent(kind, word)
    if total > MAX_DATA or total > len(payload) - HEADER.size or consumed > total:
        raise ProtocolError(
            f"pipe packet: length word {word:#x} with {len(payload) - HEADER.size} bytes after the header"
        )
    return PipePacket(kind, word, bytes(payload[HEADER.size : HEADER.size + total]))


def unread(packet: PipePacket) -> bytes:
    """The data that nobody has consumed yet."""
    return packet.data[_extent(packet.pkt_type, packet.data_size)[1] :]


def _extent(kind: int, word: int) -> tuple[int, int]:
    """Bytes of data, and how many of them are consumed."""
    return (word & 0xFFFF, word >> 16) if kind == PipeType.PARTIAL else (word, 0)
