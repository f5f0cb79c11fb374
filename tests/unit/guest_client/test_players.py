"""VPs as threads: which threads there are while VPs go and come, and that all of them end."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from guest_client import players
from guest_client.players import ThreadPlayers
from guest_client.vps import LEAVING, ONLINE
from guest_client.worker import Service
from vmbusd.abi.errors import VmbusError

PATIENCE = 10.0


class Busy:
    """A worker that plays until somebody ends it."""

    reason = None

    def __init__(self, *_: Any) -> None:
        self.vp = 0
        self.is_over = threading.Event()

    def run(self, _cpu: int | None) -> None:
        self.is_over.wait()

    def stop(self) -> None:
        self.is_over.set()


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[Busy]:
    """Those that were admitted, the newest last."""
    admitted: list[Busy] = []

    def make(*_: Any) -> Busy:
        admitted.append(Busy())
        return admitted[-1]

    def admit(_service: Service, _vp: int, stopping: threading.Event) -> object:
        return None if stopping.is_set() else object()

    monkeypatch.setattr(players, "admit", admit)
    monkeypatch.setattr(players, "VpWorker", make)
    return admitted


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_vp_that_went_and_came_twice_during_one_callback_ends_with_its_guest(
    workers: list[Busy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that plays it is not the newest, which waits for its turn: both end, none is left."""
    monkeypatch.setattr(players, "THREAD_GRACE", 1.0)
    errors: list[VmbusError] = []
    connection = cast("Any", SimpleNamespace(registry=None))
    played = ThreadPlayers(Service("demo", Path("/nowhere")), connection, 1, [], errors.append)
    played.start()
    for state in (LEAVING, ONLINE, LEAVING, ONLINE):
        played.changed(0, state)
    assert len(workers) == 1
    workers[0].stop()
    eventually(lambda: len(workers) == 2)
    try:
        played.stop()
        assert played.statistics() == {"threads": 0}
        assert (len(workers), errors) == (2, [])
    finally:
        for worker in workers:
            worker.stop()
