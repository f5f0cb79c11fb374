"""`vmbusd lab`: per-CPU lists and the global table under the same storm, in alternating slices.

Exit status: 0 when the global table lost nothing, 1 when it did; others are `ending`'s. Options, JSON keys
and how each number is measured: docs/lab.md. `--replay` is `replay`.
"""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from vmbusd.demo.ending import in_order
from vmbusd.demo.processes import own_daemon
from vmbusd.lab import lookup, plot, view
from vmbusd.lab.options import Options, parse
from vmbusd.lab.replay import replay
from vmbusd.lab.result import status, summed
from vmbusd.lab.scene import scene
from vmbusd.lab.slices import Slice, play

PARTITION: Final = "lab"
HOSTS: Final = 2
"""Host processes, as in the demo."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the lab; returns the exit status."""
    options = parse(argv)
    if options.replay is not None:
        which = options.replay
        return in_order("vmbusd lab", lambda: replay(which, as_json=options.json))
    return in_order("vmbusd lab", lambda: _run(options))


def _run(options: Options) -> int:
    pyplot = plot.load() if options.plot else None
    if not options.json:
        print(
            f"opening {options.channels} channels for {options.vps} VPs; then {options.slices} slices of "
            f"{_slice_seconds(options):.2f} s per design (pid {os.getpid()})",
            flush=True,
        )
    slices = _play(options)
    # On an idle machine: the scene is over.
    share = max(1, options.channels // options.vps)
    result = summed(options, slices, lookup.measure(share), lookup.curve())
    # Told first: a picture that cannot be drawn takes nothing away.
    _tell(options, result)
    if options.plot is not None:
        plot.draw(pyplot, result, slices, options.plot)
    return status(result)


def _slice_seconds(options: Options) -> float:
    return options.seconds / (options.slices * len(options.designs))


def in_turn(designs: Sequence[str], slices: int) -> list[str]:
    """So many slices of each design: A B B A A B ..., so that neither is always the first on cold workers."""
    return [design for number in range(slices) for design in designs[:: -1 if number % 2 else 1]]


def _play(options: Options) -> list[Slice]:
    """All slices, the designs in turn."""
    order = in_turn(options.designs, options.slices)
    done: list[Slice] = []
    with (
        own_daemon(PARTITION, options.vps) as runtime_dir,
        scene(
            runtime_dir,
            PARTITION,
            vps=options.vps,
            channels=options.channels,
            hosts=min(HOSTS, options.channels),
            rate=options.rate,
        ) as running,
    ):
        for number, design in enumerate(order, 1):
            done.append(play(running, design, _slice_seconds(options)))
            if not options.json:
                print(view.slice_line(number, len(order), done[-1]), flush=True)
    return done


def _tell(options: Options, result: dict[str, Any]) -> None:
    if options.json:
        print(json.dumps(result, indent=2), flush=True)
    else:
        view.summary(result)
    for design in options.designs:
        if not result[design]["agrees"]:
            print(f"vmbusd lab: {design}: counters and oracle disagree, see its slices", file=sys.stderr)
