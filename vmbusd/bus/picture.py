"""Picture: what the table must show and what the backend has under way, as the bus knows it.

A daemon that starts again compares the table with it and writes only what differs: the effects of the last
input before its end may be half done, and an effect of long ago must never be done a second time. Everything
here is an effect that has happened, or must have. Source: docs/design.md section 4,
docs/signal-protocol.md section 6.
"""

from collections.abc import Iterable

import msgspec

from vmbusd.bus.channels import SLOT_OPEN, Channel, State
from vmbusd.bus.effects import ArmMonitor, CloseSlot, FillSlot, ModifyPages, OpenSlot
from vmbusd.bus.negotiation import Pages


class ShownSlot(msgspec.Struct, frozen=True):
    """The slot and record of one event flag: the last FillSlot, then the newest of everything.

    `open` is None while the open bit is clear; the generation of such a slot means nothing.
    """

    fill: FillSlot
    target_vp: int
    state: State
    open: OpenSlot | None


class Picture(msgspec.Struct, frozen=True):
    """The table and the backend of one partition.

    `slots`: by event flag; every other flag's slot is empty. `closing`: closes whose claim was not seen free
    yet: poll it, and call `Bus.claim_free`. `armed`: the monitor bits that signal somebody; no other does.
    `pages`: pages of the guest in use. `modifying`: pages asked for and not answered: answer it with
    `Bus.pages_modified`.
    """

    slots: dict[int, ShownSlot]
    closing: tuple[CloseSlot, ...]
    armed: tuple[ArmMonitor, ...]
    pages: Pages
    modifying: ModifyPages | None


def of_channels(
    channels: Iterable[Channel],
) -> tuple[dict[int, ShownSlot], tuple[CloseSlot, ...], tuple[ArmMonitor, ...]]:
    """What the channels have in the table: slots, closes under way, armed monitor bits."""
    slots: dict[int, ShownSlot] = {}
    closing = []
    armed = []
    for channel in channels:
        if channel.filled is None:
            continue
        flag, relid = channel.flag, channel.relid
        opened = OpenSlot(flag, relid, channel.generation) if channel.state in SLOT_OPEN else None
        slots[flag] = ShownSlot(channel.filled, channel.target_vp, channel.state, opened)
        if channel.claim:
            closing.append(CloseSlot(flag, relid, channel.claim))
        if channel.armed:
            armed.append(ArmMonitor(channel.monitor_id, flag, channel.host, channel.connection_id))
    return slots, tuple(closing), tuple(armed)
