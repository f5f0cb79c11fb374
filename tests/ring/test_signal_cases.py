"""The catalogue's cases of signals and flow control of rings, one by one, on the native ring."""

import pytest

from tests.ring.world import FEATURES, PENDING, World
from vmbusd.abi.errors import UsageError


@pytest.fixture
def world() -> World:
    return World()


def test_one_signal_for_an_empty_ring(world: World) -> None:
    """Two writes without a read between them signal once (case 278)."""
    assert world.writer.put(b"first") is True
    assert world.writer.put(b"second") is False


def test_no_signal_for_a_masked_ring(world: World) -> None:
    """A masked reader gets no signal and finds the packet when it asks for signals again (case 279)."""
    world.reader.mask()
    assert world.writer.put(b"quiet") is False
    assert not world.reader.rest()
    assert world.reader.get() is not None


def test_one_signal_for_one_commit(world: World) -> None:
    """Two packets published together signal once (case 280)."""
    world.writer.stage(b"one")
    world.writer.stage(b"two")
    assert world.writer.publish() is True
    assert world.writer.publish() is False


def test_no_signal_without_pending_send(world: World) -> None:
    """A read of a ring that nobody waits for signals nobody (case 281)."""
    world.writer.put(b"x")
    assert world.reader.get() is not None
    assert not world.reader.due


def test_only_the_crossing_signals(world: World) -> None:
    """Waiting for two packets' room, the writer hears of the second read alone (case 282)."""
    while world.writer.put(bytes(1000)) is not None:
        pass
    world.set(PENDING, 2 * 1024 + world.writer.room - 8)
    heard = []
    for _ in range(4):
        world.reader.due = False
        world.reader.get()
        heard.append(world.reader.due)
    assert heard == [False, True, False, False]


def test_a_pending_send_of_size_minus_one(world: World) -> None:
    """A writer that wants the ring empty says size - 1, and is told when it is (case 283)."""
    for _ in range(2):
        world.writer.put(b"x")
    world.set(PENDING, world.size - 1)
    world.reader.get()
    assert not world.reader.due
    world.reader.get()
    assert world.reader.due


def test_a_writer_without_the_feature_bit(world: World) -> None:
    """Who does not say that it waits is not told (case 284)."""
    while world.writer.put(bytes(1000)) is not None:
        pass
    world.set(PENDING, 1024)
    world.set(FEATURES, 0)
    while world.reader.get() is not None:
        assert not world.reader.due
    assert not world.reader.peer_frees


def test_how_much_room_to_wait_for(world: World) -> None:
    """A small packet waits for a quarter of the ring, a large one for itself (case 289)."""
    while world.writer.put(bytes(1000)) is not None:
        pass
    while world.writer.put(b"") is not None:
        pass
    assert world.writer.ask(8)
    assert world.word(PENDING) == world.size // 4
    world.writer.withdraw()
    assert world.writer.ask(8000)
    assert world.word(PENDING) == 8024
    world.writer.withdraw()
    assert world.word(PENDING) == 0


def test_a_pending_send_beyond_the_largest_packet(world: World) -> None:
    """Waiting for room that no ring of this size ever has is an error (case 290)."""
    with pytest.raises(UsageError):
        world.writer.ask(world.size)
    assert world.word(PENDING) == 0


def test_who_needs_a_wake_up(world: World) -> None:
    """A reader behind a clear mask, a writer whose room is there: nobody else is stuck (case 296)."""
    assert world.view.stuck() == (False, False)
    world.writer.put(b"unsignalled")
    assert world.view.stuck() == (True, False)
    world.reader.mask()
    assert world.view.stuck() == (False, False)
    world.set(PENDING, 64)
    assert world.view.stuck() == (False, True)
    world.set(PENDING, world.size - 8)
    assert world.view.stuck() == (False, False)
