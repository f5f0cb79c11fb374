"""Devices that wait for room or for packets, and what ends such a wait."""

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from host_client import Channel
from tests.unit.host_client.fake_daemon import FakeDaemon
from tests.unit.host_client.probe import connected
from tests.unit.host_client.ring_devices import PATIENCE, Plain, Taker, first_of, opened
from tests.unit.host_client.ring_guest import RingGuest
from vmbusd.abi import device_link
from vmbusd.abi.errors import ChannelGone
from vmbusd.abi.packets import Packet


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as daemon:
        yield daemon


@pytest.fixture
def guest(daemon: FakeDaemon) -> Iterator[RingGuest]:
    daemon.add_host(0)
    guest = RingGuest(daemon)
    yield guest
    guest.close()


def test_a_callback_waits_for_room(daemon: FakeDaemon, guest: RingGuest) -> None:
    """A device that answers more than the ring holds waits in its callback until the guest has read."""
    device = Taker()
    device.then = lambda channel, _: channel.send_many([bytes(1000)] * 20, timeout=PATIENCE)
    with connected(daemon) as (host, peer), host.serving():
        channel = opened(host, peer, guest, device)
        guest.send(b"go")
        got: list[Packet] = []
        deadline = time.monotonic() + PATIENCE
        while len(got) < 20 and time.monotonic() < deadline:
            got += guest.receive_many()
        assert len(got) == 20
        assert host.statistics()["device_errors"] == 0
        assert channel.rings().statistics()["sent_full"] > 0


def test_signals_of_others_are_kept_while_a_callback_waits(daemon: FakeDaemon, guest: RingGuest) -> None:
    """Packets that come while the callback waits for room are delivered after it has returned."""
    device = Taker()
    room = threading.Event()

    def fill(channel: Channel, _packets: list[Packet]) -> None:
        if not room.is_set():
            room.set()
            channel.send_many([bytes(1000)] * 4, timeout=PATIENCE)

    device.then = fill
    with connected(daemon) as (host, peer), host.serving():
        opened(host, peer, guest, device)
        guest.send(b"12345678")
        assert room.wait(PATIENCE)
        guest.send(b"abcdefgh")
        guest.both.port.signal()
        time.sleep(0.05)
        assert device.packets == [b"12345678"]
        first_of(guest)
        assert device.wait_for(2)


@pytest.mark.parametrize("where", ["packets", "thread"])
def test_a_close_ends_who_waits_for_room(daemon: FakeDaemon, guest: RingGuest, where: str) -> None:
    """A wait for room ends with ChannelGone at the guest's close; on_close comes after the callback."""
    device = Taker()
    ended: list[str] = []
    waiting = threading.Event()

    def wait(channel: Channel, *_: object) -> None:
        waiting.set()
        try:
            channel.send_many([bytes(1000)] * 20, timeout=PATIENCE)
        except ChannelGone as error:
            ended.append(str(error))
            assert device.closed == []
            raise

    if where == "packets":
        device.then = wait
    with connected(daemon) as (host, peer), host.serving(), ThreadPoolExecutor() as threads:
        channel = opened(host, peer, guest, device)
        thread = None
        if where == "packets":
            guest.send(b"go")
        else:
            thread = threads.submit(channel.send_many, [bytes(1000)] * 20, timeout=PATIENCE)
            waiting.set()
        assert waiting.wait(PATIENCE)
        time.sleep(0.05)
        begun = time.monotonic()
        peer.ask(device_link.Close(channel.offer.id, 1))
        peer.expect(device_link.Closed)
        assert time.monotonic() - begun < PATIENCE / 2
        assert device.closed == ["closed"]
        if thread is not None:
            with pytest.raises(ChannelGone, match="the guest closed it"):
                thread.result(PATIENCE)
        else:
            assert len(ended) == 1
            assert "the guest closed it" in ended[0]
        with pytest.raises(ChannelGone, match="generation 1 is closed: the guest closed it"):
            channel.send(b"x")
        assert host.statistics()["device_errors"] == 0


@pytest.mark.parametrize("close", ["guest", "host"])
def test_on_close_may_join_a_thread_that_waits(daemon: FakeDaemon, guest: RingGuest, close: str) -> None:
    """A device whose thread waits for packets may wait for the end of that thread in on_close."""

    class Joining(Plain):
        def on_open(self, channel: Channel) -> None:
            self.thread = threading.Thread(target=self.receive, args=(channel,))
            self.thread.start()

        def receive(self, channel: Channel) -> None:
            with contextlib.suppress(ChannelGone):
                channel.receive()

        def on_close(self, channel: Channel) -> None:
            self.thread.join(PATIENCE)
            assert not self.thread.is_alive()

    with connected(daemon) as (host, peer):
        with host.serving():
            channel = opened(host, peer, guest, Joining())
            time.sleep(0.05)
            if close == "guest":
                peer.ask(device_link.Close(channel.offer.id, 1))
                peer.expect(device_link.Closed)
        begun = time.monotonic()
        host.close()
        assert time.monotonic() - begun < PATIENCE / 2
        assert host.statistics()["device_errors"] == 0


def test_a_rescind_while_sending(daemon: FakeDaemon, guest: RingGuest) -> None:
    """Revoking an offer ends the sends of other threads in one clear exception."""
    with connected(daemon) as (host, peer), host.serving(), ThreadPoolExecutor() as threads:
        channel = opened(host, peer, guest, Plain())
        sending = threads.submit(channel.send_many, (bytes(64) for _ in iter(int, 1)), timeout=PATIENCE)
        time.sleep(0.05)
        revoking = threads.submit(host.revoke, channel.offer)
        peer.ask(device_link.Revoked(peer.expect(device_link.Revoke).offer_id))
        revoking.result(PATIENCE)
        with pytest.raises(ChannelGone, match="rescinded"):
            sending.result(PATIENCE)
