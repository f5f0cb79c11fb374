"""SynIC: message slots and event flags of a VP's pages, hypercall inputs, and how a guest signals its host.

For partitions whose guest is a real machine: messages then go through memory, one 256-byte slot per SINT in a
page per VP. Bytes only; the rules of delivery stand in `synic_slots`. Sources:
Linux 6.1 include/asm-generic/hyperv-tlfs.h, drivers/hv/channel.c vmbus_setevent.
"""

import struct
from typing import Final, NamedTuple

import msgspec

from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.layout import FLAGS, FLAGS_BYTES
from vmbusd.abi.wire import MAX_MESSAGE

SINTS: Final = 16
SLOT_SIZE: Final = 256
SLOT_HEADER: Final = 16
MESSAGE_TYPE_NONE: Final = 0
MESSAGE_TYPE_VMBUS: Final = 1
_SLOT: Final = struct.Struct("<IBBHQ")
_PENDING: Final = 1

POST_MESSAGE: Final = 0x5C
SIGNAL_EVENT: Final = 0x5D
"""Call codes."""
_POST: Final = struct.Struct("<IIII")
_SIGNAL: Final = struct.Struct("<IHH")
MAX_CONNECTION_ID: Final = 0xFFFFFF
"""The top 8 bits of a connection id are reserved."""

SEND_HALF: Final = 2048
"""Where the guest's half of the legacy interrupt page begins."""
MONITOR_PENDING: Final = 8
"""Where the first trigger group of a monitor page begins; each has 8 bytes, 4 of them pending bits."""
MONITORS: Final = 128


class SlotMessage(msgspec.Struct, frozen=True):
    """What stands in a slot. `message_type` 0: it is free."""

    message_type: int
    payload: bytes
    sender: int = 0
    pending: bool = False


def slot_offset(sint: int) -> int:
    """Byte offset of a SINT's slot in the message page. Raises UsageError for a SINT there is not."""
    if not 0 <= sint < SINTS:
        raise UsageError(f"SINT {sint} is not in 0..{SINTS - 1}")
    return sint * SLOT_SIZE


def encode_slot(message: SlotMessage) -> bytes:
    """The 256 bytes of a slot. Raises UsageError for a value that does not fit."""
    if len(message.payload) > MAX_MESSAGE:
        raise UsageError(f"a message of {len(message.payload)} bytes, at most {MAX_MESSAGE}")
    try:
        head = _SLOT.pack(message.message_type, len(message.payload), message.pending, 0, message.sender)
    except struct.error as error:
        raise UsageError(f"slot: {error}") from error
    return (head + message.payload).ljust(SLOT_SIZE, b"\0")


def decode_slot(slot: bytes) -> SlotMessage:
    """What stands in the 256 bytes of a slot. Raises ProtocolError for a payload size above 240."""
    if len(slot) < SLOT_SIZE:
        raise ProtocolError(f"a slot has {SLOT_SIZE} bytes, {len(slot)} came")
    kind, size, flags, _, sender = _SLOT.unpack_from(slot)
    if size > MAX_MESSAGE:
        raise ProtocolError(f"a payload of {size} bytes in a slot, at most {MAX_MESSAGE}")
    payload = bytes(slot[SLOT_HEADER : SLOT_HEADER + size])
    return SlotMessage(kind, payload, sender, bool(flags & _PENDING))


class FlagPosition(NamedTuple):
    """Where an event flag is in the event page: a bit of a byte, and the same bit of a u64 word."""

    page_offset: int
    byte_value: int
    u64_index: int
    u64_bit: int


def flag_position(sint: int, flag: int) -> FlagPosition:
    """The place of event flag `flag` of a SINT. Raises UsageError for a flag or SINT there is not."""
    if not 0 <= sint < SINTS or not 0 <= flag < FLAGS:
        raise UsageError(f"event flag {flag} of SINT {sint}")
    bit = sint * FLAGS + flag
    return FlagPosition(sint * FLAGS_BYTES + flag // 8, 1 << flag % 8, bit // 64, bit % 64)


class PostMessage(msgspec.Struct, frozen=True):
    """The input of HvPostMessage."""

    connection_id: int
    payload: bytes
    message_type: int = MESSAGE_TYPE_VMBUS


def encode_post(call: PostMessage) -> bytes:
    """The hypercall's input up to the end of its payload. Raises UsageError for what does not fit."""
    if len(call.payload) > MAX_MESSAGE:
        raise UsageError(f"a message of {len(call.payload)} bytes, at most {MAX_MESSAGE}")
    try:
        return _POST.pack(call.connection_id, 0, call.message_type, len(call.payload)) + call.payload
    except struct.error as error:
        raise UsageError(f"HvPostMessage: {error}") from error


def decode_post(data: bytes) -> PostMessage:
    """The call in an input page. Raises ProtocolError for reserved bits and a payload that is not there."""
    if len(data) < _POST.size:
        raise ProtocolError(f"HvPostMessage needs {_POST.size} bytes, {len(data)} came")
    connection_id, reserved, kind, size = _POST.unpack_from(data)
    if reserved or connection_id > MAX_CONNECTION_ID:
        raise ProtocolError(f"HvPostMessage: connection id {connection_id:#x}, reserved word {reserved:#x}")
    if size > min(MAX_MESSAGE, len(data) - _POST.size):
        raise ProtocolError(f"HvPostMessage: {size} bytes of payload, {len(data) - _POST.size} came")
    return PostMessage(connection_id, bytes(data[_POST.size : _POST.size + size]), kind)


class SignalEvent(msgspec.Struct, frozen=True):
    """The input of HvSignalEvent, which fits one register."""

    connection_id: int
    flag_number: int = 0


def encode_signal(call: SignalEvent) -> bytes:
    """The 8 bytes of the register. Raises UsageError for what does not fit."""
    try:
        return _SIGNAL.pack(call.connection_id, call.flag_number, 0)
    except struct.error as error:
        raise UsageError(f"HvSignalEvent: {error}") from error


def decode_signal(data: bytes) -> SignalEvent:
    """The call in 8 bytes. Raises ProtocolError for another size and for reserved bits."""
    if len(data) != _SIGNAL.size:
        raise ProtocolError(f"HvSignalEvent has {_SIGNAL.size} bytes, {len(data)} came")
    connection_id, flag, reserved = _SIGNAL.unpack(data)
    if reserved or connection_id > MAX_CONNECTION_ID:
        raise ProtocolError(f"HvSignalEvent: connection id {connection_id:#x}, reserved bits {reserved:#x}")
    return SignalEvent(connection_id, flag)


class GuestSignal(NamedTuple):
    """What a guest does to signal its host: bits or-ed into pages as (offset, value), then perhaps a call."""

    interrupt_page: tuple[tuple[int, int], ...]
    monitor_page: tuple[tuple[int, int], ...]
    call: SignalEvent | None


def guest_signal(
    relid: int, connection_id: int, *, dedicated: bool, monitor: int | None, low_latency: bool = False
) -> GuestSignal:
    """How a Linux guest signals channel `relid`. `monitor` is its monitor id, None if it was offered none.

    Raises UsageError for a relid or monitor id there is not.
    """
    if not 0 < relid < FLAGS or (monitor is not None and not 0 <= monitor < MONITORS):
        raise UsageError(f"relid {relid} with monitor id {monitor}")
    page_bit = (SEND_HALF + relid // 8, 1 << relid % 8)
    if monitor is not None and not low_latency:
        group, bit = divmod(monitor, 32)
        trigger = (MONITOR_PENDING + 8 * group + bit // 8, 1 << bit % 8)
        return GuestSignal((page_bit,), (trigger,), None)
    return GuestSignal(() if dedicated else (page_bit,), (), SignalEvent(connection_id))
