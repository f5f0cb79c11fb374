"""The measurements of the signal path, in the order in which each round takes them.

What is compared stands close together in a round. A measurement that fails is not tried again; its rows say
why, and the exit status is 2. A goal that is not reached does not change the exit status.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

from benchmarks import _others, _ours
from benchmarks._floors import Floors, compiled, machine
from benchmarks._peer import BenchError
from benchmarks._report import Goal, Row, as_json, show
from benchmarks._world import World
from vmbusd.abi import native

ROUNDS = 15
QUICK_ROUNDS = 3
# What --quick divides the turns of every measurement by.
QUICK = 10
# Milliseconds of each ping-pong, ours and the floors': both lose the same to other processes.
SPAN = 40
COUNTS = (1, 64, 2047)
TITLES = {
    "floor": "C, built from the same headers",
    "python": "what Python offers",
    "ours": "ours: bit, table, claim, journal and Python callback",
    "without": "C, built without the hooks of injected faults",
    "hooks": "the same with the hooks, unarmed",
}
WAY, ID, CALLBACK, ITEM = "ns one way", "ns per id", "ns per callback", "ns per item"

Cores = tuple[int, int]
Result = float | tuple[float, ...]


class Suite:
    """All measurements: `two` are the cores, `less` divides the turns."""

    def __init__(self, floors: Floors, bare: Floors, two: Cores, less: int) -> None:
        self.floors = floors
        self.bare = bare
        self.two = two
        self.one = (two[1], two[1])
        self.less = less
        # A tenth of it would be shorter than one turn of the other processes of a busy core.
        self.span = SPAN // 2 if less > 1 else SPAN
        self.worlds = {count: World(count) for count in COUNTS}
        self.pair = (World(), World())
        self.measures: list[tuple[tuple[Row, ...], Callable[[], Result]]] = []
        self._wakes("one", "one core", self.one, 5000, 500)
        self._wakes("two", "two cores", self.two, 500, 300)
        self._spins()
        self._streams()
        for count in COUNTS:
            self._drains(count, self._turns(200_000 // count))
        self._one_of_many()
        self._hooks()
        if two[0] == two[1]:
            for rows, _ in self.measures:
                for row in rows:
                    row.error = "needs a second core" if "two" in row.label else ""

    def _turns(self, turns: int) -> int:
        return max(turns // self.less, 2)

    def _add(
        self,
        key: str,
        label: str,
        unit: str,
        run: Callable[[], Result],
        against: str = "",
        goal: Goal | None = None,
        rate: bool = False,
    ) -> None:
        row = Row(key, label, unit, against, rate or (goal is not None and goal.rate), goal)
        self.measures.append(((row,), run))

    def _floor(self, key: str, label: str, unit: str, mode: str, *numbers: int) -> str:
        self._add(f"floor.{key}", label, unit, lambda: self.floors.run(mode, *numbers))
        return f"floor.{key}"

    def _wake(self, key: str, label: str, against: str, cores: Cores, samples: int, spin: float) -> None:
        rows = tuple(Row(f"ours.wake.{key}.{p}", f"{label}, {p}", WAY, against) for p in ("p50", "p99"))
        turns = self._turns(samples)
        self.measures.append((rows, lambda: _ours.wake(self.worlds[1], cores, turns, spin)))

    def _ping(self, cores: Cores, spin: float) -> Callable[[], Result]:
        return lambda: _ours.ping_pong(self.pair, cores, self.span / 1000, spin)

    def _wakes(self, key: str, where: str, cores: Cores, turns: int, slow: int) -> None:
        """Waiting that blocks: the semaphore in C, ours, and Python's other ways."""
        many, few = self._turns(turns), self._turns(slow)
        floor = self._floor(
            f"semaphore.{key}", f"semaphore ping-pong, {where}", WAY, "semaphore", *cores, self.span
        )
        goal = Goal(1.6) if key == "one" else None
        self._add(f"ours.ping.{key}", f"ping-pong, {where}", WAY, self._ping(cores, 0), floor, goal)
        if key == "one":
            spinning = self._ping(cores, _ours.SPIN)
            own = "ours.ping.one"
            self._add("ours.ping.one.spin", f"ping-pong, {where}, spin on", WAY, spinning, own, Goal(1.1))
        self._wake(key, f"wake to callback, {where}", floor, cores, 100, 0)
        for name, label, run, trips in (
            ("posix", "posix_ipc.Semaphore", _others.semaphores, many),
            ("event", "multiprocessing.Event", _others.events, few),
            ("simplequeue", "SimpleQueue", _others.simple_queues, few),
            ("queue", "Queue", _others.queues, few),
        ):
            call = _call(run, cores, trips)
            self._add(f"python.{name}.{key}", f"{label} ping-pong, {where}", WAY, call, floor)

    def _spins(self) -> None:
        """Waiting that spins first, on two cores."""
        floor = self._floor("line", "cache-line ping-pong, two cores", WAY, "line", *self.two, self.span)
        ping = self._ping(self.two, _ours.SPIN)
        self._add("ours.ping.spin", "ping-pong, two cores, spin", WAY, ping, floor, Goal(3))
        self._wake("spin", "wake to callback, two cores, spin", floor, self.two, 1000, _ours.SPIN)

    def _streams(self) -> None:
        """As much as goes through from one process to another."""
        simple = "python.simplequeue.stream"
        run = _call(_others.simple_queue_stream, self.two, self._turns(10000))
        self._add(simple, "SimpleQueue stream, two cores", ITEM, run)
        run = _call(_others.queue_stream, self.two, self._turns(5000))
        self._add("python.queue.stream", "Queue stream, two cores", ITEM, run, simple, rate=True)
        batches = self._turns(50)
        self._add(
            "ours.delivered",
            "callbacks, 2047 relids, two processes",
            CALLBACK,
            lambda: _ours.delivered(self.worlds[COUNTS[-1]], self.two, batches),
            simple,
            Goal(20, rate=True),
        )

    def _drains(self, count: int, turns: int) -> None:
        """Set all and drain all, in one process: callbacks with claims, and bare ids."""
        relids, core, world = f"{count} relid{'s' * (count > 1)}", self.one[0], self.worlds[count]
        floor = self._floor(
            f"callbacks.{count}", f"set + drain, {relids}", CALLBACK, "callbacks", core, count, turns
        )
        self._add(
            f"ours.callbacks.{count}",
            f"signal_many + dispatch, {relids}",
            CALLBACK,
            lambda: _ours.callbacks(world, core, turns),
            floor,
            Goal(0.2, rate=True),
        )
        floor = self._floor(f"ids.{count}", f"set + take, {relids}", ID, "ids", core, count, turns)
        self._add(
            f"ours.ids.{count}",
            f"signal_many + take, {relids}",
            ID,
            lambda: _ours.ids(world, core, turns),
            floor,
            # With few ids the cost is that of two calls from Python, not of the bitmap.
            Goal(0.45, rate=True) if count == COUNTS[-1] else None,
            rate=True,
        )
        if count == COUNTS[-1]:
            self._floor("take", f"fetch-or per word + take, {relids}", ID, "take", core, count, turns)

    def _one_of_many(self) -> None:
        """The cost of one channel must not know how many are open."""
        few, many = (self.worlds[count] for count in (COUNTS[0], COUNTS[-1]))
        turns, core = self._turns(50_000), self.one[0]
        for key, label, run in (
            ("signal", "signal()", _ours.signal_one),
            ("serve", "signal() + dispatch()", _ours.serve_one),
        ):
            self._add(f"ours.{key}.1", f"{label}, 1 open", "ns", _call(run, few, core, turns))
            against = f"ours.{key}.1"
            label = f"{label}, 2047 open"
            self._add(f"ours.{key}.2047", label, "ns", _call(run, many, core, turns), against, Goal(1.25))

    def _hooks(self) -> None:
        """The C loops with the hooks of injected faults compiled in and unarmed, against a build without.

        With one channel the two builds differ by a fifth, either way, as the compiler lays them out.
        """
        core, turns = self.one[0], self._turns(1_000_000)
        for count in (COUNTS[0], COUNTS[-1]):
            each = max(turns // count, 2)
            pairs = (("one", "vmb_signal + vmb_drain"), ("callbacks", "set + drain"))
            for mode, what in pairs:
                label = f"{what}, {count} open"
                key = f"without.{mode}.{count}"
                bare = _call(self.bare.run, mode, core, count, each)
                self._add(key, f"{label}, no hooks", CALLBACK, bare)
                hooked = _call(self.floors.run, mode, core, count, each)
                goal = Goal(0.97, rate=True) if count == COUNTS[-1] else None
                hooks = f"hooks.{mode}.{count}"
                self._add(hooks, f"{label}, unarmed", CALLBACK, hooked, key, goal, rate=True)

    def rows(self) -> dict[str, Row]:
        """By key, the groups one after the other."""
        rows = [row for measure, _ in self.measures for row in measure]
        return {row.key: row for group in TITLES for row in rows if row.group == group}

    def round(self) -> None:
        """Each measurement once. What failed before is left out."""
        for rows, run in self.measures:
            if rows[0].error:
                continue
            try:
                result = run()
            except (BenchError, OSError) as error:
                for row in rows:
                    row.error = str(error)
                    row.values.clear()
                continue
            for row, value in zip(rows, result if isinstance(result, tuple) else (result,), strict=True):
                row.values.append(value)


def _call(run: Callable[..., float], *arguments: object) -> Callable[[], float]:
    """The call itself, for later: a closure in a loop would see the loop's last turn."""
    return lambda: run(*arguments)


def cores_of(text: str) -> Cores:
    """What --cores asks for, else the first and the last core that this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    if not text:
        return allowed[0], allowed[-1]
    try:
        first, second = map(int, text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not two cores, as in 0,1") from error
    if not {first, second} <= set(allowed):
        raise argparse.ArgumentTypeError(f"{text}: this process may use the cores {allowed}")
    return first, second


def rounds_of(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rounds")
    return int(text)


def main() -> int:
    """Returns the exit status: 0, or 2 when a measurement could not run."""
    parser = argparse.ArgumentParser(prog="./dev bench signal", description="What the signal path costs.")
    parser.add_argument("--rounds", type=rounds_of, help=f"default {ROUNDS}, with --quick {QUICK_ROUNDS}")
    parser.add_argument("--quick", action="store_true", help=f"a {QUICK}th of the turns: a look, no result")
    parser.add_argument("--cores", type=cores_of, default="", metavar="A,B", help="default: first and last")
    parser.add_argument("--json", action="store_true", help="one object instead of the table")
    options = parser.parse_args()
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    begun = time.monotonic()
    head: dict[str, Any] = {
        "benchmark": "signal",
        "machine": machine(options.cores),
        "mutants": list(native.MUTANTS),
    }
    with compiled() as floors, compiled("floors.c", "-DVMB_NO_FAULTS") as bare:
        suite = Suite(floors, bare, options.cores, QUICK if options.quick else 1)
        for _ in range(rounds):
            suite.round()
    head |= {"rounds": rounds, "quick": options.quick, "seconds": time.monotonic() - begun}
    rows = suite.rows()
    if options.json:
        print(as_json(rows, head))
    else:
        show(rows, head, TITLES)
    return 2 if any(row.error for row in rows.values()) else 0
