"""Numbers on the command line, with their range in the error."""

import argparse
from typing import Any


def whole(low: int, high: int) -> Any:
    """For argparse: a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not in {low}..{high}")
        return value

    parse.__name__ = "whole number"
    return parse


def seconds(text: str) -> float:
    """For argparse: how long something runs, at most a day."""
    value = float(text)
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text} is not in 0.1..86400")
    return value


seconds.__name__ = "seconds"
