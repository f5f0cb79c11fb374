"""The demo end to end: it loses nothing, and leaves nothing behind however it ends."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests import leftovers
from tests.live.demo_run import run_demo

ROOT = Path(__file__).resolve().parents[2]
ZEROS = ("lost", "hung", "overlaps", "stale", "rescued", "corrupt", "disordered")


def objects() -> set[str]:
    """What demos have in /dev/shm."""
    return {name for name in os.listdir("/dev/shm") if "vmbusd-" in name and "-demo-" in name}


@pytest.mark.live
def test_nothing_is_lost_while_channels_are_retargeted() -> None:
    """A storm over 4 VPs with continuous retargeting ends with every channel caught up (case 232)."""
    status, result, errors = run_demo("--seconds", "3", "--vps", "4", "--channels", "200")

    assert {key: result[key] for key in ZEROS} == dict.fromkeys(ZEROS, 0), errors
    assert status == 0
    assert result["retargets"] > 0
    assert result["callbacks"] > 0
    assert result["off_target"] > 0
    assert result["per_mode"]["credit"]["channels"] + result["per_mode"]["burst"]["channels"] == 200
    assert result["latency_us"]["p50"] <= result["latency_us"]["p99"] <= result["latency_us"]["p999"]


@pytest.mark.live
def test_packets_stay_whole_and_in_order_in_the_storm() -> None:
    """Hosts and workers exchange packets while channels move: none is lost, changed, overtaken (case 146)."""
    status, result, errors = run_demo("--packets", "--seconds", "3", "--vps", "4", "--channels", "32")

    assert {key: result[key] for key in ZEROS} == dict.fromkeys(ZEROS, 0), errors
    assert status == 0
    assert result["packets"] > 1000
    assert result["channels"] == 48
    assert result["retargets"] > 0


@pytest.mark.live
def test_too_many_channels_for_packets_are_refused() -> None:
    """The channels with packets need relids too."""
    status, _, errors = run_demo("--packets", "--channels", "2047")

    assert status == 2
    assert "--channels is at most 2031" in errors


@pytest.mark.live
def test_one_vp_and_one_channel_is_a_demo_too() -> None:
    """With nothing to retarget to, the demo still runs and loses nothing."""
    status, result, errors = run_demo("--seconds", "1", "--vps", "1", "--channels", "1", "--hosts", "4")

    assert status == 0, errors
    assert result["hosts"] == 1
    assert result["retargets"] == 0
    assert result["per_mode"]["credit"]["callbacks"] > 0


@pytest.mark.live
def test_the_run_that_finds_a_missing_second_look_hangs_nothing() -> None:
    """The build as shipped passes the run in which tests/storm/test_mistakes.py finds the mistake."""
    status, result, errors = run_demo("--seconds", "10", "--vps", "2", "--channels", "1")

    assert (status, result["hung"], result["lost"]) == (0, 0, 0), errors


def start_demo(*arguments: str, temporary: Path | None = None) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "vmbusd", "demo", "--json", "--seconds", "60", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | ({"TMPDIR": str(temporary)} if temporary else {}),
    )


def descendants(pid: int) -> set[int]:
    """The living processes below `pid`."""
    found: set[int] = set()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found |= {int(child)} | descendants(int(child))
    return found


def wait_until(condition: Any, seconds: float = 30) -> None:
    """Look until it holds; the watchdog of a test that waits for other processes."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


@pytest.mark.live
def test_shared_objects_show_during_a_run_and_go_with_it() -> None:
    """While the demo runs /dev/shm shows the objects of the ABI, after SIGTERM none, and soon no process."""
    before = objects()
    demo = start_demo("--vps", "2", "--channels", "4")
    try:
        wait_until(lambda: sum("-host" in name for name in objects() - before) == 4)
        mine = {name.split("-demo-", 1)[1] for name in objects() - before}
        assert mine == {"events", "table", "vpwork", "guest", "ram", "host0", "host1", "vp0", "vp1"}
        family = descendants(demo.pid)
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(30) == 128 + signal.SIGTERM
    finally:
        demo.kill()
        demo.wait()
    assert objects() == before
    # A child that was being started when the signal came has lost its parent, and ends by itself.
    wait_until(lambda: not [pid for pid in family if Path(f"/proc/{pid}").exists()])


@pytest.mark.live
def test_a_killed_demo_leaves_no_process_and_the_next_start_removes_its_objects() -> None:
    """kill -9 of the demo ends its daemon, hosts and workers; one new start leaves /dev/shm as it was.

    What stays is the daemon's log.
    """
    before = objects()
    temporary = leftovers.make_directory()
    demo = start_demo("--vps", "2", "--channels", "4", temporary=temporary)
    try:
        # The daemon, two hosts, two workers: one that is started later would be missed.
        wait_until(lambda: len(descendants(demo.pid)) == 5)
        family = descendants(demo.pid)
    finally:
        demo.kill()
        demo.wait()
    wait_until(lambda: not [pid for pid in family if Path(f"/proc/{pid}").exists()])
    assert [path.name for path in temporary.glob("*/*")] == ["log"]
    shutil.rmtree(temporary)

    status, _, errors = run_demo("--seconds", "0.1", "--vps", "1", "--channels", "1")

    assert status == 0, errors
    assert objects() == before
