"""What the native core accepts as a buffer and as a number, atomic words, and event flags."""

import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.abi.world import FILL, World, memory_file, semaphore_mapping
from vmbusd.abi import layout, native
from vmbusd.abi.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]
NOT_NUMBERS = (-1, 1 << 31, 1 << 64, -(1 << 70), 1 << 70, 1.5, "1", None)


def anonymous(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size)


def read_only(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, prot=mmap.PROT_READ)


def make_worker(world: World, **other: Any) -> native.Worker:
    parts: dict[str, Any] = {
        "table": world.table,
        "events": world.events,
        "vpwork": world.vpwork,
        "blocks": world.blocks,
    }
    parts.update(other)
    return native.Worker(0, doorbell=world.bells[0], registry=world.registry, **parts)


# What is made, of how many bytes, aligned how, whether it must be writable, what the error calls it.
Maker = Callable[[World, Any], object]
MAKERS: dict[str, tuple[Maker, int, int, bool, str]] = {
    "Words": (lambda _, b: native.Words(b, 0, 1), 8, 8, True, "words"),
    "EventFlags": (lambda _, b: native.EventFlags(b), 4096, 8, True, "interrupt page"),
    "semaphore": (lambda _, b: native.Doorbell.semaphore(b), 32, 8, True, "semaphore"),
    "Table": (lambda _, b: native.Table(b), layout.TABLE_SIZE, 64, False, "channel table"),
    "TableWriter": (lambda _, b: native.TableWriter(b), layout.TABLE_SIZE, 64, True, "channel table"),
    "Blocks": (lambda _, b: native.Blocks(b), layout.GUEST_SIZE, 4096, True, "guest blocks"),
    "VpWork": (lambda _, b: native.VpWork(b, 2), 1024, 64, False, "vpwork"),
    "Sender.table": (
        lambda w, b: native.Sender(b, w.events, w.vpwork, w.bells),
        layout.TABLE_SIZE,
        64,
        False,
        "channel table",
    ),
    "Sender.events": (
        lambda w, b: native.Sender(w.table, b, w.vpwork, w.bells),
        8192,
        64,
        True,
        "interrupt pages",
    ),
    "Sender.vpwork": (lambda w, b: native.Sender(w.table, w.events, b, w.bells), 1024, 64, False, "vpwork"),
    "HostSender": (lambda w, b: native.HostSender(b, w.bells[0]), 4096, 64, True, "host page"),
    "HostWaiter": (lambda w, b: native.HostWaiter(b, w.bells[0]), 4096, 64, True, "host page"),
    "Worker.table": (lambda w, b: make_worker(w, table=b), layout.TABLE_SIZE, 64, False, "channel table"),
    "Worker.events": (lambda w, b: make_worker(w, events=b), 4096, 64, True, "interrupt page"),
    "Worker.vpwork": (lambda w, b: make_worker(w, vpwork=b), 512, 64, True, "vpwork"),
    "Worker.blocks": (lambda w, b: make_worker(w, blocks=b), layout.GUEST_SIZE, 4096, True, "guest blocks"),
    "recover": (
        lambda w, b: native.recover(0, table=w.table, events=b, vpwork=w.vpwork, blocks=w.blocks),
        4096,
        64,
        True,
        "interrupt page",
    ),
    "sweep": (
        lambda w, b: native.sweep(0, 1, events=b, doorbell=w.bells[1]),
        8192,
        64,
        True,
        "interrupt page",
    ),
    "pending_count": (lambda _, b: native.pending_count(b, 0), 4096, 64, False, "interrupt page"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_buffer_that_does_not_do_is_named(name: str, world: World) -> None:
    """Too short, crooked, read-only, closed, strided and no buffer at all: UsageError says what and why."""
    make, size, alignment, writable, what = MAKERS[name]
    make(world, anonymous(size))

    with pytest.raises(UsageError, match=f"{what}: .*{size - 1} bytes"):
        make(world, memoryview(anonymous(size))[: size - 1])
    crooked = memoryview(anonymous(size + alignment))
    for offset in (1, alignment // 2):
        with pytest.raises(UsageError, match=f"{what}: address 0x[0-9a-f]+ is not aligned to {alignment}"):
            make(world, crooked[offset : offset + size])
    closed = anonymous(size)
    closed.close()
    for wrong, why in (
        (closed, "cannot be used: mmap closed"),
        (memoryview(bytearray(2 * size))[::2], "cannot be used: .*contiguous"),
        (7, "int is no buffer"),
        (None, "NoneType is no buffer"),
    ):
        with pytest.raises(UsageError, match=f"{what}: .*{why}"):
            make(world, wrong)
    if writable:
        for buffer in (read_only(size), bytes(size), memoryview(anonymous(size)).toreadonly()):
            with pytest.raises(UsageError, match=f"{what}: the buffer is read-only"):
                make(world, buffer)
    else:
        make(world, read_only(size))


def test_a_table_of_the_daemon_cannot_be_written_by_its_reader() -> None:
    """A descriptor that was opened read-only gives a Table, never a TableWriter, and no fault."""
    descriptor = memory_file(layout.TABLE_SIZE)
    reader = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    try:
        native.TableWriter(mmap.mmap(descriptor, layout.TABLE_SIZE)).set_target(7, 3)
        mapping = mmap.mmap(reader, layout.TABLE_SIZE, prot=mmap.PROT_READ)

        assert native.Table(mapping).target(7) == 3
        with pytest.raises(UsageError, match="channel table: the buffer is read-only"):
            native.TableWriter(mapping)
    finally:
        os.close(descriptor)
        os.close(reader)


def test_offsets_beyond_the_buffer_are_refused() -> None:
    """An offset is checked without overflow, whatever its size."""
    page = anonymous(8192)
    native.EventFlags(page, 4096)
    for offset in (4104, 8192, 1 << 62, (1 << 63) - 1, -8, 1 << 64):
        with pytest.raises(UsageError, match="interrupt page: "):
            native.EventFlags(page, offset)
    for count in (-1, 1025, 1 << 61, 1 << 64):
        with pytest.raises(UsageError, match="words: "):
            native.Words(page, 0, count)
    with pytest.raises(UsageError, match="interrupt page"):
        native.pending_count(page, 2)
    assert len(native.Words(page, 8192)) == 0


@pytest.mark.parametrize("value", [*NOT_NUMBERS, 2048])
def test_a_flag_is_one_of_2048(value: Any, world: World) -> None:
    """Everything else is refused by every function that takes a flag or a relid, and changes nothing."""
    calls: list[Callable[[Any], object]] = [
        world.pages[0].set,
        world.pages[0].is_set,
        lambda flag: world.pages[0].set_many([1, flag]),
        world.writer.slot,
        world.writer.target,
        world.writer.record,
        world.writer.close,
        lambda flag: world.writer.fill(flag, 1, **FILL),
        lambda relid: world.writer.fill(1, relid, **FILL),
        lambda relid: world.writer.open(1, relid, 1),
        lambda relid: world.writer.empty(1, relid),
        lambda relid: world.writer.set_target(relid, 0),
        lambda relid: world.writer.set_state(relid, 0),
        world.memory.claim,
        world.memory.is_free,
        world.memory.clear,
        world.memory.ring,
        world.memory.state,
        world.memory.interrupts,
        lambda flag: world.registry.bind(flag, 1, print, None),
        lambda flag: world.registry.unbind(flag, 1),
        native.HostSender(anonymous(4096), world.bells[0]).signal,
        lambda flag: native.Route().bind(world.sender, 1, flag),
        lambda relid: native.Route().bind(world.sender, relid, 1),
    ]
    for call in calls:
        with pytest.raises(UsageError, match=r"is not in 0\.\.2047"):
            call(value)
    assert not world.pages[0].any()
    assert world.writer.slots() == []


@pytest.mark.parametrize("value", [*NOT_NUMBERS, 64])
def test_a_vp_is_one_of_64(value: Any, world: World) -> None:
    """Every function that takes a VP refuses what is none."""
    parts: dict[str, Any] = {
        "table": world.table,
        "events": world.events,
        "vpwork": world.vpwork,
        "blocks": world.blocks,
    }
    for call in (
        world.writer.owner,
        lambda vp: world.writer.set_owner(vp, 1, 1, 1, 1),
        world.work.statistics,
        world.work.is_idle,
        lambda vp: native.pending_count(world.events, vp),
        lambda vp: native.recover(vp, **parts),
        lambda vp: native.sweep(vp, 0, events=world.events, doorbell=world.bells[0]),
        lambda vp: native.sweep(0, vp, events=world.events, doorbell=world.bells[0]),
        lambda vp: native.Worker(vp, doorbell=world.bells[0], registry=world.registry, **parts),
    ):
        with pytest.raises(UsageError, match="VP"):
            call(value)


def test_words_do_what_they_say() -> None:
    """Each operation on one word, with the values at both ends."""
    words = native.Words(anonymous(4096), 8, 4)
    top = (1 << 64) - 1

    assert len(words) == 4
    words.store(0, top)
    assert words.load(0) == top
    assert words.add(0, 2) == top
    assert words.add(0, -2) == 1
    assert words.exchange(0, 0b0110) == top
    assert words.or_(0, 0b1001) == 0b0110
    assert words.and_(0, 0b1100) == 0b1111
    assert not words.compare_exchange(0, 1, 2)
    assert words.compare_exchange(0, 0b1100, 2)
    assert [words.load(i) for i in range(4)] == [2, 0, 0, 0]
    for index in (-1, 4):
        with pytest.raises(UsageError, match=f"word {index} is not in 0..3"):
            words.load(index)


def test_bits_are_taken_in_rising_order_and_once() -> None:
    """Bits at the ends of words are reported as they are and all words are zero after (case 219, 220)."""
    flags = native.EventFlags(anonymous(4096))
    wanted = [1, 5, 63, 64, 500, 2046, 2047]

    assert flags.set_many(reversed(wanted)) == len(wanted)
    assert flags.set(63) is False
    assert flags.pending() == wanted
    assert flags.take() == wanted
    assert flags.take() == []
    assert not flags.any()


def test_flag_zero_is_no_channel() -> None:
    """Bit 0 is cleared by a take and never reported (case 221)."""
    flags = native.EventFlags(anonymous(4096))
    flags.set_many([0, 9])

    assert flags.is_set(0)
    assert flags.take() == [9]
    assert not flags.is_set(0)


@given(st.sets(st.integers(0, 2047)))
def test_a_page_is_a_set_of_flags_at_the_offsets_of_sint_2(wanted: set[int]) -> None:
    """Flag f is bit f % 8 of byte 512 + f / 8, and nothing else of the page is touched (case 220)."""
    page = anonymous(4096)
    flags = native.EventFlags(page)
    expected = bytearray(4096)
    for flag in wanted:
        flags.set(flag)
        expected[512 + flag // 8] |= 1 << flag % 8

    assert page[:] == expected
    assert flags.pending() == sorted(wanted)
    assert flags.take() == sorted(wanted - {0})
    assert page[:] == bytes(4096)


def test_two_threads_on_one_page_take_each_set_once() -> None:
    """Two takers and one setter: every 0 to 1 transition is delivered exactly once (case 225)."""
    flags = native.EventFlags(anonymous(4096))
    taken: list[list[int]] = [[], []]
    done = threading.Event()

    def take(into: list[int]) -> None:
        while not done.is_set():
            into += flags.take()
        into += flags.take()

    threads = [threading.Thread(target=take, args=(into,)) for into in taken]
    for thread in threads:
        thread.start()
    transitions = sum(flags.set(1 + i % 2047) for i in range(20_000))
    done.set()
    for thread in threads:
        thread.join()

    assert len(taken[0]) + len(taken[1]) == transitions


TAKER = """
import mmap, sys
from vmbusd.abi import native
page = mmap.mmap(int(sys.argv[1]), 4096)
flags, stop = native.EventFlags(page), native.Words(page, 0, 1)
seen = 0
stop.add(0, 1)
while True:
    last = stop.load(0) >= 100
    seen += len(flags.take())
    if last:
        break
print(seen)
"""


def test_two_processes_on_one_page_take_each_set_once() -> None:
    """Three processes share the page: every set is delivered exactly once in total (case 225)."""
    descriptor = memory_file(4096)
    page = mmap.mmap(descriptor, 4096)
    flags, stop = native.EventFlags(page), native.Words(page, 0, 1)
    command = [sys.executable, "-c", TAKER, str(descriptor)]
    takers = [
        subprocess.Popen(command, cwd=ROOT, pass_fds=[descriptor], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    os.close(descriptor)
    with takers[0], takers[1]:
        while stop.load(0) < 2:
            assert all(taker.poll() is None for taker in takers)
        transitions = sum(flags.set(1 + i % 2047) for i in range(50_000))
        stop.add(0, 100)
        assert sum(int(taker.communicate(timeout=30)[0]) for taker in takers) == transitions


def test_a_buffer_is_let_go_with_its_user() -> None:
    """While the core uses a mapping it cannot be closed; afterwards it can."""
    makers: list[Callable[[Any], object]] = [
        native.Words,
        native.EventFlags,
        native.Table,
        native.Blocks,
        lambda buffer: native.VpWork(buffer, 1),
    ]
    for make in makers:
        mapping = anonymous(layout.GUEST_SIZE)
        user = make(mapping)
        with pytest.raises(BufferError):
            mapping.close()
        del user
        mapping.close()
    mapping = semaphore_mapping()
    bell = native.Doorbell.semaphore(mapping)
    with pytest.raises(BufferError):
        mapping.close()
    del bell
    mapping.close()
