"""What the host makes of the requests of the bus and of the guest's signals, and what it answers."""

import threading
from collections.abc import Iterator

import pytest

from host_client import Channel
from host_client.asked import STATUS_FAILED
from tests.unit.host_client.fake_daemon import PATIENCE, FakeDaemon
from tests.unit.host_client.probe import (
    RELID,
    RING_GPADL,
    Probe,
    connected,
    offered,
    open_request,
    opened,
    ring_gpadl,
)
from vmbusd.abi import device_link, gpadl, layout
from vmbusd.abi.errors import (
    ChannelGone,
    UsageError,
)
from vmbusd.abi.link import Object
from vmbusd.abi.native import EventFlags, HostSender, Words


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as daemon:
        yield daemon


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


def test_a_channel_that_the_bus_takes_back(daemon: FakeDaemon) -> None:
    """Withdraw closes the channel; Revoke says that nothing of it is signalled any more (cases 114, 194)."""
    device = Probe()
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, device)
        opened(daemon, peer, offer.id)
        channel = offer.channel
        assert channel is not None

        peer.ask(device_link.Withdraw(offer.id))

        assert peer.expect(device_link.Revoke).offer_id == offer.id
        assert not channel.live
        peer.ask(device_link.Revoked(offer.id))
        assert offer.gone is not None
        offer.gone.result(PATIENCE)
        assert host.channels == []


def test_requests_for_an_offer_that_is_gone_by_now_are_dropped(daemon: FakeDaemon) -> None:
    """A host that was stopped reads a Close and the Revoked after it at once; its other offers go on."""
    with connected(daemon) as (host, peer):
        offer, other = offered(host, peer, Probe()), offered(host, peer, Probe())
        peer.ask(device_link.Close(offer.id, 1))
        peer.ask(device_link.Revoked(offer.id))
        peer.ask(device_link.Retarget(other.id, 1, 1))
        with host.serving():
            assert peer.expect(device_link.Retargeted).offer_id == other.id

        assert host.offers == [other]
