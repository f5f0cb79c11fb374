"""Makes the table show what the bus says it must, writing only what differs.

The first daemon may have died between any two effects of its last input. What it had written is in the
table, and living peers go by it; what it had not is missing. An effect of long ago is never done a second
time: a slot that went back to an older generation for a microsecond would lose the signals of that time.
So the end is compared, word by word, and the differences are what was left to do. Order, as in any close and
any open: what is over is closed, then emptied; record before slot, target before open bit.
"""

from vmbusd.abi import layout
from vmbusd.bus.picture import Picture, ShownSlot
from vmbusd.server.memory import Memory

_FILLED = (
    "relid",
    "event_flag",
    "host_link",
    "connection_id",
    "monitor_id",
    "flags",
    "interface_id",
    "instance_id",
    "subchannel_index",
)


def reconcile(memory: Memory, picture: Picture) -> int:
    """Write what differs; returns how many words or records did."""
    table = memory.table
    written = 0
    for flag, slot in table.slots():
        relid = _relid(slot)
        shown = picture.slots.get(flag)
        if slot & layout.SLOT_OPEN and not _is_open_as(slot, shown):
            table.close(flag)
            written += 1
        if shown is None or shown.fill.relid != relid:
            table.empty(flag, relid)
            written += 1
    for flag, shown in picture.slots.items():
        written += _show(memory, flag, shown)
    return written


def _relid(slot: int) -> int:
    return ((slot & 0xFFFFFFFF) - layout.TABLE_RECORDS_OFFSET) // layout.RECORD_SIZE


def _is_open_as(slot: int, shown: ShownSlot | None) -> bool:
    if shown is None or shown.open is None or shown.fill.relid != _relid(slot):
        return False
    return shown.open.generation == layout.slot_generation(slot)


def _show(memory: Memory, flag: int, shown: ShownSlot) -> int:
    table, fill = memory.table, shown.fill
    written = 0
    record = table.record(fill.relid)
    wanted = (
        fill.relid,
        flag,
        fill.host,
        fill.connection_id,
        fill.monitor_id,
        fill.flags,
        fill.interface_id.bytes_le,
        fill.instance_id.bytes_le,
        fill.subchannel_index,
    )
    if not table.slot(flag) or tuple(record[name] for name in _FILLED) != wanted:
        memory.fill(fill)
        written += 1
    if table.target(fill.relid) != shown.target_vp:
        table.set_target(fill.relid, shown.target_vp)
        written += 1
    if shown.open is not None and not _is_open_as(table.slot(flag), shown):
        table.open(flag, fill.relid, shown.open.generation)
        written += 1
    if table.record(fill.relid)["state"] != shown.state:
        table.set_state(fill.relid, shown.state)
        written += 1
    return written
