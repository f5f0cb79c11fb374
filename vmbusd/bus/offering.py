"""Offers as the guest sees them: what the bus makes of a host's Offer, and the OFFERCHANNEL of a channel.

Pure functions. Sources: Linux 6.1 hyperv.h and OpenVMM vmbus_core for flags and user_defined by kind of
channel, OpenVMM vmbus_server/src/channels.rs, cases 036, 041, 042, 190.
"""

import struct
from typing import Final
from uuid import UUID

import msgspec

from vmbusd.abi import device_link, messages
from vmbusd.abi.device_link import OfferFlag
from vmbusd.abi.layout import NO_MONITOR
from vmbusd.abi.packing import NO_GUID
from vmbusd.bus.channels import Channel
from vmbusd.bus.effects import FillSlot
from vmbusd.bus.ids import MONITOR_IDS, event_connection_id

ENUMERATE_DEVICE_INTERFACE: Final = 0x0001
NAMED_PIPE_MODE: Final = 0x0010
TLNPI_PROVIDER: Final = 0x2000
"""The channel is a socket."""
SOCKET_FLAGS: Final = ENUMERATE_DEVICE_INTERFACE | NAMED_PIPE_MODE | TLNPI_PROVIDER
FLAGS_THAT_NEED: Final = {
    0x0002: int(messages.Feature.CONFIDENTIAL_CHANNELS),
    0x0004: int(messages.Feature.CONFIDENTIAL_CHANNELS),
    0x0008: int(messages.Feature.GPA_PINNING),
}
"""Offer flags that are only shown to a guest that negotiated the feature (case 042)."""
BYTE_PIPE: Final = 0
MESSAGE_PIPE: Final = 4
_PIPE: Final = struct.Struct("<I112sI")
_SOCKET: Final = struct.Struct("<IBBI16sH92x")
_SOCKET_VERSION: Final = 1
"""Of the socket parameters: 1 is RS5, which added the silo id."""


def prepare(offer: device_link.Offer) -> device_link.Offer:
    """The offer with what its OfferFlags ask for written out."""
    flags = OfferFlag(offer.flags)
    if flags & OfferFlag.SOCKET:
        return socket_offer(offer, guest_accepts=True, silo=NO_GUID)
    if not flags & (OfferFlag.PIPE | OfferFlag.MESSAGE_PIPE):
        return offer
    mode = MESSAGE_PIPE if flags & OfferFlag.MESSAGE_PIPE else BYTE_PIPE
    data = offer.user_defined.ljust(120, b"\0")[:112]
    return msgspec.structs.replace(
        offer,
        chn_flags=offer.chn_flags | NAMED_PIPE_MODE,
        user_defined=_PIPE.pack(mode, data, offer.pipe_flags),
    )


def socket_offer(offer: device_link.Offer, *, guest_accepts: bool, silo: UUID) -> device_link.Offer:
    """The offer as a socket; `guest_accepts` when the host connects to the guest."""
    parameters = _SOCKET.pack(0, guest_accepts, 0, _SOCKET_VERSION, silo.bytes_le, 0)
    return msgspec.structs.replace(offer, chn_flags=SOCKET_FLAGS, user_defined=parameters)


def objection(offer: device_link.Offer) -> str:
    """Why this cannot be offered at all; empty if it can."""
    if offer.monitor_id != NO_MONITOR and offer.monitor_id >= MONITOR_IDS:
        return f"monitor id {offer.monitor_id}: 0 to {MONITOR_IDS - 1}"
    return ""


def shown_flags(channel: Channel, features: int) -> int:
    """The offer flags that a guest with these features may see."""
    flags = channel.offer.chn_flags
    for flag, feature in FLAGS_THAT_NEED.items():
        if not features & feature:
            flags &= ~flag
    return flags


def offer_message(channel: Channel, features: int) -> messages.Offer:
    """OFFERCHANNEL."""
    offer = channel.offer
    return messages.Offer(
        if_type=offer.interface_id,
        if_instance=offer.instance_id,
        reserved1=0,
        reserved2=0,
        chn_flags=shown_flags(channel, features),
        mmio_megabytes=offer.mmio_megabytes,
        user_defined=offer.user_defined,
        sub_channel_index=offer.subchannel_index,
        mmio_megabytes_optional=offer.mmio_megabytes_optional,
        child_relid=channel.relid,
        monitorid=channel.monitor_id,
        monitor_allocated=channel.monitor_id != NO_MONITOR,
        is_dedicated_interrupt=1,
        connection_id=event_connection_id(channel.relid),
    )


def fill_slot(channel: Channel, features: int) -> FillSlot:
    """The slot and record of a channel that has an event flag."""
    offer = channel.offer
    return FillSlot(
        flag=channel.flag,
        relid=channel.relid,
        host=channel.host,
        connection_id=channel.connection_id,
        monitor_id=channel.monitor_id,
        flags=shown_flags(channel, features),
        interface_id=offer.interface_id,
        instance_id=offer.instance_id,
        subchannel_index=offer.subchannel_index,
        offer_id=offer.offer_id,
    )
