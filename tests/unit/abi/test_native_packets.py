"""Several packets of a SEQPACKET socket for one call, and what a hostile peer can make of that."""

import os
import socket
from collections.abc import Iterator

import pytest

from vmbusd.abi.errors import UsageError
from vmbusd.abi.native import SEND_BURST, TAKE_BURST, Inbox, send_packets

Pair = tuple[socket.socket, socket.socket]
ROOM = 100


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends; nobody waits on either."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("count", [1, 2, 8])
def test_packets_arrive_whole_and_in_order(pair: Pair, count: int) -> None:
    """Each is a packet of its own, also those of one call."""
    ours, theirs = pair
    packets = [bytes([number]) * (number + 1) for number in range(count)]

    assert send_packets(ours.fileno(), packets) == count
    assert Inbox(ROOM).take(theirs.fileno()) == packets
    assert Inbox(ROOM).take(theirs.fileno()) == []


def test_a_full_socket_takes_no_more(pair: Pair) -> None:
    """What was taken is a beginning of what was given; nothing is sent twice or left out."""
    ours, theirs = pair
    packets = [b"%d" % number for number in range(1000)]
    given = 0
    while sent := send_packets(ours.fileno(), packets[given:]):
        assert sent <= SEND_BURST
        given += sent
    inbox, got = Inbox(ROOM), []
    while came := inbox.take(theirs.fileno()):
        assert len(came) <= TAKE_BURST
        got += came

    assert 0 < given < 1000
    assert got == packets[:given]


def test_nothing_to_send(pair: Pair) -> None:
    """No packet is sent for no packets, and what is no packet is the caller's mistake."""
    ours, theirs = pair

    assert send_packets(ours.fileno(), []) == 0
    with pytest.raises(TypeError):
        send_packets(ours.fileno(), ["text"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="not None"):
        send_packets(ours.fileno(), [b"first", None])  # type: ignore[list-item]
    assert Inbox(ROOM).take(theirs.fileno()) == []


def test_what_is_too_long_is_none(pair: Pair) -> None:
    """The packets around it are whole, and none of its bytes is seen."""
    ours, theirs = pair
    for size in (ROOM, ROOM + 1, 1):
        theirs.send(bytes(size))

    assert Inbox(ROOM).take(ours.fileno()) == [bytes(ROOM), None, b"\0"]


def test_descriptors_of_a_peer_are_closed_and_counted(pair: Pair) -> None:
    """However many it attaches, none of them ever is ours."""
    ours, theirs = pair
    inbox = Inbox(ROOM)
    reader, writer = os.pipe()
    before = sorted(os.listdir("/proc/self/fd"))
    socket.send_fds(theirs, [b"one"], [reader, writer])
    socket.send_fds(theirs, [b"two"], [writer])
    theirs.send(b"three")

    assert inbox.take(ours.fileno()) == [b"one", b"two", b"three"]
    assert inbox.descriptors_refused == 2
    assert sorted(os.listdir("/proc/self/fd")) == before
    theirs.send(b"four")
    assert inbox.take(ours.fileno()) == [b"four"]
    assert inbox.descriptors_refused == 0
    os.close(reader)
    os.close(writer)


def test_the_end_is_the_last_packet(pair: Pair) -> None:
    """Once, behind what was sent before it; who sends to nobody hears that."""
    ours, theirs = pair
    theirs.send(b"last")
    theirs.close()

    assert Inbox(ROOM).take(ours.fileno()) == [b"last", b""]
    with pytest.raises(BrokenPipeError):
        send_packets(ours.fileno(), [b"anybody?"])
    with pytest.raises(BrokenPipeError):
        send_packets(ours.fileno(), [b"anybody", b"there?"])


def test_no_socket_is_an_error() -> None:
    """A closed descriptor is told as what it is."""
    with pytest.raises(OSError, match="Bad file descriptor"):
        send_packets(-1, [b"x"])
    with pytest.raises(OSError, match="Bad file descriptor"):
        Inbox(ROOM).take(-1)
