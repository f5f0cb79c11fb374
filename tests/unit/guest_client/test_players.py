"""VPs as threads: which threads there are while VPs go and come, and that all of them end. VPs as processes:
which channels end with one."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from guest_client import players
from guest_client.players import ProcessPlayers, ThreadPlayers
from guest_client.supervisor import Orders
from guest_client.vps import LEAVING, ONLINE
from guest_client.worker import Service
from vmbusd.abi import layout
from vmbusd.abi.errors import RefusedError, VmbusError
from vmbusd.abi.link import Code

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

    def make(*_: Any, **__: Any) -> Busy:
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


def test_a_vp_that_goes_and_comes_often_during_one_callback_has_one_successor(workers: list[Busy]) -> None:
    """However often: one thread waits for the one in the callback, and plays the VP after it."""
    errors: list[VmbusError] = []
    connection = cast("Any", SimpleNamespace(registry=None))
    played = ThreadPlayers(Service("demo", Path("/nowhere")), connection, 1, [], errors.append)
    played.start()
    before = threading.active_count()
    for _ in range(50):
        played.changed(0, LEAVING)
        played.changed(0, ONLINE)
    try:
        assert threading.active_count() == before + 1
        assert played.statistics() == {"threads": 1}
        workers[0].stop()
        eventually(lambda: len(workers) == 2)
        assert played.statistics() == {"threads": 1}
        played.stop()
        assert played.statistics() == {"threads": 0}
        assert (len(workers), errors) == (2, [])
    finally:
        for worker in workers:
            worker.stop()


def test_a_vp_that_stays_taken_does_not_end_its_guest(
    workers: list[Busy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not played, and may be ordered again; any other error of a VP that comes back ends the guest."""
    errors: list[VmbusError] = []
    connection = cast("Any", SimpleNamespace(registry=None))
    played = ThreadPlayers(Service("demo", Path("/nowhere")), connection, 1, [], errors.append)
    played.start()
    admit = players.__dict__["admit"]
    asked: list[RefusedError] = []
    for code in (Code.VP_TAKEN, Code.RECOVERING, Code.GUEST_GONE):
        refused = RefusedError(f"refused with {code.name}", code)

        def refuse(*_: Any, refused: RefusedError = refused) -> None:
            asked.append(refused)
            raise refused

        played.changed(0, LEAVING)
        workers[-1].stop()
        monkeypatch.setattr(players, "admit", refuse)
        played.changed(0, ONLINE)
        eventually(lambda refused=refused: refused in asked)  # type: ignore[misc]
        eventually(lambda: not played._played[0].thread.is_alive())
        monkeypatch.setattr(players, "admit", admit)
        count = len(workers)
        played.changed(0, ONLINE)
        eventually(lambda count=count: len(workers) > count)  # type: ignore[misc]
    played.stop()
    assert [str(error) for error in errors] == ["refused with GUEST_GONE"]


class Supervised:
    """A supervisor without processes: the test says when one ends."""

    def __init__(
        self, _vps: int, *, left: Callable[[int], Orders], died: Callable[[int], Orders], **_: Any
    ) -> None:
        self.left, self.died = left, died
        self.told: list[Orders] = []

    def take_offline(self, _vp: int, news: Orders) -> None:
        self.told.append(news)


class Channels:
    """A connection with pinned channels by flag, each open with its generation; `homes` of those called."""

    lost = None

    def __init__(self, *flags: int) -> None:
        self.homes: dict[int, int] = {}
        self.ended: list[tuple[int, str]] = []
        self._channels = [
            SimpleNamespace(event_flag=flag, driver=SimpleNamespace(pinned=True), primary=None)
            for flag in flags
        ]
        self.space = SimpleNamespace(
            feed=SimpleNamespace(),
            blocks=SimpleNamespace(home=self.homes.get),
            table=SimpleNamespace(slot=lambda flag: flag << layout.GENERATION_SHIFT | layout.SLOT_OPEN),
        )

    def callable_channels(self) -> list[Any]:
        return self._channels

    def end_soon(self, channel: Any, why: str) -> None:
        self.ended.append((channel.event_flag, why))


def test_a_pinned_channel_that_is_called_while_its_vp_leaves_ends_with_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the process was called for after it was asked to leave is found when it is gone; what was found
    before is closed once, and told once."""
    monkeypatch.setattr(players, "Supervisor", Supervised)
    connection = Channels(1, 2, 3)
    made = ProcessPlayers(
        Service("demo", Path("/nowhere")), cast("Any", connection), 2, [], lambda _: None, [], []
    )
    supervised = cast("Supervised", made._supervisor)
    connection.homes.update({1: 1, 3: 0})
    made.changed(1, LEAVING)
    connection.homes[2] = 1
    why = "VP 1, whose process held its state, goes offline"
    assert (connection.ended, supervised.told) == ([(1, why)], [{"lost": [[1, 1]]}])
    assert supervised.left(1) == {"lost": [[2, 2]]}
    assert connection.ended == [(1, why), (2, why)]
    assert made._orders(1)["lost"] == [[1, 1], [2, 2]]
