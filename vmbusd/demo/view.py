"""What a person sees while the demo runs, and its closing summary; rich is imported only here."""

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vmbusd.demo.storm import MUST_BE_ZERO

if TYPE_CHECKING:
    from rich.table import Table


class Snapshot:
    """One moment of the storm, as the view shows it."""

    def __init__(
        self,
        elapsed: float,
        per_vp: Sequence[Mapping[str, int]],
        totals: Mapping[str, int],
        latency_us: Mapping[str, float | None],
        behind: int,
        hung: Sequence[int],
    ) -> None:
        self.elapsed = elapsed
        self.per_vp = per_vp
        self.totals = totals
        self.latency_us = latency_us
        self.behind = behind
        self.hung = hung


class View:
    """Shows snapshots on a terminal; elsewhere it shows nothing. A context manager."""

    def __init__(self, *, enabled: bool) -> None:
        self._live: Any = None
        self._before: Snapshot | None = None
        if enabled and sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(refresh_per_second=4, transient=True)

    def __enter__(self) -> "View":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, now: Snapshot) -> None:
        """Replace the picture."""
        if self._live is not None:
            self._live.update(_picture(now, self._before))
            self._before = now


def _rate(now: Mapping[str, int], before: Mapping[str, int] | None, key: str, seconds: float) -> str:
    if before is None or seconds <= 0:
        return "-"
    return f"{(now[key] - before[key]) / seconds:,.0f}"


def _picture(now: Snapshot, before: Snapshot | None) -> "Table":
    from rich.table import Table

    span = now.elapsed - before.elapsed if before else 0.0
    table = Table(title=f"vmbusd demo, {now.elapsed:.1f} s", caption=_caption(now), min_width=72)
    for name in ("VP", "callbacks/s", "off target/s", "left to owner/s", "sleeps/s", "spurious"):
        table.add_column(name, justify="right")
    for vp, counters in enumerate(now.per_vp):
        last = before.per_vp[vp] if before else None
        table.add_row(
            str(vp),
            *(
                _rate(counters, last, key, span)
                for key in ("callbacks", "off_target", "left_again", "sleeps")
            ),
            f"{counters['spurious']:,}",
        )
    return table


def _caption(now: Snapshot) -> str:
    latency = ", ".join(
        f"{name} {'-' if us is None else f'{us:,.1f}'}" for name, us in now.latency_us.items()
    )
    totals = now.totals
    hung = f"[bold red]hung {list(now.hung)}[/]" if now.hung else "hung 0"
    return (
        f"signals {totals['signals']:,}  0->1 {totals['transitions']:,}  posts {totals['posts']:,}  "
        f"retargets {totals['retargets']:,}\nlatency us: {latency}\n"
        f"in flight {now.behind}  {hung}  overlaps {totals['overlaps']}  stale {totals['stale']}"
    )


def summary(result: Mapping[str, Any]) -> None:
    """The closing table: what must be zero first."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="vmbusd demo", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for key in MUST_BE_ZERO:
        style = "green" if result[key] == 0 else "bold red"
        table.add_row(key, f"[{style}]{result[key]:,}[/]")
    table.add_section()
    for key in (
        *("packets", "signals", "transitions", "posts", "callbacks", "spurious", "retargets", "off_target"),
    ):
        table.add_row(key.replace("_", " "), f"{result[key]:,}")
    table.add_section()
    for name, value in result["latency_us"].items():
        table.add_row(f"latency {name}", "-" if value is None else f"{value:,.1f} us")
    table.add_section()
    for key in ("seconds", "vps", "channels", "hosts"):
        table.add_row(key, f"{result[key]:,}")
    Console().print(table)
