"""Dispatch: which callbacks one pass over a page runs, how claims hold, and what errors do."""

import sys
import threading
from typing import Any

import pytest

from tests.unit.abi.world import World
from vmbusd.abi import layout, native
from vmbusd.abi.errors import UsageError


def test_a_signal_runs_its_callback_once(world: World) -> None:
    """The callback runs once and the bit is clear (case 218)."""
    route = world.open(5)

    assert route.signal() is True
    assert route.signal() is False
    assert world.worker().dispatch() == 1
    assert world.called == [5]
    assert not world.pages[0].any()
    assert world.worker().dispatch() == 0


def test_channels_are_served_in_rising_order(world: World) -> None:
    """Bits at the ends of words too (case 219, 220)."""
    wanted = [1, 5, 63, 64, 500, 2046, 2047]
    for relid in wanted:
        world.open(relid)
    world.pages[0].set_many(reversed(wanted))

    assert world.worker().dispatch() == len(wanted)
    assert world.called == wanted
    assert all(world.taken().load(i) == 0 for i in range(32))


def test_flag_zero_is_cleared_and_calls_nobody(world: World) -> None:
    """Bit 0 is not counted either (case 221)."""
    world.pages[0].set(0)

    assert world.worker().dispatch() == 0
    assert not world.pages[0].any()
    assert world.taken().load(0) == 0
    assert world.statistics()["spurious"] == 0


def test_a_bit_without_an_open_channel_is_dropped(world: World) -> None:
    """Empty slot, never opened, closed: cleared and counted, the others are served (case 222, 223, 236)."""
    world.fill(7)
    world.open(8)
    world.writer.close(8)
    world.open(9)
    world.pages[0].set_many([6, 7, 8, 9])

    assert world.worker().dispatch() == 4
    assert world.called == [9]
    assert not world.pages[0].any()
    assert world.statistics()["spurious"] == 3
    assert world.statistics()["callbacks"] == 1
    assert [world.memory.interrupts(flag) for flag in (6, 7, 8, 9)] == [0, 0, 0, 1]
    assert [world.memory.claim(flag) for flag in (6, 7, 8, 9)] == [0] * 4


def test_a_callback_detached_within_the_scan_is_not_run(world: World) -> None:
    """Its bit was taken already; the worker asks for a callback, gets none, goes on quietly (case 229)."""
    world.open(5, call=lambda _: world.registry.unbind(6, 1))
    world.open(6)
    world.pages[0].set_many([5, 6])

    assert world.worker().dispatch() == 2
    assert world.called == []
    assert world.missed == [(6, 1)]
    assert world.failures == []
    assert [world.memory.claim(flag) for flag in (5, 6)] == [0, 0]


def test_a_callback_runs_in_the_scan_and_nobody_masks_the_ring(world: World) -> None:
    """On the worker's own thread, before the pass is over; of the guest's block only the counter is touched:
    whoever wants the ring masked does it in the callback (case 228)."""
    seen: list[tuple[int, bool]] = []
    worker = world.worker()
    world.open(5, call=lambda _: seen.append((threading.get_ident(), world.taken().load(0) != 0)))
    world.memory.set_ring(5, 16, 4, 2, 7)
    world.pages[0].set(5)
    before = bytes(world.blocks[5 * layout.BLOCK_SIZE : 6 * layout.BLOCK_SIZE])

    assert worker.dispatch() == 1
    assert seen == [(threading.get_ident(), True)]
    after = bytes(world.blocks[5 * layout.BLOCK_SIZE : 6 * layout.BLOCK_SIZE])
    changed = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert changed == [layout.BLOCK_CLEARED_FROM]


def test_the_interrupt_counter_moves_by_one(world: World) -> None:
    """A delivered signal moves it, a dropped one does not (case 239)."""
    route = world.open(5)
    worker = world.worker()
    for expected in (1, 2):
        route.signal()
        worker.dispatch()
        assert world.memory.interrupts(5) == expected
    world.writer.empty(5, 5)
    world.pages[0].set(5)
    worker.dispatch()

    assert world.memory.interrupts(5) == 2


def test_a_callback_that_signals_itself_runs_again(world: World) -> None:
    """The bit is cleared before the call, so a set from inside is a new one (case 224)."""
    left = [3]

    def again(relid: int) -> None:
        world.called.append(relid)
        left[0] -= 1
        if left[0]:
            assert world.pages[0].set(relid)

    world.open(5, call=again)
    world.pages[0].set(5)
    worker = world.worker()

    assert [worker.dispatch() for _ in range(4)] == [1, 1, 1, 0]
    assert world.called == [5, 5, 5]


def test_what_is_being_served_stands_in_taken(world: World) -> None:
    """During the last callback of a word all bits of the word can still be put back."""
    seen: list[int] = []
    world.open(3)
    world.open(9, call=lambda _: seen.append(world.taken().load(0)))
    world.pages[0].set_many([3, 9])
    world.worker().dispatch()

    assert seen == [1 << 3 | 1 << 9]
    assert world.taken().load(0) == 0


def test_a_claim_of_another_vp_is_left_with_again(world: World) -> None:
    """The channel is not called here, and its bit is not put back (case 225)."""
    world.open(5)
    world.plant_claim(5, layout.CLAIM_RUN | 1)
    worker = world.worker()
    for _ in range(2):
        world.pages[0].set(5)
        assert worker.dispatch() == 1
        assert world.memory.claim(5) == layout.CLAIM_RUN | layout.CLAIM_AGAIN | 1
        assert not world.pages[0].any()

    assert world.called == []
    assert world.statistics()["left_again"] == 2
    assert not world.memory.is_free(5)


def test_the_owner_runs_again_what_came_meanwhile(world: World) -> None:
    """Another VP finds the channel claimed during its callback; the owner's next pass calls it again."""
    other = world.worker(1)

    def meanwhile(relid: int) -> None:
        world.called.append(relid)
        assert world.memory.claim(5) == layout.CLAIM_RUN
        if len(world.called) == 1:
            world.pages[1].set(5)
            assert other.dispatch() == 1

    world.open(5, call=meanwhile)
    world.pages[0].set(5)
    worker = world.worker()

    assert worker.dispatch() == 1
    assert world.memory.claim(5) == 0
    assert world.pages[0].pending() == [5]
    assert worker.dispatch() == 1
    assert world.called == [5, 5]
    assert world.statistics(1)["left_again"] == 1


def test_a_generation_nobody_bound_is_missing(world: World) -> None:
    """A stale binding is never called; `missing` hears flag and generation, under the claim."""
    world.open(5, generation=1)
    world.writer.close(5)
    world.writer.open(5, 5, 2)
    claims: list[int] = []

    def missing(flag: int, generation: int) -> None:
        claims.append(world.memory.claim(flag))
        registry.bind(flag, generation, world.called.append, (flag, generation))

    registry = native.Registry(missing, lambda _flag, _error: None)
    registry.bind(5, 1, world.called.append, "stale")
    worker = world.worker(registry=registry)
    for _ in range(2):
        world.pages[0].set(5)
        worker.dispatch()

    assert world.called == [(5, 2)]
    assert claims == [layout.CLAIM_RUN]
    assert world.memory.claim(5) == 0


def test_a_callback_may_unbind_and_close_itself(world: World) -> None:
    """What runs is kept alive to its end; the next signal finds the channel closed."""

    class Once:
        def __call__(self, relid: int) -> None:
            world.registry.unbind(relid, 1)
            world.writer.close(relid)
            assert not world.memory.is_free(relid)
            world.called.append(relid)

    world.open(5, call=Once())
    worker = world.worker()
    for _ in range(2):
        world.pages[0].set(5)
        worker.dispatch()

    assert world.called == [5]
    assert world.memory.is_free(5)
    assert world.missed == []


def test_unbinding_another_generation_does_nothing(world: World) -> None:
    """A late unbind cannot take away the next open's binding."""
    world.open(5, generation=2)
    world.registry.unbind(5, 1)
    world.pages[0].set(5)
    world.worker().dispatch()

    assert world.called == [5]


def test_what_ends_with_a_binding_may_bind(world: World) -> None:
    """A destructor that runs inside `unbind` or `bind` leaves a binding that is whole."""

    class Rebinds:
        def __call__(self, relid: int) -> None:
            raise AssertionError("unbound")

        def __del__(self) -> None:
            world.registry.bind(5, 2, world.called.append, "new")

    world.open(5, generation=2, call=Rebinds())
    world.registry.unbind(5, 2)
    world.pages[0].set(5)
    world.worker().dispatch()

    assert world.called == ["new"]


def test_an_exception_is_told_and_counted(world: World) -> None:
    """`failed` hears it with its traceback, the claim is free, the others are served."""
    world.open(5, call=lambda _: 1 / 0)
    world.open(6)
    world.pages[0].set_many([5, 6])

    assert world.worker().dispatch() == 2
    assert world.called == [6]
    [(flag, error)] = world.failures
    assert flag == 5
    assert isinstance(error, ZeroDivisionError)
    assert error.__traceback__ is not None
    assert world.memory.claim(5) == 0
    assert world.statistics()["exceptions"] == 1


def test_an_exception_of_missing_is_told(world: World) -> None:
    """It is the channel's failure like any other."""

    def missing(flag: int, generation: int) -> None:
        raise LookupError(flag, generation)

    registry = native.Registry(missing, lambda flag, error: world.failures.append((flag, error)))
    world.open(5)
    world.pages[0].set(5)
    world.worker(registry=registry).dispatch()

    assert [(flag, type(error)) for flag, error in world.failures] == [(5, LookupError)]
    assert world.memory.claim(5) == 0


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("place", ["callback", "missing", "failed"])
def test_what_is_no_exception_ends_the_pass_after_it(
    kind: type[BaseException], place: str, world: World
) -> None:
    """It is raised once, when the whole pass is done: nothing taken is lost."""

    def stop(*_: object) -> None:
        raise kind("stop")

    def fail(_: Any) -> None:
        raise ValueError("first")

    registry = native.Registry(stop, stop)
    world.open(5)
    world.open(6)
    world.open(700)
    registry.bind(6, 1, world.called.append, 6)
    registry.bind(700, 1, world.called.append, 700)
    if place != "missing":
        registry.bind(5, 1, stop if place == "callback" else fail, None)
    world.pages[0].set_many([5, 6, 700])
    worker = world.worker(registry=registry)

    with pytest.raises(kind, match="stop"):
        worker.dispatch()
    assert world.called == [6, 700]
    assert not world.pages[0].any()
    assert all(world.taken().load(i) == 0 for i in range(32))
    assert world.memory.claim(5) == 0
    assert worker.dispatch() == 0


def test_an_exception_of_failed_is_reported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes where errors in destructors go, and the pass goes on."""
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reported.append(report.exc_type))

    def failed(flag: int, error: BaseException) -> None:
        raise OSError("no log")

    registry = native.Registry(lambda _flag, _generation: None, failed)
    for relid in (5, 6):
        world.open(relid)
        registry.bind(relid, 1, lambda _: 1 / 0, None)
    world.pages[0].set_many([5, 6])

    assert world.worker(registry=registry).dispatch() == 2
    assert reported == [OSError, OSError]


@pytest.mark.parametrize("method", ["dispatch", "run"])
@pytest.mark.parametrize("outer", ["dispatch", "run"])
def test_a_callback_cannot_dispatch_its_worker(method: str, outer: str, world: World) -> None:
    """A pass inside a pass would overwrite what the outer one keeps in `taken`: UsageError, and no harm."""
    worker = world.worker()

    def inside(relid: int) -> None:
        world.pages[0].set(8)
        worker.stop()
        getattr(worker, method)()

    world.open(5, call=inside)
    world.open(6)
    world.open(8)
    world.pages[0].set_many([5, 6])
    getattr(worker, outer)()
    if outer == "dispatch":
        worker.dispatch()

    assert [type(error) for _, error in world.failures] == [UsageError]
    assert "runs already" in str(world.failures[0][1])
    assert world.called == [6, 8]
    assert all(world.memory.claim(flag) == 0 for flag in (5, 6, 8))


def test_a_callback_on_another_vp_is_counted(world: World) -> None:
    """A channel whose target moved is served where its bit is, and counted."""
    route = world.open(5, vp=0)
    route.signal()
    world.writer.set_target(5, 1)
    world.worker(0).dispatch()

    assert world.called == [5]
    assert world.statistics(0)["off_target"] == 1


def test_a_word_with_a_wild_record_offset_is_harmless(world: World) -> None:
    """Whatever the slot says, the record is looked for inside the table."""
    world.open(5)
    slots = native.Words(world.table, layout.TABLE_SLOTS_OFFSET, layout.FLAGS)
    slots.store(5, slots.load(5) | 0xFFFFFFFF)
    world.pages[0].set(5)

    assert world.worker().dispatch() == 1
    assert world.called == [5]
