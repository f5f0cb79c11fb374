"""The storm itself: it passes, it can fail, and it leaves nothing behind however it ends."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mistakes import copy_project
from tests.storm.nursery import MARK, marked, objects
from tests.storm.short import SECONDS, TIMEOUT, command, failed, run

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.live, pytest.mark.timeout(TIMEOUT)]


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


RAISES = """        if channel.instance.int >= 1 << 16 and self.ledger.counts()["callbacks"] >= 200:
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{{self.config}}-raised")
                {what}
        words = """
"""Once, and not in the victim partition, whose instances are small numbers."""
SABOTAGE = {
    "a driver raises": ("driver.py", "        words = ", RAISES.format(what="1 / 0"), "raised"),
    "a worker crashes": ("driver.py", "        words = ", RAISES.format(what="os.abort()"), "SIGABRT"),
    "a guest does not end well": ("guest.py", "        guest.stop()\n", "        1 / 0\n", "guest"),
    "a host does not end well": ("host.py", "    return 0\n", "    return 1\n", "was to end with status 0"),
    "the runner raises": ("calm.py", "        world.quiet = True\n", "        1 / 0\n", "ZeroDivisionError"),
    "nothing is signalled": ("host.py", "self._pass(host, list(self.cells))", "pass", "does not storm"),
}
"""File, what stands in it, what is to stand there instead, and what the storm has to say of it."""


@pytest.mark.parametrize("name", SABOTAGE)
def test_what_goes_wrong_beside_the_memory_is_caught(tmp_path: Path, name: str) -> None:
    """Whatever raises, crashes, ends badly or does nothing is a violation, with seed and trace."""
    file, there, instead, said = SABOTAGE[name]
    copy = copy_project(tmp_path / "tree", built=True)
    path = copy / "tests" / "storm" / file
    text = path.read_text()
    assert there in text
    path.write_text(text.replace(there, instead, 1))

    with failed(copy, SECONDS) as (result, _):
        assert any(said in violation for violation in result["violations"]), result["violations"]


def test_fewer_kills_than_wanted_are_a_failure() -> None:
    """--kills N: a storm in which a kind of process was killed less often has not proved what it was for."""
    with failed(ROOT, 1, "--kills", "1000") as (result, _):
        assert min(result["violations"]).endswith("1000 at least were wanted")
        assert len(result["violations"]) == len(result["kills"])


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
