"""The command line of `vmbusd lab`."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from vmbusd.abi import layout
from vmbusd.demo.arguments import seconds, whole

DESIGNS: Final = {"per-cpu": ("per_cpu",), "global": ("global",), "both": ("per_cpu", "global")}
REPLAYS: Final = ("1", "2", "all")
MAX_SLICES: Final = 1000
MAX_RATE: Final = 1_000_000.0
"""More moves a second than any machine makes: to be taken for a mistake."""


class Options(msgspec.Struct, frozen=True):
    """What to run. `designs`: keys of the result; `rate`: moves a second, None for all that can be; `replay`:
    one of REPLAYS instead of the storm."""

    designs: tuple[str, ...] = DESIGNS["both"]
    seconds: float = 20.0
    vps: int = layout.DEFAULT_VPS
    channels: int = 256
    rate: float | None = None
    slices: int = 5
    json: bool = False
    plot: Path | None = None
    replay: str | None = None


def _rate(text: str) -> float:
    value = float(text)
    if not 0 <= value <= MAX_RATE:
        raise argparse.ArgumentTypeError(f"{text} is not in 0..{MAX_RATE:.0f}")
    return value


_rate.__name__ = "rate"


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix != ".png":
        raise argparse.ArgumentTypeError(f"{text} does not end in .png")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: there is no directory {path.parent}")
    if path.exists() and not path.is_file():
        raise argparse.ArgumentTypeError(f"{text} is there and is no file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text}: no permission to write there")
    return path


def parser() -> argparse.ArgumentParser:
    """Of `vmbusd lab`; `prog` and help as a user sees them."""
    made = argparse.ArgumentParser(
        prog="vmbusd lab",
        description="Per-CPU lists and the global table under the same storm, side by side.",
    )
    made.add_argument("--design", choices=list(DESIGNS), default="both", help="what to run (default: both)")
    made.add_argument(
        "--seconds", type=seconds, default=20.0, help="storm time in all, shared by all slices (default: 20)"
    )
    made.add_argument("--vps", type=whole(1, layout.MAX_VPS), default=layout.DEFAULT_VPS)
    made.add_argument("--channels", type=whole(1, layout.MAX_RELID), default=256)
    made.add_argument(
        "--retarget-rate",
        type=_rate,
        metavar="R",
        help="moves per second over all channels; 0 moves none (default: as many as there can be)",
    )
    made.add_argument(
        "--slices", type=whole(1, MAX_SLICES), default=5, metavar="N", help="slices per design (default: 5)"
    )
    made.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    made.add_argument("--plot", type=_picture, metavar="FILE.png", help="draw the result")
    made.add_argument(
        "--replay",
        choices=REPLAYS,
        help="no storm: one of the two dropped interrupts, step by step, or all orders of the steps",
    )
    return made


def parse(argv: Sequence[str] | None) -> Options:
    """The options; ends with status 2 and a message that names the wrong one."""
    made = parser()
    given: dict[str, Any] = vars(made.parse_args(argv))
    storm = {key: value for key, value in given.items() if key not in ("replay", "json")}
    if given["replay"] and any(value != made.get_default(key) for key, value in storm.items()):
        made.error("--replay: only --json goes with it, nothing else of it can be chosen")
    designs, rate = DESIGNS[given["design"]], given["retarget_rate"]
    if rate and rate * given["seconds"] / len(designs) < 1:
        each = given["seconds"] / len(designs)
        text = f"{rate:g} a second is no move in the {each:g} s of a design; 0 moves none"
        made.error(f"argument --retarget-rate: {text}")
    return Options(
        designs=designs,
        seconds=given["seconds"],
        vps=given["vps"],
        channels=given["channels"],
        rate=rate,
        slices=given["slices"],
        json=given["json"],
        plot=given["plot"],
        replay=given["replay"],
    )
