"""The lab end to end: lists drop, the table does not, without moves neither loses, nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.live.daemon import daemon_of, eventually, has_called, objects_of
from tests.live.test_demo import descendants
from vmbusd.abi import paths

ROOT = Path(__file__).resolve().parents[2]
LOSSES = ("dropped", "hung", "lost", "overlaps")


def run_lab(*arguments: str, timeout: float = 110) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of one lab."""
    done = subprocess.run(
        [sys.executable, "-m", "vmbusd", "lab", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def losses(design: dict[str, Any]) -> dict[str, int]:
    return {key: design[key] for key in LOSSES}


@pytest.mark.live
def test_the_lists_drop_interrupts_and_the_table_drops_none() -> None:
    """A short storm with moves shows it, and every count agrees with the cells (case 154)."""
    status, output, errors = run_lab("--json", "--seconds", "8", "--vps", "4", "--channels", "128")

    assert status == 0, errors
    result = json.loads(output)
    old, new = result["per_cpu"], result["global"]
    assert losses(new) == dict.fromkeys(LOSSES, 0), errors
    assert old["dropped"] > 0
    assert old["hung"] > 0
    assert old["overlaps"] == 0
    assert old["first_drop_seconds"] > 0
    assert new["first_drop_seconds"] is None
    assert all(one["agrees"] and one["callbacks"] > 0 for one in (*old["slices"], *new["slices"]))
    assert len(old["slices"]) == len(new["slices"]) == 5
    assert [one["channels"] for one in result["lookup"]] == [1, 16, 256, 2047]


@pytest.mark.live
def test_without_moves_neither_design_loses_anything() -> None:
    """The lists are right as long as no channel changes its VP; the output says so in words."""
    words = ("--seconds", "2", "--slices", "2", "--retarget-rate", "0")
    status, output, errors = run_lab("--json", *words)

    assert status == 0, errors
    result = json.loads(output)
    for design in ("per_cpu", "global"):
        assert losses(result[design]) == dict.fromkeys(LOSSES, 0), errors
        assert result[design]["callbacks"] > 0
        assert result[design]["moves"] == 0
    assert result["verdict"] == "No channel was moved. Both designs lost nothing."


@pytest.mark.live
def test_a_rate_is_kept() -> None:
    """Over all slices of a design together, how short each of them may be: no more than was asked for."""
    status, output, errors = run_lab("--json", "--seconds", "4", "--slices", "5", "--retarget-rate", "5")

    assert status == 0, errors
    result = json.loads(output)
    for design in ("per_cpu", "global"):
        slices = result[design]["slices"]
        # It runs a little longer than its slice, until the hosts have stopped.
        assert 0 < sum(one["moves"] for one in slices) <= 5 * sum(one["seconds"] + 0.1 for one in slices)


@pytest.mark.live
@pytest.mark.parametrize(("design", "name"), [("per-cpu", "per-CPU lists"), ("global", "global table")])
def test_one_design_alone(design: str, name: str) -> None:
    """The table has a column for it, the verdict speaks of it alone, and one VP cannot lose anything."""
    status, output, errors = run_lab(
        *("--design", design, "--seconds", "0.4", "--slices", "2", "--vps", "1", "--channels", "1")
    )

    assert status == 0, errors
    assert f"No channel was moved. The {name} lost nothing." in output
    assert "dropped, all slices" in output


@pytest.mark.live
def test_the_directory_it_is_called_from_is_no_place_to_import_from(tmp_path: Path) -> None:
    """A file there with the name of a package breaks neither daemon nor hosts nor workers, as with ./dev."""
    for name in ("structlog", "msgspec", "random"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('the wrong {name}')\n")
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "vmbusd", "lab"),
            "--seconds",
            "0.4",
            "--slices",
            "1",
            "--channels",
            "4",
        ],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.live
def test_a_wrong_option_starts_nothing() -> None:
    """Status 2 and a line that names it."""
    status, output, errors = run_lab("--channels", "4096")

    assert (status, output) == (2, "")
    assert "argument --channels: 4096 is not in 1..2047" in errors


@pytest.mark.live
@pytest.mark.parametrize(
    ("command", "number", "reaches"),
    [
        ("lab", signal.SIGTERM, "one"),
        ("lab", signal.SIGINT, "one"),
        ("lab", signal.SIGINT, "all"),
        ("lab", signal.SIGHUP, "all"),
        ("demo", signal.SIGINT, "all"),
        ("demo", signal.SIGHUP, "all"),
    ],
)
def test_a_signal_ends_it_in_order(command: str, number: signal.Signals, reaches: str) -> None:
    """SIGTERM, Ctrl-C, a closed terminal, in the middle of a storm: the status says which, nobody says a
    word, no process, no object and no directory is left. A terminal signals every process that it runs."""
    words = (command, "--seconds", "60", "--vps", "2", "--channels", "16")
    lab = subprocess.Popen(
        ["env", "--default-signal", sys.executable, "-m", "vmbusd", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert lab.stdout is not None
    try:
        assert lab.stdout.readline().startswith(b"opening 16 channels")
        daemon, runtime_dir = eventually(lambda: daemon_of(lab.pid), "its daemon")
        # The daemon, two hosts, two workers: then, once all channels are open, the storm begins.
        eventually(lambda: len(descendants(lab.pid)) == 5, "its processes")
        instance = (runtime_dir / paths.INSTANCE_FILE).read_text().strip()
        eventually(lambda: has_called(instance, command, 2), "the storm")
        family = descendants(lab.pid)
        assert objects_of(instance)
        assert daemon in family
        if reaches == "all":
            os.killpg(lab.pid, number)
        else:
            lab.send_signal(number)
        _, errors = lab.communicate(timeout=30)
        assert (lab.returncode, errors) == (128 + number, b"")
    finally:
        lab.kill()
        lab.wait()
        lab.stdout.close()
    eventually(lambda: not [pid for pid in family if Path(f"/proc/{pid}").exists()], "no process is left")
    assert objects_of(instance) == []
    assert not runtime_dir.parent.exists()
