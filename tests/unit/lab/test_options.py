"""The lab's command line: what is asked for, and the errors that name what is wrong."""

import os
from pathlib import Path

import pytest

from vmbusd.lab.options import Options, parse


def test_nothing_said_is_both_designs_as_fast_as_possible() -> None:
    """The defaults of the documentation."""
    assert parse([]) == Options(
        designs=("per_cpu", "global"),
        seconds=20.0,
        vps=4,
        channels=256,
        rate=None,
        slices=5,
        json=False,
        plot=None,
    )


def test_everything_can_be_said(tmp_path: Path) -> None:
    """Each option reaches its field; a rate of 0 is no missing rate."""
    picture = tmp_path / "a.png"
    words = "--design per-cpu --seconds 2 --vps 2 --channels 7 --retarget-rate 0 --slices 3 --json --plot"

    assert parse([*words.split(), str(picture)]) == Options(
        designs=("per_cpu",), seconds=2, vps=2, channels=7, rate=0, slices=3, json=True, plot=picture
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--design lists", "invalid choice: 'lists'"),
        ("--seconds 0", "argument --seconds: 0 is not in 0.1..86400"),
        ("--seconds soon", "argument --seconds: invalid seconds value: 'soon'"),
        ("--vps 65", "argument --vps: 65 is not in 1..64"),
        ("--channels 2048", "argument --channels: 2048 is not in 1..2047"),
        ("--retarget-rate -1", "argument --retarget-rate: -1 is not in 0..1000000"),
        ("--retarget-rate nan", "argument --retarget-rate: nan is not in 0..1000000"),
        (
            "--retarget-rate 1e-12",
            "argument --retarget-rate: 1e-12 a second is no move in the 10 s of a design; 0 moves none",
        ),
        ("--design global --retarget-rate 0.4 --seconds 2", "is no move in the 2 s of a design"),
        ("--slices 0", "argument --slices: 0 is not in 1..1000"),
        ("--plot a.jpg", "argument --plot: a.jpg does not end in .png"),
        ("--plot nowhere/a.png", "argument --plot: nowhere/a.png: there is no directory nowhere"),
        ("--fast", "unrecognized arguments: --fast"),
    ],
)
def test_a_wrong_option_is_named(words: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the option, the value and what it may be; the status is 2."""
    with pytest.raises(SystemExit) as ended:
        parse(words.split())

    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_a_picture_is_no_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said before the storm, not after it."""
    (tmp_path / "a.png").mkdir()
    with pytest.raises(SystemExit):
        parse(["--plot", str(tmp_path / "a.png")])

    assert f"argument --plot: {tmp_path}/a.png is there and is no file" in capsys.readouterr().err


@pytest.mark.parametrize("there", [False, True])
def test_a_picture_can_be_written(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file, if it is there, else its directory; said before the storm. (Root may write everything.)"""
    picture = tmp_path / "a.png"
    if there:
        picture.touch()
    asked: list[tuple[Path, int]] = []

    def refuse(path: Path, mode: int) -> bool:
        asked.append((path, mode))
        return False

    monkeypatch.setattr(os, "access", refuse)
    with pytest.raises(SystemExit):
        parse(["--plot", str(picture)])

    assert asked == [(picture if there else tmp_path, os.W_OK)]
    assert f"argument --plot: {picture}: no permission to write there" in capsys.readouterr().err
