"""What the storm's runner watches beside the memory: logs, pardons, objects, and whether it storms at all."""

from pathlib import Path

import pytest

from tests.storm.logs import Logs
from tests.storm.memory import Memory, ObjectsError
from tests.storm.mishaps import GENTLE, HARSH, Mishap
from tests.storm.oracle import judge_storminess
from tests.storm.pardons import LATE_SECONDS, Pardons
from tests.storm.program import ENDS
from vmbusd.abi import faults
from vmbusd.server import fault_rules
from vmbusd.server.fault_requests import FaultSpec
from vmbusd.server.steps import Step

TRACEBACK = (
    'event flag 3: it failed\nTraceback (most recent call last):\n  File "driver.py"\nValueError: no\n'
)


def write(directory: Path, text: str, name: str = "processes.log") -> None:
    with (directory / name).open("a") as file:
        file.write(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(TRACEBACK, "ValueError: no", id="a driver raises"),
        pytest.param("VP 1: its worker was killed by SIGABRT\n", "SIGABRT", id="a worker crashes"),
        pytest.param("VP 1: its worker ended with status 1\n", "status 1", id="a worker gives up"),
        pytest.param("VP 1: its worker was killed by SIGKILL\n" * 3, "only 2 by us", id="not killed by us"),
    ],
)
def test_what_must_not_be_in_a_log_is_found_once(tmp_path: Path, text: str, found: str) -> None:
    """At the next look it is old."""
    logs = Logs(tmp_path)
    write(tmp_path, text)

    (violation,) = logs.look(kills=2)

    assert found in violation
    assert logs.look(kills=3) == []


def test_what_must_be_in_a_log_is_no_violation(tmp_path: Path) -> None:
    """Workers that we killed, channels that ended under a callback, and half a line."""
    logs = Logs(tmp_path)
    write(tmp_path, "VP 1: its worker was killed by SIGKILL\nevent flag 3: relid 3 was rescinded\nTraceb")

    assert logs.look(kills=1) == []


def test_a_traceback_of_the_daemon_is_found(tmp_path: Path) -> None:
    """Its log is another file; a half line is taken when it is whole."""
    logs = Logs(tmp_path)
    write(tmp_path, "Traceback (most", "daemon.log")
    assert logs.look(kills=0) == []
    write(tmp_path, " recent call last):\n", "daemon.log")
    assert len(logs.look(kills=0)) == 1


def test_a_pardon_is_for_its_kind_and_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the rule is armed and a little longer; a daemon dies once of one, a host's successor may too."""
    now = [100.0]
    monkeypatch.setattr("tests.storm.pardons.time.monotonic", lambda: now[0])
    pardons = Pardons()
    given = pardons.give(["host", "daemon"])

    assert not pardons.use("guest")
    assert [pardons.use("host"), pardons.use("host")] == [True, True]
    assert [pardons.use("daemon"), pardons.use("daemon")] == [True, False]
    pardons.end(given)
    now[0] += LATE_SECONDS - 0.1
    assert pardons.use("host")
    now[0] += 0.2
    assert not pardons.use("host")


def test_a_partition_without_its_one_table_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither none nor two, and the error lists them."""
    monkeypatch.setattr("tests.storm.memory._SHM", tmp_path)
    with pytest.raises(ObjectsError, match="p must have one table: none"):
        Memory("p", 1)
    for instance in ("a", "b"):
        (tmp_path / f"vmbusd-{instance}-p-table").touch()
    with pytest.raises(ObjectsError, match=r"vmbusd-a-p-table, .*vmbusd-b-p-table"):
        Memory("p", 1)


def test_a_storm_without_kills_or_callbacks_is_none() -> None:
    """Each kind of process must have been killed as often as was wanted, and something been seen."""
    kills = {"worker": 5, "guest": 4}

    happened = {"callbacks": 1, "packets_back": 1}

    assert judge_storminess(happened, 1, kills, 4) == []
    assert judge_storminess(happened, 1, kills, 5) == ["4 kills of kind guest, 5 at least were wanted"]
    assert len(judge_storminess(happened | {"callbacks": 0}, 1, kills, 0)) == 1
    assert len(judge_storminess(happened | {"packets_back": 0}, 1, kills, 0)) == 1
    assert len(judge_storminess(happened, 0, kills, 0)) == 1


@pytest.mark.parametrize("mishap", [*GENTLE, *HARSH], ids=lambda mishap: mishap.name)
def test_every_fault_of_the_storm_is_one_that_a_daemon_takes(mishap: Mishap) -> None:
    """With a VP, with a host, and with neither, as its place has them."""
    places: list[dict[str, int]] = [{"vp": 1}] if mishap.vp else []
    places += [{"host": 1}] if mishap.host else []
    for place in places or [{}]:
        vp, host = place.get("vp"), place.get("host")
        fault = FaultSpec(mishap.kind, vp=vp, host=host, step=mishap.step, delay=mishap.delay)
        assert fault_rules.check(fault, vps=3).kind == mishap.kind


def test_the_storm_has_every_step_of_a_kill() -> None:
    """Of the data path and of the daemon; those that end an open wait for a segment that is not gentle."""
    steps = {mishap.step for mishap in (*GENTLE, *HARSH)}

    assert {*faults.STEPS, *map(str, Step)} <= steps
    assert not {"host", "guest"}.intersection(kind for mishap in GENTLE for kind in mishap.dies)
    assert "fault host" in ENDS
