"""Signalling: host to guest through the table, guest to host through the host link's page."""

import mmap
import threading
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.abi.world import World, semaphore_mapping
from vmbusd.abi import layout, native
from vmbusd.abi.errors import UsageError


def asleep(world: World, vp: int, number: int = 1) -> None:
    native.Words(world.vpwork, layout.VPWORK_SIZE * vp, 1).store(0, number)


def test_a_sleeping_vp_is_rung_once_for_each_sleep(world: World) -> None:
    """Also when the bit was set already: who set it may not have lived to ring (case 230)."""
    route = world.open(5)
    world.pages[0].set(5)
    asleep(world, 0, 7)

    assert route.signal() is False
    assert route.signal() is False
    assert world.bells[0].drain() == 1
    asleep(world, 0, 9)
    route.signal()
    assert world.bells[0].drain() == 1
    asleep(world, 0, 10)
    route.signal()
    assert world.bells[0].drain() == 0
    assert world.sender.statistics() == {"signals": 4, "transitions": 0, "posts": 2, "moved": 0, "faults": 0}


def test_each_sender_rings_for_itself(world: World) -> None:
    """One that stopped before its post silences nobody else."""
    routes = [world.open(5), world.route(5, world.new_sender())]
    asleep(world, 0)
    for route in routes:
        route.signal()

    assert world.bells[0].drain() == 2


def test_only_the_target_vp_is_touched(world: World) -> None:
    """The bit and the ring go where the record says now (case 233)."""
    route = world.open(5, vp=1)
    for vp in (0, 1):
        asleep(world, vp)
    route.signal()
    assert (world.bells[0].drain(), world.bells[1].drain()) == (0, 1)
    assert (world.pages[0].pending(), world.pages[1].pending()) == ([], [5])
    world.writer.set_target(5, 0)
    route.signal()

    assert (world.bells[0].drain(), world.bells[1].drain()) == (1, 0)
    assert world.pages[0].pending() == [5]


@pytest.mark.parametrize("target", [layout.NO_TARGET, 2, 64, 1 << 31])
def test_no_target_means_no_interrupt(target: int, world: World) -> None:
    """'Never interrupt', and a VP that the partition does not have, set no bit and ring nobody."""
    route = world.open(5, vp=0)
    world.writer.set_target(5, target)
    asleep(world, 0)

    assert route.signal() is False
    assert world.sender.signal_many([route]) == 0
    assert not world.pages[0].any()
    assert world.bells[0].drain() == 0
    assert world.sender.statistics() == {"signals": 2, "transitions": 0, "posts": 0, "moved": 0, "faults": 0}


def test_a_route_that_is_not_live_does_nothing(world: World) -> None:
    """Neither alone nor among others, nor before it was bound."""
    dead = world.open(5)
    dead.live = False
    alive = world.open(6)

    assert native.Route().signal() is False
    assert dead.signal() is False
    assert world.sender.signal_many([dead, alive, native.Route()]) == 1
    assert world.pages[0].pending() == [6]
    assert world.sender.statistics()["signals"] == 1


def test_a_route_of_another_sender_is_refused(world: World) -> None:
    """A batch belongs to one link."""
    world.open(5)
    with pytest.raises(UsageError, match="relid 5 belongs to another link"):
        world.sender.signal_many([world.route(5, world.new_sender())])
    with pytest.raises(TypeError):
        world.sender.signal_many([5])  # type: ignore[list-item]


@pytest.mark.parametrize("count", [0, 65])
def test_a_sender_has_a_doorbell_for_each_vp(count: int, world: World) -> None:
    """1 to 64."""
    with pytest.raises(UsageError, match=f"{count} doorbells"):
        native.Sender(world.table, world.events, world.vpwork, world.bells[:1] * count)


CHANNELS = st.lists(
    st.tuples(st.integers(1, 2047), st.sampled_from([0, 1, 0, 1, layout.NO_TARGET, 9])),
    max_size=400,
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60, deadline=None)
@given(CHANNELS, st.booleans(), st.sets(st.integers(0, 2047), max_size=40), st.data())
def test_a_batch_is_the_same_as_its_signals(
    channels: list[tuple[int, int]], in_order: bool, before: set[int], data: st.DataObject
) -> None:
    """Pages, rings and counters are those of signalling one by one (case 232)."""
    worlds = [World(), World()]
    order = sorted(channels) if in_order else channels
    idle = [data.draw(st.integers(0, 3)) for _ in range(2)]
    for world in worlds:
        for relid, target in channels:
            world.writer.set_target(relid, target)
        world.pages[0].set_many(before)
        for vp in (0, 1):
            asleep(world, vp, idle[vp])
    together, one_by_one = ([world.route(relid) for relid, _ in order] for world in worlds)

    assert worlds[0].sender.signal_many(together) == sum(route.signal() for route in one_by_one)
    assert worlds[0].events[:] == worlds[1].events[:]
    assert worlds[0].sender.statistics() == worlds[1].sender.statistics()
    assert [bell.drain() for bell in worlds[0].bells] == [bell.drain() for bell in worlds[1].bells]


def host_page() -> tuple[mmap.mmap, native.Doorbell]:
    return mmap.mmap(-1, layout.HOST_PAGE_SIZE), native.Doorbell.semaphore(semaphore_mapping())


def test_a_guest_signals_its_host() -> None:
    """Flags come out in rising order, once; the host is rung only while it sleeps (case 231)."""
    page, bell = host_page()
    waiter = native.HostWaiter(page, bell)
    sender = native.HostSender(page, bell)

    assert [sender.signal(flag) for flag in (2047, 5, 64, 5)] == [True, True, True, False]
    assert bell.drain() == 0
    assert waiter.wait(0) == [5, 64, 2047]
    assert waiter.wait(0) == []
    assert sender.statistics() == {"signals": 4, "transitions": 3, "faults": 0}


def test_a_sleeping_host_is_woken() -> None:
    """The signal from another thread ends the wait; the idle word is even again."""
    page, bell = host_page()
    idle = native.Words(page, layout.HOST_IDLE_OFFSET, 1)
    waiter = native.HostWaiter(page, bell)
    sender = native.HostSender(page, bell)
    taken: list[list[int]] = []
    thread = threading.Thread(target=lambda: taken.append(waiter.wait(30)))
    thread.start()
    while not idle.load(0) & 1:
        time.sleep(0.0005)
    with pytest.raises(UsageError, match="somebody waits on it already"):
        waiter.wait(0)
    sender.signal(9)
    thread.join()

    assert taken == [[9]]
    assert idle.load(0) % 2 == 0


def test_a_host_waits_no_less_than_asked() -> None:
    """Nothing after the timeout, also with a doorbell rung for nothing, which is a storm after 64 times."""
    page, bell = host_page()
    waiter = native.HostWaiter(page, bell)
    for rings in (0, 1, 200):
        for _ in range(rings):
            bell.ring()
        begun = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        assert waiter.wait(0.02) == []
        assert time.clock_gettime_ns(time.CLOCK_MONOTONIC) - begun >= 20_000_000
    assert waiter.storms == 1
    native.HostSender(page, bell).signal(3)
    assert waiter.wait(5) == [3]
    with pytest.raises(UsageError, match="nan"):
        waiter.wait(float("nan"))


@pytest.mark.parametrize("found", [0, 7, 8])
def test_a_new_waiter_goes_on_from_what_it_finds(found: int) -> None:
    """The number of a sleep never repeats, and the host counts as awake."""
    page, bell = host_page()
    idle = native.Words(page, layout.HOST_IDLE_OFFSET, 1)
    idle.store(0, found)
    native.EventFlags(page).set(4)
    waiter = native.HostWaiter(page, bell)

    assert idle.load(0) == found + found % 2
    assert waiter.wait(0) == [4]


def test_a_subclass_is_a_route(world: World) -> None:
    """Channel objects of the host's library are routes."""

    class Channel(native.Route):
        name = "x"

    channel: Any = Channel()
    world.open(5)
    channel.bind(world.sender, 5, 5)
    channel.live = True

    assert channel.signal() is True
    assert (channel.relid, channel.flag) == (5, 5)
