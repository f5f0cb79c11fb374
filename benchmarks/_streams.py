"""Packets from one process to another, and back: how every contender of the ring benchmark is timed.

A contender is a pair of ends. An end is a context manager that is entered in its own process, pinned, and
gives the function to be timed; what it takes to get there, a connection or a thread, is not measured.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import perf_counter_ns as now

from benchmarks._peer import peer
from vmbusd.abi import layout, native

READY, GO, DONE = range(3)
# Looks in vain before the processor is offered: on a crowded machine to the other end.
LOOKS = 64

Move = Callable[[], object]
End = Callable[[], AbstractContextManager[Move]]


@dataclass(frozen=True)
class Pair:
    """Both ends, each of which moves all packets of the measurement. `second` is there before `first`."""

    first: End
    second: End


def until(done: Callable[[], object]) -> None:
    """Looks until something is there."""
    looks = 0
    while not done():
        looks += 1
        if looks % LOOKS == 0:
            os.sched_yield()


def timed(pair: Pair, cores: tuple[int, int], count: int) -> float:
    """ns per packet, or per round trip: from the moment that both ends begin until both are done."""
    notes = native.Words(mmap.mmap(-1, layout.PAGE))

    def other() -> None:
        with pair.second() as move:
            notes.store(READY, 1)
            until(lambda: notes.load(GO))
            move()
            notes.store(DONE, now())
            # Whoever leaves first may take a connection away that the other still uses.
            until(lambda: notes.load(READY) == 0)

    with peer(other, cores):
        until(lambda: notes.load(READY))
        with pair.first() as move:
            begun = now()
            notes.store(GO, 1)
            move()
            ended = now()
            until(lambda: notes.load(DONE))
            notes.store(READY, 0)
    return (max(ended, notes.load(DONE)) - begun) / count
