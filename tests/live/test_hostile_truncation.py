"""Objects truncated under load by a peer that was handed them: its partition ends, no other notices."""

import os
import re
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.live.daemon import PATIENCE, Daemon, daemon
from tests.live.storms import bystander, judge, let_pass
from tests.live.vandal import expect_processes_to_leave, stormy_partition
from vmbusd.abi.errors import LinkClosed, ObjectDead, VmbusError
from vmbusd.abi.link import Object
from vmbusd.demo.storm import Storm, storm
from vmbusd.server import requests

pytestmark = pytest.mark.live

VICTIMS = [
    (Object.EVENTS, 0),
    (Object.TABLE, 0),
    (Object.VPWORK, 0),
    (Object.GUEST, 0),
    (Object.RAM, 0),
    (Object.HOST_PAGE, 0),
    (Object.VP_SEMAPHORE, 0),
    (Object.VP_SEMAPHORE, 1),
    (Object.HOST_SEMAPHORE, 0),
]


def move_until_it_fails(scene: Storm) -> Exception:
    """Retarget every channel again and again; returns the error that ends it."""
    while True:
        moves = [(channel, 1 - channel.target_vp) for channel in scene.channels]
        for outcome in scene.guest.retarget_many(moves, window=16):
            if outcome is not None:
                return outcome


def expect_orderly_end(scene: Storm, moving: "Future[Exception]", name: str) -> None:
    """Guest, workers and host hear of the object `name`, and nobody dies or waits."""
    with pytest.raises((LinkClosed, ObjectDead), match=re.escape(name)):
        scene.guest.wait()
    assert isinstance(moving.result(PATIENCE), VmbusError), moving.result()
    expect_processes_to_leave(scene)


def test_each_object_truncated_in_a_storm_ends_its_partition_alone(
    runtime_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each object cut to nothing in a storm ends its partition in order, by name; another loses nothing."""
    with daemon(runtime_dir, "--partition", "a:3", "--partition", "b:2") as running, bystander(runtime_dir):
        for victim in VICTIMS:
            _truncate_in_a_storm(running, *victim)
            running.ask(requests.PartitionRemove("a"))
            running.ask(requests.PartitionAdd("a", vps=3))
        with storm(runtime_dir, "a", vps=2, channels=32, host_processes=1) as again:
            again.start(retarget=False)
            let_pass(again, 500)
            judge(again)
        assert "internal error" not in running.text()
    assert "Traceback" not in capfd.readouterr().err


def _truncate_in_a_storm(running: Daemon, what: Object, index: int) -> None:
    with stormy_partition(running.runtime_dir) as (scene, vandal), ThreadPoolExecutor(1) as threads:
        path = vandal.path(what, index)
        moving = threads.submit(move_until_it_fails, scene)
        vandal.truncate(what, index)

        assert vandal.reason() == f"partition a is dead: {path} was truncated"
        view = running.status("a")
        assert (view["state"], view["reason"]) == ("dead", f"{path} was truncated")
        expect_orderly_end(scene, moving, path.rpartition("-")[2])


def test_an_object_that_shrinks_and_grows_again_kills_nobody(
    runtime_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Pages that vanish and come back as zeros between two looks end at most their own partition."""
    with daemon(runtime_dir, "--partition", "a:3", "--partition", "b:2") as running, bystander(runtime_dir):
        with stormy_partition(runtime_dir) as (scene, vandal):
            sizes = {key: os.fstat(fd).st_size for key, fd in vandal.fds.items() if key[0] != Object.TABLE}
            for _ in range(20):
                for key, size in sizes.items():
                    vandal.truncate(*key, 16)
                    vandal.truncate(*key, size)
            running.ask(requests.PartitionRemove("a"))
            with pytest.raises((LinkClosed, ObjectDead)):
                scene.guest.wait()
            expect_processes_to_leave(scene)
        assert "internal error" not in running.text()
    assert "Traceback" not in capfd.readouterr().err
