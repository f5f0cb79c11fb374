"""The status shows each limit with its use, and counts how often it was met."""

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.live.daemon import eventually
from tests.unit.server.in_process import InProcess, in_process
from vmbusd.abi import layout, paths
from vmbusd.bus.gpadls import MAX_GPADLS
from vmbusd.server import limits
from vmbusd.server.config import PartitionSpec
from vmbusd.server.requests import Status


def status(running: InProcess) -> dict[str, Any]:
    """What an administrator is told."""
    act = running.daemon._act
    result = running.call(lambda: act(Status()))
    assert isinstance(result, dict)
    return result


def test_every_limit_is_there_with_its_use(runtime_dir: Path) -> None:
    """Of the daemon, and of each partition."""
    with in_process(runtime_dir, a=PartitionSpec(vps=1), b=PartitionSpec(vps=1)) as running:
        found = status(running)

    daemon, partition = found["daemon"]["limits"], found["partitions"][0]["limits"]
    assert daemon["partitions"] == {"used": 2, "limit": limits.MAX_PARTITIONS, "hit": 0}
    assert daemon["links"] == {"used": 0, "limit": limits.MAX_LINKS, "hit": 0}
    assert partition["channels"] == {"used": 0, "limit": layout.MAX_RELID, "hit": 0}
    assert partition["gpadls"] == {"used": 0, "limit": MAX_GPADLS, "hit": 0}
    for name, each in (*daemon.items(), *partition.items()):
        assert set(each) == {"used", "limit", "hit"}, name


def test_a_link_that_never_speaks_is_dropped_and_counted(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told why; so is one too many."""
    monkeypatch.setattr(limits, "HELLO_TIMEOUT", 0.05)
    monkeypatch.setattr(limits, "MAX_LINKS", 1)
    with in_process(runtime_dir, a=PartitionSpec(vps=1)) as running:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
            silent.connect(str(runtime_dir / paths.GUEST_SOCKET))
            eventually(lambda: running.daemon.door.links == 1, "it is at the door")
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as more:
                more.connect(str(runtime_dir / paths.GUEST_SOCKET))
                assert b"too many links" in more.recv(4096)
            assert b"no hello within 0.05 s" in silent.recv(4096)
        found = status(running)["daemon"]["limits"]
    assert (found["hello_seconds"]["hit"], found["links"]["hit"]) == (1, 1)
