"""A relay between a byte pipe and a socket: both directions, half-closed ends, and ends that vanish."""

import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from host_client.relay import relay
from tests.unit.abi.ring_world import Pair
from vmbusd.abi.pipe import Pipe

PATIENCE = 10.0
STREAM = bytes(range(256)) * 79


class Relayed:
    """A guest's pipe, a program's socket, and the relay between them."""

    def __init__(self, pair: Pair, threads: ThreadPoolExecutor) -> None:
        self.pair = pair
        self.guest = Pipe(pair.guest.both)
        self.program, ours = socket.socketpair()
        self.program.settimeout(PATIENCE)
        self.done: Future[None] = threads.submit(self._relay, ours)

    def _relay(self, ours: socket.socket) -> None:
        with ours:
            relay(Pipe(self.pair.host.both), ours)

    def program_reads(self) -> bytes:
        """All that the program gets until the end of its stream."""
        read = b""
        while data := self.program.recv(4096):
            read += data
        return read

    def guest_writes(self, data: bytes) -> None:
        """Write all of it, and no more."""
        self.guest.write(data, PATIENCE)
        self.guest.end()

    def guest_reads(self) -> bytes:
        """All that the guest gets until the end of its stream."""
        read = b""
        while data := self.guest.read(1000, PATIENCE):
            read += data
        return read


@pytest.fixture
def relayed() -> Iterator[Relayed]:
    pair = Pair()
    with pair.taking(), ThreadPoolExecutor() as threads:
        made = Relayed(pair, threads)
        yield made
        made.program.close()


def test_the_program_ends_its_stream_first(relayed: Relayed) -> None:
    """The guest reads to the end and can still write; the relay ends when both are done (case 196)."""
    with ThreadPoolExecutor() as threads:
        read = threads.submit(relayed.guest_reads)
        relayed.program.sendall(STREAM)
        relayed.program.shutdown(socket.SHUT_WR)
        assert read.result(PATIENCE) == STREAM
        assert not relayed.done.done()
        written = threads.submit(relayed.guest_writes, STREAM)
        assert relayed.program_reads() == STREAM
        written.result(PATIENCE)
    relayed.done.result(PATIENCE)


def test_the_guest_ends_its_stream_first(relayed: Relayed) -> None:
    """Likewise in the other direction (case 196)."""
    relayed.guest.write(b"request", PATIENCE)
    relayed.guest.end()
    assert relayed.program_reads() == b"request"
    assert not relayed.done.done()
    relayed.program.sendall(b"answer")
    relayed.program.shutdown(socket.SHUT_WR)
    assert relayed.guest_reads() == b"answer"
    relayed.done.result(PATIENCE)


def test_a_guest_that_vanishes_is_an_end(relayed: Relayed) -> None:
    """The program sees the end of its stream, and the relay ends without an error (case 197)."""
    relayed.guest.write(b"last words", PATIENCE)
    assert relayed.program.recv(4096) == b"last words"
    relayed.pair.host.both.close("relid 5 was closed")
    assert relayed.program_reads() == b""
    relayed.done.result(PATIENCE)


def test_a_program_that_vanishes_is_an_end(relayed: Relayed) -> None:
    """The guest reads to the end; what it still writes is nobody's."""
    relayed.program.close()
    assert relayed.guest_reads() == b""
    relayed.guest.write(b"to nobody", PATIENCE)
    relayed.guest.end()
    relayed.done.result(PATIENCE)
