"""Rings that several processes of a guest use: their lock, their own indices, and what a death leaves."""

import mmap
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.abi.world import FILL, World
from vmbusd.abi import layout, native
from vmbusd.abi.errors import ChannelGone, UsageError

FLAG = 5
BLOCK = FLAG * layout.BLOCK_SIZE
LOCK, WRITER, WRITE, READ = (BLOCK + layout.BLOCK_RING_OFFSET + n for n in (16, 20, 24, 28))


class Slow:
    """Does not wait; remembers the end."""

    name = "the ring"
    reason = ""

    def close(self, reason: str) -> None:
        self.reason = reason

    def raise_closed(self) -> None:
        raise ChannelGone(self.reason)

    def send(self, *_: object, **__: object) -> None:
        self.raise_closed()


class Shared:
    """One channel of a guest; `process` makes the ports of one of its processes."""

    def __init__(self, size: int = 4096) -> None:
        self.world = World()
        self.world.writer.fill(FLAG, FLAG, **FILL)
        self.world.writer.open(FLAG, FLAG, 1)
        self.page = mmap.mmap(-1, layout.PAGE)
        self.buffers = [bytearray(layout.PAGE + size) for _ in range(2)]
        self.out, self.into = (native.RingView(buffer) for buffer in self.buffers)
        for view in (self.out, self.into):
            view.format()
        self.peer_writer = native.RingWriter(self.into, announce=True)
        self.peer_reader = native.RingReader(self.out)

    def process(self, vp: int) -> native.Port:
        return native.Port(
            native.RingWriter(self.out),
            native.RingReader(self.into),
            Slow(),
            host=native.HostSender(self.page, self.world.bells[0]),
            flag=FLAG,
            blocks=self.world.blocks,
            owner=vp,
            table=self.world.table,
            generation=1,
        )

    def word(self, offset: int) -> int:
        found: int = struct.unpack_from("<I", self.world.blocks, offset)[0]
        return found

    def plant(self, offset: int, value: int) -> None:
        struct.pack_into("<I", self.world.blocks, offset, value)

    def host_hears(self) -> bool:
        return FLAG in native.EventFlags(self.page).take()

    def sent(self) -> list[int]:
        found = []
        while packet := self.peer_reader.get():
            found.append(int.from_bytes(packet[3], "little"))
        return found


@pytest.fixture
def shared() -> Shared:
    return Shared()


def number(n: int) -> bytes:
    return n.to_bytes(8, "little")


def test_a_turn_of_the_ring_between_two_turns_of_a_writer_is_seen(shared: Shared) -> None:
    """A writer whose index another brought all the way round does not believe its old room (case 272)."""
    first, second = shared.process(0), shared.process(1)
    count = 4096 // 32
    assert first.put(number(0))
    assert shared.sent() == [0]
    for n in range(1, count):
        assert second.put(number(n))
    assert shared.sent() == list(range(1, count))
    # The second goes once round and ends where the first one ended, with a ring that is almost full.
    assert second.put(number(count))
    assert shared.sent() == [count]
    for n in range(count - 1):
        assert second.put(number(n))
    assert not first.put(number(1000))
    assert shared.sent() == list(range(count - 1))


def test_a_reader_goes_on_where_another_process_ended(shared: Shared) -> None:
    """After `resume` the same packets are not read twice, also when the ring went all the way round."""
    first, second = shared.process(0), shared.process(1)
    got: list[int] = []
    for turn in range(300):
        shared.peer_writer.put(number(2 * turn))
        shared.peer_writer.put(number(2 * turn + 1))
        port = (first, second, second)[turn % 3]
        port.resume()
        while packet := port.get():
            got.append(int.from_bytes(packet[3], "little"))
    assert got == list(range(600))


def test_a_host_that_changes_our_indices_moves_nobody(shared: Shared) -> None:
    """Both our indices in the ring pages are overwritten by the host; the next goes by the block's."""
    first, second = shared.process(0), shared.process(1)
    assert first.put(number(1))
    shared.peer_writer.put(number(7))
    first.resume()
    assert first.get() is not None
    struct.pack_into("<I", shared.buffers[0], 0, 2048)
    struct.pack_into("<I", shared.buffers[1], 4, 1024)
    assert second.put(number(2))
    assert shared.sent() == [1, 2]
    second.resume()
    assert second.get() is None
    assert struct.unpack_from("<I", shared.buffers[1], 4)[0] == 32


def test_a_write_that_died_before_it_was_seen_is_published_by_the_next(shared: Shared) -> None:
    """Death between our two stores of a publication: the packet comes once, in order, and is signalled."""
    first, second = shared.process(0), shared.process(1)
    assert first.put(number(1))
    assert shared.sent() == [1]
    assert first.put(number(2))
    struct.pack_into("<I", shared.buffers[0], 0, 32)
    shared.host_hears()
    assert second.put(number(3))
    assert shared.host_hears()
    assert shared.sent() == [2, 3]


def test_a_read_that_died_before_it_was_seen_still_makes_room(shared: Shared) -> None:
    """Death between our two stores of a commit: the next process says so, and wakes the writer that waits."""
    first, second = shared.process(0), shared.process(1)
    while shared.peer_writer.put(bytes(1000)) is not None:
        pass
    assert shared.peer_writer.ask(1000)
    first.resume()
    while first.get():
        pass
    struct.pack_into("<I", shared.buffers[1], 4, 0)
    shared.host_hears()
    second.resume()
    assert shared.host_hears()
    assert struct.unpack_from("<I", shared.buffers[1], 4)[0] == shared.word(READ)


def test_the_lock_of_a_dead_process_is_taken_away(shared: Shared) -> None:
    """Recovery of a VP frees the rings it was writing, and those of no other VP."""
    world = shared.world
    port = shared.process(0)
    for owner, free in ((2, False), (1, True)):
        shared.plant(LOCK, owner)
        assert not port.put(number(1))
        native.recover(0, table=world.table, events=world.events, vpwork=world.vpwork, blocks=world.blocks)
        assert port.put(number(1)) is free
        assert world.memory.is_locked(FLAG) is not free


def test_nothing_is_written_after_the_close(shared: Shared) -> None:
    """A process that nobody told about the close finds it in the slot, under the lock (case 077)."""
    port = shared.process(1)
    assert port.put(number(1))
    shared.world.writer.close(FLAG)
    with pytest.raises(ChannelGone, match="closed or rescinded"):
        port.send(number(2))
    assert not shared.world.memory.is_locked(FLAG)
    assert shared.sent() == [1]


def test_a_new_open_is_another_channel(shared: Shared) -> None:
    """A port of an older generation writes nothing into the rings of the next one."""
    port = shared.process(1)
    shared.world.writer.close(FLAG)
    shared.world.writer.open(FLAG, FLAG, 2)
    with pytest.raises(ChannelGone):
        port.send(number(2))
    assert shared.sent() == []


def test_a_fresh_ring_begins_at_zero(shared: Shared) -> None:
    """What an earlier open, or a guest that died, left in the block is gone with a new ring."""
    assert shared.process(0).put(number(1))
    assert shared.word(WRITE) == 32
    assert shared.word(WRITER) == 1
    shared.plant(LOCK, 0xFFFF)
    shared.world.memory.set_ring(FLAG, 1, 4, 2, 9)
    assert [shared.word(at) for at in (LOCK, WRITER, WRITE, READ)] == [0, 0, 0, 0]


# -- waiting inside a callback -----------------------------------------------------------------------------


class Napping:
    """A worker whose callback of channel 5 naps as told."""

    def __init__(self) -> None:
        self.world = World(vps=1)
        self.found: list[Any] = []
        self.ready = threading.Event()
        self.plan: list[tuple[int, float]] = []
        self.route = self.world.open(FLAG, call=self.callback)
        self.other = self.world.open(9, call=lambda _: self.found.append("other"))
        self.worker = self.world.worker()
        self.thread = threading.Thread(target=self.worker.run)

    def callback(self, _flag: object) -> None:
        self.found.append("called")
        plan, self.plan = self.plan, []
        owed = False
        for flag, seconds in plan:
            self.ready.set()
            taken = self.worker.nap(flag, seconds)
            self.found.append(taken)
            owed = owed or taken
        if owed:
            self.worker.again(FLAG)

    def start(self, *plan: tuple[int, float]) -> None:
        self.plan = list(plan)
        self.thread.start()
        self.route.signal()
        assert self.ready.wait(10)

    def wait_for(self, found: list[Any]) -> None:
        deadline = time.monotonic() + 10
        while self.found != found and time.monotonic() < deadline:
            time.sleep(0.001)
        assert self.found == found


@pytest.fixture
def napping() -> Iterator[Napping]:
    made = Napping()
    yield made
    made.worker.stop()
    if made.thread.ident:
        made.thread.join(10)
        assert not made.thread.is_alive()


def test_a_nap_ends_with_the_channels_signal(napping: Napping) -> None:
    """The signal ends the wait inside the callback, and is served once more after it."""
    napping.start((FLAG, 20.0), (FLAG, 0.001))
    napping.route.signal()
    napping.wait_for(["called", True, False, "called"])


def test_a_nap_leaves_other_channels_flags(napping: Napping) -> None:
    """A signal of another channel wakes the worker, stays on the page and is served after the callback."""
    napping.start((FLAG, 1.0))
    napping.other.signal()
    napping.wait_for(["called", False, "other"])


def test_a_nap_is_over_in_time_and_when_the_worker_is_stopped(napping: Napping) -> None:
    """Without a signal it lasts as long as asked for; a stop ends it."""
    napping.start((FLAG, 0.01), (FLAG, 1.0))
    napping.worker.stop()
    napping.wait_for(["called", False, False])
    napping.thread.join(10)
    assert not napping.thread.is_alive()


def test_only_a_callback_naps(napping: Napping) -> None:
    """Other threads, and a worker that does not run, hear that they cannot."""
    with pytest.raises(UsageError, match="only a callback"):
        napping.worker.nap(FLAG, 0.1)
    napping.start((FLAG, 0.01))
    with pytest.raises(UsageError, match="only a callback"):
        napping.worker.again(FLAG)
