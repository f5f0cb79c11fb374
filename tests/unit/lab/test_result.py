"""How slices become a result, a verdict and an exit status; the picture's points; the price of a lookup."""

import importlib
from types import ModuleType
from typing import Any

import pytest

from vmbusd.demo.cell import DemoError
from vmbusd.lab import lookup, plot
from vmbusd.lab.lookup import Lookup
from vmbusd.lab.options import Options
from vmbusd.lab.result import status, summed
from vmbusd.lab.slices import Slice

CURVE = [Lookup(1, 2.0, 1.0), Lookup(2047, 9000.0, 1.0)]


def make_slice(design: str, **values: Any) -> Slice:
    given: dict[str, Any] = {
        "seconds": 1.0,
        "signals": 100,
        "callbacks": 50,
        "moves": 5,
        "dropped": 0,
        "missed": 0,
        "hung": 0,
        "lost": 0,
        "overlaps": 0,
        "unexplained": 0,
        "first_drop_seconds": None,
        "drops": [(0.0, 0), (1.0, values.get("dropped", 0))],
    }
    return Slice(design=design, **{**given, **values})


def sum_up(*slices: Slice, **options: Any) -> dict[str, Any]:
    return summed(Options(**options), slices, Lookup(64, 100.0, 1.5), CURVE)


def test_losses_are_added_and_speeds_are_medians() -> None:
    """dropped and hung of all slices; callbacks, signals, moves and first drop of the median one."""
    result = sum_up(
        make_slice("per_cpu", callbacks=10, dropped=1, missed=1, hung=1, lost=1, first_drop_seconds=0.1),
        make_slice("global", callbacks=9),
        make_slice("per_cpu", callbacks=30, dropped=7, missed=7, first_drop_seconds=0.3),
        make_slice("global", callbacks=8),
        make_slice("per_cpu", callbacks=20),
        make_slice("global", callbacks=7),
    )

    old, new = result["per_cpu"], result["global"]
    assert (old["dropped"], old["hung"], old["callbacks"], old["first_drop_seconds"]) == (8, 1, 20, 0.2)
    assert (new["dropped"], new["hung"], new["callbacks"], new["first_drop_seconds"]) == (0, 0, 8, None)
    assert [one["callbacks"] for one in old["slices"]] == [10, 30, 20]
    assert (old["table_bytes"], new["table_bytes"]) == ((4 + 256) * 64, 16384)
    assert (old["lookup_ns"], new["lookup_ns"]) == (100.0, 1.5)
    assert result["verdict"] == (
        "The per-CPU lists dropped 8 interrupts, 1 times a channel hung. The global table lost nothing."
    )
    assert status(result) == 0


def test_drops_are_counted_per_move() -> None:
    """Of all slices together; where nothing moved there is no such number."""
    result = sum_up(
        make_slice("per_cpu", moves=3, dropped=1, missed=1),
        make_slice("per_cpu", moves=1, dropped=4, missed=4),
        make_slice("global", moves=4),
    )

    assert (result["per_cpu"]["drops_per_move"], result["global"]["drops_per_move"]) == (1.25, 0.0)
    still = sum_up(make_slice("per_cpu", moves=0), make_slice("global", moves=0))
    assert still["per_cpu"]["drops_per_move"] is None


def test_without_moves_both_lose_nothing_and_it_is_said() -> None:
    """In words, for a reader of the table and of the JSON alike."""
    result = sum_up(make_slice("per_cpu", moves=0), make_slice("global", moves=0), rate=0.0)

    assert result["verdict"] == "No channel was moved. Both designs lost nothing."
    assert status(result) == 0


@pytest.mark.parametrize("wrong", ["dropped", "hung", "lost", "overlaps"])
def test_any_loss_of_the_global_table_is_a_failure(wrong: str) -> None:
    """Status 1, whichever counter tells."""
    result = sum_up(make_slice("per_cpu"), make_slice("global", **{wrong: 1}))

    assert status(result) == 1
    assert result["global"]["agrees"]
    assert "The global table dropped" in result["verdict"]


def test_less_than_nothing_dropped_is_a_failure_of_the_counters() -> None:
    """In the design with the table, which has no second count, as well."""
    result = sum_up(make_slice("per_cpu"), make_slice("global", dropped=-1))

    assert status(result) == 1
    assert "The global table: the counters and the oracle disagree." in result["verdict"]


@pytest.mark.parametrize("values", [{"dropped": 2, "missed": 1}, {"unexplained": 1, "hung": 1, "lost": 1}])
def test_counters_that_disagree_are_a_failure(values: dict[str, int]) -> None:
    """A drop that only one count knows, or a hung channel without a drop, is a mistake of the lab's."""
    result = sum_up(make_slice("per_cpu", **values), make_slice("global"))

    assert not result["per_cpu"]["agrees"]
    assert "the counters and the oracle disagree" in result["verdict"]
    assert status(result) == 1


def test_drops_over_time_join_the_slices_of_a_design() -> None:
    """Each slice goes on where the one before it ended."""
    slices = [
        make_slice("per_cpu", drops=[(0.0, 0), (1.0, 4)]),
        make_slice("global"),
        make_slice("per_cpu", drops=[(0.0, 0), (0.5, 1)]),
    ]

    assert plot.drops_over_time(slices, "per_cpu") == ([0.0, 0.0, 1.0, 1.0, 1.5], [0, 0, 4, 4, 5])
    assert plot.drops_over_time(slices, "global") == ([0.0, 0.0, 1.0], [0, 0, 0])


def test_a_missing_matplotlib_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is started."""

    def refuse(name: str) -> ModuleType:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(
        DemoError, match=r"--plot needs matplotlib \(pip install 'vmbusd\[plot\]'\): No module"
    ):
        plot.load()


def test_a_lookup_is_timed_in_both_structures() -> None:
    """With the channels that were asked for, each found at every turn."""
    one = lookup.measure(16)

    assert one.channels == 16
    assert one.per_cpu_ns > 0
    assert one.global_ns > 0
