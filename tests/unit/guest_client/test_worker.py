"""How long a worker that starts waits for a daemon that is away."""

import threading
from pathlib import Path
from typing import Any

import pytest

from guest_client import worker
from guest_client.worker import Service, admit
from vmbusd.abi.errors import NoDaemon

THERE = object()


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The VPs that were asked for; the daemon is there at the fourth time."""
    asked: list[int] = []

    def attach(*_: Any, vp: int, **__: Any) -> object:
        asked.append(vp)
        if len(asked) < 4:
            raise NoDaemon("no vmbusd")
        return THERE

    monkeypatch.setattr(worker, "attach", attach)
    return asked


def test_a_worker_waits_for_a_daemon_that_is_away(tries: list[int]) -> None:
    """It asks again for as long as its guest is patient: the daemon's grace time."""
    service = Service("demo", Path("/nowhere"), patience=60.0)

    there: object = admit(service, 1, threading.Event())
    assert there is THERE
    assert tries == [1] * 4


def test_a_worker_without_patience_gives_up(tries: list[int]) -> None:
    """Then the reason is the last one."""
    with pytest.raises(NoDaemon):
        admit(Service("demo", Path("/nowhere"), patience=0.0), 1, threading.Event())
    assert tries == [1]


def test_a_worker_whose_guest_is_gone_waits_for_nobody(tries: list[int]) -> None:
    """It must not play a VP of the next guest."""
    service = Service("demo", Path("/nowhere"), patience=60.0)

    assert admit(service, 1, threading.Event(), lambda: len(tries) == 2) is None
    assert tries == [1, 1]
