"""What `vmbusctl status` and `vmbusctl fault list` print of faults."""

import argparse
import io
from typing import Any

import pytest
from rich.console import Console

from vmbusd.ctl import fault, tables

DROP: dict[str, Any] = {
    "id": 3,
    "kind": "drop-doorbell",
    "probability": 0.5,
    "fired": 12,
    "fired_by": {"vp 0": 5, "guest to host 1": 7},
}
DELAY: dict[str, Any] = {"id": 4, "kind": "delay-message", "messages": ["OPEN"], "seen": 31, "fired": 1}
NEVER: dict[str, Any] = {"id": 5, "kind": "kill", "step": "drain.before-done", "fired": 0, "fired_by": {}}


def status_of(rules: list[dict[str, Any]]) -> str:
    """The printed status of a partition with these faults and nothing else."""
    console = Console(file=io.StringIO(), width=160)
    partition: dict[str, Any] = {
        "name": "demo",
        "state": "running",
        "reason": None,
        "ram_size": 1 << 26,
        "channels": 0,
        "guest": None,
        "hosts": [],
        "workers": [],
        "warnings": [],
        "faults": {"armed": bool(rules), "rules": rules},
    }
    daemon = {"version": "1", "pid": 1, "instance": "x", "uptime": 1, "links": 0, "runtime_dir": "/"}
    tables.show_status(console, {"daemon": daemon, "partitions": [partition]})
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("rules", "line"),
    [
        ([NEVER], "1 fault armed (kill), fired 0 times: vmbusctl fault list demo"),
        (
            [DROP, DELAY, NEVER],
            "3 faults armed (drop-doorbell, delay-message, kill), fired 13 times: vmbusctl",
        ),
        ([DELAY, DELAY], "2 faults armed (delay-message), fired 2 times: vmbusctl fault list demo"),
        ([DELAY], "1 fault armed (delay-message), fired 1 time: vmbusctl fault list demo"),
    ],
)
def test_a_status_says_that_something_goes_wrong_on_purpose(rules: list[dict[str, Any]], line: str) -> None:
    """One line with how many, which, how often, and where there is more."""
    assert line in status_of(rules)


def test_without_faults_a_status_does_not_speak_of_them() -> None:
    """No line."""
    assert "fault" not in status_of([])


def test_a_list_shows_every_count() -> None:
    """Of the data path by whom it came to, of the daemon how many occasions it met."""
    console = Console(file=io.StringIO(), width=160)
    tables.show_faults(console, "demo", {"rules": [DROP, DELAY, NEVER]})
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "demo: 3 faults" in text
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert rows == [
        ["3", "drop-doorbell", "12", "vp 0: 5, guest to host 1: 7", "-", "probability=0.5"],
        ["4", "delay-message", "1", "-", "31", "messages=OPEN"],
        ["5", "kill", "0", "-", "-", "step=drain.before-done"],
    ]
    tables.show_faults(console, "demo", {"rules": [NEVER]})
    assert "demo: 1 fault\n" in "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


@pytest.mark.parametrize(("removed", "text"), [([4], "1 fault"), ([4, 5], "2 faults"), ([], "0 faults")])
def test_what_was_taken_back_is_counted_in_words(
    capsys: pytest.CaptureFixture[str], removed: list[int], text: str
) -> None:
    """One is one."""
    fault.show(argparse.Namespace(partition="demo", action="remove"), {"removed": removed})
    assert capsys.readouterr().out == f"partition demo: {text} taken back\n"
