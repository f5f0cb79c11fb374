"""What packets say of guest memory, as memory: ranges and transfer pages, judged and made into views.

Page numbers come from a peer: each is judged against the partition's memory before a byte is touched. Pages
that follow each other become one view; nothing is mapped, the one mapping of guest memory is used.
Source: OpenVMM vmbus_ring/src/gparange.rs, vmbus_channel/src/buffer.rs.
"""

from collections.abc import Mapping, Sequence

from typing_extensions import Buffer

from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.gpadl import Range, pages_spanned
from vmbusd.abi.layout import PAGE
from vmbusd.abi.packets import (
    Packet,
    PacketType,
    TransferRange,
    decode_gpa_direct,
    decode_transfer_pages,
)


def views(ram: Buffer, one: Range) -> list[memoryview]:
    """The bytes of a range, in order: a view for each run of pages. Raises ProtocolError outside of `ram`."""
    whole = memoryview(ram).cast("B")
    pages = len(whole) // PAGE
    for pfn in one.pfns:
        if pfn >= pages:
            raise ProtocolError(f"page {pfn:#x} is outside of guest memory of {pages} pages")
    found = []
    left, skip, at = one.byte_count, one.byte_offset, 0
    while left:
        run = at + 1
        while run < len(one.pfns) and one.pfns[run] == one.pfns[run - 1] + 1:
            run += 1
        begin = one.pfns[at] * PAGE + skip
        size = min(left, (run - at) * PAGE - skip)
        found.append(whole[begin : begin + size])
        left, skip, at = left - size, 0, run
    return found


def within(buffer: Sequence[Range], part: TransferRange) -> list[Range]:
    """A part of a buffer as ranges of guest memory (case 255). Raises ProtocolError outside it (case 256).

    `buffer` is a GPADL's range list; offsets count from its first byte. A buffer of one range gives one.
    """
    if part.byte_count < 1 or part.byte_offset + part.byte_count > sum(one.byte_count for one in buffer):
        raise ProtocolError(f"{part.byte_count} bytes at {part.byte_offset:#x} are not in the buffer")
    found = []
    left, skip = part.byte_count, part.byte_offset
    for one in buffer:
        if skip < one.byte_count and left:
            size = min(left, one.byte_count - skip)
            first, offset = divmod(one.byte_offset + skip, PAGE)
            pfns = one.pfns[first : first + pages_spanned(size, offset)]
            found.append(Range(size, offset, pfns))
            left -= size
        skip = max(0, skip - one.byte_count)
    return found


def ranges(packet: Packet, sets: Mapping[int, Sequence[Range]]) -> list[Range]:
    """The guest memory that a packet names; none for other types than 7 and 9.

    `sets`: the buffer behind each transfer page set. Raises ProtocolError for a header that is wrong, a set
    that is unknown, or a part outside of its buffer.
    """
    if packet.type == PacketType.GPA_DIRECT:
        return decode_gpa_direct(packet.extra)
    if packet.type != PacketType.TRANSFER_PAGES:
        return []
    header = decode_transfer_pages(packet.extra)
    buffer = sets.get(header.set_id)
    if buffer is None:
        raise ProtocolError(f"transfer page set {header.set_id:#x} is unknown")
    return [one for part in header.ranges for one in within(buffer, part)]
