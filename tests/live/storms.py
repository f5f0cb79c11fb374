"""Storms for live tests: let them blow, judge them, keep one as the bystander of somebody else's trouble."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.live.daemon import PATIENCE, eventually
from vmbusd.demo.storm import Storm, storm


def callbacks(scene: Storm) -> int:
    """Callbacks so far, as the cells have it."""
    return scene.oracle.verdict().callbacks


def let_pass(scene: Storm, count: int, patience: float = PATIENCE) -> None:
    """Wait until `count` more callbacks have run."""
    goal = callbacks(scene) + count

    def passed() -> bool:
        # A host whose reports nobody reads stands still when its pipe is full.
        for host in scene.hosts:
            host.read()
        return callbacks(scene) >= goal

    eventually(passed, f"{count} more callbacks", patience)


def judge(scene: Storm) -> None:
    """Stop the hosts, let everything come to rest, and require exactly nothing lost."""
    scene.stop_hosts()
    scene.settle()
    verdict = scene.oracle.verdict()
    assert (verdict.lost, verdict.behind, verdict.overlaps, verdict.stale) == (0, [], 0, 0)
    assert not scene.oracle.hung


@contextlib.contextmanager
def bystander(runtime_dir: Path, partition: str = "b", channels: int = 16) -> Iterator[Storm]:
    """A storm with retargeting that must not notice what happens in the block: nothing lost, nothing hung."""
    with storm(runtime_dir, partition, vps=2, channels=channels, host_processes=1) as scene:
        scene.start()
        let_pass(scene, 100)
        yield scene
        let_pass(scene, 100)
        scene.stop_retargeting()
        judge(scene)
