"""Pipes: messages that keep their length, streams that end, headers that are none."""

import struct
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.abi.ring_world import Pair
from vmbusd.abi import layout
from vmbusd.abi.errors import ChannelGone, ProtocolError, RingFull, TimedOut, UsageError
from vmbusd.abi.packets import PacketType

PATIENCE = 10.0


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_messages_keep_their_length(pair: Pair) -> None:
    """Two messages of 4000 bytes through a ring of 4096: the second waits for the first read (case 273)."""
    here, there = pair.guest.pipe(), pair.host.pipe()
    first, second = b"a" * 4000, b"b" * 3999
    here.send(first)
    with pytest.raises(RingFull):
        here.send(second, timeout=0)
    with pair.taking(), ThreadPoolExecutor() as threads:
        sending = threads.submit(here.send, second)
        assert there.receive(PATIENCE) == first
        assert there.receive(PATIENCE) == second
        sending.result(PATIENCE)
    assert there.receive(0) is None


@pytest.mark.parametrize("sizes", [(1, 7, 4096, 13), (2048,), (5000, 1)])
def test_a_stream_is_what_was_written(pair: Pair, sizes: tuple[int, ...]) -> None:
    """20000 bytes through a ring of 4096, read in odd sizes, are the same bytes (case 274)."""
    data = bytes(range(256)) * 79
    here, there = pair.guest.pipe(), pair.host.pipe()

    def write() -> None:
        here.write(data[:20000], PATIENCE)
        here.end(PATIENCE)

    got = b""
    with pair.taking(), ThreadPoolExecutor() as threads:
        writing = threads.submit(write)
        while part := there.read(sizes[len(got) % len(sizes)], PATIENCE):
            got += part
        writing.result(PATIENCE)
    assert got == data[:20000]


def test_a_partly_read_packet_is_marked_in_place(pair: Pair) -> None:
    """What was consumed stands in the ring: another reader goes on behind it (case 274)."""
    pair.guest.pipe().write(b"0123456789")
    assert pair.host.pipe().read(4, 0) == b"0123"
    assert struct.unpack_from("<II", pair.memory[0], layout.PAGE + 16) == (2, 10 | 4 << 16)
    assert pair.host.pipe().read(5, 0) == b"45678"
    assert pair.host.pipe().read(100, 0) == b"9"
    with pytest.raises(TimedOut):
        pair.host.pipe().read(1, 0)


def test_a_mark_over_the_end_of_the_ring(pair: Pair) -> None:
    """The header that is marked may lie at the start of the data area while its descriptor does not."""
    here, there = pair.guest.pipe(), pair.host.pipe()
    for _ in range(3):
        here.write(bytes(1320))
        assert there.read(2000, 0) == bytes(1320)
    assert pair.host.both._views[1].header()["read_index"] == 4056
    here.write(b"0123456789")
    assert there.read(3, 0) == b"012"
    assert there.read(20, 0) == b"3456789"


def test_the_end_of_a_stream_stays(pair: Pair) -> None:
    """After all data before it is read comes the end, and it stays so, for every reader (case 275)."""
    here, there = pair.guest.pipe(), pair.host.pipe()
    here.write(b"all")
    here.end()
    assert there.read(10, 0) == b"all"
    assert [there.read(10, 0), there.read(10, 0), pair.host.pipe().read(1, 0)] == [b""] * 3


def test_there_is_always_room_for_the_end(pair: Pair) -> None:
    """A writer that has filled the ring can still say that it is done."""
    here = pair.guest.pipe()
    with pytest.raises(RingFull):
        here.write(bytes(20000), timeout=0)
    here.end(0)


@pytest.mark.parametrize(
    "header",
    [
        (5, 4),  # unknown type
        (0, 4),
        (3, 4),  # known, and never sent
        (1, 9),  # longer than the packet
        (1, 16385),
        (2, 4 | 4 << 16),  # nothing left of it
        (2, 4 | 5 << 16),
    ],
)
def test_headers_that_are_none(pair: Pair, header: tuple[int, int]) -> None:
    """A typed error, again and again: nobody guesses where the stream goes on (case 276)."""
    pair.guest.send(struct.pack("<II", *header) + bytes(8))
    for _ in range(2):
        with pytest.raises(ProtocolError, match="pipe"):
            pair.host.pipe().read(1, 0)
    with pytest.raises(ProtocolError, match="pipe"):
        pair.host.pipe().receive(0)


def test_only_data_has_a_header(pair: Pair) -> None:
    """A packet of another type on a pipe is an error of the peer (case 276)."""
    pair.guest.both.port.put(bytes(16), PacketType.COMPLETION, 0, 1)
    with pytest.raises(ProtocolError, match="type 11"):
        pair.host.pipe().read(1, 0)


def test_a_large_packet(pair: Pair) -> None:
    """A length above 16384 is refused though the packet is as long as it says (case 276)."""
    pair = Pair(1 << 16)
    pair.guest.send(struct.pack("<II", 1, 16385) + bytes(16392))
    with pytest.raises(ProtocolError, match="pipe"):
        pair.host.pipe().read(1, 0)
    pair = Pair(1 << 16)
    pair.guest.pipe().write(bytes(40000))
    assert sum(len(pair.host.pipe().read(1 << 20, 0)) for _ in range(3)) == 40000


def test_the_other_end_drops_the_pipe(pair: Pair) -> None:
    """A read that waits ends with ChannelGone (case 277)."""
    with ThreadPoolExecutor() as threads:
        reading = threads.submit(pair.host.pipe().read, 1)
        pair.host.both.close("relid 5: the guest closed it")
        with pytest.raises(ChannelGone, match="guest closed"):
            reading.result(PATIENCE)


def test_reads_and_messages_have_sizes(pair: Pair) -> None:
    """A read of nothing and a message that is too long are the caller's mistakes."""
    with pytest.raises(UsageError, match="at least 1"):
        pair.host.pipe().read(0)
    with pytest.raises(UsageError, match="16385"):
        pair.host.pipe().send(bytes(16385))
