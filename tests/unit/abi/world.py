"""A partition made of private mappings: everything the native core works on, without a daemon."""

import itertools
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import posix_ipc  # type: ignore[import-not-found, unused-ignore]
import pytest

from vmbusd.abi import layout, native

GUID = bytes(range(16))
FILL: dict[str, Any] = {
    "host_link": 3,
    "connection_id": 0x2009,
    "monitor_id": layout.NO_MONITOR,
    "flags": 5,
    "interface_id": GUID,
    "instance_id": GUID[::-1],
    "subchannel_index": 1,
}
_numbers = itertools.count()


def semaphore_mapping() -> mmap.mmap:
    """What the file of a new named semaphore holds, in memory that threads share; it needs no descriptor."""
    name = f"vmbusd-test{os.getpid()}-{next(_numbers)}"
    made = posix_ipc.Semaphore(f"/{name}", posix_ipc.O_CREX, mode=0o600)
    try:
        mapping = mmap.mmap(-1, layout.SEMAPHORE_SIZE)
        mapping[:] = Path(f"/dev/shm/sem.{name}").read_bytes()
        return mapping
    finally:
        made.unlink()
        made.close()


def memory_file(size: int) -> int:
    """A descriptor of shared memory without a name."""
    descriptor = os.memfd_create("vmbusd-test")
    os.truncate(descriptor, size)
    return descriptor


class World:
    """One partition with `vps` VPs."""

    def __init__(self, vps: int = 2) -> None:
        self.vps = vps
        self.table = mmap.mmap(-1, layout.TABLE_SIZE)
        self.events = mmap.mmap(-1, layout.events_size(vps))
        self.vpwork = mmap.mmap(-1, max(layout.vpwork_size(vps), layout.PAGE))
        self.blocks = mmap.mmap(-1, layout.GUEST_SIZE)
        self.bells = [native.Doorbell.semaphore(semaphore_mapping()) for _ in range(vps)]
        self.writer = native.TableWriter(self.table)
        self.writer.format(vps=vps, epoch=1, ram_size=0, partition="test")
        self.pages = [native.EventFlags(self.events, layout.PAGE * vp) for vp in range(vps)]
        self.work = native.VpWork(self.vpwork, vps)
        self.memory = native.Blocks(self.blocks)
        self.sender = self.new_sender()
        self.called: list[Any] = []
        self.missed: list[tuple[int, int]] = []
        self.failures: list[tuple[int, BaseException]] = []
        self.registry = native.Registry(
            lambda flag, generation: self.missed.append((flag, generation)),
            lambda flag, error: self.failures.append((flag, error)),
        )

    def new_sender(self) -> native.Sender:
        return native.Sender(self.table, self.events, self.vpwork, self.bells)

    def fill(self, flag: int, relid: int | None = None) -> None:
        self.writer.fill(flag, flag if relid is None else relid, **FILL)

    def open(
        self, relid: int, vp: int = 0, generation: int = 1, call: Callable[[Any], object] | None = None
    ) -> native.Route:
        """An open channel whose callback notes its relid, and the route to it."""
        self.fill(relid)
        self.writer.set_target(relid, vp)
        self.writer.open(relid, relid, generation)
        self.registry.bind(relid, generation, call or self.called.append, relid)
        return self.route(relid)

    def route(self, relid: int, sender: native.Sender | None = None) -> native.Route:
        route = native.Route()
        route.bind(sender or self.sender, relid, relid)
        route.live = True
        return route

    def worker(self, vp: int = 0, **options: Any) -> native.Worker:
        return native.Worker(
            vp,
            table=self.table,
            events=self.events,
            vpwork=self.vpwork,
            blocks=self.blocks,
            doorbell=self.bells[vp],
            registry=options.pop("registry", self.registry),
            **options,
        )

    def statistics(self, vp: int = 0) -> dict[str, int]:
        return self.work.statistics(vp)

    def plant_claim(self, flag: int, claim: int) -> None:
        """Another VP's claim; the word above it is reserved and zero."""
        native.Words(self.blocks, layout.BLOCK_SIZE * flag, 1).store(0, claim)

    def taken(self, vp: int = 0) -> native.Words:
        offset = layout.VPWORK_SIZE * vp + layout.VPWORK_TAKEN_OFFSET
        return native.Words(self.vpwork, offset, layout.FLAGS // 64)


@pytest.fixture
def world() -> World:
    return World()
