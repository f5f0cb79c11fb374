"""The benchmark runs and says what it promises; what it measures is nobody's test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SIGNAL = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "signal.py"
GOALS = {
    "ours.ping.one",
    "ours.ping.one.spin",
    "ours.ping.spin",
    "ours.delivered",
    "ours.callbacks.1",
    "ours.callbacks.64",
    "ours.callbacks.2047",
    "ours.ids.2047",
    "ours.signal.2047",
    "ours.serve.2047",
    "hooks.callbacks.2047",
    "hooks.one.2047",
}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the program as ./dev does."""
    return subprocess.run([sys.executable, SIGNAL, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.build
@pytest.mark.live
def test_the_benchmark_says_machine_rows_ratios_and_goals_as_json() -> None:
    """One quick round measures every row, or says why not, and judges each goal whose rows were measured."""
    done = bench("--quick", "--rounds", "1", "--json")

    assert done.returncode in (0, 2), done.stderr
    found = json.loads(done.stdout)
    rows = {row["key"]: row for row in found["rows"]}
    failed = [row for row in rows.values() if row["error"]]
    assert done.returncode == (2 if failed else 0)
    # A machine with one core cannot measure two; nothing else may be missing.
    assert all("needs a second core" in row["error"] for row in failed)
    assert {key for key, row in rows.items() if row["goal"]} == GOALS
    for row in rows.values():
        assert row["error"] or 0 < row["min"] <= row["median"] <= row["max"]
        assert row["error"] or row["rounds"] == 1
        assert row["against"] is None or row["against"] in rows
        if row["goal"] and not row["error"]:
            assert row["reached"] in (True, False)
    assert found["rounds"] == 1
    assert found["mutants"] == []
    assert {"cpu", "cores", "measured_on", "kernel", "python", "load"} <= set(found["machine"])


@pytest.mark.parametrize(
    "wrong", [["--rounds", "0"], ["--rounds", "many"], ["--cores", "1"], ["--cores", "0,9999"]]
)
def test_the_benchmark_refuses_arguments_by_name(wrong: list[str]) -> None:
    """What cannot be measured is said before anything is measured."""
    done = bench(*wrong)

    assert done.returncode == 2
    assert f"argument {wrong[0]}" in done.stderr
