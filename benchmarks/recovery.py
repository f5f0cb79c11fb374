"""What a restart, a death and the journal cost: `./dev bench recovery`.

Read benchmarks/README.md for what each row measures.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from os.path import dirname, realpath
from pathlib import Path
from typing import Any

# This folder must not be on the import path: its `signal.py` would be taken for the standard library's.
_HERE = dirname(realpath(__file__))
sys.path[:] = [dirname(_HERE), *(path for path in sys.path if realpath(path) != _HERE)]

from benchmarks import _recovery, _saved  # noqa: E402
from benchmarks._floors import machine  # noqa: E402
from benchmarks._peer import BenchError  # noqa: E402
from benchmarks._report import Goal, Row, as_json, show  # noqa: E402
from benchmarks._suite import cores_of, rounds_of  # noqa: E402
from vmbusd.abi.errors import VmbusError  # noqa: E402
from vmbusd.bus import saved  # noqa: E402

ROUNDS = 20
QUICK_ROUNDS = 2
FEW, MANY = 64, 2047
BESIDE_IMPORT = 250
"""ms that a restart may take beside its imports."""
MOST_SAVE = 10
"""ms that every request waits while a snapshot is made of the fullest partition."""
MOST_RESTORE = 50
"""ms of a restart that making the bus may take."""
TITLES = {"floor": "what nobody can do without", "ours": "ours"}


def rows() -> dict[str, Row]:
    """Every row, empty."""
    found = [
        Row("floor.import", "exec, and the daemon's imports", "ms"),
        Row("floor.gap", "largest gap of a 1 kHz signaller in 2 s", "ms"),
        Row("floor.polite", "p99 of a request, alone", "us"),
        *(
            row
            for count in (FEW, MANY)
            for row in (
                Row(
                    f"ours.start.{count}",
                    f"exec to serving, {count} open channels",
                    "ms",
                    "floor.import",
                ),
                Row(
                    f"ours.beside.{count}",
                    f"of that, beside the imports of its round, {count}",
                    "ms",
                    goal=Goal(most=BESIDE_IMPORT),
                ),
            )
        ),
        Row("ours.gap", "largest gap with a kill and a restart in it", "ms", "floor.gap", goal=Goal(1.5)),
        Row("ours.orphan", "largest gap with the death of the worker in it", "ms", "floor.gap"),
        Row("ours.polite", "p99 of a request beside a flooding guest", "us", "floor.polite", goal=Goal(3)),
        Row("ours.save", f"the bus to bytes, {MANY} open channels", "ms", goal=Goal(most=MOST_SAVE)),
        Row("ours.restore", f"bytes to the bus, {MANY} open channels", "ms", goal=Goal(most=MOST_RESTORE)),
        Row(f"ours.journal.{FEW}", f"journal, {FEW} channels", "ns per message"),
        Row(f"ours.journal.{MANY}", f"journal, {MANY} channels", "ns per message", f"ours.journal.{FEW}"),
    ]
    return {row.key: row for row in found}


class Suite:
    """All measurements; a failure is told in the rows it keeps from running."""

    def __init__(self, folder: Path, rounds: int, less: int) -> None:
        self.folder = folder
        self.rounds = rounds
        self.less = less
        self.rows = rows()

    def take(self, key: str, run: Callable[[], float]) -> None:
        """One value of a row, unless it failed before."""
        self.rows[key].take(run, BenchError, VmbusError, OSError)

    def starts(self) -> None:
        """Kill and start again, with few and with many channels open, beside imports alone."""
        with contextlib.ExitStack() as stack:
            daemons = {count: stack.enter_context(_recovery.open_channels(count)) for count in (FEW, MANY)}
            for _ in range(self.rounds):
                for daemon in daemons.values():
                    # Who comes back takes time of the cores, which is nobody's import.
                    _recovery.wait_until(daemon.all_are_back, "every link to be back")
                self.take("floor.import", _recovery.imported)
                for count, daemon in daemons.items():
                    self._start(count, daemon)

    def _start(self, count: int, daemon: _recovery.Daemon) -> None:
        self.take(f"ours.start.{count}", lambda: _recovery.restarted(daemon))
        start, floor = self.rows[f"ours.start.{count}"], self.rows["floor.import"]
        if start.values and floor.values:
            self.take(f"ours.beside.{count}", lambda: start.values[-1] - floor.values[-1])

    def gaps(self) -> None:
        """Windows with and without a kill, in turn."""
        with _recovery.ticking() as scene:
            for _ in range(self.rounds):
                self.take("floor.gap", scene.quiet)
                self.take("ours.gap", scene.killed)
                self.take("ours.orphan", scene.orphaned)

    def politeness(self) -> None:
        """The same requests alone and beside a flood, in turn."""
        asks = _recovery.ASKS // self.less
        with _recovery.polite() as (daemon, guest):
            for _ in range(max(self.rounds // 4, 1)):
                self.take("floor.polite", lambda: _recovery.asked(guest, asks))
                with _recovery.child("flood", str(daemon.directory), "flood"):
                    self.take("ours.polite", lambda: _recovery.asked(guest, asks))

    def saves(self) -> None:
        """The fullest bus saved and made again."""
        bus = _saved.open_bus(MANY)
        data = saved.encode(bus.save())
        for _ in range(self.rounds):
            self.take("ours.save", lambda: _saved.save_cost(bus))
            self.take("ours.restore", lambda: _saved.restore_cost(data))

    def journals(self) -> None:
        """What keeping one message costs, whatever the partition holds."""
        made = {count: _recovery.Journalled(self.folder, count) for count in (FEW, MANY)}
        for _ in range(self.rounds):
            for count, journalled in made.items():
                self.take(f"ours.journal.{count}", journalled.cost)
        for journalled in made.values():
            journalled.close()


def main() -> int:
    """Returns the exit status: 0, or 2 when a measurement could not run."""
    parser = argparse.ArgumentParser(
        prog="./dev bench recovery", description="What restarts and deaths cost."
    )
    parser.add_argument("--rounds", type=rounds_of, help=f"default {ROUNDS}, with --quick {QUICK_ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the turns: a look, no result")
    parser.add_argument("--json", action="store_true", help="one object instead of the table")
    options = parser.parse_args()
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    begun = time.monotonic()
    head: dict[str, Any] = {"benchmark": "recovery", "machine": machine(cores_of(""))}
    with tempfile.TemporaryDirectory(prefix="vmbusd-bench-") as folder:
        suite = Suite(Path(folder), rounds, 10 if options.quick else 1)
        for part in (suite.saves, suite.journals, suite.starts, suite.gaps, suite.politeness):
            part()
    head |= {"rounds": rounds, "quick": options.quick, "seconds": time.monotonic() - begun}
    if options.json:
        print(as_json(suite.rows, head))
    else:
        show(suite.rows, head, TITLES)
    return 2 if any(row.error for row in suite.rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
