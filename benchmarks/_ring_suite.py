"""The measurements of the ring benchmark, in the order of each round, and what is to be reached.

What is compared stands close together in a round. A measurement that fails is not tried again; its rows say
why, and the exit status is 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import _packages, _rings
from benchmarks._floors import Floors
from benchmarks._peer import BenchError
from benchmarks._report import Goal, Row
from benchmarks._streams import Pair, timed
from benchmarks._suite import Cores
from benchmarks._world import World

SIZES = (16, 64, 256, 1500, 4096, 16384, 65536)
SMALL, MIDDLE, LARGE = (16, 64, 256), 1500, (4096, 16384, 65536)
# Nanoseconds of each stream, by the guesses below; and packets of which no stream has fewer.
SPAN = 40e6
LEAST = 64
TRIP = 64
TRIPS = 4000
WOKEN_TRIPS = 1000
RECEIVED = 1_000_000
PACKET, ROUND_TRIP = "ns per packet", "ns there and back"
TITLES = {
    "c": "C, two processes that look",
    "python": "what Python offers",
    "ours": "ours",
    "trip": f"request and completion, {TRIP} bytes",
    "reach": "what is to be reached",
}


@dataclass(frozen=True)
class Stream:
    """One contender. `packet` and `byte` guess its ns, which decides how many packets are measured."""

    key: str
    label: str
    packet: float
    byte: float
    pair: Callable[[int, int], Pair] | None = None


STREAMS = (
    Stream("c.copy", "memcpy", 10, 0.1),
    Stream("c.single", "C core, single", 60, 0.1),
    Stream("c.batch", "C core, batch", 15, 0.1),
    Stream("c.dpdk", "DPDK", 80, 0.1),
    Stream("ours.single", "single: send, receive_into", 80, 0.1, _rings.single),
    Stream("ours.batch", "batch: send_many, get_many_into", 15, 0.1, _rings.batch),
    Stream("ours.objects", "batch, a bytes object each", 60, 0.2, _rings.objects),
    Stream("python.zeromq", "pyzmq PUSH, PULL", 1500, 0.3, _packages.zeromq),
    Stream("python.pipe", "multiprocessing.Pipe", 3000, 0.3, _packages.pipe),
    Stream("python.iceoryx", "iceoryx2", 4000, 0.1, _packages.iceoryx),
)


class Suite:
    """All measurements: `cores` of the sender and the receiver, `less` divides the packets."""

    def __init__(self, floors: Floors, dpdk: Floors, cores: Cores, less: int) -> None:
        self.floors = floors
        self.dpdk = dpdk
        self.cores = cores
        self.less = less
        self.worlds = (World(), World())
        self.measures: list[tuple[Row, Callable[[], float]]] = []
        for size in SIZES:
            for stream in STREAMS:
                self._stream(stream, size)
        self._trips()
        blocks = Row("ours.blocks", "blocks allocated by 10^6 receive_into", "blocks", goal=Goal(most=0))
        self.measures.append((blocks, lambda: _rings.allocated(cores[1], RECEIVED // less)))
        self.rows = {row.key: row for group in TITLES for row, _ in self.measures if row.group == group}
        self._goals()
        if cores[0] == cores[1]:
            for row, _ in self.measures:
                row.error = "needs a second core"

    def _stream(self, stream: Stream, size: int) -> None:
        packets = _rings.batch_of(size)
        guess = SPAN / self.less / (stream.packet + stream.byte * size)
        count = max(LEAST, int(guess) // packets) * packets if packets > 1 else max(LEAST, int(guess))
        row = Row(f"{stream.key}.{size}", f"{stream.label}, {size} bytes", PACKET)
        self.measures.append((row, self._run(stream, size, count)))

    def _run(self, stream: Stream, size: int, count: int) -> Callable[[], float]:
        if stream.pair is None:
            way = stream.key.partition(".")[2]
            floors = self.dpdk if way == "dpdk" else self.floors
            return lambda: floors.run(way, size, count, *self.cores)
        pair = stream.pair
        return lambda: timed(pair(size, count), self.cores, count)

    def _trips(self) -> None:
        few, many = WOKEN_TRIPS // self.less, TRIPS // self.less

        def add(key: str, label: str, run: Callable[[], float]) -> None:
            self.measures.append((Row(f"trip.{key}", label, ROUND_TRIP), run))

        def pair(key: str, label: str, of: Callable[[int, int], Pair], count: int) -> None:
            add(key, label, lambda: timed(of(TRIP, count), self.cores, count))

        add("c", "C core, both look", lambda: self.floors.run("trip", TRIP, many, *self.cores))
        pair("ours", "ours, both look", _rings.trips, many)
        pair("iceoryx", "iceoryx2, both look", _packages.iceoryx_trips, few)
        add("woken", "ours, both sleep", lambda: _rings.woken_trips(self.worlds, self.cores, TRIP, few))
        pair("zeromq", "pyzmq PAIR, both sleep", _packages.zeromq_trips, few)
        pair("pipe", "multiprocessing.Pipe, both sleep", _packages.pipe_trips, few)

    def _goals(self) -> None:
        """Rows that show the values of others, each beside what it is compared with."""
        for size in SMALL:
            self._goal("batch", size, "c.dpdk", 3)
            self._goal("batch", size, "python.zeromq", 12)
            self._goal("single", size, "c.dpdk", 0.9)
        self._goal("batch", MIDDLE, "c.dpdk", 1.3)
        for size in LARGE:
            self._goal("single", size, "c.single", 0.8)
            self._goal("batch", size, "c.batch", 0.6)

    def _goal(self, form: str, size: int, against: str, times: float) -> None:
        own = self.rows[f"ours.{form}.{size}"]
        goal = Goal(times, rate=True)
        key = f"reach.{form}.{size}.{against}"
        other = f"{against}.{size}"
        self.rows[key] = Row(key, f"{form}, {size} bytes", own.unit, other, True, goal, own.values)

    def round(self) -> None:
        """Each measurement once. What failed before is left out."""
        for row, run in self.measures:
            if row.error:
                continue
            try:
                row.values.append(run())
            except (BenchError, OSError) as error:
                row.error = str(error)
                row.values.clear()
