"""A core with a mistake in it: the demo and the storm must notice, in time, and say what is wrong."""

import re
from pathlib import Path

import pytest

from tests.live.demo_run import run_demo
from tests.mistakes import BUILD_SECONDS, MISTAKE, ROOT, build_with_mistakes
from tests.storm.short import TIMEOUT, failed

LONGEST = 240
"""Seconds; no storm takes all of them, since it ends when it has found something. A missing second look shows
when a signal comes within some nanoseconds: in 50 s on average where one of two CPUs is somebody else's."""

pytestmark = [pytest.mark.live, pytest.mark.build, pytest.mark.timeout(BUILD_SECONDS + LONGEST + TIMEOUT)]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project whose core makes the mistake that the environment names."""
    return build_with_mistakes(tmp_path_factory.mktemp("broken") / "tree")


def test_every_mistake_is_one_that_a_build_can_name() -> None:
    """A core with any mistake of the steps in it says so: benchmarks and tests know what they measure."""
    abi = ROOT / "vmbusd" / "abi"
    seeded = re.findall(r"#define VMB_MUTANT_(\w+) 0", (abi / "vmbus_steps.h").read_text())
    named = re.findall(r"NAME\((\w+)\),", (abi / "native_headers.pxi").read_text())
    assert sorted(named) == sorted(seeded)


@pytest.mark.parametrize(
    ("mistake", "count"),
    [
        pytest.param("no_claim", "overlaps", id="callbacks overlap"),
        pytest.param("bit_lost", "hung", id="one bit in 200 is thrown away"),
        pytest.param("recovery_no_put_back", "hung", id="what a dead worker held is not put back"),
        pytest.param("claimed_dropped", "hung", id="a claimed channel is not run again"),
        pytest.param("no_second_look", "hung", id="a worker sleeps without a second look"),
    ],
)
def test_a_core_with_a_mistake_is_caught(
    broken: Path, monkeypatch: pytest.MonkeyPatch, mistake: str, count: str
) -> None:
    """With one mistake in the core the storm fails in time, says how, and keeps its trace."""
    monkeypatch.setenv(MISTAKE, mistake)

    with failed(broken, LONGEST) as (result, errors):
        assert result[count] > 0, errors[-4000:]


def test_a_sleep_without_its_second_look_hangs_the_channel(
    broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the look between announcement and wait, a credit-mode channel is soon hung, and named."""
    monkeypatch.setenv(MISTAKE, "no_second_look")

    status, result, errors = run_demo("--seconds", "10", "--vps", "2", "--channels", "1", root=broken)

    assert (status, result["hung"], result["hung_relids"]) == (1, 1, [1]), errors
    assert result["lost"] == 1
    assert "relid 1 is hung" in errors


def test_the_same_build_without_a_mistake_hangs_nothing(broken: Path) -> None:
    """The run that finds the mistake passes the core that could make it and does not."""
    status, result, errors = run_demo("--seconds", "10", "--vps", "2", "--channels", "1", root=broken)

    assert (status, result["hung"], result["lost"]) == (0, 0, 0), errors
