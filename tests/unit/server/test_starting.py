"""Going on where a daemon stopped, when the machine has not got what that takes."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from tests.unit.server.in_process import InProcess, in_process
from vmbusd.abi import paths
from vmbusd.abi.errors import ResourceError
from vmbusd.abi.link import Object
from vmbusd.server import journal, limits, starting
from vmbusd.server.config import Config, PartitionSpec
from vmbusd.server.daemon import Daemon
from vmbusd.server.runtime import Runtime

SPEC = PartitionSpec(vps=1)


def vanish(running: InProcess) -> None:
    """As the kernel ends a daemon that is killed: everything is let go of, nothing is removed."""

    def leave() -> None:
        for partition in running.daemon.partitions.values():
            partition.leave()
        running.daemon.partitions.clear()

    running.call(leave)


def files(runtime_dir: Path) -> dict[str, bytes]:
    """What is kept of partition a."""
    return {path.name: path.read_bytes() for path in runtime_dir.glob("a.*")}


def test_a_daemon_goes_on_with_the_same_objects(runtime_dir: Path) -> None:
    """Same instance name in the objects, one epoch more, also for another program's configuration."""
    with in_process(runtime_dir, a=SPEC) as running:
        names = running.daemon.partitions["a"].objects.prefix
        vanish(running)
    with in_process(runtime_dir, a=PartitionSpec(vps=3)) as running:
        partition = running.daemon.partitions["a"]
        assert (partition.objects.prefix, partition.memory.epoch, partition.spec.vps) == (names, 2, 1)
        assert any("counts after a stop" in text for text in partition.warnings)


def test_what_another_boot_has_left_is_refused(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime directory that outlived the machine's memory; a service that cannot see the id goes on."""
    boot = runtime_dir / "boot"
    monkeypatch.setattr(starting, "_BOOT_ID", boot)
    found = 0
    for first, second, epoch in (("one", "two", 1), ("one", "one", 2), (None, None, 2)):
        for name in (first, second):
            boot.unlink(missing_ok=True)
            if name is not None:
                boot.write_text(name)
            with in_process(runtime_dir, a=SPEC) as running:
                instance = running.daemon.runtime.instance
                found = running.daemon.partitions["a"].memory.epoch
                if (runtime_dir / "second").exists():
                    continue
                vanish(running)
            (runtime_dir / paths.INSTANCE_FILE).write_text(instance)
            (runtime_dir / "second").touch()
        assert found == epoch
        (runtime_dir / "second").unlink()
    boot.unlink(missing_ok=True)


def test_without_descriptors_nothing_is_lost(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start fails and names what is missing; files and objects are there for the next one."""
    with in_process(runtime_dir, a=SPEC) as running:
        vanish(running)
    before = files(runtime_dir)
    assert set(before) == {"a.journal", "a.snapshot"}

    monkeypatch.setattr(limits, "scarce", lambda _fd: True)
    loop = asyncio.new_event_loop()
    with pytest.raises(ResourceError, match="too few file descriptors"):
        Daemon(loop, Config(partitions={"a": SPEC}), Runtime(runtime_dir))
    loop.close()
    assert files(runtime_dir) == before

    monkeypatch.undo()
    with in_process(runtime_dir, a=SPEC) as running:
        assert running.daemon.partitions["a"].memory.epoch == 2


def test_without_room_for_its_files_a_partition_goes_on(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not kept for now, the status says so, and it is kept again once there is room."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with in_process(runtime_dir, a=SPEC) as running:
        vanish(running)
    monkeypatch.setattr(journal, "_allocate", full)
    with in_process(runtime_dir) as running:
        keeper = running.daemon.partitions["a"].keeper
        assert keeper.trouble is not None
        assert "No space left" in keeper.trouble
        assert files(runtime_dir) == {}
        monkeypatch.undo()
        running.call(keeper.settle)
        assert set(files(runtime_dir)) == {"a.journal", "a.snapshot"}


def test_an_object_that_is_gone_is_a_clean_start(runtime_dir: Path) -> None:
    """Nobody can be served by half a set: its name is free again, and the partition is new."""
    with in_process(runtime_dir, a=SPEC) as running:
        made = list(running.daemon.partitions["a"].objects.objects.values())
        instance = running.daemon.runtime.instance
        vanish(running)
    # This, too, a daemon that is killed leaves.
    (runtime_dir / paths.INSTANCE_FILE).write_text(instance)
    (gone,) = (each.path for each in made if each.what is Object.EVENTS)
    assert gone is not None
    os.unlink(gone)
    with in_process(runtime_dir, a=SPEC) as running:
        assert running.daemon.partitions["a"].memory.epoch == 1
