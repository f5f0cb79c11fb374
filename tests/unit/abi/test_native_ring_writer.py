"""What Python gives a ring: buffers, batches, and errors that leave nothing half done."""

import array
import mmap
import re
import threading
from typing import Any

import pytest

from tests.ring.world import World
from vmbusd.abi.errors import UsageError
from vmbusd.abi.layout import PAGE

GPA_DIRECT = bytes(4) + (1).to_bytes(4, "little") + bytes(16)
"""A type header that names one range."""


@pytest.fixture
def world() -> World:
    return World()


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


@pytest.mark.parametrize(
    "payload",
    [b"bytes", bytearray(b"array"), memoryview(b"a view")[2:], array.array("H", [1, 2, 3]), mmap.mmap(-1, 5)],
)
def test_any_contiguous_buffer_is_a_payload(world: World, payload: Any) -> None:
    """Singly and in a batch; its bytes arrive, padded."""
    expected = padded(bytes(memoryview(payload).cast("B")))

    world.writer.put(payload)
    world.writer.put_many([payload, payload])
    batch = world.reader.get_many()
    assert batch is not None
    assert batch.payloads() == [expected] * 3


@pytest.mark.parametrize("payload", ["text", 7, None, memoryview(bytes(8))[::2]])
def test_what_is_no_buffer_is_refused(world: World, payload: Any) -> None:
    """Nothing is written, also of those before it in the same list."""
    with pytest.raises(UsageError, match="payload:"):
        world.writer.put(payload)
    with pytest.raises(UsageError, match="type header:"):
        world.writer.put(b"good", extra=payload)
    with pytest.raises(UsageError, match="payload:"):
        world.writer.put_many([b"good", payload])
    assert world.reader.get() is None
    assert world.view.header()["write_index"] == 0


@pytest.mark.parametrize(
    ("kind", "flags", "number", "header", "text"),
    [
        (8, 0, 1, b"", "a packet of type 8; 6, 7, 9 and 11 are in use"),
        (6, 2, 1, b"", "flags 0x2; bit 0 is the only one"),
        (9, 1, 1, bytes(12), "a type header of 12 bytes, not a multiple of 8"),
        (7, 0, 1, b"", "a packet of type 7 needs a type header of 8 bytes at least"),
        (9, 1, 1, bytes(8), "a GPA direct packet without a range"),
        (65542, 0, 1, b"", "packet type 65542 is not in 0..65535"),
        (-1, 0, 1, b"", "packet type -1"),
        ("6", 0, 1, b"", "packet type '6'"),
        (6, 1 << 70, 1, b"", "packet flags"),
        (6, 0, -1, b"", "transaction id -1"),
        (6, 0, 1 << 64, b"", "transaction id 18446744073709551616"),
    ],
)
def test_a_packet_that_would_kill_the_ring_is_refused(
    world: World, kind: Any, flags: int, number: int, header: bytes, text: str
) -> None:
    """What a reader takes for corruption is the caller's mistake, and nothing is written."""
    with pytest.raises(UsageError, match=re.escape(text)):
        world.writer.put(b"x", kind, flags, number, header)
    with pytest.raises(UsageError):
        world.writer.put_many([b"x"], type=kind, flags=flags, transaction_ids=[number])
    assert world.view.header()["write_index"] == 0


def test_a_batch_is_all_it_can_be(world: World) -> None:
    """What fits is written and published once; the caller goes on once there is room (case 280)."""
    payloads = [bytes([n]) * 1000 for n in range(40)]

    assert world.writer.put_many(payloads) == (15, True, 15 * 1024)
    assert world.writer.put_many(payloads, 15) == (0, False, 0)
    batch = world.reader.get_many(limit=5)
    assert batch is not None
    assert world.writer.put_many(payloads, 15) == (5, False, 5 * 1024)
    assert world.writer.put_many(payloads, 40) == (0, False, 0)
    rest = world.reader.get_many(max_bytes=1 << 20)
    assert rest is not None
    assert [one[0] for one in batch.payloads() + rest.payloads()] == list(range(20))


def test_a_batch_with_one_that_never_fits_is_refused_whole(world: World) -> None:
    """The error names the size; neither those before it nor what was staged earlier is lost or published."""
    assert world.writer.stage(b"staged before")
    with pytest.raises(UsageError, match=r"a packet of 20000 \+ 0 bytes never fits: 16352 are the most"):
        world.writer.put_many([b"good", b"good", bytes(20000), b"good"])

    assert world.reader.get() is None
    assert world.writer.publish() is True
    batch = world.reader.get_many()
    assert batch is not None
    assert batch.payloads() == [padded(b"staged before")]


def test_ids_go_with_a_batch(world: World) -> None:
    """One for each payload, or it is refused."""
    world.writer.put_many([b"a", b"b"], type=6, flags=1, transaction_ids=[7, 2**64 - 1])
    with pytest.raises(UsageError, match="2 payloads"):
        world.writer.put_many([b"a", b"b"], transaction_ids=[7])
    batch = world.reader.get_many()
    assert batch is not None
    assert (batch[0], batch[-1]) == ((6, 1, 7, padded(b"a"), b""), (6, 1, 2**64 - 1, padded(b"b"), b""))
    with pytest.raises(IndexError):
        batch.payload(2)


@pytest.mark.parametrize(("kind", "header"), [(6, b""), (9, GPA_DIRECT)])
def test_the_most_that_fits_fits(world: World, kind: int, header: bytes) -> None:
    """And one byte more never does (case 266)."""
    most = world.writer.most_payload(len(header))

    assert world.writer.put(bytes(most), kind, extra=header) is True
    assert world.writer.put(b"") is None
    with pytest.raises(UsageError, match="never fits"):
        world.writer.put(bytes(most + 1), kind, extra=header)


def test_a_large_ring_is_bounded_by_the_descriptor() -> None:
    """len8 has 16 bits: a packet has at most 524280 bytes and its trailer, however large the ring."""
    world = World(200 * PAGE)

    assert world.writer.most_payload() == 0xFFFF * 8 - 16
    assert world.writer.put(bytes(world.writer.most_payload())) is True
    with pytest.raises(UsageError, match="never fits"):
        world.writer.put(bytes(world.writer.most_payload() + 1))
    got = world.reader.get_many(max_bytes=100)
    assert got is not None
    assert len(got.payload(0)) == world.writer.most_payload()


def test_threads_do_not_mix_their_packets(world: World) -> None:
    """Each packet is whole and each thread's are in order (case 272)."""
    count, threads = 3000, 4

    def produce(number: int) -> None:
        for n in range(count):
            payload = bytes([number]) * 8 + n.to_bytes(8, "little")
            while world.writer.put(payload if n % 2 else bytearray(payload)) is None:
                pass

    producers = [threading.Thread(target=produce, args=(number,)) for number in range(threads)]
    for one in producers:
        one.start()
    seen = [0] * threads
    while sum(seen) < count * threads:
        batch = world.reader.get_many()
        for payload in batch.payloads() if batch is not None else ():
            number = payload[0]
            assert payload == bytes([number]) * 8 + seen[number].to_bytes(8, "little")
            seen[number] += 1
    for one in producers:
        one.join()
