"""The blocking host: offers that wait, running and stopping, and every way in which a link ends."""

import logging
import os
import threading
from collections.abc import Iterator
from uuid import UUID

import pytest

from host_client import Channel, Device, Offer
from tests.unit.host_client.fake_daemon import PATIENCE, FakeDaemon
from tests.unit.host_client.probe import (
    INTERFACE,
    RELID,
    Probe,
    connected,
    offered,
    open_request,
    opened,
    ring_gpadl,
)
from vmbusd.abi import device_link, link
from vmbusd.abi.errors import (
    LinkClosed,
    LinkLost,
    ObjectDead,
    ProtocolError,
    RefusedError,
    TimedOut,
    UsageError,
)
from vmbusd.abi.link import Object
from vmbusd.abi.native import HostSender


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as daemon:
        yield daemon


def test_an_offer_says_what_the_device_is(daemon: FakeDaemon) -> None:
    """Interface, instance, subchannel index and flags travel to the daemon; its yes is the offer."""
    instance = UUID(int=5)
    with connected(daemon) as (host, peer):
        peer.ask(device_link.OfferResult(1, 0, b""))
        offer = host.offer(Probe(), instance, subchannel_index=3, order=1, user_defined=b"pipe")

        sent = peer.expect(device_link.Offer)
        assert (sent.interface_id, sent.instance_id) == (INTERFACE, instance)
        assert (sent.subchannel_index, sent.order, sent.user_defined[:5]) == (3, 1, b"pipe\0")
        assert host.offers == [offer]
        assert host.channels == []


def test_a_refused_offer_raises_the_daemons_text(daemon: FakeDaemon) -> None:
    """A refusal is RefusedError, and the offer is forgotten."""
    with connected(daemon) as (host, peer):
        peer.ask(device_link.OfferResult(1, 1, b"too many channels"))
        with pytest.raises(RefusedError, match="too many channels"):
            host.offer(Probe())
        assert host.offers == []


def test_a_device_without_an_interface_is_refused(daemon: FakeDaemon) -> None:
    """Forgetting the interface GUID is found before anything is sent."""
    with connected(daemon) as (host, peer):
        with pytest.raises(UsageError, match=r"Device.interface must be a UUID"):
            host.offer(Device())
        assert peer.silent()


def test_many_offers_are_in_flight_together(daemon: FakeDaemon) -> None:
    """The daemon gets further offers while it has not answered the first ones."""
    with connected(daemon) as (host, peer):

        def answer() -> None:
            ids = [peer.expect(device_link.Offer).offer_id for _ in range(64)]
            for number in reversed(ids):
                peer.ask(device_link.OfferResult(number, 0, b""))
            for _ in range(36):
                peer.ask(device_link.OfferResult(peer.expect(device_link.Offer).offer_id, 0, b""))

        thread = threading.Thread(target=answer)
        thread.start()
        offers = host.offer_many(Probe() for _ in range(100))
        thread.join()

        assert len({offer.instance for offer in offers}) == 100
        assert host.offers == offers


def test_revoke_closes_first_and_waits(daemon: FakeDaemon) -> None:
    """Revoking an open channel: on_close, no signal any more, Revoke, and back when the daemon has let go."""
    device = Probe()
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, device)
        opened(daemon, peer, offer.id)
        channel = offer.channel
        assert channel is not None
        revoked: list[int] = []

        def let_go() -> None:
            revoked.append(peer.expect(device_link.Revoke).offer_id)
            peer.ask(device_link.Revoked(offer.id))

        thread = threading.Thread(target=let_go)
        thread.start()
        host.revoke(offer)
        thread.join()

        assert revoked == [offer.id]
        assert device.calls == [("open", 1), ("close", 1)]
        assert (channel.live, channel.signal(), host.offers) == (False, False, [])
        with pytest.raises(UsageError, match="not one of this link"):
            host.revoke(Offer(9, device, offer.instance, 0))


def test_a_revoke_whose_answer_is_lost_says_so(daemon: FakeDaemon) -> None:
    """TimedOut names partition, offer and seconds, in `run` or without it; a late answer is still taken."""
    with connected(daemon) as (host, peer):
        offer = offered(host, peer, Probe())
        with pytest.raises(TimedOut, match=f"demo: offer {offer.id} .*confirm the revoke within 0.05 s"):
            host.revoke(offer, timeout=0.05)
        with host.serving(), pytest.raises(TimedOut, match=r"within 0\.01 s"):
            host.revoke(offer, timeout=0.01)
        assert host.offers == [offer]
        peer.ask(device_link.Revoked(offer.id))
        host.revoke(offer, timeout=PATIENCE)
        assert host.offers == []


def test_an_offer_whose_answer_is_lost_says_so(daemon: FakeDaemon) -> None:
    """TimedOut names the offer, which goes on: it is there for whoever wants to revoke it."""
    with connected(daemon) as (host, peer):
        with pytest.raises(TimedOut, match=r"demo: offer 1 .*did not take the offer within 0\.05 s"):
            host.offer(Probe(), timeout=0.05)
        (offer,) = host.offers
        peer.expect(device_link.Offer)
        peer.ask(device_link.OfferResult(offer.id, 0, b""))
        peer.ask(device_link.Revoked(offer.id))
        host.revoke(offer, timeout=PATIENCE)
        assert offer.result.done()
        assert host.offers == []


def test_leaving_closes_channels_and_says_so(daemon: FakeDaemon) -> None:
    """Leaving the block: on_close for what is open, then Detached, then nothing of ours signals."""
    device = Probe()
    with connected(daemon) as (host, peer):
        with host.serving():
            offer = offered(host, peer, device)
            opened(daemon, peer, offer.id)
        channel = offer.channel
        assert channel is not None
        assert channel.live

    assert peer.expect(link.Detached) == link.Detached(0)
    assert (channel.live, device.calls[-1]) == (False, ("close", 1))
    assert host.signal_many([channel]) == 0
    assert host.statistics()["opens"] == 1
    host.close()


def test_stop_before_run_counts(daemon: FakeDaemon) -> None:
    """A stop that comes before run makes run return at once, and only that run."""
    with connected(daemon) as (host, peer):
        host.stop()
        host.run()
        with host.serving():
            opened(daemon, peer, offered(host, peer, Probe()).id)


def test_a_host_runs_once_at_a_time(daemon: FakeDaemon) -> None:
    """A second run, or a close while one runs, is the caller's error."""
    with connected(daemon) as (host, peer), host.serving():
        opened(daemon, peer, offered(host, peer, Probe()).id)
        with pytest.raises(UsageError, match="running already"):
            host.run()
        with pytest.raises(UsageError, match="stop the host before closing"):
            host.close()


def test_a_farewell_ends_run_with_its_reason(daemon: FakeDaemon) -> None:
    """Bye ends the link: run, and whoever waits for a result, gets the daemon's words."""
    with connected(daemon) as (host, peer):
        peer.send(link.encode(link.Bye(link.Code.STOPPING, b"the daemon stops")))
        with pytest.raises(LinkClosed, match="the daemon stops"):
            host.offer(Probe())
        with pytest.raises(LinkClosed, match="the daemon stops"):
            host.run()
        with pytest.raises(LinkClosed, match="the daemon stops"):
            host.offer(Probe())


def test_the_death_of_the_daemon_takes_no_signal_away(
    daemon: FakeDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a daemon an open channel goes on in both directions until stop; new offers fail."""
    device = Probe()
    caplog.set_level(logging.WARNING)
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, device)
        opened(daemon, peer, offer.id)
        peer.close()
        with pytest.raises(LinkLost):
            host.offer(Probe())
        assert offer.channel is not None

        assert offer.channel.signal()
        bell = daemon.doorbell(Object.HOST_SEMAPHORE, 0)
        HostSender(daemon.maps[Object.HOST_PAGE, 0], bell).signal(RELID)
        assert device.signalled.wait(PATIENCE)
        del bell
    assert "open channels go on without it" in caplog.text


@pytest.mark.parametrize(
    ("packet", "message"),
    [
        (link.HEADER.encode(link.Header(200)), "unknown device message kind 200"),
        (link.HEADER.encode(link.Header(device_link.Kind.OPEN)) + b"short", "Open needs 156 bytes, 5 came"),
        (b"short", "Header needs 24 bytes, 5 came"),
        (device_link.encode(device_link.Close(77, 1)), "Close for unknown offer 77"),
        (device_link.encode(device_link.OfferResult(77, 0, b"")), "OfferResult for unknown offer 77"),
        (device_link.encode(device_link.Opened(1, 1, 0)), "Opened, which only hosts send"),
        (bytes(link.MAX_HOST_PACKET + 1), "longer than 131072 bytes"),
    ],
)
def test_nonsense_from_the_daemon_ends_the_link(daemon: FakeDaemon, packet: bytes, message: str) -> None:
    """An unknown, malformed or impossible packet ends run with ProtocolError that says what was wrong."""
    with connected(daemon) as (host, peer):
        peer.sock.setsockopt(1, 7, 1 << 20)
        peer.send(packet)
        with pytest.raises(ProtocolError, match=message):
            host.run()


def test_descriptors_nobody_asked_for_are_closed(daemon: FakeDaemon) -> None:
    """A device message that carries a descriptor is an error, and the descriptor does not leak."""
    with connected(daemon) as (host, peer):
        before = len(os.listdir("/proc/self/fd"))
        peer.send(device_link.encode(device_link.OfferResult(1, 0, b"")), [0])
        with pytest.raises(ProtocolError, match="1 descriptors that nobody asked for"):
            host.run()
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_truncated_object_ends_run(daemon: FakeDaemon) -> None:
    """When a peer truncates shared memory, run ends with the object's name instead of the process."""
    with connected(daemon) as (host, peer):
        offer = offered(host, peer, Probe())
        peer.ask(ring_gpadl(offer.id))
        daemon.table.set_target(RELID, 0)
        peer.ask(open_request(offer.id))

        def touch(channel: Channel) -> None:
            page = channel.memory(0)
            os.ftruncate(daemon.fds[Object.RAM, 0], 0)
            page[0] = 1

        device = offer.device
        assert isinstance(device, Probe)
        device.opening = touch
        with pytest.raises(ObjectDead, match="demo-ram"):
            host.run()
