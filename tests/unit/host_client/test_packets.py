"""Packets between a device and a guest: callbacks, modes, budgets, waiting, memory, the end."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from host_client import AsyncHost, Channel, feed
from tests.unit.host_client.fake_daemon import FakeDaemon
from tests.unit.host_client.probe import connected, offered, open_request
from tests.unit.host_client.ring_devices import PATIENCE, Plain, Taker, eventually, first_of, opened
from tests.unit.host_client.ring_guest import PAGES, RingGuest, buffer_gpadl
from vmbusd.abi import device_link, layout
from vmbusd.abi.attach import attach_socket
from vmbusd.abi.delivery import Mode
from vmbusd.abi.errors import ChannelGone, ProtocolError, UsageError
from vmbusd.abi.gpadl import Range
from vmbusd.abi.link import Object, Role
from vmbusd.abi.packets import Packet, TransferPages, TransferRange


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


def test_a_device_gets_packets(daemon: FakeDaemon, guest: RingGuest) -> None:
    """What the guest sends comes to on_packets in order, and nothing comes to on_signal."""
    device = Taker()
    with connected(daemon) as (host, peer), host.serving():
        opened(host, peer, guest, device)
        expected = [number.to_bytes(8, "little") for number in range(3000)]
        with guest.taking():
            assert guest.send_many(expected, timeout=PATIENCE) == 3000
        assert device.wait_for(3000)
        assert device.packets == expected
        assert device.signals == 0


def test_packets_sent_before_the_open(daemon: FakeDaemon, guest: RingGuest) -> None:
    """What lies in the ring at the open is delivered without a signal; the incoming ring is masked first."""
    device = Taker()
    masks: list[int] = []
    device.opening = lambda _: masks.append(guest.both._views[0].header()["interrupt_mask"])
    with connected(daemon) as (host, peer), host.serving():
        guest.both.port.writer.put(b"early")
        opened(host, peer, guest, device)
        assert device.wait_for(1)
        assert masks == [1]
        eventually(lambda: not guest.both._views[0].header()["interrupt_mask"])


def test_valid_indices_of_a_former_life(daemon: FakeDaemon, guest: RingGuest) -> None:
    """A channel may be opened with rings that are not at their start; what cannot be is refused."""
    device = Taker()
    for _ in range(3):
        guest.both.port.writer.put(b"12345678")
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, device)
        assert guest.open(peer, offer.id) == 0
        assert device.wait_for(3)
        peer.ask(device_link.Close(offer.id, 1))
        peer.expect(device_link.Closed)
        assert guest.open(peer, offer.id, 2) == 0
        guest.send(b"abcdefgh")
        assert device.wait_for(4)
        peer.ask(device_link.Close(offer.id, 2))
        peer.expect(device_link.Closed)
        daemon.maps[Object.RAM, 0][PAGES[2] * layout.PAGE] = 3
        assert guest.open(peer, offer.id, 3) != 0
        assert offer.channel is None


def test_echo(daemon: FakeDaemon, guest: RingGuest) -> None:
    """A device that answers in its callback: requests are completed, the guest is signalled."""
    device = Taker()

    def answer(channel: Channel, packets: list[Packet]) -> None:
        for packet in packets:
            channel.complete(packet, packet.payload)

    device.then = answer
    with connected(daemon) as (host, peer), host.serving():
        opened(host, peer, guest, device)
        futures = [guest.request_future(b"%08d" % number) for number in range(20)]
        eventually(guest.heard)
        eventually(lambda: guest.receive(0) or futures[-1].done())
        assert [future.result(0) for future in futures] == [b"%08d" % number for number in range(20)]


def test_isr_devices_do_the_rest(daemon: FakeDaemon, guest: RingGuest) -> None:
    """With Mode.ISR only on_signal is called; receive works there, and asks for the next signal."""

    class Isr(Taker):
        mode = Mode.ISR

        def on_signal(self, channel: Channel) -> None:
            self.signals += 1
            got = channel.receive_many()
            while got:
                self.on_packets(channel, got)
                got = channel.receive_many()

    device = Isr()
    with connected(daemon) as (host, peer), host.serving():
        opened(host, peer, guest, device)
        for number in range(5):
            guest.send(b"12345678")
            assert device.wait_for(number + 1)
        assert device.signals == 5


def test_direct_devices_are_not_masked(daemon: FakeDaemon, guest: RingGuest) -> None:
    """With Mode.DIRECT the ring stays unmasked while the callback runs."""

    class Direct(Taker):
        mode = Mode.DIRECT

    device = Direct()
    masks: list[int] = []
    device.then = lambda *_: masks.append(guest.both._views[0].header()["interrupt_mask"])
    with connected(daemon) as (host, peer), host.serving():
        opened(host, peer, guest, device)
        eventually(lambda: not guest.both._views[0].header()["interrupt_mask"])
        guest.send(b"12345678")
        assert device.wait_for(1)
        eventually(lambda: masks == [0])


def test_a_busy_channel_takes_turns(daemon: FakeDaemon, guest: RingGuest) -> None:
    """A channel that has used up its budget is served again, after a look at the flags of all channels."""

    class Small(Taker):
        budget_packets = 4

    device = Small()
    with connected(daemon) as (host, peer), host.serving():
        guest.both.port.writer.put_many([b"12345678"] * 50)
        opened(host, peer, guest, device)
        assert device.wait_for(50)
        assert device.batches == 13
        assert host.statistics()["guest_signals"] >= 13


def test_a_plain_device_receives(daemon: FakeDaemon, guest: RingGuest) -> None:
    """Any thread may wait for packets of a device without on_packets; signals and memory work as before."""
    with connected(daemon) as (host, peer), host.serving(), ThreadPoolExecutor() as threads:
        channel = opened(host, peer, guest, Plain())
        waiting = threads.submit(channel.receive, PATIENCE)
        time.sleep(0.05)
        guest.send(b"12345678")
        packet = waiting.result(PATIENCE)
        assert packet is not None
        assert packet.payload == b"12345678"
        assert channel.signal()
        assert len(channel.memory(1)) == layout.PAGE
        assert channel.send.__self__ is channel.rings().port  # type: ignore[attr-defined]


def test_a_guest_that_scribbles(daemon: FakeDaemon, guest: RingGuest) -> None:
    """The ring is dead with a reason, every verb says it, the channel can be closed and opened again."""
    device = Taker()
    with connected(daemon) as (host, peer), host.serving():
        channel = opened(host, peer, guest, device)
        eventually(lambda: not guest.both._views[0].header()["interrupt_mask"])
        ram = daemon.maps[Object.RAM, 0]
        ram[PAGES[0] * layout.PAGE : PAGES[0] * layout.PAGE + 4] = (12345).to_bytes(4, "little")
        guest.both.port.signal()
        eventually(lambda: host.statistics()["dead_rings"] == 1)
        with pytest.raises(ChannelGone, match="write_index is 0x3039"):
            channel.send(b"x")
        peer.ask(device_link.Close(channel.offer.id, 1))
        peer.expect(device_link.Closed)
        ram[PAGES[0] * layout.PAGE : PAGES[0] * layout.PAGE + 8] = bytes(8)
        assert guest.open(peer, channel.offer.id, 2) == 0


def test_a_request_of_a_device(daemon: FakeDaemon, guest: RingGuest) -> None:
    """A thread waits for a completion that the callbacks' thread reads; a callback cannot wait for one."""
    device = Taker()
    errors: list[BaseException] = []

    def ask(channel: Channel, _packets: list[Packet]) -> None:
        try:
            channel.request(b"?")
        except UsageError as error:
            errors.append(error)

    device.then = ask
    with connected(daemon) as (host, peer), host.serving(), ThreadPoolExecutor() as threads:
        channel = opened(host, peer, guest, device)
        asking = threads.submit(channel.request, b"question")
        guest.complete(first_of(guest), b"answer")
        assert asking.result(PATIENCE) == b"answer\0\0"
        guest.send(b"packet")
        eventually(lambda: errors)
        assert "callback" in str(errors[0])


def test_memory_that_packets_name(daemon: FakeDaemon, guest: RingGuest) -> None:
    """GPA direct ranges and transfer pages become guest memory; what is outside is refused (case 256)."""
    with connected(daemon) as (host, peer), host.serving():
        channel = opened(host, peer, guest, Plain())
        ram = daemon.maps[Object.RAM, 0]
        ram[20 * layout.PAGE : 20 * layout.PAGE + 4] = b"data"
        guest.send(b"", ranges=[Range(4, 0, (20,))], request=True)
        named = channel.receive(0)
        assert named is not None
        (view,) = channel.packet_memory(named)
        assert bytes(view) == b"data"
        view.release()

        guest.send(b"", ranges=[Range(4, 0, (1 << 30,))], request=True)
        outside = channel.receive(0)
        assert outside is not None
        with pytest.raises(ProtocolError, match="outside of guest memory"):
            channel.packet_memory(outside)

        peer.ask(buffer_gpadl(channel.offer.id, 77, (20, 21)))
        peer.expect(device_link.GpadlAccepted)
        channel.transfer_sets[1] = channel.gpadl(77)
        guest.send(b"", ranges=TransferPages(1, (TransferRange(2, 2),)), request=True)
        pages = channel.receive(0)
        assert pages is not None
        (view,) = channel.packet_memory(pages)
        assert bytes(view) == b"ta"
        view.release()
        with pytest.raises(UsageError, match="GPADL 0x4e"):
            channel.gpadl(78)


@pytest.fixture
def guard_delay(monkeypatch: pytest.MonkeyPatch) -> float:
    """Long enough that nobody is halted for so long between two steps of a test."""
    monkeypatch.setattr(feed, "GUARD_DELAY", 1.0)
    return feed.GUARD_DELAY


def test_a_guest_that_missed_the_wake_up(daemon: FakeDaemon, guest: RingGuest, guard_delay: float) -> None:
    """Packets sent before the answer to the open are announced once more after the guard delay (case 073)."""
    device = Taker()
    device.opening = lambda channel: channel.send(b"12345678")
    with connected(daemon) as (host, peer), host.serving():
        begun = time.monotonic()
        opened(host, peer, guest, device)
        assert guest.heard()
        eventually(guest.heard)
        assert 0.8 * guard_delay < time.monotonic() - begun < 10 * guard_delay
        assert host.statistics()["unstuck"] == 1
        time.sleep(2 * guard_delay)
        assert not guest.heard()


def test_no_early_ring_after_a_reopen(daemon: FakeDaemon, guest: RingGuest, guard_delay: float) -> None:
    """Closed and opened again within the guard delay: the delay starts again (case 074)."""
    device = Taker()
    device.opening = lambda channel: channel.send(b"12345678")
    with connected(daemon) as (host, peer), host.serving():
        offer = offered(host, peer, device)
        first = time.monotonic()
        guest.open(peer, offer.id)
        time.sleep(guard_delay / 2)
        peer.ask(device_link.Close(offer.id, 1))
        peer.expect(device_link.Closed)
        guest.open(peer, offer.id, 2)
        second = time.monotonic()
        guest.heard()
        eventually(guest.heard)
        heard = time.monotonic()
        assert heard - second > 0.8 * guard_delay
        assert heard - first > 1.2 * guard_delay
        assert host.statistics()["unstuck"] == 1


def test_a_ring_that_is_none_is_refused_only_to_who_wants_it(daemon: FakeDaemon, guest: RingGuest) -> None:
    """Without a page of data there are no packets: an open fails with on_packets, else the verbs do."""
    with connected(daemon) as (host, peer), host.serving():
        for device, status in ((Taker(), False), (Plain(), True)):
            offer = offered(host, peer, device)
            guest.describe(peer, offer.id)
            peer.ask(open_request(offer.id, downstream=1))
            assert (peer.expect(device_link.Opened).status == 0) is status
            if offer.channel is not None:
                with pytest.raises(UsageError, match="relid 7, ring to the host"):
                    offer.channel.send(b"x")


def test_in_an_event_loop(daemon: FakeDaemon, guest: RingGuest) -> None:
    """AsyncHost: callbacks and awaited verbs in the loop's thread."""
    device = Taker()

    async def serve() -> bytes:
        attached = attach_socket(daemon.socket_for(Role.HOST), Role.HOST, "demo")
        async with AsyncHost(attached) as host:
            peer = daemon.peers[-1]
            serving = asyncio.create_task(host.serve())
            with ThreadPoolExecutor() as threads:
                loop = asyncio.get_running_loop()

                def accept() -> None:
                    peer.receive()
                    peer.ask(device_link.OfferResult(peer.expect(device_link.Offer).offer_id, 0, b""))

                accepting = loop.run_in_executor(threads, accept)
                offer = await host.offer(device)
                await accepting
                await loop.run_in_executor(threads, guest.open, peer, offer.id)
                assert offer.channel is not None
                guest.send(b"12345678")
                assert await loop.run_in_executor(threads, device.wait_for, 1)
                asking = asyncio.create_task(offer.channel.async_request(b"?"))

                def answer() -> None:
                    guest.complete(first_of(guest), b"answered")

                await loop.run_in_executor(threads, answer)
                got = await asking
            host.stop()
            await serving
            return got

    assert asyncio.run(serve()) == b"answered"
    assert device.packets == [b"12345678"]
