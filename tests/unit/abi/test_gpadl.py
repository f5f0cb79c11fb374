"""GPADL range lists: split by the guest, joined and checked by the host."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmbusd.abi import gpadl, messages, wire
from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.gpadl import Range

OVERFLOWING = (0xFFFFFFFF, 0xFFF)


def buffer(byte_count: int, byte_offset: int, pages: int) -> bytes:
    """A range buffer as a guest may write it, right or wrong."""
    return struct.pack(f"<II{pages}Q", byte_count, byte_offset, *range(pages))


def words(part: messages.GpadlHeader | messages.GpadlBody) -> int:
    return len(part.ranges) // 8


def joined(parts: list[messages.GpadlHeader | messages.GpadlBody]) -> list[Range]:
    """What the host reads from the guest's messages."""
    header = parts[0]
    assert isinstance(header, messages.GpadlHeader)
    assembly = gpadl.Assembly(header)
    for body in parts[1:]:
        assembly.add(body.ranges)
    assert assembly.missing == 0
    return gpadl.decode_ranges(assembly.buffer(), assembly.range_count)


def test_one_page() -> None:
    """A page is two words: bytes and offset, then the page number (case 081)."""
    (header,) = gpadl.split(5, 9, [gpadl.whole_pages([0x1234])])

    assert header == messages.GpadlHeader(5, 9, 16, 1, struct.pack("<IIQ", 4096, 0, 0x1234))


@pytest.mark.parametrize(
    ("pages", "parts"),
    [(1, [2]), (26, [27]), (27, [27, 1]), (54, [27, 28]), (55, [27, 28, 1]), (1024, [27] + 35 * [28] + [18])],
)
def test_how_many_words_each_message_carries(pages: int, parts: list[int]) -> None:
    """26 pages fit the header, then 28 a body (cases 082, 083)."""
    split = gpadl.split(5, 9, [gpadl.whole_pages(range(pages))])

    assert [words(part) for part in split] == parts
    assert all(len(wire.encode(part)) <= wire.MAX_MESSAGE for part in split)


def test_the_largest() -> None:
    """8191 words, a range of 8190 pages, fit the length field; one page more is refused (case 308)."""
    split = gpadl.split(5, 9, [gpadl.whole_pages(range(8190))])

    assert isinstance(split[0], messages.GpadlHeader)
    assert split[0].range_buflen == 8191 * 8
    assert joined(split) == [gpadl.whole_pages(range(8190))]
    with pytest.raises(UsageError, match="8190 pages"):
        gpadl.split(5, 9, [gpadl.whole_pages(range(8191))])


def test_padding_after_the_announced_length_is_ignored() -> None:
    """A body padded to the maximum adds what was missing and no more (case 084)."""
    header, body = gpadl.split(5, 9, [gpadl.whole_pages(range(27))])
    assert isinstance(header, messages.GpadlHeader)
    assembly = gpadl.Assembly(header)
    assert assembly.missing == 8

    assembly.add(body.ranges + b"\xff" * 216)
    assembly.add(b"\xff" * 224)

    assert assembly.missing == 0
    assert gpadl.decode_ranges(assembly.buffer(), 1) == [gpadl.whole_pages(range(27))]


def test_only_whole_words_count() -> None:
    """Bytes that make no word are dropped, in the announced length as in a message."""
    assembly = gpadl.Assembly(messages.GpadlHeader(5, 9, 23, 1, bytes(15)))

    assert assembly.missing == 8
    assembly.add(bytes(7))
    assert assembly.missing == 8
    assembly.add(bytes(9))
    assert assembly.missing == 0
    assert len(assembly.buffer()) == 16


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (buffer(4096, 0x1000, 2), 1),  # offset outside the page: case 087
        (buffer(0, 0, 1), 1),  # no bytes: case 088
        (buffer(8192, 0, 1), 1),  # too few pages: case 088
        (buffer(4096, 1, 1), 1),  # the same, because of the offset
        (buffer(4096, 0, 1), 2),  # one range of two: case 088
        (buffer(4096, 0, 1) + buffer(4096, 0, 0), 2),  # the second without its page
        (buffer(*OVERFLOWING, 27), 1),  # 32-bit overflow: case 089
        (buffer(4096, 0, 1), 0),  # no range at all
        (buffer(4096, 0, 1), 65535),
        (b"", 1),
    ],
)
def test_bad_ranges(data: bytes, count: int) -> None:
    """A range list that does not say what it must is the peer's fault (cases 087-089)."""
    with pytest.raises(ProtocolError):
        gpadl.decode_ranges(data, count)


def test_unused_words_at_the_end_are_allowed() -> None:
    """The references accept a longer buffer than its ranges need."""
    assert gpadl.decode_ranges(buffer(4096, 0, 3), 1) == [Range(4096, 0, (0,))]


@pytest.mark.parametrize(
    "bad",
    [
        [],
        [Range(0, 0, ())],
        [Range(4096, 4096, (1, 2))],
        [Range(4096, -1, (1,))],
        [Range(8192, 0, (1,))],
        [Range(4096, 0, (1, 2))],
        [Range(4096, 0, (-1,))],
        [Range(4096, 0, (1 << 64,))],
        [Range(1 << 32, 0, tuple(range(1 << 20)))],
    ],
)
def test_the_guest_library_sends_no_bad_ranges(bad: list[Range]) -> None:
    """What the host would refuse is the caller's fault before it is sent."""
    with pytest.raises(UsageError, match="GPADL"):
        gpadl.split(5, 9, bad)


@st.composite
def some_ranges(draw: st.DrawFn) -> list[Range]:
    ranges = []
    for _ in range(draw(st.integers(1, 5))):
        byte_count, byte_offset = draw(st.integers(1, 300_000)), draw(st.integers(0, 4095))
        pages = gpadl.pages_spanned(byte_count, byte_offset)
        first = draw(st.integers(0, (1 << 64) - 1 - pages))
        ranges.append(Range(byte_count, byte_offset, tuple(range(first, first + pages))))
    return ranges


@given(some_ranges())
def test_any_ranges_survive_split_and_join(ranges: list[Range]) -> None:
    """The host reads the ranges that the guest described, over the wire."""
    parts = [wire.decode(wire.encode(part), wire.V5_3) for part in gpadl.split(5, 9, ranges)]

    assert joined(parts) == ranges  # type: ignore[arg-type]


@given(st.binary(max_size=400), st.integers(0, 65535))
def test_any_buffer_is_ranges_or_a_protocol_error(data: bytes, count: int) -> None:
    """Checking raises ProtocolError and nothing else."""
    try:
        ranges = gpadl.decode_ranges(data, count)
    except ProtocolError:
        return

    assert len(ranges) == count
    assert all(len(one.pfns) == gpadl.pages_spanned(one.byte_count, one.byte_offset) for one in ranges)


def test_ring_pages() -> None:
    """Pages below the offset are the guest-to-host ring, the rest the other one (case 067)."""
    rings = gpadl.ring_pages([gpadl.whole_pages([10, 11, 12, 13, 14])], 2)

    assert rings == gpadl.RingPages((10, 11), (12, 13, 14))


@pytest.mark.parametrize("downstream", [0, 4, 5, 0xFFFFFFFF])
def test_a_ring_offset_must_leave_both_rings_a_page(downstream: int) -> None:
    """Offset 0, the page count and more are refused (case 065)."""
    with pytest.raises(ProtocolError, match="ring offset"):
        gpadl.ring_pages([gpadl.whole_pages([1, 2, 3, 4])], downstream)


@pytest.mark.parametrize(
    "ranges",
    [
        [gpadl.whole_pages([1, 2]), gpadl.whole_pages([3, 4])],
        [Range(4096, 8, (1, 2))],
        [Range(4096 + 8, 0, (1, 2))],
    ],
)
def test_a_ring_is_one_range_of_whole_pages(ranges: list[Range]) -> None:
    """Two ranges, a start inside a page and a part of a page are refused (case 066)."""
    with pytest.raises(ProtocolError, match="one range of whole pages"):
        gpadl.ring_pages(ranges, 1)
