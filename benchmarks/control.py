"""What the control plane costs, against echoes that do nothing: `./dev bench control`.

Read benchmarks/README.md for what each row measures.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from os.path import dirname, realpath
from pathlib import Path
from typing import Any

# This folder must not be on the import path: its `signal.py` would be taken for the standard library's.
_HERE = dirname(realpath(__file__))
sys.path[:] = [dirname(_HERE), *(path for path in sys.path if realpath(path) != _HERE)]

from benchmarks import _control  # noqa: E402
from benchmarks._control import Guest  # noqa: E402
from benchmarks._floors import compiled, machine  # noqa: E402
from benchmarks._peer import BenchError  # noqa: E402
from benchmarks._report import Goal, Row, as_json, show  # noqa: E402
from benchmarks._suite import Cores, cores_of, rounds_of  # noqa: E402

ROUNDS = 9
QUICK_ROUNDS = 2
CLIENTS = (1, 64)
TURNS = {1: 2000, 64: 150}
FEW, MANY, FULL = 64, 2047, 8
"""Channels of one partition, and how many partitions are full at the end."""
SECOND = 1e9
TITLES = {
    "c": "C: an epoll echo",
    "uvloop": "uvloop: an echo",
    "ours": "ours: the daemon, its devices answering inside it",
}
REQUEST, CHANNEL = "ns per request", "ns per channel"


def rows() -> dict[str, Row]:
    """Every row, empty."""
    found = []
    for clients in CLIENTS:
        many = f"{clients} client{'s' * (clients > 1)}"
        found += [
            Row(f"c.echo.{clients}", f"echo, {many}", REQUEST),
            Row(f"uvloop.echo.{clients}", f"echo, {many}", REQUEST),
            Row(
                f"ours.request.{clients}",
                f"GPADL_HEADER to GPADL_CREATED, {many}",
                REQUEST,
                f"uvloop.echo.{clients}",
                True,
                Goal(0.7 if clients == 1 else 0.3, rate=True),
            ),
            Row(f"uvloop.cpu.{clients}", f"echo, {many}, processor time of the server", REQUEST),
            Row(
                f"ours.cpu.{clients}",
                f"the same, {many}, processor time of the daemon",
                REQUEST,
                f"uvloop.cpu.{clients}",
                True,
            ),
        ]
    found += [
        Row("ours.bus", "the bus alone, GPADLs made and torn down", "ns per input", goal=Goal(most=1e4)),
        Row(f"ours.life.{FEW}", f"open + close of {FEW} channels", CHANNEL),
        Row(
            f"ours.life.{MANY}",
            f"open + close of {MANY} channels",
            CHANNEL,
            f"ours.life.{FEW}",
            goal=Goal(1.5),
        ),
        Row("ours.all", f"open + close of {MANY} channels, in all", "ns", goal=Goal(most=3 * SECOND)),
        Row("ours.idle", f"memory of the daemon, {FULL} x {MANY} channels offered", "MiB"),
        Row("ours.full", f"memory of the daemon, {FULL} x {MANY} channels open", "MiB", "ours.idle"),
        Row(
            "ours.life.full",
            f"open + close of {MANY} channels, {FULL - 1} x {MANY} open beside them",
            CHANNEL,
            f"ours.life.{MANY}",
        ),
    ]
    order = list(TITLES)
    return {row.key: row for row in sorted(found, key=lambda row: order.index(row.group))}


class Suite:
    """All measurements; `less` divides the turns. A failure is told in the rows it keeps from running."""

    def __init__(self, program: Path, folder: Path, cores: Cores, less: int) -> None:
        self.program = program
        self.folder = folder
        self.server_core, self.load_core = cores
        self.less = less
        self.rows = rows()

    def take(self, key: str, run: Callable[[], float]) -> None:
        """One value of a row, unless it failed before."""
        self.rows[key].take(run, BenchError, OSError)

    def requests(self, rounds: int) -> None:
        """The three servers beside each other, loaded in turn."""
        core = self.server_core
        c_path, uv_path, directory = (self.folder / name for name in ("c", "uvloop", "daemon"))
        with contextlib.ExitStack() as stack:
            stack.enter_context(_control.server(self.program, "serve", str(core), c_path))
            uvloop = stack.enter_context(_control.server(*_control.python("echo", uv_path, core)))
            daemon = _control.python("daemon", directory, core, max(CLIENTS), 1)
            ours = stack.enter_context(_control.server(*daemon))
            echoes = {"c": c_path, "uvloop": uv_path}
            fds = {
                name: [stack.enter_context(sock).fileno() for sock in _control.connected(path, max(CLIENTS))]
                for name, path in echoes.items()
            }
            guests = [Guest(directory, f"p{number}", 1) for number in range(max(CLIENTS))]
            for guest in guests:
                stack.enter_context(guest.link)
            for _ in range(rounds):
                for clients in CLIENTS:
                    self.take(f"c.echo.{clients}", self._load(fds["c"][:clients], clients))
                    with self._processor(f"uvloop.cpu.{clients}", uvloop, clients):
                        self.take(f"uvloop.echo.{clients}", self._load(fds["uvloop"][:clients], clients))
                    taken = [guest.link.fileno() for guest in guests[:clients]]
                    with self._processor(f"ours.cpu.{clients}", ours, clients):
                        self.take(f"ours.request.{clients}", self._load(taken, clients))
                    for guest in guests[:clients]:
                        guest.forget(self._turns(clients))

    @contextlib.contextmanager
    def _processor(self, key: str, pid: int, clients: int) -> Iterator[None]:
        """What the server itself costs for a request, which other work on the cores changes less."""
        before = _control.processor_time(pid)
        yield
        spent = _control.processor_time(pid) - before
        self.take(key, lambda: spent / self._turns(clients) / clients)

    def _load(self, fds: list[int], clients: int) -> Callable[[], float]:
        packet = _control.request(1)
        return lambda: _control.load(self.program, self.load_core, self._turns(clients), fds, packet)

    def _turns(self, clients: int) -> int:
        return max(TURNS[clients] // self.less, 10)

    def lives(self, rounds: int) -> None:
        """Many channels, in one partition and then in eight."""
        directory = self.folder / "many"
        with contextlib.ExitStack() as stack:
            command = _control.python("daemon", directory, self.server_core, FULL, MANY)
            pid = stack.enter_context(_control.server(*command))
            guests = [Guest(directory, f"p{number}", MANY) for number in range(FULL)]
            for guest in guests:
                stack.enter_context(guest.link)
            self.take("ours.idle", lambda: _control.resident(pid))
            first = guests[0]
            for _ in range(rounds):
                self.take("ours.bus", lambda: _control.bus_alone(20_000 // self.less))
                self.take(f"ours.life.{FEW}", lambda: first.life(FEW))
                self.take(f"ours.life.{MANY}", lambda: first.life(MANY))
                self.take("ours.all", lambda: self.rows[f"ours.life.{MANY}"].values[-1] * MANY)
            for guest in guests:
                guest.open(MANY)
            self.take("ours.full", lambda: _control.resident(pid))
            first.close(MANY)
            for _ in range(rounds):
                self.take("ours.life.full", lambda: first.life(MANY))


def main() -> int:
    """Returns the exit status: 0, or 2 when a measurement could not run."""
    parser = argparse.ArgumentParser(prog="./dev bench control", description="What the control plane costs.")
    parser.add_argument("--rounds", type=rounds_of, help=f"default {ROUNDS}, with --quick {QUICK_ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the turns: a look, no result")
    parser.add_argument("--cores", type=cores_of, default="", metavar="A,B", help="server, load")
    parser.add_argument("--json", action="store_true", help="one object instead of the table")
    options = parser.parse_args()
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    begun = time.monotonic()
    head: dict[str, Any] = {"benchmark": "control", "machine": machine(options.cores)}
    with compiled("echo.c") as built, tempfile.TemporaryDirectory(prefix="vmbusd-bench-") as folder:
        if built.program is None:
            print(f"bench: {built.reason}", file=sys.stderr)
            return 2
        suite = Suite(built.program, Path(folder), options.cores, 10 if options.quick else 1)
        suite.requests(rounds)
        suite.lives(rounds)
    head |= {"rounds": rounds, "quick": options.quick, "seconds": time.monotonic() - begun}
    if options.json:
        print(as_json(suite.rows, head))
    else:
        show(suite.rows, head, TITLES)
    return 2 if any(row.error for row in suite.rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
