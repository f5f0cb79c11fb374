"""The lab's picture: drops over time, and what a lookup costs; matplotlib is imported only here."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vmbusd.demo.cell import DemoError
from vmbusd.lab.result import NAMES
from vmbusd.lab.slices import Slice

COLOURS: Final = {"per_cpu": "#c0392b", "global": "#2471a3"}
SIZE_INCHES: Final = (10.0, 4.2)
DOTS_PER_INCH: Final = 110
GROUND: Final = 0.03
"""Share of the height below zero, so that a line at zero can be seen."""


def load() -> Any:
    """matplotlib's pyplot, drawing into files. Raises DemoError with what to install."""
    try:
        importlib.import_module("matplotlib").use("Agg")
        return importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise DemoError(f"--plot needs matplotlib (pip install 'vmbusd[plot]'): {error}") from error


def drops_over_time(slices: Sequence[Slice], design: str) -> tuple[list[float], list[int]]:
    """Seconds under this design and drops so far, its slices one after the other."""
    seconds, drops = [0.0], [0]
    for one in slices:
        if one.design == design:
            begun, before = seconds[-1], drops[-1]
            seconds += [begun + at for at, _ in one.drops]
            drops += [before + count for _, count in one.drops]
    return seconds, drops


def draw(pyplot: Any, result: Mapping[str, Any], slices: Sequence[Slice], file: Path) -> None:
    """Write the picture. Raises DemoError when the file cannot be written."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=SIZE_INCHES)
    channels = [one["channels"] for one in result["lookup"]]
    for design, name in NAMES.items():
        if design not in result:
            continue
        left.plot(*drops_over_time(slices, design), color=COLOURS[design], label=name)
        costs = [one[f"{design}_ns"] for one in result["lookup"]]
        right.plot(channels, costs, marker="o", color=COLOURS[design], label=name)
    left.set_title(f"interrupts dropped, {result['channels']} channels on {result['vps']} VPs", fontsize=10)
    left.set_xlabel("seconds of storm under the design")
    left.set_ylabel("dropped so far")
    left.set_ylim(bottom=-GROUND * left.get_ylim()[1])
    right.set_title("finding the channel of an interrupt", fontsize=10)
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.set_xticks(channels, [str(count) for count in channels])
    right.set_xlabel("channels of the VP")
    right.set_ylabel("ns per lookup")
    for axes in (left, right):
        axes.grid(True, alpha=0.3)
        axes.legend(fontsize="small")
    figure.tight_layout()
    try:
        figure.savefig(file, dpi=DOTS_PER_INCH, format="png")
    except OSError as error:
        raise DemoError(f"--plot {file}: {error.strerror}") from error
    finally:
        pyplot.close(figure)
