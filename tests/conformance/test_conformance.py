"""The tree's own scripts, one test each, and scripts that are wrong on purpose."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance import coverage, reader
from tests.conformance.bus_world import RestoringBusWorld
from tests.conformance.live_world import Daemons, why_not_live
from tests.conformance.player import Player
from tests.conformance.run import SCRIPTS, play_live, play_on_bus, scripts_below
from tests.conformance.script import Failure, Wrong

WRONG = Path(__file__).resolve().parent / "wrong"
ROOT = Path(__file__).resolve().parent.parent.parent
PATHS = scripts_below(SCRIPTS)
_EXPECTED = re.compile(r"#= (.+)")


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", PATHS, ids=named)
def test_the_bus_does_what_the_script_says(path: Path) -> None:
    """Each script holds on the sans-IO bus, or on a guest's client."""
    play_on_bus(reader.read(path))


@pytest.mark.parametrize("path", PATHS, ids=named)
def test_a_bus_restored_at_every_input_does_the_same(path: Path) -> None:
    """Each script holds for a daemon that is saved and restored after every input (cases 201, 207-210)."""
    played = reader.read(path)
    if played.side != "guest" and played.only != "live":
        with RestoringBusWorld(played) as world:
            Player(played, world).play()


@pytest.mark.live
def test_a_live_daemon_does_what_the_scripts_say() -> None:
    """The same scripts, without time and without effects, hold for a daemon behind its sockets."""
    played = [one for one in map(reader.read, PATHS) if not why_not_live(one)]
    with Daemons() as daemons:
        for one in played:
            play_live(one, daemons)

    assert len(played) > len(PATHS) // 3


@pytest.mark.parametrize("path", scripts_below(WRONG), ids=named)
def test_a_wrong_script_is_told_where_it_is_wrong(path: Path) -> None:
    """The finding names file, line and column, and says what is expected and what came."""
    expected = [match[1] for match in _EXPECTED.finditer(path.read_text())]
    with pytest.raises((Wrong, Failure)) as found:
        play_on_bus(reader.read(path))

    told = str(found.value).removeprefix(f"{path}:")
    assert expected
    assert told.startswith(expected[0].split(": ")[0])
    for line in expected:
        assert line in told


def test_every_case_has_a_title() -> None:
    """The list is whole, and every script names cases of it."""
    cases = coverage.catalogue()

    assert list(cases) == list(range(1, 315))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("(case 054)", {54}),
        ("cases 145-147, 150 and 153)", {145, 146, 147, 150, 153}),
        ("in case 7 or a case of 123", set()),
    ],
)
def test_what_counts_as_citing_a_case(text: str, numbers: set[int]) -> None:
    """Three digits after the word, singly, in lists and in runs."""
    assert coverage.cited_numbers(text) == numbers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Somebody else's scripts: one that holds, one that fails, one that is wrong, one in no format."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "good.txt").write_text(
        "G> INITIATE_CONTACT version=5.3\nG< VERSION_RESPONSE supported=1\n"
    )
    (tmp_path / "fails").write_text("G> INITIATE_CONTACT version=5.3\nG< VERSION_RESPONSE supported=0\n")
    (tmp_path / "wrong.vmb").write_text("G> INITIATE_CONTACT verson=5.3\n")
    (tmp_path / "binary.vmb").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "README.md").write_text("no script\n")
    return tmp_path


def test_the_command_counts_what_it_ran(folder: Path) -> None:
    """Each file below a folder is a script, a bad one fails without stopping the others."""
    command = [sys.executable, "-m", "tests.conformance.run", "--bus", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == "1 passed, 3 failed"
    assert f"FAILED {folder}/fails:2:1: expected G< VERSION_RESPONSE supported=0" in done.stdout
    assert f"FAILED {folder}/wrong.vmb:1:21: unknown field 'verson'" in done.stdout


def test_a_folder_without_scripts_is_no_success(tmp_path: Path) -> None:
    """Nothing played is not everything passed."""
    command = [sys.executable, "-m", "tests.conformance.run", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 2
    assert "no scripts" in done.stderr
