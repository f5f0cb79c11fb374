"""Links that live on: a socket is lost at any point, and applications see nothing but a number."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest

from guest_client import Guest
from host_client.async_host import AsyncHost
from host_client.channel import Channel as HostChannel
from host_client.device import Device
from host_client.host import Host
from tests.live.daemon import PATIENCE, Daemon, daemon, eventually, seqpacket
from tests.live.guest_drivers import COUNTED, Counter
from tests.live.guest_support import MODES, Mode, Signaller, Storm, begin, produce, seen
from tests.live.peers import hello
from tests.live.proxy import Proxy
from vmbusd.abi import paths
from vmbusd.abi.errors import LinkLost, RefusedError
from vmbusd.abi.link import HelloFlag, Role

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


@pytest.mark.parametrize("mode", MODES)
def test_signals_and_callbacks_go_on_while_links_are_away(running: Daemon, mode: Mode) -> None:
    """No daemon is needed for them; what was asked meanwhile is done when the links are back."""
    devices = [Signaller() for _ in range(4)]
    with (
        Proxy(running.runtime_dir) as proxy,
        Host.connect("demo", runtime_dir=proxy.directory) as host,
        host.serving(),
    ):
        offers = host.offer_many(devices)
        with Guest.attach("demo", runtime_dir=proxy.directory) as guest:
            guest.register(Counter())
            channels = begin(guest, mode)
            with Storm(offers) as storm, ThreadPoolExecutor() as threads:
                with proxy.away():
                    begun = seen(offers[0])
                    eventually(lambda: seen(offers[0]) > begun + 100, "callbacks go on")
                    pairs = [(channel, 1 - channel.target_vp) for channel in channels]
                    moved = threads.submit(guest.retarget_many, pairs)
                    offered = threads.submit(host.offer, Asked(UUID(int=5)))
                    eventually(lambda: storm.rounds > 2000, "signals go on")
                    assert not moved.done()
                    assert not offered.done()
                assert moved.result(PATIENCE) == [None] * 4
                offered.result(PATIENCE)
            eventually(storm.all_seen, "everything is seen")
            numbers = host.statistics()["resumed"], guest.statistics()["resumed"]
            assert numbers == (1, 1)


def test_a_host_in_an_event_loop_comes_back_too(running: Daemon) -> None:
    """The asyncio flavour resumes while it serves, and while it only waits for an offer."""

    async def play(proxy: Proxy) -> None:
        async with await AsyncHost.connect("demo", runtime_dir=proxy.directory) as host:
            await host.offer_many([Signaller() for _ in range(3)])
            proxy.cut()
            await host.offer(Signaller())
            serving = asyncio.create_task(host.serve())
            devices = [Asked(UUID(int=number)) for number in range(4)]
            for device in devices:
                proxy.cut()
                offer = await host.offer(device)
                proxy.cut()
                await host.revoke(offer)
            proxy.patience = 6
            proxy.cut()
            for offer in await host.offer_many([Asked(UUID(int=number)) for number in range(40)]):
                await host.revoke(offer)
            assert [offer.id for offer in host.offers] == [1, 2, 3, 4]
            assert host.statistics()["resumed"] > 5
            proxy.patience = None
            resumed = host.statistics()["resumed"]
            proxy.cut()
            # A farewell has a second: whoever is halted for longer is gone only with its process.
            async with asyncio.timeout(PATIENCE):
                while host.statistics()["resumed"] == resumed:
                    await asyncio.sleep(0.005)
            host.stop()
            await serving

    with Proxy(running.runtime_dir) as proxy:
        asyncio.run(play(proxy))
        eventually(lambda: running.status("demo")["hosts"] == [], "it has left")


def test_a_guest_that_never_lost_anything_resumed_nothing(running: Daemon) -> None:
    """The statistic is 0 for both flavours, and an orderly end is one at once: nobody waits for grace."""
    with Host.connect("demo", runtime_dir=running.runtime_dir) as host, host.serving():
        host.offer(Signaller())
        with Guest.attach("demo", runtime_dir=running.runtime_dir) as guest:
            guest.register(Counter())
            begin(guest)
            assert (guest.statistics()["resumed"], host.statistics()["resumed"]) == (0, 0)
        view = running.status("demo")
        assert view["guest"] is None
        assert [vp["state"] for vp in view["workers"]] == ["vacant", "vacant"]
    assert running.status("demo")["hosts"] == []
    assert "link lost" not in running.text()


def test_a_daemon_that_does_not_come_back_is_lost(runtime_dir: Path) -> None:
    """After the grace time it is as ever: what needs the daemon raises LinkLost, and nothing else."""
    with (
        daemon(runtime_dir, "--partition", "demo:2", "--grace", "0.5") as running,
        Proxy(runtime_dir) as proxy,
        Host.connect("demo", runtime_dir=proxy.directory) as host,
        host.serving(),
    ):
        (offer,) = host.offer_many([Signaller()])
        with Guest.attach("demo", runtime_dir=proxy.directory) as guest:
            guest.register(Counter())
            (channel,) = begin(guest)
            with proxy.away():
                with pytest.raises(LinkLost, match=r"not back within 0\.5 s"):
                    channel.retarget(1 - channel.target_vp)
                with pytest.raises(LinkLost):
                    host.offer(Signaller())
                eventually(lambda: running.status("demo")["guest"] is None, "the guest is given up")
                eventually(lambda: not running.status("demo")["hosts"][0]["linked"], "so is the host")
            produce(offer)
            with pytest.raises(LinkLost):
                channel.close()


def test_a_daemon_that_does_not_know_the_link_ends_it(runtime_dir: Path) -> None:
    """A new daemon without the old one's links refuses the token, and that is final, with its reason."""
    with Proxy(runtime_dir) as proxy:
        with daemon(runtime_dir, "--partition", "demo:2"):
            host = Host.connect("demo", runtime_dir=proxy.directory)
            away = proxy.away()
            away.__enter__()
        with daemon(runtime_dir, "--partition", "demo:2"), host:
            away.__exit__(None, None, None)
            with pytest.raises(RefusedError, match="no link to resume by that token"):
                host.run()


def test_a_host_that_never_got_its_welcome_is_forgotten_while_its_process_lives(runtime_dir: Path) -> None:
    """The daemon dies between hello and welcome; the process asks anew, and the link it never heard of goes
    after the grace time, number and objects too."""
    arguments = ("--partition", "demo:2", "--grace", "5")
    first = Daemon(runtime_dir, *arguments).wait_ready()
    with seqpacket(runtime_dir / paths.HOST_SOCKET) as unheard:
        unheard.send(hello(partition="demo", role=Role.HOST, flags=HelloFlag.RESUMABLE))
        eventually(lambda: first.status("demo")["hosts"], "the link is there")
        first.kill()
        first.log.unlink()
    with daemon(runtime_dir, *arguments) as second, Host.connect("demo", runtime_dir=runtime_dir) as host:
        assert host.link == 1
        eventually(
            lambda: [each["link"] for each in second.status("demo")["hosts"]] == [1], "link 0 is forgotten"
        )
        assert [name for name in second.objects() if name.endswith("host0")] == []
        with Host.connect("demo", runtime_dir=runtime_dir) as third:
            assert third.link == 0
