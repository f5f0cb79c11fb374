"""The old design's lists: the two steps of a move, the walk, orders, and what a pass does with them."""

import mmap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.abi.world import World
from vmbusd.abi import layout, native
from vmbusd.abi.errors import ResourceError, UsageError
from vmbusd.lab import percpu


def make_lists(design: int = percpu.PER_CPU) -> percpu.Lists:
    lists = percpu.Lists(mmap.mmap(-1, percpu.SIZE))
    lists.init(design)
    return lists


def make_worker(world: World, lists: percpu.Lists, vp: int = 0) -> native.PassWorker:
    worker = native.PassWorker(
        vp,
        table=world.table,
        events=world.events,
        vpwork=world.vpwork,
        blocks=world.blocks,
        doorbell=world.bells[vp],
        registry=world.registry,
    )
    worker.use(lists.passes())
    return worker


def test_a_linked_channel_is_found_on_its_vp_alone() -> None:
    """It stands at the end of its list, and on no other."""
    lists = make_lists()

    assert lists.link(1, 7)
    assert lists.link(1, 2047)

    assert lists.walk(1) == [7, 2047]
    assert lists.find(1, 7)
    assert lists.find(1, 2047)
    assert not lists.find(0, 7)
    assert lists.vp_of(7) == 1
    assert lists.vp_of(8) is None


def test_a_step_that_does_not_apply_changes_nothing() -> None:
    """Neither a second link nor an unlink on the wrong VP."""
    lists = make_lists()
    lists.link(1, 7)

    assert not lists.link(2, 7)
    assert not lists.unlink(0, 7)
    assert not lists.unlink(1, 8)

    assert lists.walk(1) == [7]
    assert lists.unlink(1, 7)
    assert not lists.unlink(1, 7)
    assert lists.walk(1) == []


STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(1, 12)), max_size=200)


@given(STEPS)
def test_steps_do_what_plain_lists_do(steps: list[tuple[bool, int, int]]) -> None:
    """Any sequence of links and unlinks leaves the lists of a model made of Python lists."""
    lists = make_lists()
    model: list[list[int]] = [[] for _ in range(4)]
    for is_link, vp, relid in steps:
        if is_link:
            applies = all(relid not in one for one in model)
            assert lists.link(vp, relid) is applies
            if applies:
                model[vp].append(relid)
        else:
            applies = relid in model[vp]
            assert lists.unlink(vp, relid) is applies
            if applies:
                model[vp].remove(relid)
    assert [lists.walk(vp) for vp in range(4)] == model
    for vp in range(4):
        assert [relid for relid in range(1, 13) if lists.find(vp, relid)] == sorted(model[vp])


def test_a_pass_calls_what_is_on_the_list_and_drops_what_is_not(world: World) -> None:
    """The drop is counted with its channel and time; its bit is gone, nobody is called."""
    lists = make_lists()
    for relid in (5, 6, 64):
        world.open(relid)
    lists.link(0, 5)
    lists.link(1, 6)
    lists.link(0, 64)
    world.pages[0].set_many([5, 6, 64])

    assert make_worker(world, lists).dispatch() == 3

    assert world.called == [5, 64]
    assert not world.pages[0].any()
    counts = lists.counts(0)
    assert (counts["taken"], counts["dropped"]) == (3, 1)
    assert counts["first_drop"] > 0
    assert lists.dropped_of() == [6]
    assert world.statistics()["callbacks"] == 2
    assert world.statistics()["spurious"] == 0


def test_an_interrupt_of_a_closed_channel_is_no_drop(world: World) -> None:
    """It is spurious, as in the shipped design (case 222)."""
    lists = make_lists()
    world.fill(7)
    world.pages[0].set(7)

    make_worker(world, lists).dispatch()

    assert lists.counts(0)["dropped"] == 0
    assert world.statistics()["spurious"] == 1


def test_the_global_design_needs_no_list(world: World) -> None:
    """The same worker on the same page calls a channel that is on no list at all."""
    lists = make_lists(percpu.GLOBAL)
    world.open(6)
    world.pages[0].set(6)

    make_worker(world, lists).dispatch()

    assert world.called == [6]
    assert lists.counts(0) == {"taken": 1, "dropped": 0, "first_drop": 0}


def test_a_new_run_counts_from_zero_and_keeps_the_lists(world: World) -> None:
    """`begin` changes the design as well."""
    lists = make_lists()
    world.open(6)
    lists.link(1, 6)
    world.pages[0].set(6)
    make_worker(world, lists).dispatch()

    lists.begin(percpu.GLOBAL)

    assert lists.design == percpu.GLOBAL
    assert lists.counts(0) == {"taken": 0, "dropped": 0, "first_drop": 0}
    assert lists.dropped_of() == []
    assert lists.walk(1) == [6]


def make_mover(world: World, lists: percpu.Lists) -> percpu.Mover:
    semaphores = [mmap.mmap(-1, layout.SEMAPHORE_SIZE) for _ in range(world.vps)]
    return percpu.Mover(lists, world.events, world.vpwork, semaphores)


def test_an_order_is_carried_out_at_the_end_of_the_owners_pass(world: World) -> None:
    """Off one list, then onto the other, each by the VP that owns it; nobody else's pass does it."""
    lists = make_lists()
    lists.link(0, 5)
    mover = make_mover(world, lists)
    mover.begin(5, 1)
    with pytest.raises(ResourceError, match=r"VP 0 did not unlink relid 5 within 0\.01 s"):
        mover.finish(0.01)

    make_worker(world, lists, 1).dispatch()
    assert lists.walk(0) == [5]

    assert make_worker(world, lists, 0).dispatch() == 0
    assert (lists.walk(0), lists.walk(1)) == ([], [])
    assert not world.pages[0].any()
    with pytest.raises(ResourceError, match=r"VP 1 did not link relid 5 within 0 s"):
        mover.finish(0.0)

    assert make_worker(world, lists, 1).dispatch() == 0
    assert lists.walk(1) == [5]
    mover.finish(0.0)


def test_a_move_waits_for_no_other(world: World) -> None:
    """A channel is linked as soon as its own VP has unlinked it, while another's VP has not come to it."""
    lists = make_lists()
    lists.link(0, 5)
    lists.link(1, 6)
    mover = make_mover(world, lists)
    mover.begin(6, 0)
    mover.begin(5, 1)

    make_worker(world, lists, 0).dispatch()
    with pytest.raises(ResourceError):
        mover.finish(0.0)
    make_worker(world, lists, 1).dispatch()

    assert lists.walk(1) == [5]
    assert (lists.vp_of(5), lists.vp_of(6)) == (1, None)


def test_those_begun_before_go_on_when_another_is_begun(world: World) -> None:
    """Whoever begins many looks at all of them each time, and need not have begun the last."""
    lists = make_lists()
    lists.link(0, 5)
    mover = make_mover(world, lists)
    mover.begin(5, 1)
    make_worker(world, lists, 0).dispatch()

    mover.begin(6, 0)
    make_worker(world, lists, 1).dispatch()

    assert lists.walk(1) == [5]


def test_a_channel_moves_from_wherever_it_is(world: World) -> None:
    """From no list it is only linked; where it is already nothing is asked."""
    lists = make_lists()
    lists.link(0, 5)
    mover = make_mover(world, lists)
    mover.begin(5, 0)
    mover.finish(0.0)
    assert not world.pages[0].any()

    for relid in range(6, 2048):
        mover.begin(relid, relid % 2)
    for vp in range(2):
        make_worker(world, lists, vp).dispatch()

    mover.finish(0.0)
    assert [len(lists.walk(vp)) for vp in range(2)] == [1022, 1021]


def test_a_pass_serves_its_bits_before_its_orders(world: World) -> None:
    """A channel that is to be unlinked still has its callback in the pass that took its bit."""
    lists = make_lists()
    world.open(5)
    lists.link(0, 5)
    make_mover(world, lists).begin(5, 1)
    world.pages[0].set(5)

    make_worker(world, lists).dispatch()

    assert world.called == [5]
    assert lists.walk(0) == []


def test_a_channel_on_the_list_of_no_vp_is_not_moved(world: World) -> None:
    """Guest memory is writable by the host: what stands there rings no doorbell that there is not."""
    memory = mmap.mmap(-1, percpu.SIZE)
    lists = percpu.Lists(memory)
    lists.init(percpu.PER_CPU)
    node = percpu.SIZE - 64 * (2048 + 64) + 64 * 5
    memory[node + 12 : node + 16] = (world.vps + 1).to_bytes(4, "little")

    with pytest.raises(UsageError, match="relid 5 is on the list of a VP that there is not"):
        make_mover(world, lists).begin(5, 1)


def test_garbage_in_the_lists_ends_a_walk(world: World) -> None:
    """Guest memory is writable by the host: a ring of nodes or a number of nothing hangs nobody."""
    memory = mmap.mmap(-1, percpu.SIZE)
    lists = percpu.Lists(memory)
    lists.init(percpu.PER_CPU)
    lists.link(0, 1)
    node = percpu.SIZE - 64 * (2048 + 64) + 64

    memory[node : node + 4] = (1).to_bytes(4, "little")
    assert not lists.find(0, 2)
    memory[node : node + 4] = (0xFFFFFFFF).to_bytes(4, "little")
    assert not lists.find(0, 2)


def test_lookups_are_timed_on_the_real_structures(world: World) -> None:
    """Every lookup finds its channel, or there is no figure."""
    lists = make_lists()
    for relid in range(1, 17):
        world.open(relid)
        lists.link(3, relid)

    assert lists.time_list(3, range(1, 17), 1000) > 0
    assert lists.time_table(world.table, range(1, 17), 1000) > 0
    with pytest.raises(UsageError, match="only 0 of 10 lookups found their channel"):
        lists.time_list(2, [1], 10)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda lists: lists.link(64, 1), r"VP 64 is not in 0\.\.63"),
        (lambda lists: lists.link(0, 0), r"relid 0 is not in 1\.\.2047"),
        (lambda lists: lists.find(0, 2048), r"relid 2048 is not in 1\.\.2047"),
        (lambda lists: lists.begin(2), r"design 2 is not in 0\.\.1"),
        (lambda lists: lists.time_list(0, [], 1), "no relids to look up"),
        (lambda _: percpu.Lists(bytearray(64)), f"lists: 64 bytes, at least {percpu.SIZE} are needed"),
        (lambda _: percpu.Lists(bytes(percpu.SIZE)), "lists: the buffer cannot be used"),
    ],
)
def test_a_callers_mistake_is_named(call: Any, text: str) -> None:
    """The value and its range, or what is wrong with the buffer."""
    with pytest.raises(UsageError, match=text):
        call(make_lists())


def test_a_worker_takes_passes_from_a_capsule_alone(world: World) -> None:
    """Anything else is refused, and a worker that was told nothing plays the shipped design."""
    worker = native.PassWorker(
        0,
        table=world.table,
        events=world.events,
        vpwork=world.vpwork,
        blocks=world.blocks,
        doorbell=world.bells[0],
        registry=world.registry,
    )
    with pytest.raises(UsageError, match="is no capsule of passes"):
        worker.use(object())
    world.open(6)
    world.pages[0].set(6)

    assert worker.dispatch() == 1
    assert world.called == [6]
