"""A channel's verbs over both its rings: waiting, requests, limits, the end."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.abi.ring_world import Pair
from vmbusd.abi import native
from vmbusd.abi.errors import ChannelGone, ResourceError, RingFull, TimedOut, UsageError
from vmbusd.abi.gpadl import Range
from vmbusd.abi.packets import Packet, PacketType, TransferPages, TransferRange, decode_gpa_direct
from vmbusd.abi.rings import HELD_PACKETS

PATIENCE = 10.0


@pytest.fixture
def pair() -> Pair:
    return Pair()


def numbers(count: int) -> list[bytes]:
    return [number.to_bytes(8, "little") for number in range(count)]


def test_packets_go_both_ways(pair: Pair) -> None:
    """What one side sends the other receives, in order, padded to 8 bytes."""
    for here, there in ((pair.host, pair.guest), (pair.guest, pair.host)):
        assert here.send(b"abc") is None
        assert here.send_many([b"12345678", b""]) == 2
        first = there.receive(0)
        assert first == Packet(PacketType.IN_BAND, 0, 0, b"abc".ljust(8, b"\0"))
        assert [packet.payload for packet in there.receive_many()] == [b"12345678", b""]
        assert there.receive(0) is None
        assert there.receive_many() == []


def test_a_full_ring_is_told_at_once_or_in_time(pair: Pair) -> None:
    """With timeout 0, or after it, RingFull; nothing was written, and no wish for room is left."""
    while True:
        try:
            pair.host.send(bytes(1000), timeout=0)
        except RingFull:
            break
    sent = pair.host.both.writer.statistics()["packets"]
    with pytest.raises(RingFull, match="1000"):
        pair.host.send(bytes(1000), timeout=0.01)
    with pytest.raises(RingFull):
        pair.host.send_many([bytes(1000)], timeout=0.01)
    assert pair.host.both.writer.statistics()["packets"] == sent
    assert len(pair.guest.receive_many()) == sent


def test_a_packet_that_never_fits_is_refused_first(pair: Pair) -> None:
    """UsageError, nothing written, and no transaction id lost (case 266)."""
    for options in ({}, {"request": True}, {"transaction_id": 7}):
        with pytest.raises(UsageError, match="never fits"):
            pair.guest.send(bytes(5000), **options)
    assert pair.guest.both.statistics()["outstanding"] == 0
    assert pair.host.receive(0) is None


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_timeouts_are_times(pair: Pair, timeout: float) -> None:
    """A negative timeout is the caller's mistake."""
    with pytest.raises(UsageError, match="timeout"):
        pair.host.receive(timeout)


def test_a_writer_waits_for_the_reader(pair: Pair) -> None:
    """More than the ring holds goes through it: the writer sleeps and the reader's commits wake it."""
    with pair.taking(), ThreadPoolExecutor() as threads:
        got = threads.submit(lambda: [packet_of(pair.guest.receive(PATIENCE)) for _ in range(5000)])
        assert pair.host.send_many(iter(numbers(5000)), timeout=PATIENCE) == 5000
        assert got.result(PATIENCE) == numbers(5000)
    assert pair.host.both.statistics()["heard"] > 0


def packet_of(packet: Packet | None) -> bytes:
    assert packet is not None
    return packet.payload


def test_several_writers_wait_at_once(pair: Pair) -> None:
    """Whoever gets his room does not take the wish of the others away (case 272)."""

    def write(letter: int) -> None:
        for size in range(200):
            pair.host.send(bytes([letter]) * (size % 7 * 200 + 8), timeout=PATIENCE)

    with pair.taking(), ThreadPoolExecutor() as threads:
        writers = [threads.submit(write, letter) for letter in range(4)]
        got = [packet_of(pair.guest.receive(PATIENCE)) for _ in range(800)]
        for writer in writers:
            writer.result(PATIENCE)
    assert all(payload == payload[:1] * len(payload) for payload in got)
    assert sorted(payload[0] for payload in got) == sorted([0, 1, 2, 3] * 200)


def test_a_buffer_is_filled_again_and_again(pair: Pair) -> None:
    """receive_into waits, gives the payload's size, and leaves a packet that is too large (case 267)."""
    buffer = bytearray(16)
    with pair.taking(), ThreadPoolExecutor() as threads:
        got = threads.submit(pair.guest.receive_into, buffer, timeout=PATIENCE)
        pair.host.send(b"12345678")
        assert got.result(PATIENCE) == 8
    assert buffer[:8] == b"12345678"
    assert pair.guest.receive_into(buffer, timeout=0) == -1
    pair.host.send(bytes(24))
    with pytest.raises(UsageError, match="24 bytes"):
        pair.guest.receive_into(buffer, timeout=0)
    assert pair.guest.receive_into(memoryview(bytearray(24)), timeout=0) == 24


def test_views_of_the_ring_itself(pair: Pair) -> None:
    """Views give packets where they lie, and their release gives the room back."""
    pair.host.send_many([b"12345678", b"abcdefgh"])
    lease = pair.guest.receive_views()
    assert lease is not None
    with lease:
        spans = lease.spans
        seen = memoryview(lease)
        assert [bytes(seen[spans[2 * i] : spans[2 * i + 1]]) for i in range(2)] == [b"12345678", b"abcdefgh"]
        seen.release()
        with pytest.raises(UsageError, match="lease"):
            pair.guest.receive(0)
    assert pair.guest.receive_views() is None


def test_room_given_back_by_views_wakes_the_writer(pair: Pair) -> None:
    """The release of views signals a writer that waits for that room."""
    with pytest.raises(RingFull):
        pair.host.send_many([bytes(1000)] * 9, timeout=0)
    with pair.host.both.asking():
        assert pair.host.both.port.ask(1000)
        pair.host_heard()
        lease = pair.guest.receive_views()
        assert lease is not None
        assert not pair.host_heard()
        lease.release()
        assert pair.host_heard()


# -- requests ------------------------------------------------------------------------------------------------


def test_a_request_is_answered(pair: Pair) -> None:
    """The completion carries the request's id; packets before it are kept for receive (case 268)."""

    def serve() -> None:
        asked = pair.host.receive(PATIENCE)
        assert asked is not None
        assert (asked.flags, asked.transaction_id) == (1, 1)
        pair.host.send(b"before")
        pair.host.complete(asked, b"answer")

    with pair.taking(), ThreadPoolExecutor() as threads:
        serving = threads.submit(serve)
        assert pair.guest.request(b"question", timeout=PATIENCE) == b"answer\0\0"
        serving.result(PATIENCE)
    buffer = bytearray(8)
    assert pair.guest.receive_into(buffer, timeout=0) == 8
    assert buffer == b"before\0\0"


def test_an_answer_that_is_read_by_another_verb(pair: Pair) -> None:
    """Whoever reads the completion hands it to the future; it is not among his packets."""
    futures = [pair.guest.request_future(b"?") for _ in range(3)]
    for packet in pair.host.receive_many():
        pair.host.complete(packet, b"%08d" % packet.transaction_id)
    pair.host.send(b"plain")
    assert pair.guest.receive_into(bytearray(8), timeout=0) == 8
    assert [future.result(0) for future in futures] == [b"00000001", b"00000002", b"00000003"]


def test_an_answer_that_comes_too_late(pair: Pair) -> None:
    """TimedOut; the answer that follows is dropped and counted, and its id is free again."""
    with pytest.raises(TimedOut):
        pair.guest.request(b"?", timeout=0.01)
    pair.host.complete(packet(pair.host.receive(0)), b"late")
    assert pair.guest.receive(0) is None
    assert pair.guest.both.statistics()["late"] == 1
    assert pair.guest.both.statistics()["outstanding"] == 0


def packet(found: Packet | None) -> Packet:
    assert found is not None
    return found


def test_all_ids_are_outstanding() -> None:
    """The request after the 256th is told to try again, and nothing is written (case 269)."""
    pair = Pair(1 << 16)
    ids = [pair.guest.send(b"?", request=True) for _ in range(256)]
    assert sorted(id for id in ids if id is not None) == list(range(1, 257))
    with pytest.raises(RingFull, match="transaction id"):
        pair.guest.send(b"?", request=True)
    assert len(pair.host.receive_many()) == 256
    pair.host.complete(17, b"")
    assert packet(pair.guest.receive(0)).transaction_id == 17
    assert pair.guest.send(b"?", request=True) == 17


@pytest.mark.parametrize("id", [0, 2, 256, 257, 2**64 - 1])
def test_completions_of_nothing(pair: Pair, id: int) -> None:
    """A completion of no outstanding request, or a second one, is dropped and counted (case 270)."""
    assert pair.guest.send(b"?", request=True) == 1
    for answer in (id, 1, 1):
        pair.host.complete(answer, b"")
    got = pair.guest.receive_many()
    assert [(one.type, one.transaction_id) for one in got] == [(PacketType.COMPLETION, 1)]
    assert pair.guest.both.statistics()["unknown"] == 2


def test_too_many_packets_before_an_answer() -> None:
    """A peer cannot make us hold more than a bound while a request waits."""
    pair = Pair(1 << 16)
    pair.host.send_many([b""] * (HELD_PACKETS + 1))
    with pytest.raises(ResourceError, match="before the answer"):
        pair.guest.request(b"?", timeout=PATIENCE)


def test_only_who_was_asked_answers(pair: Pair) -> None:
    """A packet that wants no completion cannot be completed."""
    pair.host.send(b"no answer wanted")
    with pytest.raises(UsageError, match="completion"):
        pair.guest.complete(packet(pair.guest.receive(0)))


# -- other packets -------------------------------------------------------------------------------------------


def test_packets_that_name_memory(pair: Pair) -> None:
    """Ranges make a GPA direct packet, transfer pages one of theirs; an id of one's own is sent as it is."""
    ranges = [Range(5000, 100, (7, 9))]
    pair.guest.send(b"read", ranges=ranges, transaction_id=2**64 - 4, request=True)
    got = packet(pair.host.receive(0))
    assert (got.type, got.flags, got.transaction_id) == (PacketType.GPA_DIRECT, 1, 2**64 - 4)
    assert decode_gpa_direct(got.extra) == ranges
    pair.host.send(b"", ranges=TransferPages(3, (TransferRange(16, 32),)), transaction_id=5)
    got = packet(pair.guest.receive(0))
    assert (got.type, got.transaction_id) == (PacketType.TRANSFER_PAGES, 0)


def test_a_request_id_is_given_back(pair: Pair) -> None:
    """A channel that ends while a request waits for room has no request outstanding (case 141)."""
    with pytest.raises(RingFull):
        pair.guest.send_many([bytes(1000)] * 9, timeout=0)
    with pair.taking(), ThreadPoolExecutor() as threads:
        waiting = threads.submit(pair.guest.send, bytes(1000), request=True, timeout=PATIENCE)
        while not native.RingView(pair.memory[0]).header()["pending_send_sz"]:
            time.sleep(0.001)
        pair.guest.both.close("relid 5 was rescinded")
        with pytest.raises(ChannelGone, match="rescinded"):
            waiting.result(PATIENCE)
    assert pair.guest.both.statistics()["outstanding"] == 0
