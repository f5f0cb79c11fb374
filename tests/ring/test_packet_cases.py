"""The catalogue's cases of packets in rings, one by one, on the native ring."""

import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.ring.world import PAGE, PENDING, READ_INDEX, WRITE_INDEX, World
from vmbusd.abi import native, packets
from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.gpadl import Range


@pytest.fixture
def world() -> World:
    return World()


def descriptor(
    kind: int = 6, offset8: int = 2, len8: int = 3, flags: int = 0, transaction_id: int = 0
) -> bytes:
    return struct.pack("<HHHHQ", kind, offset8, len8, flags, transaction_id)


def test_eight_bytes(world: World) -> None:
    """Eight bytes come back as they were; the write signals, the read does not (case 243)."""
    assert world.writer.put(b"12345678") is True
    assert world.reader.get() == (6, 0, 0, b"12345678", b"")
    assert not world.reader.due


def test_a_fifth_packet_finds_no_room(world: World) -> None:
    """Four packets of 4000 bytes fill 16384; the fifth changes nothing and needs 4024 (case 245)."""
    for _ in range(4):
        assert world.writer.put(bytes(4000)) is not None
    before = bytes(world.memory)

    assert world.writer.put(bytes(4000)) is None
    assert world.memory == before
    assert world.writer.ask(4000)
    assert world.word(PENDING) == max(4024, world.size // 4)


def test_equal_indices_are_an_empty_ring(world: World) -> None:
    """Equal indices mean empty, so eight bytes stay free whatever is written (case 246)."""
    assert world.reader.get() is None
    while world.writer.put(b"") is not None:
        pass
    assert world.word(WRITE_INDEX) != world.word(READ_INDEX)
    assert world.writer.room >= 8


def test_a_write_that_is_not_committed(world: World) -> None:
    """Nobody sees a packet before it is published, and after a revert it never was (case 248)."""
    assert world.writer.stage(b"hidden")
    assert world.reader.get() is None
    world.writer.revert()
    assert world.writer.publish() is False
    assert world.word(WRITE_INDEX) == 0
    world.writer.put(b"seen")
    got = world.reader.get()
    assert got is not None
    assert got[3].startswith(b"seen")


def test_a_peek_that_is_taken_back(world: World) -> None:
    """After a revert the packet is read again and judged again (case 250)."""
    world.writer.put(b"12345678")
    assert world.reader.get(commit=False) == (6, 0, 0, b"12345678", b"")
    world.reader.revert()
    assert world.reader.get(commit=False) == (6, 0, 0, b"12345678", b"")
    world.reader.revert()
    world.memory[PAGE] = 99
    with pytest.raises(ProtocolError, match="type"):
        world.reader.get()


@pytest.mark.parametrize("size", range(18))
def test_lengths_are_padded(world: World, size: int) -> None:
    """A reader sees the payload rounded up to a multiple of eight, with zeros (case 251)."""
    world.writer.put(b"x" * size)
    got = world.reader.get()
    assert got is not None
    assert got[3] == b"x" * size + bytes(-size % 8)


@pytest.mark.parametrize("batched", [False, True])
def test_transaction_ids(world: World, batched: bool) -> None:
    """Every descriptor has an id; flag 1 and completions say that it counts (case 252)."""
    for kind, flags in ((6, 0), (6, 1), (11, 0)):
        world.writer.put(b"", kind, flags, 77)
        if batched:
            batch = world.reader.get_many()
            assert batch is not None
            got: Any = batch[0]
        else:
            got = world.reader.get()
        assert got[:3] == (kind, flags, 77)


def test_gpa_direct_packets(world: World) -> None:
    """Ranges of guest pages come through with offsets, lengths and pages (case 253)."""
    ranges = [Range(4096, 20, (5, 6)), Range(200, 0, (9,))]
    extra = packets.encode_gpa_direct(ranges)
    assert world.writer.put(b"command", 9, 1, 3, extra) is True
    got = world.reader.get()
    assert got is not None
    assert got[4] == extra
    assert packets.decode_gpa_direct(got[4]) == ranges


def test_an_empty_range_in_a_packet(world: World) -> None:
    """A range of no bytes is refused when ranges are looked at; the payload is still there (case 254)."""
    extra = struct.pack("<IIIIQ", 0, 1, 0, 0, 7)
    world.writer.put(b"readable", 9, 1, 3, extra)
    got = world.reader.get()
    assert got is not None
    assert got[3] == b"readable"
    with pytest.raises(ProtocolError, match="0 bytes"):
        packets.decode_gpa_direct(got[4])


@pytest.mark.parametrize("size", [0, 8, 4095, 4104, 6000])
def test_ring_sizes_that_cannot_be(size: int) -> None:
    """A data area that is no number of whole pages is refused (case 257)."""
    with pytest.raises(UsageError, match="page"):
        native.RingView(bytearray(PAGE + size), 0, size)


@pytest.mark.parametrize("at", [WRITE_INDEX, READ_INDEX])
@pytest.mark.parametrize("value", [4, 7, 4 * PAGE, 4 * PAGE + 8, 0xFFFFFFF8, 0xFFFFFFFF])
def test_ring_pointers_that_cannot_be(world: World, at: int, value: int) -> None:
    """A crooked or wild index is found at attach, by the reader and by the writer (case 258)."""
    world.set(at, value)
    for end in (native.RingWriter, native.RingReader):
        with pytest.raises(ProtocolError, match="index"):
            end(world.view)
    with pytest.raises(ProtocolError, match="index"):
        world.reader.get() if at == WRITE_INDEX else world.writer.ask(100)


@pytest.mark.parametrize(
    ("offset8", "len8"), [(0, 3), (1, 3), (4, 3), (2, 1), (2, 0), (2, 4), (2, 0xFFFF), (0xFFFF, 0xFFFF)]
)
@pytest.mark.parametrize("batched", [False, True])
def test_packet_lengths_that_cannot_be(world: World, offset8: int, len8: int, batched: bool) -> None:
    """Lengths that do not fit each other or the ring kill it, and no index moves (case 259)."""
    world.raw(descriptor(offset8=offset8, len8=len8) + bytes(16))
    with pytest.raises(ProtocolError, match=r"offset8|len8"):
        world.reader.get_many() if batched else world.reader.get()
    assert world.word(READ_INDEX) == 0
    with pytest.raises(ProtocolError):
        world.reader.get()
    assert world.reader.reason is not None


@pytest.mark.parametrize("batched", [False, True])
def test_a_packet_without_its_trailer(world: World, batched: bool) -> None:
    """A packet that ends where the trailer should begin is refused (case 260)."""
    world.raw(descriptor(len8=3) + bytes(8))
    with pytest.raises(ProtocolError, match="len8"):
        world.reader.get_many() if batched else world.reader.get()


@pytest.mark.parametrize("there", [8, 16])
def test_too_little_to_be_a_packet(world: World, there: int) -> None:
    """Less than a descriptor and a trailer is no packet (case 261)."""
    world.raw(descriptor(len8=2)[:there])
    with pytest.raises(ProtocolError, match="available"):
        world.reader.get()


@pytest.mark.parametrize(("kind", "flags", "field"), [(6, 2, "flags"), (6, 0x8001, "flags"), (0, 0, "type")])
def test_unknown_flags_and_types(world: World, kind: int, flags: int, field: str) -> None:
    """Unknown flags and unknown types are told apart (case 262)."""
    world.raw(descriptor(kind=kind, flags=flags) + bytes(16))
    with pytest.raises(ProtocolError, match=field):
        world.reader.get()


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 8, 10, 12, 13, 14, 31, 32, 0xFFFF])
def test_types_that_nobody_sends_any_more(world: World, kind: int) -> None:
    """Only in-band, transfer pages, GPA direct and completion are packets (case 262)."""
    world.raw(descriptor(kind=kind) + bytes(16))
    with pytest.raises(ProtocolError, match="type"):
        world.reader.get()


@pytest.mark.parametrize(("kind", "offset8", "extra"), [(9, 2, b""), (7, 2, b""), (9, 3, bytes(8))])
@pytest.mark.parametrize("batched", [False, True])
def test_offsets_of_packets_with_ranges(
    world: World, kind: int, offset8: int, extra: bytes, batched: bool
) -> None:
    """Packets with ranges have room for them, and GPA direct has at least one (case 263)."""
    world.raw(descriptor(kind, offset8, offset8, 1) + extra + bytes(8))
    with pytest.raises(ProtocolError):
        world.reader.get_many() if batched else world.reader.get()


def test_a_packet_longer_than_the_receiver_takes(world: World) -> None:
    """A batch holds what it is allowed to hold, plus at most one packet that the ring bounds (case 265)."""
    for _ in range(3):
        world.writer.put(bytes(4000))
    batch = world.reader.get_many(limit=100, max_bytes=100)
    assert batch is not None
    assert len(batch) == 1
    assert len(batch.data) <= 4024
    batch = world.reader.get_many(limit=1, max_bytes=65536)
    assert batch is not None
    assert len(batch) == 1


def test_a_packet_longer_than_the_ring(world: World) -> None:
    """What no empty ring could hold is the caller's mistake, not "full" (case 266)."""
    with pytest.raises(UsageError):
        world.writer.put(bytes(world.size))
    assert world.writer.put(bytes(world.writer.most_payload())) is True


def test_a_receive_buffer_that_is_too_small(world: World) -> None:
    """The error names the size that is needed, and the packet stays (case 267)."""
    world.writer.put(bytes(100))
    with pytest.raises(UsageError, match="104"):
        world.reader.get_into(bytearray(96))
    assert world.reader.get_into(bytearray(104)) == 104


SCRIBBLER = """
import mmap, sys
file = open(sys.argv[1], "r+b")
memory = mmap.mmap(file.fileno(), 0)
mask = memoryview(memory).cast("I")
print("ready", flush=True)
while True:
    mask[2] = 1
"""


def test_a_mask_set_by_the_wrong_side(tmp_path: Path) -> None:
    """A writer that masks the ring it writes to is caught when the reader is about to wait (case 271)."""
    file = tmp_path / "ring"
    file.write_bytes(bytes(2 * PAGE))
    with open(file, "r+b") as opened:
        view = native.RingView.mapped(opened.fileno(), range(2))
    reader = native.RingReader(view)
    with subprocess.Popen(
        [sys.executable, "-c", SCRIBBLER, str(file)], stdout=subprocess.PIPE, text=True
    ) as peer:
        assert peer.stdout is not None
        peer.stdout.readline()
        with pytest.raises(ProtocolError, match="interrupt_mask"):
            list(iter(reader.rest, None))
        peer.kill()
    assert reader.reason is not None


def test_several_writers_of_a_ring(world: World) -> None:
    """Puts of several threads never mix: the native call is one piece (case 272)."""

    def write(letter: bytes) -> None:
        for _ in range(2000):
            while world.writer.put(letter * 64) is None:
                pass

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    seen = dict.fromkeys(b"abc", 0)
    while sum(seen.values()) < 6000:
        got = world.reader.get()
        if got is not None:
            assert got[3] == got[3][:1] * 64
            seen[got[3][0]] += 1
    for thread in threads:
        thread.join()
    assert set(seen.values()) == {2000}
