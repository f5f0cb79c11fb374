"""The storm partition's shared memory as its runner sees it: mapped by name, read, never written.

A bystander's mapping takes no lock and no link, so it changes nothing for anybody. The objects must be the
same from the first calm point to the last: whoever makes new ones has lost the partition.
"""

import mmap
import struct
from pathlib import Path
from typing import Final

from tests.storm import packets
from tests.storm.oracle import Cell, Slot
from vmbusd.abi import layout
from vmbusd.abi.errors import VmbusError
from vmbusd.abi.native import Blocks, EventFlags, Table, Words
from vmbusd.demo import cell

_SHM: Final = Path("/dev/shm")
_WORD: Final = struct.Struct("<Q")
_RING: Final = struct.Struct("<III")
"""Where it is written and read, and whether the reader wants no signals."""


class ObjectsError(VmbusError):
    """A partition has not exactly the objects that it must have; the text lists those there are."""


class Memory:
    """Mappings of one partition's objects. Raises ObjectsError when there is not one set of them."""

    def __init__(self, partition: str, vps: int) -> None:
        self._partition = partition
        paths = sorted(_SHM.glob(f"vmbusd-*-{partition}-table"))
        if len(paths) != 1:
            found = ", ".join(map(str, paths)) or "none"
            raise ObjectsError(f"partition {partition} must have one table: {found}")
        self._table_path = paths[0]
        self.identity = self._table_path.stat().st_ino
        self._table = Table(self._map("table"))
        self._blocks = Blocks(self._map("guest"))
        self._ram = self._map("ram")
        events = self._map("events")
        self._events = [EventFlags(events, vp * layout.EVENT_PAGE_SIZE) for vp in range(vps)]

    def _map(self, what: str) -> mmap.mmap:
        path = self._table_path.with_name(self._table_path.name.removesuffix("table") + what)
        with path.open("r+b") as file:
            return mmap.mmap(file.fileno(), 0)

    def is_same(self) -> bool:
        """Whether the partition still has the objects that we mapped, and no others."""
        found = list(_SHM.glob(f"vmbusd-*-{self._partition}-table"))
        return [path.stat().st_ino for path in found] == [self.identity]

    def slots(self) -> dict[int, Slot]:
        """Every slot that is not empty, by its event flag."""
        found = {}
        for flag, slot in self._table.slots():
            relid = ((slot & 0xFFFFFFFF) - layout.TABLE_RECORDS_OFFSET) // layout.RECORD_SIZE
            record = self._table.record(relid)
            found[flag] = Slot(
                relid,
                bool(slot & layout.SLOT_OPEN),
                layout.slot_generation(slot),
                self._table.target(relid),
                record["host_link"],
            )
        return found

    def cells(self) -> dict[int, Cell]:
        """The cell of every open slot of signals alone."""
        return {
            flag: self._cell(flag)
            for flag, slot in self.slots().items()
            if slot.open and not self._has_packets(slot)
        }

    def progress(self) -> dict[int, packets.Progress]:
        """How far the guest is on every open slot of packets."""
        return {
            flag: self._progress(flag)
            for flag, slot in self.slots().items()
            if slot.open and self._has_packets(slot)
        }

    def _has_packets(self, slot: Slot) -> bool:
        interface: bytes = self._table.record(slot.relid)["interface_id"]
        return interface == packets.INTERFACE.bytes_le

    def _progress(self, flag: int) -> packets.Progress:
        words = Words(self._blocks.state(flag))
        first, _, downstream, _ = self._blocks.ring(flag)
        rings = [_RING.unpack_from(self._ram, page * layout.PAGE) for page in (first, first + downstream)]
        return packets.Progress(
            words.load(packets.NEXT),
            words.load(packets.BACK_SENT),
            words.load(packets.WORKER),
            f"to host {rings[0]}, to guest {rings[1]}",
        )

    def _cell(self, flag: int) -> Cell:
        first = self._blocks.ring(flag)[0]
        at = (first + cell.CELL_PAGE) * layout.PAGE

        def word(index: int) -> int:
            value: int = _WORD.unpack_from(self._ram, at + 8 * index)[0]
            return value

        # Seen first: what is produced in between must not look seen before.
        seen = word(cell.SEEN)
        return Cell(word(cell.PRODUCED), seen, word(cell.GENERATION))

    def pending(self) -> dict[int, list[int]]:
        """The flags that are set, by VP."""
        return {vp: flags for vp, page in enumerate(self._events) if (flags := page.pending())}

    def owners(self) -> list[tuple[int, int]]:
        """Pid and state of each VP's worker, as the table shows it."""
        return [self._table.owner(vp)[:2] for vp in range(len(self._events))]

    def claims(self) -> dict[int, int]:
        """The claim words that are not 0, of non-empty slots."""
        return {flag: claim for flag, _ in self._table.slots() if (claim := self._blocks.claim(flag))}
