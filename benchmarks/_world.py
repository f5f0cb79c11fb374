"""One partition of one VP without a daemon: its shared memory, doorbell and open channels, for measurements.

Anonymous shared mappings that a fork inherits, laid out by the daemon's own code. Only the semaphore is a
named one for an instant, because that makes it one that processes share; its bytes are then copied.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import posix_ipc  # type: ignore[import-not-found, unused-ignore]

from vmbusd.abi import layout, native

VP = 0
GENERATION = 1
NO_GUID = bytes(16)


def semaphore() -> Any:
    """A posix_ipc.Semaphore of value 0 whose name is gone already."""
    made = posix_ipc.Semaphore(None, posix_ipc.O_CREX, mode=0o600)
    made.unlink()
    return made


def doorbell() -> native.Doorbell:
    """What the file of a new named semaphore holds, in memory that a fork shares."""
    mapping = mmap.mmap(-1, layout.SEMAPHORE_SIZE)
    made = posix_ipc.Semaphore(None, posix_ipc.O_CREX, mode=0o600)
    try:
        mapping[:] = Path(f"/dev/shm/sem.{made.name.lstrip('/')}").read_bytes()
    finally:
        made.unlink()
        made.close()
    return native.Doorbell.semaphore(mapping)


class World:
    """The shared words of one VP and `channels` open channels, relids from 1, all with that VP as target."""

    def __init__(self, channels: int = 1) -> None:
        self.table = mmap.mmap(-1, layout.TABLE_SIZE)
        self.events = mmap.mmap(-1, layout.EVENT_PAGE_SIZE)
        self.vpwork = mmap.mmap(-1, layout.VPWORK_SIZE)
        self.blocks = mmap.mmap(-1, layout.GUEST_SIZE)
        self.bell = doorbell()
        # What a callback has to tell the measuring process, and how it wakes it.
        self.notes = native.Words(mmap.mmap(-1, layout.PAGE))
        self.answer = doorbell()
        self.relids = range(1, channels + 1)
        writer = native.TableWriter(self.table)
        writer.format(vps=1, epoch=1, ram_size=0, partition="bench")
        for relid in self.relids:
            writer.fill(
                relid,
                relid,
                host_link=0,
                connection_id=relid,
                monitor_id=layout.NO_MONITOR,
                flags=0,
                interface_id=NO_GUID,
                instance_id=NO_GUID,
                subchannel_index=0,
            )
            writer.open(relid, relid, GENERATION)
            writer.set_target(relid, VP)

    def sender(self) -> native.Sender:
        """A sender of its own: one per process."""
        return native.Sender(self.table, self.events, self.vpwork, [self.bell])

    def routes(self, sender: native.Sender) -> list[native.Route]:
        """The channels as a sender sees them, live, ascending."""
        routes = []
        for relid in self.relids:
            route = native.Route()
            route.bind(sender, relid, relid)
            route.live = True
            routes.append(route)
        return routes

    def route(self) -> native.Route:
        """The first channel, with a sender of its own."""
        return self.routes(self.sender())[0]

    def worker(self, callback: Callable[[Any], object], spin: float = 0.0) -> native.Worker:
        """The VP's worker, every channel bound to `callback(relid)`."""
        registry = native.Registry(_missing, _failed)
        for relid in self.relids:
            registry.bind(relid, GENERATION, callback, relid)
        return native.Worker(
            VP,
            table=self.table,
            events=self.events,
            vpwork=self.vpwork,
            blocks=self.blocks,
            doorbell=self.bell,
            registry=registry,
            spin=spin,
        )

    def work(self) -> native.VpWork:
        """The worker's counters and idle word, read."""
        return native.VpWork(self.vpwork, 1)


def _missing(flag: int, generation: int) -> None:
    raise SystemExit(f"event flag {flag}, generation {generation}: not bound, but every channel was")


def _failed(flag: int, error: BaseException) -> None:
    raise SystemExit(f"event flag {flag}: {error!r}")
