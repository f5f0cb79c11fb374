"""What the bus wants done, as data; the server does it in the order of the list, or a test just reads it.

The order matters: table effects stand before the messages that make somebody rely on them.
"""

from uuid import UUID

import msgspec

from vmbusd.abi.device_link import ToHost


class SendToGuest(msgspec.Struct, frozen=True, gc=False):
    """Deliver one channel message (at most 240 bytes) to a VP and SINT of the guest.

    `may_drop`: it goes to the target of a reserved channel. If that cannot take it now it is dropped, and
    never delays another message (case 185).
    """

    data: bytes
    vp: int
    sint: int
    may_drop: bool = False


class AskHost(msgspec.Struct, frozen=True, gc=False):
    """Send one device message to host link `host`. `pages` of guest memory are named in it: they are to exist
    before the host hears of them."""

    host: int
    message: ToHost
    pages: tuple[int, ...] = ()


class FillSlot(msgspec.Struct, frozen=True, gc=False):
    """Write the record, then the slot with open = 0, before the guest can hear of the channel (where the
    guest chooses the flag: before the channel opens). `host` and `offer_id` name its offer."""

    flag: int
    relid: int
    host: int
    connection_id: int
    monitor_id: int
    flags: int
    interface_id: UUID
    instance_id: UUID
    subchannel_index: int
    offer_id: int


class SetTarget(msgspec.Struct, frozen=True, gc=False):
    """Store the target VP in the record of `relid` (seq_cst)."""

    relid: int
    vp: int


class OpenSlot(msgspec.Struct, frozen=True, gc=False):
    """Set open = 1 with a new generation, before the device is asked to open."""

    flag: int
    relid: int
    generation: int


class CloseSlot(msgspec.Struct, frozen=True, gc=False):
    """Clear the open bit, then poll the claim; when it is free call `Bus.claim_free(flag, generation)`."""

    flag: int
    relid: int
    generation: int


class EmptySlot(msgspec.Struct, frozen=True, gc=False):
    """Empty the slot, then the record: the relid is released."""

    flag: int
    relid: int


class SetState(msgspec.Struct, frozen=True, gc=False):
    """Show the channel's state (a number of `bus.channels.State`) in its record."""

    relid: int
    state: int


class ModifyPages(msgspec.Struct, frozen=True, gc=False):
    """Use these pages of guest memory from now on (guest physical addresses, page aligned; 0: none) and
    answer with `Bus.pages_modified(ticket, ok)`, at once or later. If it fails, what was in use stays in use.

    `interrupt_page` is the legacy interrupt page of 0.13 and 1.1, the others are the monitor pages;
    `own_monitor` says that those are the backend's own.
    """

    ticket: int
    interrupt_page: int
    parent_to_child: int
    child_to_parent: int
    own_monitor: bool


class ResetPages(msgspec.Struct, frozen=True, gc=False):
    """Let go of every page of the guest; a `ModifyPages` that is not answered yet counts for nothing."""


class ArmMonitor(msgspec.Struct, frozen=True, gc=False):
    """A monitored channel opens: bit `monitor_id` of the child-to-parent page signals host link `host` of
    event flag `flag` from now on."""

    monitor_id: int
    flag: int
    host: int
    connection_id: int


class DisarmMonitor(msgspec.Struct, frozen=True, gc=False):
    """The bit means nobody any more."""

    monitor_id: int


class ForwardContact(msgspec.Struct, frozen=True, gc=False):
    """Hand this INITIATE_CONTACT to the server of VTL `vtl`; this bus does nothing with it."""

    data: bytes
    vtl: int


class Refused(msgspec.Struct, frozen=True, gc=False):
    """A message was refused without an answer: count it under `kind`, log `reason` once per kind and link."""

    kind: str
    reason: str


class Disconnected(msgspec.Struct, frozen=True, gc=False):
    """The connection is over and everything it held is released, except channels opened as reserved."""


class ResetDone(msgspec.Struct, frozen=True, gc=False):
    """The bus is as new; `callers` is how many `Bus.reset` this answers (case 169)."""

    callers: int


Effect = (
    SendToGuest
    | AskHost
    | FillSlot
    | SetTarget
    | OpenSlot
    | CloseSlot
    | EmptySlot
    | SetState
    | ModifyPages
    | ResetPages
    | ArmMonitor
    | DisarmMonitor
    | ForwardContact
    | Refused
    | Disconnected
    | ResetDone
)
