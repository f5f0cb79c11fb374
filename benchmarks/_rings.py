"""This project's rings as the ring benchmark measures them: the ports of both ends, as channels use them.

Streams are polled by both ends, as those of the C programs beside them: the reader wants no signals, and an
end that finds the ring full or empty looks again. Blocked round trips sleep and are woken as on any channel.
"""

from __future__ import annotations

import mmap
import os
import sys
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from time import perf_counter_ns as now
from typing import Any

from benchmarks._peer import BenchError, at_stop, peer, pinned
from benchmarks._streams import Move, Pair, until
from benchmarks._world import World, doorbell
from vmbusd.abi import layout, native

FLAG = 1
# Bytes of a ring's data area, and the bounds of a batch: those of rings.c.
RING = 128 * layout.PAGE
BATCH, BATCH_BYTES = 256, 16384
OVERHEAD = 24
COMPLETION = 11


def batch_of(size: int) -> int:
    """Packets of one batch."""
    return max(1, min(BATCH, BATCH_BYTES // (size + OVERHEAD)))


class Polled:
    """What a port leaves to its owner: a ring that is full or empty is looked at again."""

    port: native.Port

    def send(self, payload: bytes, *, request: bool = False, **_options: Any) -> None:
        until(lambda: self.port.put(payload, 6, int(request)))

    def send_many(self, items: list[bytes], sent: int, _timeout: float | None) -> None:
        def some() -> bool:
            nonlocal sent
            sent += self.port.put_many(items, sent)
            return sent == len(items)

        until(some)

    def receive_into(self, buffer: bytearray, **_options: Any) -> int:
        size = -1

        def one() -> bool:
            nonlocal size
            size = self.port.try_into(buffer)
            return size >= 0

        until(one)
        return size

    def raise_closed(self) -> None:
        raise BenchError("the port was closed")


class Rings:
    """Two rings in one memory file, mapped as those of a channel."""

    def __init__(self) -> None:
        pages = 1 + RING // layout.PAGE
        fd = os.memfd_create("rings", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, 2 * pages * layout.PAGE)
            self.there = native.RingView.mapped(fd, range(pages))
            self.back = native.RingView.mapped(fd, range(pages, 2 * pages))
        finally:
            os.close(fd)
        self.nobody = native.HostSender(mmap.mmap(-1, layout.PAGE), doorbell())
        self.format()

    def format(self) -> None:
        """Empty both. No port of them goes on from there."""
        self.there.format()
        self.back.format()

    def port(self, first: bool, **how: Any) -> native.Port:
        """A new port of one side; nobody hears its signals unless told how."""
        out, into = (self.there, self.back) if first else (self.back, self.there)
        slow = Polled()
        how = how or {"host": self.nobody}
        writer, reader = native.RingWriter(out, announce=True), native.RingReader(into)
        slow.port = native.Port(writer, reader, slow, flag=FLAG, requests=native.Requests(), **how)
        return slow.port

    def polled(self, first: bool) -> native.Port:
        """A port whose reader wants no signals."""
        port = self.port(first)
        port.mask()
        return port


RINGS = Rings()


def single(size: int, count: int) -> Pair:
    """`send` for each packet, `receive_into` for each."""

    @contextmanager
    def put() -> Iterator[Move]:
        send, payload = RINGS.polled(True).send, bytes(size)

        def move() -> None:
            for _ in repeat(None, count):
                send(payload)

        yield move

    @contextmanager
    def take() -> Iterator[Move]:
        receive_into, buffer = RINGS.polled(False).receive_into, bytearray(RING)

        def move() -> None:
            for _ in repeat(None, count):
                receive_into(buffer)

        yield move

    RINGS.format()
    return Pair(put, take)


@contextmanager
def _lists(size: int, count: int) -> Iterator[Move]:
    send_many, items = RINGS.polled(True).send_many, [bytes(size)] * batch_of(size)

    def move() -> None:
        for _ in repeat(None, count // len(items)):
            send_many(items)

    yield move


def _of_lists(size: int, count: int, take: Callable[[], Any]) -> Pair:
    RINGS.format()
    return Pair(lambda: _lists(size, count), take)


def batch(size: int, count: int) -> Pair:
    """`send_many` of lists; whole packets, and where they lie, into buffers of the receiver."""

    @contextmanager
    def take() -> Iterator[Move]:
        get = RINGS.polled(False).get_many_into
        spans = array("I", bytes(8 * batch_of(size)))
        buffer = bytearray(max(BATCH_BYTES, size + OVERHEAD))

        def move() -> None:
            left = count
            while left:
                taken = get(buffer, spans)
                left -= taken
                if not taken:
                    os.sched_yield()

        yield move

    return _of_lists(size, count, take)


def objects(size: int, count: int) -> Pair:
    """`send_many` of lists, and a bytes object for each packet, as other libraries give."""

    @contextmanager
    def take() -> Iterator[Move]:
        port, most = RINGS.polled(False), batch_of(size)

        def move() -> None:
            left = count
            while left:
                taken = port.get_many(most, BATCH_BYTES)
                if taken is None:
                    os.sched_yield()
                    continue
                left -= len(taken.payloads())
                port.commit()

        yield move

    return _of_lists(size, count, take)


def trips(size: int, count: int) -> Pair:
    """Requests and their completions, both ends looking."""

    @contextmanager
    def ask() -> Iterator[Move]:
        port, payload, buffer = RINGS.polled(True), bytes(size), bytearray(RING)

        def move() -> None:
            send, receive_into = port.send, port.receive_into
            for _ in repeat(None, count):
                send(payload, request=True)
                receive_into(buffer)

        yield move

    @contextmanager
    def answer() -> Iterator[Move]:
        port, payload, buffer = RINGS.polled(False), bytes(size), bytearray(RING)

        def move() -> None:
            put, receive_into, reader = port.put, port.receive_into, port.reader
            for _ in repeat(None, count):
                receive_into(buffer)
                put(payload, COMPLETION, 0, reader.transaction_id)

        yield move

    RINGS.format()
    return Pair(ask, answer)


def woken_trips(worlds: tuple[World, World], cores: tuple[int, int], size: int, count: int) -> float:
    """The same by callbacks of workers that sleep in between: ns per round trip."""
    first, second = worlds
    RINGS.format()
    for world in worlds:
        native.EventFlags(world.events).take()

    def serve(own: World, port: native.Port, handle: Callable[[], object]) -> native.Worker:
        buffer = bytearray(RING)

        def callback(_relid: int) -> None:
            port.mask()
            while True:
                while port.try_into(buffer) >= 0:
                    handle()
                if port.rest():
                    return

        return own.worker(callback)

    def answer() -> None:
        port, payload = RINGS.port(False, route=first.route()), bytes(size)
        worker = serve(second, port, lambda: port.put(payload, COMPLETION, 0, port.reader.transaction_id))
        at_stop(worker.stop)
        second.notes.store(0, 1)
        worker.run()

    second.notes.store(0, 0)
    with peer(answer, cores) as stop:
        port, payload, left = RINGS.port(True, route=second.route()), bytes(size), count

        def again() -> None:
            nonlocal left
            left -= 1
            if left:
                port.send(payload, request=True)
            else:
                worker.stop()

        worker = serve(first, port, again)
        until(lambda: second.notes.load(0))
        begun = now()
        port.send(payload, request=True)
        worker.run()
        spent = now() - begun
        stop()
    return spent / count


def allocated(core: int, count: int) -> float:
    """Blocks of Python's allocator more after `count` calls of receive_into than before."""
    RINGS.format()
    source, port, buffer, payload = RINGS.polled(True), RINGS.polled(False), bytearray(RING), bytes(64)

    def more(turns: int) -> int:
        before = sys.getallocatedblocks()
        for _ in repeat(None, turns):
            source.send(payload)
            port.receive_into(buffer)
        return sys.getallocatedblocks() - before

    with pinned(core):
        more(1)
        # Without a turn it is what the loop itself holds.
        return more(count) - more(0)
