"""A device that writes down every callback, and the steps by which a test brings it to life."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from host_client import Channel, Device, Host, Offer
from tests.unit.host_client.fake_daemon import FakeDaemon, Peer
from vmbusd.abi import device_link, gpadl, link
from vmbusd.abi.attach import attach_socket
from vmbusd.abi.link import Role

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
