"""Links that live on: a socket is lost at any point, and applications see nothing but a number."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from guest_client import Guest
from host_client.channel import Channel as HostChannel
from host_client.device import Device
from host_client.host import Host
from tests.live.daemon import PATIENCE, Daemon, daemon
from tests.live.guest_drivers import COUNTED, Counter
from tests.live.guest_support import begin
from tests.live.proxy import Proxy

pytestmark = pytest.mark.live


class Asked(Device):
    """Writes down every request of the bus."""

    def __init__(self, interface: UUID = COUNTED) -> None:
        self.interface = interface
        self.log: list[tuple[str, int]] = []

    def on_open(self, channel: HostChannel) -> None:
        self.log.append(("open", channel.generation))

    def on_close(self, channel: HostChannel) -> None:
        self.log.append(("close", channel.generation))

    def on_retarget(self, channel: HostChannel, vp: int) -> None:
        self.log.append(("retarget", vp))


@pytest.fixture
def running(runtime_dir: Path) -> Iterator[Daemon]:
    with daemon(runtime_dir, "--partition", "demo:2") as running:
        yield running


def work(guest: Guest, devices: list[Asked], rounds: int) -> None:
    """Close, open and move every channel, again and again; each must happen exactly once."""
    channels = begin(guest)
    assert len(channels) == len(devices)
    expected: list[tuple[str, int]] = [("open", 1)]
    for generation in range(2, rounds + 2):
        for call in [channel.begin_close() for channel in channels]:
            call.result(PATIENCE)
        assert guest.open_many(channels) == [None] * len(channels)
        vp = generation % 2
        pairs = [(channel, vp) for channel in channels if channel.target_vp != vp]
        assert guest.retarget_many(pairs) == [None] * len(pairs)
        assert {channel.generation for channel in channels} == {generation}
        expected += [("close", generation - 1), ("open", generation)]
    for device in devices:
        assert [each for each in device.log if each[0] != "retarget"] == expected


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("patience", [8, 60])
def test_every_operation_happens_once_over_lost_sockets(running: Daemon, patience: int, seed: int) -> None:
    """With sockets cut after every few packets all opens, closes and moves are asked and answered once."""
    devices = [Asked() for _ in range(8)]
    with Proxy(running.runtime_dir, patience=None, seed=seed) as proxy:
        with Host.connect("demo", runtime_dir=proxy.directory) as host, host.serving():
            host.offer_many(devices)
            with Guest.attach("demo", runtime_dir=proxy.directory) as guest:
                guest.register(Counter())
                proxy.patience = patience
                proxy.cut()
                work(guest, devices, 6)
                numbers = guest.statistics()["resumed"], host.statistics()["resumed"]
                proxy.patience = None
                proxy.cut()
        assert min(numbers) > 0
        assert running.status("demo")["connection"] == "disconnected"
