"""How long a worker waits for a daemon: one that starts, and one that leaves."""

import math
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from guest_client import worker
from guest_client.worker import Service, VpWorker, admit
from vmbusd.abi import link
from vmbusd.abi.errors import NoDaemon
from vmbusd.abi.lasting import FAREWELL_TIMEOUT

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


class Mapped(dict[Any, None]):
    """An attached link with nothing behind it."""

    welcome = SimpleNamespace(vp=1)
    vp_doorbells = (None, None)
    guards = None

    def __missing__(self, _what: Any) -> None:
        return None

    def close(self) -> None:
        """Nothing is mapped."""


class Farewells:
    """A link that notes how long its farewell may take, and whether it was told to hurry before."""

    def __init__(self, *_: Any, packet: Any, **__: Any) -> None:
        self.packet = packet
        self.hurried = False
        self.patience = 0.0

    def hurry(self) -> None:
        self.hurried = True

    def close(self, _farewell: bytes, patience: float) -> None:
        self.patience = patience


@pytest.mark.parametrize(
    ("lives_on", "asked", "patience"),
    [(True, True, math.inf), (True, False, FAREWELL_TIMEOUT), (False, True, FAREWELL_TIMEOUT)],
)
def test_who_was_asked_to_leave_sees_to_it_that_it_is_heard(
    monkeypatch: pytest.MonkeyPatch, lives_on: bool, asked: bool, patience: float
) -> None:
    """A thread whose process lives on waits until its farewell has arrived, else its VP would be taken for
    good; who stops by itself takes a second at most, and so does a process, whose end says the same."""
    monkeypatch.setattr(worker, "LinkThread", Farewells)
    made = VpWorker(
        Service("demo", Path("/nowhere")),
        cast("Any", Mapped()),
        cast("Any", None),
        lives_on=lives_on,
        make=lambda *_, **__: cast("Any", SimpleNamespace(stop=lambda: None)),
    )
    farewells = cast("Farewells", made._link)
    if asked:
        farewells.packet(link.Header(link.Kind.DETACH), b"")
        assert not farewells.hurried
    else:
        made.stop()
        assert farewells.hurried
    made.leave()
    assert farewells.patience == patience
