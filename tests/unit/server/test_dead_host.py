"""What a dead host leaves undone is done before its channels end."""

from pathlib import Path

import pytest

from host_client import Host
from tests.unit.server.in_process import in_process
from vmbusd.server import inputs
from vmbusd.server.config import PartitionSpec


def test_the_last_bits_are_handed_over_before_the_channels_end(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of offline VPs are swept and every VP is rung while the host's offers still stand."""
    order: list[str] = []
    with in_process(runtime_dir, a=PartitionSpec()) as running:
        partition = running.daemon.partitions["a"]
        feed, sweep = partition.feed, partition.vps.sweep_and_ring

        def fed(link: object, what: inputs.Input) -> None:
            order.append(type(what).__name__)
            feed(link, what)  # type: ignore[arg-type]

        def swept() -> None:
            order.append("swept")
            sweep()

        with Host.connect("a", runtime_dir=runtime_dir) as host:
            (link,) = partition.hosts.values()
            monkeypatch.setattr(partition, "feed", fed)
            monkeypatch.setattr(partition.vps, "sweep_and_ring", swept)
            running.call(link.process_died)
            assert host.statistics()["signals"] == 0
    assert order.index("swept") < order.index("HostGone")
