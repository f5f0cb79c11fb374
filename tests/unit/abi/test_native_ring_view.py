"""A ring's memory: any buffer, or pages of guest memory in any order mapped twice in a row, and let go of."""

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.abi.world import memory_file
from vmbusd.abi import native
from vmbusd.abi.errors import ObjectDead, ProtocolError, ResourceError, UsageError
from vmbusd.abi.layout import PAGE

PAGES = 400
SCATTERED = (7, 300, 8, 9, 2)
"""Header, then four pages of data; 8 and 9 follow each other."""


@pytest.fixture
def ram() -> Iterator[int]:
    descriptor = memory_file(PAGES * PAGE)
    yield descriptor
    os.close(descriptor)


def page(ram: int, number: int) -> bytes:
    return os.pread(ram, PAGE, number * PAGE)


def mappings() -> int:
    """How many mappings of memory files this process has."""
    return Path("/proc/self/maps").read_text().count("memfd:vmbusd-test")


def test_scattered_pages_are_one_ring(ram: int) -> None:
    """Data page k of the ring is page number k of the list, wherever it lies."""
    view = native.RingView.mapped(ram, SCATTERED)
    view.format()
    writer = native.RingWriter(view)

    assert (view.size, view.mirrored, view.extents) == (4 * PAGE, True, 4)
    assert writer.put(bytes(range(256)) * 40) is True
    stream = b"".join(page(ram, number) for number in SCATTERED[1:])
    assert stream[16 : 16 + 256 * 40] == bytes(range(256)) * 40
    assert struct.unpack_from("<I", page(ram, 7)) == (24 + 256 * 40,)
    view.release()


def test_a_packet_over_the_end_is_one_piece(ram: int) -> None:
    """The data area continues with itself (case 247); both views of a page are the same memory."""
    view = native.RingView.mapped(ram, SCATTERED)
    view.format()
    os.pwrite(ram, struct.pack("<II", 4 * PAGE - 24, 4 * PAGE - 24), 7 * PAGE)
    writer, reader = native.RingWriter(view), native.RingReader(view)

    writer.put(b"0123456789abcdef" * 4)
    assert page(ram, 2)[-8:] == b"01234567"
    assert page(ram, 300)[:56] == (b"0123456789abcdef" * 4)[8:]
    lease = reader.lease_many()
    assert lease is not None
    assert bytes(memoryview(lease)[16:]) == b"0123456789abcdef" * 4
    lease.release()
    assert reader.get() is None
    view.release()


def test_a_mapped_ring_and_a_buffer_are_the_same_ring(ram: int) -> None:
    """What one end writes through a mapping the other reads through plain memory, in two parts."""
    memory = mmap.mmap(ram, 3 * PAGE)
    mapped, plain = native.RingView.mapped(ram, (0, 1, 2)), native.RingView(memory)
    mapped.format()
    writer, reader = native.RingWriter(mapped), native.RingReader(plain)

    for number in range(500):
        payload = bytes([number % 256]) * (number % 700)
        assert writer.put(payload, transaction_id=number) is not None
        got = reader.get()
        assert got is not None
        assert (got[2], got[3][: len(payload)]) == (number, payload)
    mapped.release()
    plain.release()
    memory.close()


def test_release_leaves_nothing_mapped(ram: int) -> None:
    """Nor does a view that is forgotten; a failed one maps nothing."""
    before = mappings()
    view = native.RingView.mapped(ram, SCATTERED)
    assert mappings() > before
    view.release()
    view.release()
    assert mappings() == before
    native.RingView.mapped(ram, SCATTERED)
    with pytest.raises(UsageError):
        native.RingView.mapped(ram, (0, PAGES))
    assert mappings() == before


def test_a_released_ring_is_told() -> None:
    """Every call of its ends raises UsageError, none touches what was unmapped."""
    memory = mmap.mmap(-1, 2 * PAGE)
    view = native.RingView(memory, name="the ring of relid 7")
    view.format()
    writer, reader = native.RingWriter(view), native.RingReader(view)
    view.release()
    memory.close()

    calls = (
        lambda: writer.put(b"x"),
        lambda: writer.put(bytearray(b"x")),
        lambda: writer.put(b"x", extra=bytes(8)),
        lambda: writer.put_many([b"x"]),
        writer.publish,
        lambda: writer.ask(1),
        writer.withdraw,
        writer.resync,
        lambda: writer.room,
        reader.get,
        lambda: reader.get_into(bytearray(8)),
        lambda: reader.get_many_into(bytearray(8), bytearray(8)),
        reader.get_many,
        reader.lease_many,
        reader.commit,
        reader.rest,
        reader.mask,
        reader.resync,
        lambda: reader.peer_frees,
        view.stuck,
        view.header,
        view.format,
        lambda: native.RingReader(view),
        lambda: native.RingWriter(view),
    )
    for call in calls:
        with pytest.raises(UsageError, match="the ring of relid 7 was released"):
            call()


def test_at_most_64_runs_of_pages(ram: int) -> None:
    """One more is refused with the count, as the open then is."""
    assert native.RingView.mapped(ram, range(1, 129, 2)).extents == 64
    with pytest.raises(ResourceError, match="65 runs of pages, at most 64"):
        native.RingView.mapped(ram, range(1, 131, 2))
    assert native.RingView.mapped(ram, range(PAGES)).extents == 1


@pytest.mark.parametrize(
    ("pfns", "text"),
    [
        ((), "0 pages"),
        ((1,), "1 pages"),
        ((1, PAGES), f"page number {PAGES} is outside"),
        ((1, 2**51 - 1), "is outside"),
        ((1, 2**52), "page number 1:"),
        ((-1, 1), "page number 0:"),
        ((1, "2"), "page number 1:"),
        ((1, 2**64), "page number 1:"),
    ],
)
def test_page_numbers_that_cannot_be(ram: int, pfns: tuple[int, ...], text: str) -> None:
    """Too few, outside of guest memory, or no page number at all: named."""
    with pytest.raises(UsageError, match=text):
        native.RingView.mapped(ram, pfns)


def test_a_descriptor_that_cannot_be_mapped() -> None:
    """The machine's reason is told."""
    with pytest.raises(ResourceError, match="Bad file descriptor"):
        native.RingView.mapped(-1, (0, 1))


@pytest.mark.parametrize("size", [0, PAGE // 2, PAGE + 8])
def test_data_sizes_that_cannot_be(size: int) -> None:
    """The data area is a number of pages (case 257)."""
    with pytest.raises(UsageError, match="4096-byte pages"):
        native.RingView(bytearray(4 * PAGE), size=size)


def test_buffers_that_cannot_be() -> None:
    """Read-only, too small, badly aligned, or none."""
    with pytest.raises(UsageError, match="read-only"):
        native.RingView(bytes(2 * PAGE))
    with pytest.raises(UsageError, match="needed"):
        native.RingView(mmap.mmap(-1, 2 * PAGE), size=2 * PAGE)
    with pytest.raises(UsageError, match="aligned"):
        native.RingView(memoryview(mmap.mmap(-1, 3 * PAGE))[4:], size=PAGE)
    with pytest.raises(UsageError, match="no buffer"):
        native.RingView(None)  # type: ignore[arg-type]


def test_wild_indices_are_no_ring() -> None:
    """An end that is made on them raises, naming field and value (case 258)."""
    memory = mmap.mmap(-1, 2 * PAGE)
    view = native.RingView(memory, name="ring in")
    struct.pack_into("<I", memory, 4, PAGE)

    for make in (native.RingReader, native.RingWriter):
        with pytest.raises(ProtocolError, match="ring in: read_index is 0x1000"):
            make(view)
    with pytest.raises(ProtocolError, match="read_index is 0x1000"):
        view.stuck()
    assert view.header()["read_index"] == PAGE


def test_truncated_guest_memory_ends_the_ring() -> None:
    """Both ends get ObjectDead, neither gets SIGBUS."""
    ram = memory_file(PAGES * PAGE)
    view = native.RingView.mapped(ram, (9, 11, 10))
    view.format()
    writer, reader = native.RingWriter(view), native.RingReader(view)
    os.truncate(ram, PAGE)

    with pytest.raises(ObjectDead, match="ring was truncated"):
        writer.put_many([bytes(500)] * 20)
    with pytest.raises(ObjectDead, match="ring was truncated"):
        reader.rest()
    assert view.dead
    view.release()
    assert view.dead
    os.close(ram)
