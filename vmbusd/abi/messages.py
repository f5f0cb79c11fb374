"""The channel messages of VMBus as plain data: a class per layout, fields in wire order, no rules.

Field names are Linux's (include/linux/hyperv.h), for numbers Linux does not know OpenVMM's
(vmbus_core/src/protocol.rs). The 8-byte header is not part of a class and padding has no name: both are zero
and belong to the codec. Which number, sender and version a class has is told by `wire.MESSAGES`.
Sources: Linux 6.1 hyperv.h, OpenVMM vmbus_core/src/protocol.rs.
"""

import enum
from typing import Annotated, Final

import msgspec

from vmbusd.abi.packing import U8, U16, U32, U64, Bytes120, Guid, Tail

SUCCESS: Final = 0
UNSUCCESSFUL: Final = 0x8000FFFF
"""The one failure status of the host (it is E_UNEXPECTED, not STATUS_UNSUCCESSFUL)."""
CONNECTION_REFUSED: Final = 0xC0000236
FAILED_BIT: Final = 0x80000000
"""A device's status with this bit is a failure."""


class Feature(enum.IntFlag):
    """Feature flags of 6.0; the result of a contact is requested AND supported."""

    GUEST_SIGNAL_PARAMETERS = 0x01
    INTERRUPT_REDIRECTION = 0x02
    MODIFY_CONNECTION = 0x04
    CLIENT_ID = 0x08
    CONFIDENTIAL_CHANNELS = 0x10
    PAUSE_RESUME = 0x20
    SERVER_MONITOR_PAGES = 0x40
    GPA_PINNING = 0x80


class ConnectionState(enum.IntEnum):
    """`connection_state` of a VERSION_RESPONSE that says supported."""

    OK = 0
    LOW_RESOURCES = 1
    UNKNOWN_FAILURE = 2


U8Pad2 = Annotated[int, "B2x"]
U32Pad4 = Annotated[int, "I4x"]


class Offer(msgspec.Struct, frozen=True, gc=False):
    """1: a channel exists."""

    if_type: Guid
    if_instance: Guid
    reserved1: U64
    reserved2: U64
    chn_flags: U16
    mmio_megabytes: U16
    user_defined: Bytes120
    sub_channel_index: U16
    mmio_megabytes_optional: U16
    child_relid: U32
    monitorid: U8
    monitor_allocated: U8
    is_dedicated_interrupt: U16
    connection_id: U32


class Rescind(msgspec.Struct, frozen=True, gc=False):
    """2: the channel is withdrawn; answered by RelidReleased when the guest is done with it."""

    child_relid: U32


class RequestOffers(msgspec.Struct, frozen=True, gc=False):
    """3: send me the offers."""


class AllOffersDelivered(msgspec.Struct, frozen=True, gc=False):
    """4: that was the first list; what comes later is hot-added."""


class Open(msgspec.Struct, frozen=True, gc=False):
    """5: open a channel on a ring GPADL."""

    child_relid: U32
    openid: U32
    ringbuffer_gpadlhandle: U32
    target_vp: U32
    downstream_ringbuffer_pageoffset: U32
    userdata: Bytes120


class Open2(msgspec.Struct, frozen=True, gc=False):
    """5 with guest-chosen signal parameters or redirection negotiated."""

    child_relid: U32
    openid: U32
    ringbuffer_gpadlhandle: U32
    target_vp: U32
    downstream_ringbuffer_pageoffset: U32
    userdata: Bytes120
    connection_id: U32
    event_flag: U16
    open_flags: U16


class OpenResult(msgspec.Struct, frozen=True, gc=False):
    """6: the open with this id ended; status 0 is open."""

    child_relid: U32
    openid: U32
    status: U32


class Close(msgspec.Struct, frozen=True, gc=False):
    """7: close the channel; there is no answer."""

    child_relid: U32


class GpadlHeader(msgspec.Struct, frozen=True, gc=False):
    """8: first part of a range buffer of `range_buflen` bytes."""

    child_relid: U32
    gpadl: U32
    range_buflen: U16
    rangecount: U16
    ranges: Tail


class GpadlBody(msgspec.Struct, frozen=True, gc=False):
    """9: continuation of a range buffer; names no channel."""

    msgnumber: U32
    gpadl: U32
    ranges: Tail


class GpadlCreated(msgspec.Struct, frozen=True, gc=False):
    """10: the GPADL was accepted (0) or refused."""

    child_relid: U32
    gpadl: U32
    creation_status: U32


class GpadlTeardown(msgspec.Struct, frozen=True, gc=False):
    """11: give the memory back."""

    child_relid: U32
    gpadl: U32


class GpadlTorndown(msgspec.Struct, frozen=True, gc=False):
    """12: nobody uses the memory any more."""

    gpadl: U32


class RelidReleased(msgspec.Struct, frozen=True, gc=False):
    """13: the guest is done with the channel."""

    child_relid: U32


class InitiateContactOld(msgspec.Struct, frozen=True, gc=False):
    """14 asking below 5.0."""

    vmbus_version_requested: U32
    target_vcpu: U32
    interrupt_page: U64
    monitor_page1: U64
    monitor_page2: U64


class InitiateContact(msgspec.Struct, frozen=True, gc=False):
    """14 asking 5.0 or later; `feature_flags` count from 6.0."""

    vmbus_version_requested: U32
    target_vcpu: U32
    msg_sint: U8
    msg_vtl: U8Pad2
    feature_flags: U32
    monitor_page1: U64
    monitor_page2: U64


class InitiateContact2(msgspec.Struct, frozen=True, gc=False):
    """14 with feature CLIENT_ID asked."""

    vmbus_version_requested: U32
    target_vcpu: U32
    msg_sint: U8
    msg_vtl: U8Pad2
    feature_flags: U32
    monitor_page1: U64
    monitor_page2: U64
    client_id: Guid


class VersionResponse(msgspec.Struct, frozen=True, gc=False):
    """15: below 5.0 the last word is the version, from 5.0 the message connection id."""

    version_supported: U8
    connection_state: U8Pad2
    selected_version_or_connection_id: U32


class VersionResponse2(msgspec.Struct, frozen=True, gc=False):
    """15 when 6.0 was asked and is supported."""

    version_supported: U8
    connection_state: U8Pad2
    selected_version_or_connection_id: U32
    supported_features: U32


class VersionResponse3(msgspec.Struct, frozen=True, gc=False):
    """15 with feature SERVER_MONITOR_PAGES granted."""

    version_supported: U8
    connection_state: U8Pad2
    selected_version_or_connection_id: U32
    supported_features: U32Pad4
    parent_to_child_monitor_page_gpa: U64
    child_to_parent_monitor_page_gpa: U64


class Unload(msgspec.Struct, frozen=True, gc=False):
    """16: end the connection."""


class UnloadResponse(msgspec.Struct, frozen=True, gc=False):
    """17: everything of the connection is released."""


class OpenReserved(msgspec.Struct, frozen=True, gc=False):
    """18: open a channel for a debugger, interrupts off."""

    child_relid: U32
    target_vp: U32
    target_sint: U32
    ringbuffer_gpadlhandle: U32
    downstream_ringbuffer_pageoffset: U32


class CloseReserved(msgspec.Struct, frozen=True, gc=False):
    """19: close a reserved channel; legal while disconnected."""

    child_relid: U32
    target_vp: U32
    target_sint: U32


class CloseReservedResponse(msgspec.Struct, frozen=True, gc=False):
    """20: the reserved channel is closed."""

    child_relid: U32


class TlConnect(msgspec.Struct, frozen=True, gc=False):
    """21: connect a socket to a host service."""

    guest_endpoint_id: Guid
    host_service_id: Guid


class TlConnect2(msgspec.Struct, frozen=True, gc=False):
    """21 from 5.2, chosen by its size."""

    guest_endpoint_id: Guid
    host_service_id: Guid
    silo_id: Guid


class ModifyChannel(msgspec.Struct, frozen=True, gc=False):
    """22: send this channel's interrupts to another VP."""

    child_relid: U32
    target_vp: U32


class TlConnectResult(msgspec.Struct, frozen=True, gc=False):
    """23: the connect failed."""

    guest_endpoint_id: Guid
    host_service_id: Guid
    status: U32


class ModifyChannelResponse(msgspec.Struct, frozen=True, gc=False):
    """24: no event reaches the old VP after this."""

    child_relid: U32
    status: U32


class ModifyConnection(msgspec.Struct, frozen=True, gc=False):
    """25: use these monitor pages; both zero is none."""

    parent_to_child_monitor_page_gpa: U64
    child_to_parent_monitor_page_gpa: U64


class ModifyConnectionResponse(msgspec.Struct, frozen=True, gc=False):
    """26: a `ConnectionState`."""

    connection_state: U8


class Pause(msgspec.Struct, frozen=True, gc=False):
    """27: stop sending me messages."""


class PauseResponse(msgspec.Struct, frozen=True, gc=False):
    """28: the last message until Resume."""


class Resume(msgspec.Struct, frozen=True, gc=False):
    """29: send again."""
