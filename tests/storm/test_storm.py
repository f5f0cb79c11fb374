"""The storm itself: it passes, it can fail, and it leaves nothing behind however it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.storm.nursery import MARK, marked, objects

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 8
TIMEOUT = 300
"""A storm of seconds on the busiest machine: its calm points wait for everybody."""

pytestmark = [pytest.mark.live, pytest.mark.timeout(TIMEOUT)]


def command(seconds: float, root: Path = ROOT) -> list[str]:
    storm = str(root / "tests" / "storm" / "run.py")
    return [sys.executable, storm, "--json", "--seconds", str(seconds), "--seed", "3"]


def run(root: Path = ROOT, seconds: float = SECONDS) -> tuple[int, dict[str, Any], str]:
    """Exit status, JSON and standard error of a storm."""
    done = subprocess.run(
        command(seconds, root), cwd=root, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return value


def test_a_short_storm_finds_nothing() -> None:
    """Some seconds of everything: nothing is lost, hung, overlapping, stale or leaked."""
    status, result, errors = run()

    assert (status, result["violations"]) == (0, []), errors[-4000:]
    assert result["callbacks"] > 0
    assert sum(result["kills"].values()) > 0
    assert result["calm_points"] >= 2


@pytest.mark.build
@pytest.mark.timeout(2 * TIMEOUT)
def test_a_core_without_claims_is_caught(tmp_path: Path) -> None:
    """With claims left out of the native core callbacks overlap; the storm says so, and keeps its trace."""
    copy = tmp_path / "tree"
    for part in ("vmbusd", "guest_client", "host_client", "tests"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for part in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, copy / part)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=copy,
        env={**os.environ, "VMBUSD_CFLAGS": "-DVMB_MUTANT_no_claim=1"},
        check=True,
        capture_output=True,
        timeout=TIMEOUT,
    )

    status, result, errors = run(copy, seconds=60)

    try:
        assert status == 1
        assert result["overlaps"] > 0, errors[-4000:]
        assert "seed 3: FAILED" in errors
        events = [json.loads(line) for line in Path(result["trace"]).read_text().splitlines()]
        assert any(event["what"] == "violation" for event in events)
    finally:
        shutil.rmtree(Path(result["trace"]).parent)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_a_storm_is_ended(number: signal.Signals) -> None:
    """Ctrl-C, and kill -9 of the runner: every process, object and file of the storm is gone soon."""
    storm = subprocess.Popen(command(120), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        mark = wait_until(lambda: mark_of(storm.pid), "the nursery is there")
        wait_until(lambda: len(marked(mark)) > 9, "the storm is under way")
        storm.send_signal(number)
        assert storm.wait(60) == (130 if number is signal.SIGINT else -number)
        wait_until(lambda: not marked(mark) and not objects(mark), f"nothing of {mark} is left")
        directory = f"vmbusd-{mark}"
        wait_until(lambda: not Path("/tmp", directory).exists(), f"{directory} is removed")
    finally:
        storm.kill()
        storm.wait()


def mark_of(runner: int) -> str:
    """The mark that the runner's children bear; nothing before there is one."""
    for child in Path(f"/proc/{runner}/task/{runner}/children").read_text().split():
        try:
            environment = Path("/proc", child, "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        for entry in environment:
            name, _, value = entry.decode(errors="replace").partition("=")
            if name == MARK:
                return value
    return ""
