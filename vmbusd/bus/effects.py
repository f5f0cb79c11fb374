"""What the bus wants done, as data; the server does it in the order of the list, or a test just reads it.

The order matters: table effects stand before the messages that make somebody rely on them.
"""

from uuid import UUID

import msgspec

from vmbusd.abi.device_link import ToHost


class SendToGuest(msgspec.Struct, frozen=True):
    """Deliver one channel message (at most 240 bytes) to a VP and SINT of the guest."""

    data: bytes
    vp: int
    sint: int


class AskHost(msgspec.Struct, frozen=True):
    """Send one device message to host link `host`."""

    host: int
    message: ToHost


class FillSlot(msgspec.Struct, frozen=True):
    """Write the record, then the slot with open = 0, before the guest can hear of the channel."""

    flag: int
    relid: int
    host: int
    connection_id: int
    monitor_id: int
    flags: int
    interface_id: UUID
    instance_id: UUID
    subchannel_index: int


class SetTarget(msgspec.Struct, frozen=True):
    """Store the target VP in the record of `relid` (seq_cst)."""

    relid: int
    vp: int


class OpenSlot(msgspec.Struct, frozen=True):
    """Set open = 1 with a new generation, before the device is asked to open."""

    flag: int
    relid: int
    generation: int


class CloseSlot(msgspec.Struct, frozen=True):
    """Clear the open bit, then poll the claim; when it is free call `Bus.claim_free(flag, generation)`."""

    flag: int
    relid: int
    generation: int


class EmptySlot(msgspec.Struct, frozen=True):
    """Empty the slot, then the record: the relid is released."""

    flag: int
    relid: int


class SetState(msgspec.Struct, frozen=True):
    """Show the channel's state (a number of `bus.channels.State`) in its record."""

    relid: int
    state: int


class Refused(msgspec.Struct, frozen=True):
    """A message was refused without an answer: count it under `kind`, log `reason` once per kind and link."""

    kind: str
    reason: str


class Disconnected(msgspec.Struct, frozen=True):
    """The connection is over and everything it held is released."""


Effect = (
    SendToGuest
    | AskHost
    | FillSlot
    | SetTarget
    | OpenSlot
    | CloseSlot
    | EmptySlot
    | SetState
    | Refused
    | Disconnected
)
