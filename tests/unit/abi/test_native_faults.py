"""Injected faults through the native core's Python methods, in both directions."""

import mmap
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.unit.abi.world import World, semaphore_mapping
from vmbusd.abi import faults, layout, native
from vmbusd.abi.faults import Kind, Rule

ROOT = Path(__file__).resolve().parents[3]
RELID = 5
PATIENCE = 30.0  # seconds, on a busy machine


def arm(world: World, *rules: Rule) -> None:
    for index in range(layout.FAULT_RULES):
        world.writer.set_fault(index, faults.encode(rules[index]) if index < len(rules) else None)
    world.writer.set_fault_armed(True)


def sleep_again(world: World, vp: int = 0) -> None:
    """The next sleep of a VP, as its worker would announce it."""
    idle = native.Words(world.vpwork, layout.VPWORK_SIZE * vp, 1)
    idle.store(0, idle.load(0) + 1 | 1)


def posts(world: World, count: int, *before: Rule, **rule: Any) -> list[int]:
    """The doorbells of `count` sleeps under a rule behind others, by a sender of its own."""
    arm(world, *before, Rule(**rule))
    route = world.route(RELID, world.new_sender())
    rung = []
    for _ in range(count):
        sleep_again(world)
        route.signal()
        rung.append(world.bells[0].drain())
    return rung


@contextmanager
def interrupting(act: Callable[[], None]) -> Iterator[None]:
    """Calls `act` in this thread now and then, also in the middle of a wait, which cannot end meanwhile."""
    waiting, over = threading.get_ident(), threading.Event()

    def interrupt() -> None:
        while not over.wait(0.002):
            signal.pthread_kill(waiting, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: act())
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def test_the_same_seed_drops_the_same_doorbells(world: World) -> None:
    """What a rule does to a channel is its seed's and the occasion's alone, and is known beforehand."""
    world.open(RELID)
    rule: dict[str, Any] = {"kind": Kind.DROP_DOORBELL, "probability": 0.5, "seed": 3}
    kind = Kind.DROP_DOORBELL
    expected = [int(faults.decision(3, kind, 0, RELID, n) >= layout.FAULT_ALWAYS // 2) for n in range(40)]
    assert posts(world, 40, **rule) == posts(world, 40, **rule) == expected
    assert posts(world, 40, **{**rule, "seed": 4}) != expected


def test_another_rule_changes_no_decision(world: World) -> None:
    """A rule stands in the table where there was room; what it does is the same wherever that is."""
    world.open(RELID)
    other = Rule(kind=Kind.DELAY_READ, delay=1)
    rule: dict[str, Any] = {"kind": Kind.DROP_DOORBELL, "probability": 0.5, "seed": 3}
    assert posts(world, 40, **rule) == posts(world, 40, other, other, **rule)


def test_a_sender_counts_what_it_was_made_to_do(world: World) -> None:
    """In its statistics, and by rule in the host's page."""
    world.open(RELID)
    page = mmap.mmap(-1, layout.HOST_PAGE_SIZE)
    sender = native.Sender(world.table, world.events, world.vpwork, world.bells, page=page)
    route = world.route(RELID, sender)
    arm(world, Rule(kind=Kind.DUPLICATE_DOORBELL, relid=9), Rule(kind=Kind.DUPLICATE_DOORBELL, relid=RELID))
    sleep_again(world)
    sender.signal_many([route])
    assert world.bells[0].drain() == 2
    assert (sender.statistics()["faults"], sender.statistics()["posts"]) == (1, 2)
    assert native.FaultCounts(page, layout.HOST_FIRED_OFFSET).fired()[:3] == [0, 1, 0]


def test_a_worker_obeys_and_counts(world: World) -> None:
    """A late dispatch and a stuck VP take time without the GIL, and both callbacks run."""
    route = world.open(RELID)
    worker = world.worker()
    arm(
        world,
        Rule(kind=Kind.DELAY_DISPATCH, relid=RELID, delay=1000),
        Rule(kind=Kind.STUCK_VP, vp=0, delay=20_000, times=1),
    )
    begun = time.monotonic()
    route.signal()
    assert worker.dispatch() == 1
    assert time.monotonic() - begun >= 0.021
    assert world.called == [RELID]
    assert world.statistics()["faults"] == 2
    offset = layout.VPWORK_FIRED_OFFSET
    assert native.FaultCounts(world.vpwork, offset).fired()[:2] == [1, 1]


def test_taking_the_rule_away_frees_a_stuck_vp(world: World) -> None:
    """A VP that would stand still for a minute goes on at once."""
    route = world.open(RELID)
    worker = world.worker()
    arm(world, Rule(kind=Kind.STUCK_VP, delay=faults.MAX_STUCK))
    route.signal()
    thread = threading.Thread(target=worker.dispatch)
    thread.start()
    while not world.statistics()["faults"]:
        time.sleep(0.001)
    assert not world.called
    world.writer.set_fault(0, None)
    thread.join(20)
    assert world.called == [RELID]


def test_a_host_finds_what_nobody_rang_for(world: World) -> None:
    """A dropped doorbell to a host costs the wait; the flag is found at its end, and counted as rescued."""
    world.open(RELID)
    page, bell = mmap.mmap(-1, layout.HOST_PAGE_SIZE), native.Doorbell.semaphore(semaphore_mapping())
    waiter = native.HostWaiter(page, bell, world.table)
    sender = native.HostSender(page, bell, world.table)
    arm(world, Rule(kind=Kind.DROP_DOORBELL, relid=RELID))
    idle = native.Words(page, layout.HOST_IDLE_OFFSET, 1)
    sent: list[int] = []
    heard: list[int] = []

    def signal_if_asleep() -> None:
        if idle.load(0) & 1 and not sent:
            sent.append(sender.signal(RELID))

    with interrupting(signal_if_asleep):
        deadline = time.monotonic() + PATIENCE
        while not sent:
            assert time.monotonic() < deadline, f"no interrupt in {PATIENCE} s found the host asleep"
            heard = waiter.wait(0.3)
    assert sent == [True]
    assert (heard + waiter.wait(0), bell.drain()) == ([RELID], 0)
    assert sender.statistics()["faults"] == 1
    assert native.FaultCounts(page, layout.HOST_FIRED_IN_GUEST_OFFSET).fired()[0] == 1
    assert waiter.rescued == 1


def test_late_posts_of_garbage_find_their_doorbell() -> None:
    """A sender that the collector finds in a cycle makes its late posts before the doorbell's memory goes.

    In a process of its own, and with a delay that no rule may have: the collector is to be sooner.
    """
    code = """
import gc
from tests.unit.abi.test_native_faults import RELID, arm, sleep_again
from tests.unit.abi.world import World, semaphore_mapping
from vmbusd.abi import faults, native
world = World(1)
world.open(RELID)
rule = faults.encode(faults.Rule(kind=faults.Kind.REORDER_DOORBELL, delay=1000))
arm(world)
world.writer.set_fault(0, rule[:56] + (200_000).to_bytes(4, "little") + rule[60:])
for _ in range(2):
    bell = native.Doorbell.semaphore(semaphore_mapping())
    sender = native.Sender(world.table, world.events, world.vpwork, [bell])
    route = native.Route()
    route.bind(sender, RELID, RELID)
    route.live = True
    sleep_again(world)
    route.signal()
    cycle = [sender, route]
    cycle.append(cycle)
    del bell, sender, route, cycle
    gc.collect()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
