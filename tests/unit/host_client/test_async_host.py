"""The asyncio flavour: the same answers as the blocking one, on a loop, and it can be cancelled."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from host_client import AsyncHost, Channel, Device, Offer
from tests.unit.host_client.fake_daemon import PATIENCE, FakeDaemon, Peer
from tests.unit.host_client.probe import INTERFACE, RELID, Probe, open_request, ring_gpadl
from vmbusd.abi import device_link, link, paths
from vmbusd.abi.attach import attach_socket
from vmbusd.abi.errors import LinkClosed, RefusedError, TimedOut, UsageError
from vmbusd.abi.link import Object, Role
from vmbusd.abi.native import HostSender

Body = Callable[[FakeDaemon], Awaitable[None]]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Body], None]:
    """Runs a test's body on each kind of loop, with a daemon of its own."""

    def start(body: Body) -> None:
        async def limited(daemon: FakeDaemon) -> None:
            await asyncio.wait_for(body(daemon), PATIENCE)

        with FakeDaemon() as daemon, asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(limited(daemon))

    return start


@asynccontextmanager
async def connected(daemon: FakeDaemon) -> AsyncIterator[tuple[AsyncHost, Peer]]:
    attached = attach_socket(daemon.socket_for(Role.HOST), Role.HOST, "demo")
    async with AsyncHost(attached) as host:
        peer = daemon.peers[-1]
        peer.expect(link.Hello)
        yield host, peer


async def expect(peer: Peer, kind: type) -> object:
    return await asyncio.to_thread(peer.expect, kind)


async def offered(host: AsyncHost, peer: Peer, device: Device) -> Offer:
    asking = asyncio.create_task(host.offer(device))
    await expect(peer, device_link.Offer)
    peer.ask(device_link.OfferResult(len(host.offers), 0, b""))
    return await asking


async def opened(daemon: FakeDaemon, peer: Peer, offer: int) -> None:
    peer.ask(ring_gpadl(offer))
    assert await expect(peer, device_link.GpadlAccepted)
    daemon.table.set_target(RELID, 0)
    peer.ask(open_request(offer))
    assert await expect(peer, device_link.Opened) == device_link.Opened(offer, 1, 0)


def test_the_life_of_a_channel(run: Callable[[Body], None]) -> None:
    """Offer, open, retarget, a signal each way, close, stop: as with `Host`, all in the loop's thread."""
    device = Probe()

    async def body(daemon: FakeDaemon) -> None:
        daemon.add_host(0)
        bell = daemon.doorbell(Object.HOST_SEMAPHORE, 0)
        async with connected(daemon) as (host, peer):
            serving = asyncio.create_task(host.serve())
            offer = await offered(host, peer, device)
            await opened(daemon, peer, offer.id)
            assert offer.channel is not None
            assert host.channels == [offer.channel]
            assert host.signal_many([offer.channel]) == 1
            peer.ask(device_link.Retarget(offer.id, 1, 1))
            assert await expect(peer, device_link.Retargeted) == device_link.Retargeted(offer.id, 1, 1, 0)
            HostSender(daemon.maps[Object.HOST_PAGE, 0], bell).signal(RELID)
            while not device.signalled.is_set():
                await asyncio.sleep(0)
            peer.ask(device_link.Close(offer.id, 1))
            assert await expect(peer, device_link.Closed) == device_link.Closed(offer.id, 1)
            host.stop()
            await serving

        assert peer.expect(link.Detached) == link.Detached(0)
        assert device.calls == [("open", 1), ("retarget", 1), ("signal", 1), ("close", 1)]
        assert device.threads == {threading.get_ident()}
        assert host.statistics()["guest_signals"] == 1

    run(body)


def test_refusals_and_farewells_are_raised(run: Callable[[Body], None]) -> None:
    """A refused offer is RefusedError; a farewell ends serve and pending offers with the daemon's words."""

    async def body(daemon: FakeDaemon) -> None:
        async with connected(daemon) as (host, peer):
            peer_answer = asyncio.create_task(host.offer(Probe()))
            await expect(peer, device_link.Offer)
            peer.ask(device_link.OfferResult(1, 1, b"too many"))
            with pytest.raises(RefusedError, match="too many"):
                await peer_answer
            serving = asyncio.create_task(host.serve())
            pending = asyncio.create_task(host.offer(Probe()))
            await expect(peer, device_link.Offer)
            peer.send(link.encode(link.Bye(link.Code.REMOVED, b"partition removed")))
            for task in (serving, pending):
                with pytest.raises(LinkClosed, match="partition removed"):
                    await task

    run(body)


def test_serve_can_be_cancelled(run: Callable[[Body], None]) -> None:
    """A cancelled serve leaves no thread, and the host can be served again or closed."""

    async def body(daemon: FakeDaemon) -> None:
        async with connected(daemon) as (host, peer):
            serving = asyncio.create_task(host.serve())
            offer = await offered(host, peer, Probe())
            with pytest.raises(UsageError, match="served already"):
                await host.serve()
            with pytest.raises(UsageError, match="stop the host before closing"):
                await host.close()
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            again = asyncio.create_task(host.serve())
            await opened(daemon, peer, offer.id)
            host.stop()
            await again
            await host.close()
            await host.close()

    run(body)


def test_revoke_and_offers_from_callbacks(run: Callable[[Body], None]) -> None:
    """A callback starts a task for another offer; revoke ends a channel."""

    async def body(daemon: FakeDaemon) -> None:
        tasks: list[asyncio.Task[Offer]] = []
        async with connected(daemon) as (host, peer):
            device = Probe()

            def offer_another(_channel: Channel) -> None:
                tasks.append(asyncio.create_task(host.offer(Probe())))

            device.opening = offer_another
            serving = asyncio.create_task(host.serve())
            offer = await offered(host, peer, device)
            await opened(daemon, peer, offer.id)
            assert await expect(peer, device_link.Offer)
            peer.ask(device_link.OfferResult(2, 0, b""))
            assert (await tasks[0]).device.interface == INTERFACE
            revoking = asyncio.create_task(host.revoke(offer))
            await expect(peer, device_link.Revoke)
            peer.ask(device_link.Revoked(offer.id))
            await revoking
            assert device.calls == [("open", 1), ("close", 1)]
            assert len(host.offers) == 1
            host.stop()
            await serving

    run(body)


def test_a_revoke_whose_answer_is_lost_says_so(run: Callable[[Body], None]) -> None:
    """TimedOut names offer and seconds; asking again waits for the same answer."""

    async def body(daemon: FakeDaemon) -> None:
        async with connected(daemon) as (host, peer):
            offer = await offered(host, peer, Probe())
            with pytest.raises(TimedOut, match=f"demo: offer {offer.id} .*the revoke within 0.05 s"):
                await host.revoke(offer, timeout=0.05)
            revoking = asyncio.create_task(host.revoke(offer))
            await asyncio.sleep(0)
            peer.ask(device_link.Revoked(offer.id))
            await revoking
            assert host.offers == []

    run(body)


def test_an_offer_whose_answer_is_lost_says_so(run: Callable[[Body], None]) -> None:
    """TimedOut names the offer, which goes on: it is there for whoever wants to revoke it."""

    async def body(daemon: FakeDaemon) -> None:
        async with connected(daemon) as (host, peer):
            with pytest.raises(TimedOut, match=r"demo: offer 1 .*did not take the offer within 0\.05 s"):
                await host.offer(Probe(), timeout=0.05)
            (offer,) = host.offers
            await expect(peer, device_link.Offer)
            peer.ask(device_link.OfferResult(offer.id, 0, b""))
            await asyncio.to_thread(offer.result.result, PATIENCE)

    run(body)


@pytest.mark.parametrize("cancelled", [False, True])
def test_the_loop_goes_on_while_the_daemon_is_told(
    run: Callable[[Body], None], monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    """A farewell waits in a thread; who is cancelled meanwhile lets go when it has been said."""

    async def body(daemon: FakeDaemon) -> None:
        async with connected(daemon) as (host, _):
            heard = threading.Event()
            monkeypatch.setattr(host._core, "say_farewell", lambda: heard.wait(PATIENCE))
            attached = host._core.attached
            closing = asyncio.create_task(host.close())
            await asyncio.sleep(0.01)
            assert attached.fileno() >= 0
            with pytest.raises(LinkClosed, match="the host has left"):
                await host.offer(Probe())
            if cancelled:
                closing.cancel()
                await asyncio.wait([closing])
            heard.set()
            while attached.fileno() >= 0:
                await asyncio.sleep(0.001)
            await asyncio.wait([closing])
            assert closing.cancelled() is cancelled

    run(body)


def test_answers_to_who_was_cancelled_are_taken(run: Callable[[Body], None]) -> None:
    """An offer and a revoke whose callers do not wait any more: the link and the next offer are well."""

    async def body(daemon: FakeDaemon) -> None:
        async with connected(daemon) as (host, peer):
            first = asyncio.create_task(host.offer(Probe()))
            await expect(peer, device_link.Offer)
            first.cancel()
            await asyncio.wait([first])
            peer.ask(device_link.OfferResult(1, 0, b""))
            second = await offered(host, peer, Probe())
            assert [offer.id for offer in host.offers] == [1, second.id]
            revoking = asyncio.create_task(host.revoke(second))
            await expect(peer, device_link.Revoke)
            revoking.cancel()
            await asyncio.wait([revoking])
            peer.ask(device_link.Revoked(second.id))
            third = asyncio.create_task(host.offer(Probe()))
            await expect(peer, device_link.Offer)
            peer.ask(device_link.OfferResult(3, 0, b""))
            await third
            assert [offer.id for offer in host.offers] == [1, 3]

    run(body)


def test_connect_goes_through_the_host_socket(runtime_dir: Path) -> None:
    """Connecting by partition name uses host.sock of the runtime directory."""

    async def body() -> None:
        async with await AsyncHost.connect("demo", runtime_dir=runtime_dir) as host:
            assert (host.partition, host.vps, host.link) == ("demo", 2, 0)

    with FakeDaemon() as daemon, daemon.listening(runtime_dir, paths.HOST_SOCKET, Role.HOST):
        asyncio.run(body())
