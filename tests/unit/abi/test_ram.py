"""Ranges of guest memory: which bytes they are, and which are refused."""

import pytest

from vmbusd.abi import packets, ram
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.gpadl import Range, whole_pages
from vmbusd.abi.layout import PAGE
from vmbusd.abi.packets import Packet, PacketType, TransferPages, TransferRange

MEMORY = b"".join(bytes([page]) * PAGE for page in range(8))


def contents(one: Range) -> list[tuple[int, int]]:
    """(first byte, length) of each view."""
    return [(view[0], len(view)) for view in ram.views(bytearray(MEMORY), one)]


def test_pages_that_follow_each_other_are_one_view() -> None:
    """Runs of pages become views, cut at offset and length."""
    assert contents(Range(3 * PAGE, 0, (2, 3, 4))) == [(2, 3 * PAGE)]
    assert contents(Range(2 * PAGE, 96, (2, 4, 5))) == [(2, PAGE - 96), (4, PAGE + 96)]
    assert contents(Range(1, PAGE - 1, (7,))) == [(7, 1)]


def test_views_are_guest_memory() -> None:
    """What is written to a view stands in memory."""
    memory = bytearray(MEMORY)
    for view in ram.views(memory, Range(PAGE, PAGE - 2, (6, 1))):
        view[:2] = b"\xff\xff"
    assert memory[7 * PAGE - 2 : 7 * PAGE] == b"\xff\xff"
    assert memory[PAGE : PAGE + 2] == b"\xff\xff"


@pytest.mark.parametrize("pfn", [8, 1 << 40, 2**64 - 1])
def test_pages_outside_of_memory(pfn: int) -> None:
    """A page number that a peer made up is refused before any byte is touched."""
    with pytest.raises(ProtocolError, match="outside of guest memory"):
        ram.views(bytearray(MEMORY), Range(2 * PAGE, 0, (1, pfn)))


BUFFER = [whole_pages([1, 2, 3])]


@pytest.mark.parametrize(
    ("part", "found"),
    [
        (TransferRange(0x10, 0x10), Range(0x10, 0x10, (1,))),
        (TransferRange(0x10, 0xFFF), Range(0x10, 0xFFF, (1, 2))),
        (TransferRange(0x10, 0x1000), Range(0x10, 0, (2,))),
        (TransferRange(3 * PAGE, 0), Range(3 * PAGE, 0, (1, 2, 3))),
    ],
)
def test_transfer_pages(part: TransferRange, found: Range) -> None:
    """A part of a buffer of three pages names these pages, at this offset (case 255)."""
    extra = packets.encode_transfer_pages(TransferPages(9, (part,)))
    assert ram.ranges(Packet(PacketType.TRANSFER_PAGES, 1, 1, b"", extra), {9: BUFFER}) == [found]


def test_a_buffer_of_several_ranges() -> None:
    """A part that goes over the end of a range goes on in the next one."""
    buffer = [Range(100, 4000, (1, 2)), Range(PAGE, 8, (5, 4))]
    assert ram.within(buffer, TransferRange(20, 90)) == [Range(10, 4090, (1, 2)), Range(10, 8, (5,))]


@pytest.mark.parametrize(
    "part", [TransferRange(1, 3 * PAGE), TransferRange(3 * PAGE + 1, 0), TransferRange(2**32 - 1, 2**32 - 1)]
)
def test_parts_outside_of_the_buffer(part: TransferRange) -> None:
    """A transfer range beyond its buffer is refused (case 256)."""
    extra = packets.encode_transfer_pages(TransferPages(9, (part,)))
    with pytest.raises(ProtocolError, match="not in the buffer"):
        ram.ranges(Packet(PacketType.TRANSFER_PAGES, 1, 1, b"", extra), {9: BUFFER})


def test_more_ranges_than_there_are() -> None:
    """A header that declares more ranges than it has is refused (case 256)."""
    extra = packets.encode_transfer_pages(TransferPages(9, (TransferRange(8, 0),)))
    with pytest.raises(ProtocolError, match="2 transfer page ranges"):
        ram.ranges(Packet(PacketType.TRANSFER_PAGES, 1, 1, b"", extra[:4] + b"\x02" + extra[5:]), {9: BUFFER})


def test_a_set_that_nobody_knows() -> None:
    """A transfer page set must have been made known; other packets name no memory."""
    extra = packets.encode_transfer_pages(TransferPages(8, (TransferRange(8, 0),)))
    with pytest.raises(ProtocolError, match="set 0x8"):
        ram.ranges(Packet(PacketType.TRANSFER_PAGES, 1, 1, b"", extra), {9: BUFFER})
    assert ram.ranges(Packet(PacketType.IN_BAND, 0, 0, b""), {}) == []


def test_pages_that_a_packet_brings_itself() -> None:
    """A GPA direct packet names its pages (spec/03 section 4)."""
    named = [Range(100, 0, (3,)), Range(PAGE, 4, (6, 7))]
    extra = packets.encode_gpa_direct(named)
    assert ram.ranges(Packet(PacketType.GPA_DIRECT, 1, 1, b"", extra), {}) == named
