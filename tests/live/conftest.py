"""Fixtures for the live tests of guests."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_client.host import Host
from tests.live.daemon import daemon
from tests.live.guest_support import World


@pytest.fixture
def world(runtime_dir: Path, caplog: pytest.LogCaptureFixture) -> Iterator[World]:
    with daemon(runtime_dir, "--partition", "demo:2", "--grace", "1") as running:
        with Host.connect("demo", runtime_dir=runtime_dir) as host, host.serving():
            yield World(running, host)
            # Records of failures hold frames, and with them mappings.
            caplog.get_records("call").clear()
        if running.process.poll() is not None:
            # One that was killed leaves its set to the next start, once nobody maps it any more.
            gc.collect()
            with daemon(runtime_dir):
                pass
