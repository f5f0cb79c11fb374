"""What packets through rings cost, beside C, DPDK's library and other packages: `./dev bench ring`.

Read benchmarks/README.md for what each row measures.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from os.path import dirname, realpath
from pathlib import Path
from typing import Any

# This folder must not be on the import path: its `signal.py` would be taken for the standard library's.
_HERE = dirname(realpath(__file__))
sys.path[:] = [dirname(_HERE), *(path for path in sys.path if realpath(path) != _HERE)]

from benchmarks import _ring_report  # noqa: E402
from benchmarks._floors import Floors, compiled, machine  # noqa: E402
from benchmarks._peer import BenchError  # noqa: E402
from benchmarks._report import as_json, show  # noqa: E402
from benchmarks._ring_suite import TITLES, Suite  # noqa: E402
from benchmarks._suite import cores_of, rounds_of  # noqa: E402

ROUNDS = 9
QUICK_ROUNDS = 2
QUICK = 10
# A machine is quiet below this load of one minute, and is looked at so often, in seconds.
QUIET = 0.5
LOOK = 2
DPDK = ("-DWITH_DPDK", "-l:librte_bus_vmbus.so.23", "-l:librte_eal.so.23")
NO_DPDK = "DPDK's library is needed: apt-get install librte-bus-vmbus23"


def await_quiet() -> None:
    """Until nobody else uses the machine."""
    while os.getloadavg()[0] >= QUIET:
        time.sleep(LOOK)


def main() -> int:
    """Returns the exit status: 0, or 2 when a measurement could not run."""
    parser = argparse.ArgumentParser(prog="./dev bench ring", description="What packets through rings cost.")
    parser.add_argument("--rounds", type=rounds_of, help=f"default {ROUNDS}, with --quick {QUICK_ROUNDS}")
    parser.add_argument("--quick", action="store_true", help=f"a {QUICK}th of the packets: a look, no result")
    parser.add_argument("--cores", type=cores_of, default="", metavar="A,B", help="sender, receiver")
    parser.add_argument("--json", action="store_true", help="one object instead of the tables")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw throughput against size")
    parser.add_argument("--await-quiet", action="store_true", help=f"begin when the load is below {QUIET}")
    options = parser.parse_args()
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    if options.await_quiet:
        await_quiet()
    begun = time.monotonic()
    head: dict[str, Any] = {"benchmark": "ring", "machine": machine(options.cores)}
    with compiled("rings.c") as floors, compiled("rings.c", *DPDK) as dpdk:
        if floors.program is not None and dpdk.program is None:
            dpdk = Floors(None, NO_DPDK)
        suite = Suite(floors, dpdk, options.cores, QUICK if options.quick else 1)
        for _ in range(rounds):
            suite.round()
    head |= {"rounds": rounds, "quick": options.quick, "seconds": time.monotonic() - begun}
    if options.plot:
        try:
            _ring_report.picture(suite.rows, options.plot)
        except (BenchError, OSError) as error:
            print(f"bench: {options.plot}: {error}", file=sys.stderr)
            return 2
    if options.json:
        print(as_json(suite.rows, head))
    else:
        _ring_report.sizes(suite.rows, head)
        streams = ("c", "python", "ours")
        shown = {key: row for key, row in suite.rows.items() if row.error or row.group not in streams}
        shown["ours.blocks"] = suite.rows["ours.blocks"]
        show(shown, head, TITLES, suite.rows)
    return 2 if any(row.error for row in suite.rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
