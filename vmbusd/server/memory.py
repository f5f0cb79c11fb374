"""The objects of one partition as the daemon sees them: mapped, guarded, with the native core on top.

Only what the daemon itself has to touch is mapped: of guest memory and hosts' pages nothing but what
`guest_pages` asks for, while it does. A fault in a mapping (a peer truncated the object) leaves zeros and a
dead guard; `faulted` tells, and the partition ends.
"""

import contextlib
import mmap
from dataclasses import dataclass
from typing import Final

from vmbusd.abi import layout, link, native
from vmbusd.abi.errors import ResourceError
from vmbusd.abi.link import Grant, Object
from vmbusd.bus.effects import FillSlot
from vmbusd.server.objects import ObjectSet, SharedObject, WrongObject

EPOCH: Final = 1
"""The first daemon on a set; each one that takes it over counts one more."""
_EPOCH_AT: Final = 32
"""Offset of the epoch in the table's header."""
_NOTHING_TAKEN: Final = bytes(layout.VPWORK_SIZE - layout.VPWORK_TAKEN_OFFSET)


@dataclass(frozen=True, slots=True)
class Window:
    """A part of an object that is mapped for a while."""

    map: mmap.mmap
    guard: native.Guard


class Memory:
    """Mappings and native views of one ObjectSet.

    Attributes: `faults`, what `native.faults` said when `faulted` last looked at each mapping;
    `table`, `blocks`, `vpwork`: the native core's views; `doorbells`: one per VP; `event_pages`,
    `vpwork_pages`, `guest_pages`: the mappings below them.
    """

    def __init__(
        self, objects: ObjectSet, *, partition: str, vps: int, ram_size: int, there: bool = False
    ) -> None:
        """Map, format the table, and check that the doorbells work; `there`: the table is in use, check that
        it is this partition's. Raises ResourceError."""
        self.objects = objects
        self.vps = vps
        self.epoch = EPOCH
        self.ram_size = ram_size
        self._guards: list[native.Guard] = []
        self.faults = native.faults()
        self._mappings: list[mmap.mmap] = []
        self._table = self._map(objects[Object.TABLE, 0])
        self.event_pages = self._map(objects[Object.EVENTS, 0])
        self.vpwork_pages = self._map(objects[Object.VPWORK, 0])
        self.guest_pages = self._map(objects[Object.GUEST, 0])
        self.table = native.TableWriter(self._table)
        self.blocks = native.Blocks(self.guest_pages)
        self.vpwork = native.VpWork(self.vpwork_pages, vps)
        self.doorbells = [self._doorbell(vp, there) for vp in range(vps)]
        if there:
            self._take_over(partition)
        else:
            self.table.format(vps=vps, epoch=self.epoch, ram_size=ram_size, partition=partition)

    def _take_over(self, partition: str) -> None:
        header = self.table.header()
        wanted = {
            "magic": layout.TABLE_MAGIC,
            "abi_version": layout.ABI_VERSION,
            "vps": self.vps,
            "ram_size": self.ram_size,
            "partition": partition,
        }
        for name, value in wanted.items():
            if header[name] != value:
                path = self.objects[Object.TABLE, 0].path
                raise WrongObject(f"{path}: its header has {name} {header[name]!r}, not {value!r}")
        self.epoch = header["epoch"] + 1
        native.Words(self._table, _EPOCH_AT, 1).store(0, self.epoch)

    def _map(self, made: SharedObject) -> mmap.mmap:
        try:
            mapping = mmap.mmap(made.fd, made.size)
        except OSError as error:
            raise ResourceError(f"{made.path}: cannot be mapped: {error.strerror}") from error
        self._mappings.append(mapping)
        self._guards.append(native.Guard(mapping, str(made.path)))
        return mapping

    def window(self, made: SharedObject, size: int, offset: int = 0) -> Window:
        """Map `size` bytes at `offset`, a page boundary, until `drop`. Raises ResourceError."""
        try:
            mapping = mmap.mmap(made.fd, size, offset=offset)
        except (OSError, ValueError) as error:
            # ValueError: a peer has truncated it, and nobody has looked since.
            text = error.strerror if isinstance(error, OSError) else str(error)
            raise ResourceError(f"{made.path}: cannot be mapped: {text}") from error
        window = Window(mapping, native.Guard(mapping, str(made.path)))
        self._guards.append(window.guard)
        return window

    def drop(self, window: Window) -> None:
        """Unmap it. Whoever still looks through it keeps the memory, not the guard."""
        self._guards.remove(window.guard)
        window.guard.release()
        with contextlib.suppress(BufferError):
            window.map.close()

    def _doorbell(self, vp: int, there: bool) -> native.Doorbell:
        if self.objects.eventfd:
            return native.Doorbell.eventfd(self.objects[Object.VP_EVENTFD, vp].fd)
        made = self.objects[Object.VP_SEMAPHORE, vp]
        bell = native.Doorbell.semaphore(self._map(made))
        if there:
            # Somebody may be waiting on it, who would take our post.
            return bell
        made.post_by_name()
        if not bell.wait(0):
            raise ResourceError(
                f"{made.path}: a post through the C library is not seen through its descriptor"
            )
        return bell

    # -- what is handed out --------------------------------------------------------------------------------

    def grants(self, role: link.Role, host_links: list[int]) -> list[tuple[SharedObject, bool]]:
        """What a link of this role gets, in the order of its welcome: (object, whether it may write)."""
        guest = role is not link.Role.HOST
        bell = Object.VP_EVENTFD if self.objects.eventfd else Object.VP_SEMAPHORE
        granted = [
            (self.objects[Object.EVENTS, 0], True),
            (self.objects[Object.TABLE, 0], False),
            (self.objects[Object.VPWORK, 0], guest),
            *([(self.objects[Object.GUEST, 0], True)] if guest else []),
            (self.objects[Object.RAM, 0], True),
            *((self.objects[bell, vp], True) for vp in range(self.vps)),
        ]
        for number in host_links:
            granted += [(made, True) for made in self.objects.host_objects(number)]
        return granted

    def fill(self, effect: FillSlot) -> None:
        """Write record and slot of an offered channel."""
        self.table.fill(
            effect.flag,
            effect.relid,
            host_link=effect.host,
            connection_id=effect.connection_id,
            monitor_id=effect.monitor_id,
            flags=effect.flags,
            interface_id=effect.interface_id.bytes_le,
            instance_id=effect.instance_id.bytes_le,
            subchannel_index=effect.subchannel_index,
        )

    def settle(self, flag: int) -> bool:
        """Whether the claim of a flag that was closed is seen free; what the close leaves is clean then."""
        if not self.blocks.is_free(flag):
            return False
        self.blocks.clear(flag)
        return True

    # -- hand-overs ----------------------------------------------------------------------------------------

    def recover(self, vp: int) -> tuple[int, int]:
        """(claims freed, bits put back) of a VP whose process is known to be dead."""
        return native.recover(
            vp, table=self._table, events=self.event_pages, vpwork=self.vpwork_pages, blocks=self.guest_pages
        )

    def sweep(self, vp: int, live: int) -> int:
        """Hand the bits of a VP without worker to `live`; returns how many."""
        return native.sweep(vp, live, events=self.event_pages, doorbell=self.doorbells[live])

    def copy_bits(self, vp: int, live: int) -> None:
        """Half of a sweep: set the bits of `vp` at `live`, and leave them where they are."""
        source = native.EventFlags(self.event_pages, vp * layout.PAGE)
        native.EventFlags(self.event_pages, live * layout.PAGE).set_many(source.pending())

    def pending(self, vp: int) -> int:
        """Bits set on a VP's page."""
        return native.pending_count(self.event_pages, vp)

    def passes(self, vp: int) -> int:
        """The heartbeat of the VP's worker."""
        return self.vpwork.statistics(vp)["passes"]

    def is_work_waiting(self, vp: int) -> bool:
        """Whether there are bits on the VP's page, or bits that its worker took and has not finished."""
        begin = vp * layout.VPWORK_SIZE + layout.VPWORK_TAKEN_OFFSET
        taken = self.vpwork_pages[begin : begin + len(_NOTHING_TAKEN)]
        return taken != _NOTHING_TAKEN or self.pending(vp) > 0

    # -- what goes wrong -----------------------------------------------------------------------------------

    def faulted(self) -> str | None:
        """The path of an object in which an access has faulted, None while all is well; no system call."""
        faults = native.faults()
        if faults == self.faults:
            return None
        self.faults = faults
        return next((guard.name for guard in self._guards if guard.dead), None)

    def close(self) -> None:
        """Unmap everything; nothing may be called any more."""
        for guard in self._guards:
            guard.release()
        self.doorbells.clear()
        del self.table, self.blocks, self.vpwork
        for mapping in self._mappings:
            # Somebody may still hold a view, in a traceback for example: then it goes with that view.
            with contextlib.suppress(BufferError):
                mapping.close()


def encode_grants(granted: list[tuple[SharedObject, bool]]) -> bytes:
    """The tail of the packet that carries these objects."""
    return link.encode_grants(
        [Grant(made.what, made.index, int(writable), made.size) for made, writable in granted]
    )
