"""What finding a channel costs in either design, by the number of channels: loops in C, no call from Python.

The structures are the real ones: a VP's list as the workers walk it, the channel table as vmb_dispatch loads
it. All channels are on one VP's list, in random order, as moves leave it; they are looked up in rising order,
as a pass finds their bits, again and again until a loop has run for some milliseconds; the least of several
loops counts, for whatever else runs on the machine only makes one longer.
"""

import mmap
import random
from typing import Any, Final

import msgspec

from vmbusd.abi import layout, native
from vmbusd.lab.percpu import PER_CPU, SIZE, Lists

CHANNELS: Final = (1, 16, 256, 2047)
LOOPS: Final = 7
LOOKUPS: Final = 1 << 16
"""Lookups of one loop in the table; about 0.1 ms."""
NODES: Final = 1 << 21
"""Nodes that one loop over a list passes; a few ms."""
_GENERATION: Final = 1
_VP: Final = 0


class Lookup(msgspec.Struct, frozen=True):
    """Nanoseconds per lookup with so many channels open."""

    channels: int
    per_cpu_ns: float
    global_ns: float


def measure(channels: int) -> Lookup:
    """Lookups among `channels`, 1 to 2047, in structures of our own."""
    lists, table = Lists(mmap.mmap(-1, SIZE)), mmap.mmap(-1, layout.TABLE_SIZE)
    lists.init(PER_CPU)
    relids = range(1, channels + 1)
    _fill(table, relids)
    for relid in random.Random(channels).sample(relids, channels):
        lists.link(_VP, relid)
    turns = max(1, 2 * NODES // (channels + 1) // channels) * channels
    by_list = min(lists.time_list(_VP, relids, turns) for _ in range(LOOPS)) / turns
    by_table = min(lists.time_table(table, relids, LOOKUPS) for _ in range(LOOPS)) / LOOKUPS
    return Lookup(channels, round(by_list, 2), round(by_table, 2))


def curve() -> list[Lookup]:
    """The cost at each of CHANNELS."""
    return [measure(channels) for channels in CHANNELS]


def _fill(table: mmap.mmap, relids: range) -> None:
    writer = native.TableWriter(table)
    writer.format(vps=1, epoch=1, ram_size=0, partition="lab")
    fields: dict[str, Any] = {
        "host_link": 0,
        "connection_id": 0,
        "monitor_id": layout.NO_MONITOR,
        "flags": 0,
        "interface_id": bytes(16),
        "instance_id": bytes(16),
        "subchannel_index": 0,
    }
    for relid in relids:
        writer.fill(relid, relid, **fields)
        writer.open(relid, relid, _GENERATION)
