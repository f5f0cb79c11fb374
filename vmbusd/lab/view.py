"""The lab's result as tables; rich is imported only here."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from vmbusd.lab.result import NAMES
from vmbusd.lab.slices import Slice

Format = Callable[[Any], str]


def _count(value: int) -> str:
    return f"{value:,}"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value * 1000:,.1f} ms"


def _ns(value: float) -> str:
    return f"{value:,.1f}"


def _per_move(value: float | None) -> str:
    return "no moves" if value is None else f"{value:,.2f}"


ROWS: Final[dict[str, tuple[str, Format]]] = {
    "dropped": ("dropped, all slices", _count),
    "drops_per_move": ("dropped per move", _per_move),
    "hung": ("channels hung, all slices", _count),
    "first_drop_seconds": ("time to first drop, median", _seconds),
    "signals": ("signals, median slice", _count),
    "callbacks": ("callbacks, median slice", _count),
    "moves": ("moves, median slice", _count),
    "lookup_ns": ("lookup, ns", _ns),
    "table_bytes": ("bytes of what is looked up in", _count),
}


def slice_line(number: int, of: int, one: Slice) -> str:
    """What is said when a slice has ended."""
    return (
        f"{number:3}/{of}  {NAMES[one.design]:13}  {one.callbacks:>11,} callbacks  {one.moves:>7,} moves"
        f"  {one.dropped:>9,} dropped  {one.hung:>5,} hung"
    )


def summary(result: Mapping[str, Any]) -> None:
    """The closing tables and the verdict."""
    from rich.console import Console
    from rich.table import Table

    designs = [design for design in NAMES if design in result]
    table = Table(title="vmbusd lab")
    table.add_column("", style="bold", no_wrap=True)
    for design in designs:
        table.add_column(NAMES[design], justify="right", no_wrap=True)
    for key, (label, text) in ROWS.items():
        table.add_row(label, *(text(result[design][key]) for design in designs))
    lookups = Table(title="lookup, ns, by channels")
    lookups.add_column("", style="bold", no_wrap=True)
    for one in result["lookup"]:
        lookups.add_column(str(one["channels"]), justify="right", no_wrap=True)
    for design in designs:
        lookups.add_row(NAMES[design], *(_ns(one[f"{design}_ns"]) for one in result["lookup"]))
    console = Console()
    console.print(table)
    console.print(lookups)
    console.print(result["verdict"])
