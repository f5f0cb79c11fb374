"""What this project's signal path costs, on shared memory made without a daemon. Results in ns."""

from __future__ import annotations

import time
from time import perf_counter_ns as now

from benchmarks._peer import LIMIT, after, at_stop, peer, pinned
from benchmarks._world import VP, World
from vmbusd.abi import native

# Seconds that a worker looks at its page before it sleeps, where a row says `spin`: longer than a callback
# and its answer, shorter than what a blocked wake costs.
SPIN = 20e-6
# Between two single wakes: long enough for a blocked worker's core to go idle, as between real interrupts.
PACE = 100e-6


def ping_pong(worlds: tuple[World, World], cores: tuple[int, int], seconds: float, spin: float) -> float:
    """Two workers in two processes; the Python callback of each signals the other's channel. ns one way.

    Neither callback counts: the first worker's own counter does, and a timer ends it.
    """
    first, second = worlds

    def answer() -> None:
        worker = _side(second, first, spin)
        at_stop(worker.stop)
        second.notes.store(0, 1)
        worker.run()

    second.notes.store(0, 0)
    with peer(answer, cores) as stop:
        worker = _side(first, second, spin)
        while not second.notes.load(0):
            time.sleep(PACE)
        before = worker.statistics()["callbacks"]
        first.route().signal()
        with after(seconds, worker.stop):
            begun = now()
            worker.run()
            spent = now() - begun
        trips = worker.statistics()["callbacks"] - before
        stop()
    return spent / trips / 2


def _side(own: World, other: World, spin: float) -> native.Worker:
    answer = other.route().signal

    def callback(_relid: int) -> None:
        answer()

    return own.worker(callback, spin)


def wake(world: World, cores: tuple[int, int], samples: int, spin: float) -> tuple[float, float]:
    """From before signal() in one process to the first line of the callback in another: p50, p99 in ns."""
    notes, answer = world.notes, world.answer
    spans = []

    def serve() -> None:
        def callback(_relid: int) -> None:
            notes.store(0, now())
            answer.ring()

        worker = world.worker(callback, spin)
        at_stop(worker.stop)
        worker.run()

    answer.drain()
    with peer(serve, cores) as stop:
        route, work = world.route(), world.work()
        route.signal()
        answer.wait(LIMIT)
        for _ in range(samples):
            if spin:
                _busy(SPIN / 4)
            else:
                time.sleep(PACE)
                while not work.is_idle(VP):
                    time.sleep(PACE)
            notes.store(0, 0)
            begun = now()
            route.signal()
            while spin and not notes.load(0):
                pass
            answer.wait(LIMIT)
            spans.append(notes.load(0) - begun)
        stop()
    spans.sort()
    return float(spans[len(spans) // 2]), float(spans[len(spans) * 99 // 100])


def _busy(seconds: float) -> None:
    until = now() + int(seconds * 1e9)
    while now() < until:
        pass


def delivered(world: World, cores: tuple[int, int], batches: int) -> float:
    """One process signals all channels, another runs their callbacks; the next batch when all have run.

    No signal meets a bit that is still set, so each is one callback. ns per callback.
    """
    notes, last = world.notes, world.relids[-1]

    def serve() -> None:
        def callback(relid: int) -> None:
            if relid == last:
                notes.add(0, 1)

        worker = world.worker(callback)
        at_stop(worker.stop)
        worker.run()

    notes.store(0, 0)
    work = world.work()
    before = work.statistics(VP)["callbacks"]
    with peer(serve, cores) as stop:
        sender = world.sender()
        routes = world.routes(sender)
        begun = 0
        for batch in range(-1, batches):
            if batch == 0:
                begun = now()
            sender.signal_many(routes)
            while notes.load(0) < batch + 2:
                pass
            # The last relid may have run in an earlier pass than some others: the counter decides.
            while work.statistics(VP)["callbacks"] - before < (batch + 2) * len(routes):
                pass
        spent = now() - begun
        stop()
    return spent / batches / len(routes)


def callbacks(world: World, core: int, turns: int) -> float:
    """signal_many, then dispatch to Python callbacks, in one process: ns per callback."""

    def callback(_relid: int) -> None:
        return None

    with pinned(core):
        sender, dispatch = world.sender(), world.worker(callback).dispatch
        routes, signal_many = world.routes(sender), sender.signal_many
        signal_many(routes)
        dispatch()
        begun = now()
        for _ in range(turns):
            signal_many(routes)
            dispatch()
        return (now() - begun) / turns / len(routes)


def ids(world: World, core: int, turns: int) -> float:
    """signal_many, then take() of the same page: ns per id."""
    with pinned(core):
        sender, take = world.sender(), native.EventFlags(world.events).take
        routes, signal_many = world.routes(sender), sender.signal_many
        signal_many(routes)
        take()
        begun = now()
        for _ in range(turns):
            signal_many(routes)
            take()
        return (now() - begun) / turns / len(routes)


def signal_one(world: World, core: int, turns: int) -> float:
    """signal() of one channel while its VP is busy: ns per signal."""
    with pinned(core):
        send = world.route().signal
        send()
        begun = now()
        for _ in range(turns):
            send()
        spent = now() - begun
        native.EventFlags(world.events).take()
        return spent / turns


def serve_one(world: World, core: int, turns: int) -> float:
    """signal() of one channel and the dispatch that runs its callback: ns for both."""

    def callback(_relid: int) -> None:
        return None

    with pinned(core):
        send, dispatch = world.route().signal, world.worker(callback).dispatch
        send()
        dispatch()
        begun = now()
        for _ in range(turns):
            send()
            dispatch()
        return (now() - begun) / turns
