"""The host library against a daemon that says what the test says: offers, opens, signals, farewells."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from host_client import Channel, Device, Host, Offer
from host_client.core import STATUS_FAILED
from tests.unit.host_client.fake_daemon import PATIENCE, FakeDaemon, Peer
from vmbusd.abi import device_link, gpadl, layout, link
from vmbusd.abi.attach import attach_socket
from vmbusd.abi.errors import (
    ChannelGone,
    LinkClosed,
    LinkLost,
    ObjectDead,
    ProtocolError,
    RefusedError,
    UsageError,
)
from vmbusd.abi.link import Object, Role
from vmbusd.abi.native import EventFlags, HostSender, Words

INTERFACE = UUID("6b1f0c52-2f3d-4f6e-9c1a-0d5f7b2f9f01")
RING_GPADL = 0xE1E10
RELID = 7


class Probe(Device):
    """Writes down every callback."""

    interface = INTERFACE

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.threads: set[int] = set()
        self.signalled = threading.Event()
        self.opening: Callable[[Channel], None] = lambda _channel: None

    def on_open(self, channel: Channel) -> None:
        self.calls.append(("open", channel.generation))
        self.opening(channel)

    def on_close(self, channel: Channel) -> None:
        self.calls.append(("close", channel.generation))
        assert not channel.signal()

    def on_retarget(self, channel: Channel, vp: int) -> None:
        assert channel.target_vp == vp
        self.calls.append(("retarget", vp))

    def on_signal(self, channel: Channel) -> None:
        self.threads.add(threading.get_ident())
        self.calls.append(("signal", channel.generation))
        self.signalled.set()


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as daemon:
        yield daemon


@contextmanager
def connected(daemon: FakeDaemon) -> Iterator[tuple[Host, Peer]]:
    attached = attach_socket(daemon.socket_for(Role.HOST), Role.HOST, "demo")
    with Host(attached) as host:
        peer = daemon.peers[-1]
        peer.expect(link.Hello)
        yield host, peer


def offered(host: Host, peer: Peer, device: Device) -> Offer:
    """An offer that the daemon accepts, in a thread of its own."""

    def accept() -> None:
        peer.ask(device_link.OfferResult(peer.expect(device_link.Offer).offer_id, 0, b""))

    thread = threading.Thread(target=accept)
    thread.start()
    offer = host.offer(device)
    thread.join()
    return offer


def ring_gpadl(
    offer: int, handle: int = RING_GPADL, pfns: tuple[int, ...] = (4, 5, 9, 8)
) -> device_link.Gpadl:
    ranges = gpadl.encode_ranges([gpadl.whole_pages(pfns)])
    return device_link.Gpadl(offer, handle, 1, 0, ranges)


def open_request(offer: int, generation: int = 1, *, vp: int = 0, downstream: int = 2) -> device_link.Open:
    return device_link.Open(
        offer, generation, RELID, RELID, 0x2001, vp, RING_GPADL, downstream, b"user".ljust(120, b"\0")
    )


def opened(daemon: FakeDaemon, peer: Peer, offer: int, generation: int = 1) -> None:
    """The requests of an open and the host's answers; the host must be running."""
    if generation == 1:
        peer.ask(ring_gpadl(offer))
        assert peer.expect(device_link.GpadlAccepted) == device_link.GpadlAccepted(offer, RING_GPADL, 0)
    daemon.table.set_target(RELID, 0)
    peer.ask(open_request(offer, generation))
    assert peer.expect(device_link.Opened) == device_link.Opened(offer, generation, 0)


# -- offers --------------------------------------------------------------------------------------------------


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


# -- open, close, retarget -----------------------------------------------------------------------------------


def test_an_open_reaches_the_device_and_is_answered(daemon: FakeDaemon) -> None:
    """Open tells the device relid, flag, generation, target, ring pages and user data; then comes Opened."""
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, Probe())
        opened(daemon, peer, offer.id)

        channel = offer.channel
        assert channel is not None
        assert host.channels == [channel]
        assert (channel.relid, channel.event_flag, channel.flag) == (RELID, RELID, RELID)
        assert (channel.generation, channel.target_vp, channel.live) == (1, 0, True)
        assert (channel.ring_pages, channel.downstream_page) == ([4, 5, 9, 8], 2)
        assert channel.user_data == b"user".ljust(120, b"\0")


def test_a_device_may_signal_inside_its_open_handler(daemon: FakeDaemon) -> None:
    """The channel is live before on_open runs: its signal reaches the target VP's page (case 072)."""
    device = Probe()
    seen: list[bool] = []
    device.opening = lambda channel: seen.append(channel.signal())
    with connected(daemon) as (host, peer), host.serving():
        opened(daemon, peer, offered(host, peer, device).id)

        assert seen == [True]
        assert EventFlags(daemon.maps[Object.EVENTS, 0]).pending() == [RELID]


def test_signals_go_to_the_target_in_the_table(daemon: FakeDaemon) -> None:
    """A retarget takes effect by the table alone; a burst of signals of many channels is one call."""
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, Probe())
        opened(daemon, peer, offer.id)
        channel = offer.channel
        assert channel is not None
        daemon.table.set_target(RELID, 1)

        assert host.signal_many([channel, channel]) == 1
        assert not channel.signal()

        assert EventFlags(daemon.maps[Object.EVENTS, 0], layout.PAGE).pending() == [RELID]
        assert host.statistics()["signals"] == 3
        assert host.statistics()["transitions"] == 1


def test_ring_pages_are_guest_memory(daemon: FakeDaemon) -> None:
    """Page k of the ring is page pfn[k] of guest memory, both ways."""
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, Probe())
        opened(daemon, peer, offer.id)
        channel = offer.channel
        assert channel is not None
        channel.memory(2)[:3] = b"abc"

        assert daemon.maps[Object.RAM, 0][9 * layout.PAGE :][:3] == b"abc"
        assert channel.memory(2) is channel.memory(2)
        with pytest.raises(UsageError, match="ring page 4 of 4"):
            channel.memory(4)


def test_close_stops_signals_and_takes_the_ring_away(daemon: FakeDaemon) -> None:
    """After Closed the old channel gives neither signal nor memory, and a new open is a new channel."""
    device = Probe()
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, device)
        opened(daemon, peer, offer.id)
        old = offer.channel
        assert old is not None
        page = old.memory(0)
        peer.ask(device_link.Close(offer.id, 1))
        assert peer.expect(device_link.Closed) == device_link.Closed(offer.id, 1)

        assert (old.signal(), old.closed, offer.channel) == (False, True, None)
        with pytest.raises(ChannelGone, match="relid 7: generation 1 is closed"):
            old.memory(0)
        with pytest.raises(ValueError, match="released"):
            page[0]
        opened(daemon, peer, offer.id, 2)
        assert (old.signal(), offer.channel is old) == (False, False)
        assert device.calls == [("open", 1), ("close", 1), ("open", 2)]


def test_a_device_that_keeps_ring_memory_is_named(
    daemon: FakeDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    """A view that the device did not let go of is logged with relid and page; the close completes."""
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, Probe())
        opened(daemon, peer, offer.id)
        assert offer.channel is not None
        kept = Words(offer.channel.memory(1))
        peer.ask(device_link.Close(offer.id, 1))
        peer.expect(device_link.Closed)

        assert "relid 7: the device still uses ring page 1" in caplog.text
        assert kept.load(0) == 0
        del kept


def test_a_retarget_is_told_and_answered(daemon: FakeDaemon) -> None:
    """Retarget updates the channel and calls the device; one for another generation is only answered."""
    device = Probe()
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, device)
        opened(daemon, peer, offer.id)
        peer.ask(device_link.Retarget(offer.id, 1, 1))
        assert peer.expect(device_link.Retargeted) == device_link.Retargeted(offer.id, 1, 1, 0)
        peer.ask(device_link.Retarget(offer.id, 9, 0))
        assert peer.expect(device_link.Retargeted) == device_link.Retargeted(offer.id, 9, 0, 0)

        assert device.calls == [("open", 1), ("retarget", 1)]
        assert host.statistics()["retargets"] == 1


def test_a_burst_of_requests_is_answered_in_order(daemon: FakeDaemon) -> None:
    """A thousand requests sent without waiting get a thousand answers in the same order."""
    with connected(daemon) as (host, peer):
        offer = offered(host, peer, Probe())
        with host.serving():
            opened(daemon, peer, offer.id)
            answers: list[int] = []
            reader = threading.Thread(
                target=lambda: answers.extend(peer.expect(device_link.Retargeted).vp for _ in range(1000))
            )
            reader.start()
            for number in range(1000):
                peer.ask(device_link.Retarget(offer.id, 1, number))
            reader.join()

        assert answers == list(range(1000))


# -- what an open is refused for -----------------------------------------------------------------------------


def test_an_open_that_the_device_refuses_fails(daemon: FakeDaemon, caplog: pytest.LogCaptureFixture) -> None:
    """An exception in on_open is logged, the open fails with bit 31 set, and the channel is not live."""
    device = Probe()
    kept: list[Channel] = []

    def refuse(channel: Channel) -> None:
        kept.append(channel)
        raise ValueError("no such disk")

    device.opening = refuse
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, device)
        peer.ask(ring_gpadl(offer.id))
        peer.expect(device_link.GpadlAccepted)
        peer.ask(open_request(offer.id))

        assert peer.expect(device_link.Opened) == device_link.Opened(offer.id, 1, STATUS_FAILED)
        assert (kept[0].signal(), offer.channel) == (False, None)
        assert "no such disk" in caplog.text
        # The record's traceback holds the channel, and a channel what it signals through.
        caplog.clear()
        kept.clear()
        assert host.statistics()["open_failures"] == 1
        device.opening = lambda _channel: None
        peer.ask(open_request(offer.id, 2))
        assert peer.expect(device_link.Opened).status == 0


@pytest.mark.parametrize(
    ("ranges", "downstream"),
    [
        ([gpadl.whole_pages([1, 2])], 0),
        ([gpadl.whole_pages([1, 2])], 2),
        ([gpadl.whole_pages([1]), gpadl.whole_pages([2])], 1),
        ([gpadl.Range(4096, 8, (1, 2))], 1),
        ([gpadl.Range(4097, 0, (1, 2))], 1),
        (None, 1),
    ],
)
def test_an_open_with_impossible_rings_fails(
    daemon: FakeDaemon, ranges: list[gpadl.Range] | None, downstream: int
) -> None:
    """Rings need one range of whole pages and a page on each side of the split (cases 065, 066)."""
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, Probe())
        if ranges is not None:
            peer.ask(device_link.Gpadl(offer.id, RING_GPADL, len(ranges), 0, gpadl.encode_ranges(ranges)))
            assert peer.expect(device_link.GpadlAccepted).status == 0
        peer.ask(open_request(offer.id, downstream=downstream))

        assert peer.expect(device_link.Opened) == device_link.Opened(offer.id, 1, STATUS_FAILED)


@pytest.mark.parametrize("ranges", [b"", gpadl.encode_ranges([gpadl.whole_pages([3, 64])])])
def test_memory_that_is_not_there_is_refused(daemon: FakeDaemon, ranges: bytes) -> None:
    """A GPADL without its ranges, or with a page beyond guest memory, is answered with a failure."""
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, Probe())
        peer.ask(device_link.Gpadl(offer.id, 1, 1, 0, ranges))

        assert peer.expect(device_link.GpadlAccepted) == device_link.GpadlAccepted(offer.id, 1, STATUS_FAILED)
        assert offer.gpadls == {}


def test_memory_is_torn_down_at_once_but_a_ring_only_after_close(daemon: FakeDaemon) -> None:
    """Teardown of a buffer is answered; of the open ring's GPADL only when the channel has been closed."""
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, Probe())
        opened(daemon, peer, offer.id)
        peer.ask(ring_gpadl(offer.id, 0x77, (30, 31)))
        peer.expect(device_link.GpadlAccepted)
        peer.ask(device_link.Teardown(offer.id, RING_GPADL))
        peer.ask(device_link.Teardown(offer.id, 0x77))
        assert peer.expect(device_link.GpadlTornDown).gpadl == 0x77
        assert list(offer.gpadls) == [RING_GPADL]

        peer.ask(device_link.Close(offer.id, 1))
        assert peer.expect(device_link.Closed).generation == 1
        assert peer.expect(device_link.GpadlTornDown).gpadl == RING_GPADL
        assert offer.gpadls == {}


# -- the guest's signals -------------------------------------------------------------------------------------


def test_the_guests_signal_reaches_the_device(daemon: FakeDaemon) -> None:
    """A flag set on the host's page wakes the host and calls on_signal; one of no channel is counted."""
    device = Probe()
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, device)
        opened(daemon, peer, offer.id)
        bell = daemon.doorbell(Object.HOST_SEMAPHORE, 0)
        sender = HostSender(daemon.maps[Object.HOST_PAGE, 0], bell)
        sender.signal(99)
        sender.signal(RELID)

        assert device.signalled.wait(PATIENCE)
        assert device.calls == [("open", 1), ("signal", 1)]
        assert host.statistics()["guest_signals"] == 1
        assert host.statistics()["unrouted"] == 1
        del sender, bell


def test_a_signal_handler_of_a_device_may_offer(daemon: FakeDaemon) -> None:
    """A callback may wait for an offer, of a subchannel for example, while requests queue up behind it."""
    device = Probe()
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, device)

        def offer_subchannel(_channel: Channel) -> None:
            host.offer(Probe(), offer.instance, subchannel_index=1)

        device.opening = offer_subchannel
        peer.ask(ring_gpadl(offer.id))
        peer.expect(device_link.GpadlAccepted)
        peer.ask(open_request(offer.id))
        peer.ask(device_link.Retarget(offer.id, 1, 1))
        assert peer.expect(device_link.Offer).subchannel_index == 1
        peer.ask(device_link.OfferResult(2, 0, b""))

        assert peer.expect(device_link.Opened).status == 0
        assert peer.expect(device_link.Retargeted).vp == 1
        assert len(host.offers) == 2


def test_a_device_error_costs_nobody_else(daemon: FakeDaemon, caplog: pytest.LogCaptureFixture) -> None:
    """Exceptions in on_signal, on_retarget and on_close are logged and counted; every request is answered."""

    class Broken(Probe):
        def on_signal(self, channel: Channel) -> None:
            super().on_signal(channel)
            raise RuntimeError("broken signal")

        def on_retarget(self, channel: Channel, vp: int) -> None:
            raise RuntimeError("broken retarget")

        def on_close(self, channel: Channel) -> None:
            raise RuntimeError("broken close")

    device = Broken()
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, device)
        opened(daemon, peer, offer.id)
        bell = daemon.doorbell(Object.HOST_SEMAPHORE, 0)
        HostSender(daemon.maps[Object.HOST_PAGE, 0], bell).signal(RELID)
        assert device.signalled.wait(PATIENCE)
        peer.ask(device_link.Retarget(offer.id, 1, 1))
        assert peer.expect(device_link.Retargeted).status == 0
        peer.ask(device_link.Close(offer.id, 1))
        assert peer.expect(device_link.Closed).generation == 1

        assert host.statistics()["device_errors"] == 3
        for what in ("signal", "retarget", "close"):
            assert f"broken {what}" in caplog.text
        # The records' tracebacks hold the channel, and a channel what it signals through.
        caplog.clear()
        del bell


# -- the end -------------------------------------------------------------------------------------------------


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
        (link.HEADER.encode(link.Header(device_link.Kind.OPEN)) + b"short", "Open needs 152 bytes, 5 came"),
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
