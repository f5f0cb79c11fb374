"""What Python gets from a ring: packets, batches, leases, and why a ring is dead."""

import array
import gc
import mmap
import os
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from tests.ring.world import PENDING, World
from tests.unit.abi.world import memory_file
from vmbusd.abi import native
from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.layout import PAGE

ROUNDS = 1_000_000


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def mapped() -> Iterator[World]:
    """The same on a ring of four pages that is mapped twice in a row."""
    descriptor = memory_file(5 * PAGE)
    world = World()
    world.view = native.RingView.mapped(descriptor, range(5))
    world.view.format()
    world.writer, world.reader = native.RingWriter(world.view), native.RingReader(world.view)
    yield world
    world.view.release()
    os.close(descriptor)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


# -- reading -----------------------------------------------------------------------------------------------


def test_receiving_allocates_nothing(world: World) -> None:
    """A million packets later the interpreter has as many blocks as before."""
    writer, reader, buffer, payload = world.writer, world.reader, bytearray(2000), bytes(1500)
    spans, payloads = array.array("I", [0] * 16), [payload] * 8

    def some(rounds: int) -> int:
        before = sys.getallocatedblocks()
        for _ in range(rounds):
            writer.put(payload)
            reader.get_into(buffer)
        return sys.getallocatedblocks() - before

    def batches(rounds: int, large: bytearray) -> int:
        before = sys.getallocatedblocks()
        for _ in range(rounds):
            writer.put_many(payloads)
            reader.get_many_into(large, spans)
        return sys.getallocatedblocks() - before

    gc.collect()
    gc.disable()
    try:
        some(1000)
        assert abs(some(ROUNDS)) <= 2
        batches(10, large := bytearray(20000))
        assert abs(batches(ROUNDS // 100, large)) <= 2
    finally:
        gc.enable()
    assert reader.statistics()["packets"] == ROUNDS + 1000 + 8 * (ROUNDS // 100 + 10)


def test_nothing_leaks(mapped: World) -> None:
    """Batches, leases, errors and views: memory after is memory before."""

    def some(rounds: int) -> None:
        for _ in range(rounds):
            mapped.writer.put_many([b"x" * 50, bytearray(90), b""])
            batch = mapped.reader.get_many(max_bytes=1)
            assert batch is not None
            batch[0], batch.spans, batch.payloads()
            lease = mapped.reader.lease_many(1)
            assert lease is not None
            memoryview(lease).release()
            with pytest.raises(UsageError):
                mapped.reader.get()
            lease.release()
            with pytest.raises(UsageError):
                mapped.writer.put_many([b"x", "y"])  # type: ignore[list-item]
            mapped.reader.get()
            native.RingReader(native.RingView(bytearray(2 * PAGE)))

    some(50)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    some(500)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 5000


def test_what_a_packet_was_is_told_beside_its_payload(world: World) -> None:
    """get_into leaves type, flags, transaction id and the type header's size on the reader (case 252)."""
    header = bytes(4) + (1).to_bytes(4, "little") + bytes(16)
    world.writer.put(b"payload", type=9, flags=1, transaction_id=99, extra=header)
    buffer = bytearray(40)

    assert world.reader.get_into(buffer) == 8
    assert (world.reader.type, world.reader.flags, world.reader.transaction_id) == (9, 1, 99)
    assert (world.reader.extra, bytes(buffer[8:32])) == (24, header)
    assert world.reader.get_into(buffer) == -1


@pytest.mark.parametrize(
    "make", [bytearray, lambda size: memoryview(bytearray(size)), lambda size: mmap.mmap(-1, size)]
)
def test_a_small_buffer_keeps_the_packet(world: World, make: Any) -> None:
    """The error says how much is needed, and that much will do (case 267)."""
    world.writer.put(bytes(20))

    with pytest.raises(UsageError, match="a packet of 24 bytes, the buffer has 23"):
        world.reader.get_into(make(23))
    with pytest.raises(UsageError, match="a packet of 40 bytes, the buffer has 39"):
        world.reader.get_many_into(make(39), bytearray(64))
    assert world.reader.get_into(make(24)) == 24


@pytest.mark.parametrize("buffer", [bytes(64), "text", None, memoryview(bytearray(64))[::2]])
def test_buffers_that_cannot_receive(world: World, buffer: Any) -> None:
    """Read-only, scattered or none: refused, and the packet stays."""
    world.writer.put(b"x")

    with pytest.raises(UsageError, match="receive buffer:"):
        world.reader.get_into(buffer)
    with pytest.raises(UsageError, match="receive buffer:"):
        world.reader.get_many_into(buffer, bytearray(64))
    with pytest.raises(UsageError, match="spans:"):
        world.reader.get_many_into(bytearray(64), buffer)
    with pytest.raises(UsageError, match="spans:"):
        world.reader.get_many_into(bytearray(64), bytearray(7))
    assert world.reader.get() is not None


@pytest.mark.parametrize(("limit", "most"), [(-1, 10), (10, -1), (2**31, 10), (1.5, 10), (None, 10)])
def test_bounds_that_cannot_be(world: World, limit: Any, most: Any) -> None:
    """Named."""
    with pytest.raises(UsageError, match=r"limit|max_bytes"):
        world.reader.get_many(limit, most)
    with pytest.raises(UsageError, match=r"limit|max_bytes"):
        world.reader.lease_many(limit, most)


def test_a_packet_larger_than_the_bound_comes_alone(world: World) -> None:
    """A bound in bytes never stops the ring."""
    world.writer.put_many([bytes(3000), b"small", bytes(3000)])
    sizes = []
    while (batch := world.reader.get_many(max_bytes=100)) is not None:
        sizes.append([len(payload) for payload in batch.payloads()])

    assert sizes == [[3000], [8], [3000]]
    assert world.reader.get_many(0) is None


def test_the_room_is_told_once_and_stays_told(world: World) -> None:
    """`due` is set by the commit that crosses and is the caller's to clear (case 282)."""
    world.writer.put_many([bytes(1000)] * 15)
    assert world.writer.ask(5000) is True
    for expected in (False, False, False, True, True):
        world.reader.get()
        assert world.reader.due is expected
    world.reader.due = False
    world.reader.get()
    assert world.reader.due is False
    world.writer.withdraw()
    assert world.word(PENDING) == 0


# -- leases ------------------------------------------------------------------------------------------------


def test_a_lease_shows_the_ring_and_gives_it_back(mapped: World) -> None:
    """Spans name the payloads; the room comes back at the release, not before (case 249)."""
    payloads = [bytes([n]) * (8 * n) for n in range(1, 9)]
    mapped.writer.put_many(payloads)
    room = mapped.writer.room

    with mapped.reader.lease_many() as lease:  # type: ignore[union-attr]
        assert len(lease) == 8
        with memoryview(lease) as view:
            spans = iter(lease.spans)
            assert [bytes(view[begin:end]) for begin, end in zip(spans, spans, strict=True)] == payloads
            assert view.readonly
            with pytest.raises(UsageError, match="still lives"):
                lease.release()
        assert mapped.writer.room == room
    assert mapped.writer.room == mapped.view.size
    with pytest.raises(BufferError):
        memoryview(lease)


def test_one_lease_at_a_time(mapped: World) -> None:
    """Until its release nothing else is read and nothing unmapped; a forgotten one gives its packets back."""
    mapped.writer.put_many([b"one", b"two"])
    lease = mapped.reader.lease_many(1)
    for call in (mapped.reader.get, mapped.reader.commit, mapped.reader.rest, mapped.reader.lease_many):
        with pytest.raises(UsageError, match="a lease of its packets is still out"):
            call()
    with pytest.raises(UsageError, match="a lease of its packets is still out"):
        mapped.view.release()

    del lease
    batch = mapped.reader.get_many()
    assert batch is not None
    assert batch.payloads() == [padded(b"one"), padded(b"two")]


def test_a_lease_needs_its_packets_in_one_piece(world: World) -> None:
    """On memory mapped once a lease ends at the end of the ring, and a packet over it has none."""
    for _ in range(4):
        world.writer.put(bytes(4000))
        world.reader.get()
    world.writer.put_many([bytes(200), bytes(200), bytes(200)])
    lease = world.reader.lease_many()
    assert lease is not None
    assert len(lease) == 1
    lease.release()
    with pytest.raises(UsageError, match="in two parts"):
        world.reader.lease_many()
    assert world.reader.get() is not None


def test_a_lease_wants_a_committed_reader(mapped: World) -> None:
    """What was read and not given back would be given back with it."""
    mapped.writer.put_many([b"one", b"two"])
    mapped.reader.get(commit=False)
    with pytest.raises(UsageError, match="commit what was read"):
        mapped.reader.lease_many()


# -- dead rings --------------------------------------------------------------------------------------------


def test_a_dead_ring_says_why_ever_after(world: World) -> None:
    """Every read raises the same reason; another end that is made on it finds its own."""
    world.writer.put(b"x")
    world.memory[PAGE + 4] = 200
    for call in (world.reader.get, world.reader.get_many, world.reader.lease_many, world.reader.rest):
        with pytest.raises(
            ProtocolError, match="ring: len8 of the packet at 0x0 is 200, at most 3 can be there"
        ):
            call()
    assert world.reader.reason == "len8 of the packet at 0x0 is 200, at most 3 can be there"
    assert world.writer.reason is None
    with pytest.raises(ProtocolError):
        world.reader.resync()
