"""What the lab says of a result, and when. A stand-in draws: matplotlib is there for who wants pictures."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from tests.unit.lab.test_result import CURVE, make_slice, sum_up
from vmbusd.demo.cell import DemoError
from vmbusd.lab import lookup, plot, run
from vmbusd.lab.slices import Slice

SLICES = [make_slice("per_cpu", dropped=3, missed=3), make_slice("global")]


def make_pyplot() -> Any:
    pyplot, left, right = MagicMock(), MagicMock(), MagicMock()
    left.get_ylim.return_value = (0.0, 1.0)
    pyplot.subplots.return_value = (MagicMock(), (left, right))
    return pyplot


def test_a_picture_that_cannot_be_written_is_said_with_its_file(tmp_path: Path) -> None:
    """And lets go of the figure."""
    pyplot = make_pyplot()
    figure, _ = pyplot.subplots.return_value
    figure.savefig.side_effect = OSError(28, "No space left on device")

    with pytest.raises(DemoError, match=r"--plot .*/a\.png: No space left on device"):
        plot.draw(pyplot, sum_up(*SLICES), SLICES, tmp_path / "a.png")

    pyplot.close.assert_called_once_with(figure)


def test_a_picture_that_cannot_be_drawn_takes_no_result_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The result is told first; the error and status 2 come after it."""

    def fail(_pyplot: Any, _result: dict[str, Any], _slices: list[Slice], file: Path) -> None:
        raise DemoError(f"--plot {file}: No space left on device")

    monkeypatch.setattr(plot, "load", make_pyplot)
    monkeypatch.setattr(plot, "draw", fail)
    monkeypatch.setattr(run, "_play", lambda _options: SLICES)
    monkeypatch.setattr(lookup, "measure", lambda _share: CURVE[0])
    monkeypatch.setattr(lookup, "curve", lambda: CURVE)
    monkeypatch.setattr(run, "in_order", lambda _name, scene: scene())
    with pytest.raises(DemoError, match="No space left"):
        run.main(["--json", "--plot", str(tmp_path / "a.png")])

    assert json.loads(capsys.readouterr().out)["per_cpu"]["dropped"] == 3


def test_designs_take_turns_in_coming_first() -> None:
    """What only the first slice pays for is not always the same design's."""
    assert run.in_turn(("a", "b"), 3) == ["a", "b", "b", "a", "a", "b"]
    assert run.in_turn(("a",), 2) == ["a", "a"]
