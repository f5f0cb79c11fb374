"""The ring benchmark's results as a table of sizes, and as a picture."""

from __future__ import annotations

import importlib
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._peer import BenchError
from benchmarks._report import Row, number
from benchmarks._ring_suite import SIZES, STREAMS

STYLES = {"c": "--", "python": ":", "ours": "-"}


def sizes(rows: dict[str, Row], head: dict[str, Any]) -> None:
    """Medians in ns per packet, a line for each contender."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"ns per packet by payload, medians of {head['rounds']} interleaved rounds")
    table.add_column("contender", no_wrap=True)
    for size in SIZES:
        table.add_column(str(size), justify="right", no_wrap=True)
    group = ""
    for stream in STREAMS:
        if stream.key.partition(".")[0] != group:
            group = stream.key.partition(".")[0]
            table.add_section()
        of_size = [rows[f"{stream.key}.{size}"] for size in SIZES]
        table.add_row(stream.label, *(number(median(row.values)) if row.values else "" for row in of_size))
    Console(width=None if Console().is_terminal else 180).print(table)


def picture(rows: dict[str, Row], file: Path) -> None:
    """Throughput against payload, both in powers; raises BenchError without matplotlib."""
    try:
        matplotlib = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise BenchError(f"matplotlib: {error}") from error
    figure, axes = pyplot.subplots(figsize=(9, 6))
    for stream in STREAMS:
        measured = [(size, rows[f"{stream.key}.{size}"].values) for size in SIZES]
        points = [(size, size / median(values)) for size, values in measured if values]
        if points:
            style = STYLES[stream.key.partition(".")[0]]
            axes.plot(*zip(*points, strict=True), style, marker="o", markersize=4, label=stream.label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(SIZES, [str(size) for size in SIZES])
    axes.set_xlabel("bytes of payload")
    axes.set_ylabel("GB/s from one process to another")
    axes.grid(True, alpha=0.3)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
