"""Rows, ratios and what they should reach: what the benchmarks print, as a table or as JSON.

A row is one cost in ns, a value per round. A ratio compares it with another row: the median over the rounds
of the two values measured in the same round, because what a machine does to its cores drifts in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Goal:
    """A ratio to be reached: at least so many times the other row's rate, or at most of its time. With `most`
    it is the row's own value that must not be more."""

    ratio: float = 0
    rate: bool = False
    most: float | None = None

    def __str__(self) -> str:
        if self.most is not None:
            return f"<= {self.most:,.0f}"
        return f">= {self.ratio:g}x rate" if self.rate else f"<= {self.ratio:g}x time"


@dataclass
class Row:
    """One thing measured. `against` is the key of the row that it is compared with."""

    key: str
    label: str
    unit: str
    against: str = ""
    rate: bool = False
    goal: Goal | None = None
    values: list[float] = field(default_factory=list)
    error: str = ""

    @property
    def group(self) -> str:
        return self.key.partition(".")[0]

    def take(self, run: Callable[[], float], *failures: type[Exception]) -> None:
        """One value more, unless one failed before; one of `failures` ends the row, others are raised."""
        if self.error:
            return
        try:
            self.values.append(run())
        except failures as error:
            self.error = str(error)
            self.values.clear()


def ratio(row: Row, rows: dict[str, Row]) -> float | None:
    """Median over the rounds of time divided by time, or of rate divided by rate; None without both."""
    other = rows.get(row.against)
    if other is None:
        return None
    pairs = zip(row.values, other.values, strict=False)
    found = [theirs / own if row.rate else own / theirs for own, theirs in pairs]
    return median(found) if found else None


def reached(row: Row, rows: dict[str, Row]) -> bool | None:
    """None for a row without a goal or without a ratio."""
    if row.goal is not None and row.goal.most is not None:
        return median(row.values) <= row.goal.most if row.values else None
    value = ratio(row, rows)
    if row.goal is None or value is None:
        return None
    return value >= row.goal.ratio if row.goal.rate else value <= row.goal.ratio


def as_json(rows: dict[str, Row], head: dict[str, Any]) -> str:
    """Everything in one object; ratios and goals beside the raw ns of each row."""

    def row_fields(row: Row) -> dict[str, Any]:
        values = row.values
        return {
            "key": row.key,
            "label": row.label,
            "unit": row.unit,
            "min": min(values, default=None),
            "median": median(values) if values else None,
            "max": max(values, default=None),
            "rounds": len(values),
            "against": row.against or None,
            "ratio": ratio(row, rows),
            "ratio_of": ("rate" if row.rate else "time") if row.against else None,
            "goal": str(row.goal) if row.goal else None,
            "reached": reached(row, rows),
            "error": row.error or None,
        }

    return json.dumps({**head, "rows": [row_fields(row) for row in rows.values()]}, indent=1)


def show(
    shown: dict[str, Row], head: dict[str, Any], titles: dict[str, str], rows: dict[str, Row] | None = None
) -> None:
    """The table for people. `titles` names the groups, which are the first part of the keys.

    `rows` is where to look for what a shown row is compared with, by default among the shown.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{head['benchmark']}: {head['rounds']} interleaved rounds, {head['seconds']:.0f} s")
    table.add_column("what", no_wrap=True)
    for name in ("min", "median", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("to", no_wrap=True)
    table.add_column("goal", no_wrap=True)
    rows = shown if rows is None else rows
    group = ""
    for row in shown.values():
        if row.group != group:
            group = row.group
            table.add_section()
            table.add_row(f"[bold]{titles[group]}[/bold]")
        if not row.values:
            table.add_row(f"  {row.label}", "", "", "", "", "", "", f"[red]not run: {row.error}[/red]")
            continue
        value, done = ratio(row, rows), reached(row, rows)
        verdict = "" if done is None else "[green]reached[/green]" if done else "[red]not reached[/red]"
        table.add_row(
            f"  {row.label}",
            *(number(figure) for figure in (min(row.values), median(row.values), max(row.values))),
            row.unit,
            "" if value is None else f"{value:.2f}x {'rate' if row.rate else 'time'}",
            rows[row.against].label if row.against else "",
            f"{row.goal} {verdict}" if row.goal else "",
        )
    machine = head["machine"]
    console = Console(width=None if Console().is_terminal else 180)
    console.print(table)
    console.print(
        f"{machine['cpu']}, {machine['cores']} cores (measured on {machine['measured_on']}),"
        f" {machine['kernel']}, {machine['python']}, load {machine['load']:.1f}",
        highlight=False,
    )


def number(value: float) -> str:
    """Three significant places are more than such a measurement has."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
