"""Devices that take packets, and the steps by which a test opens them for a guest made by hand."""

import threading
import time
from collections.abc import Callable
from typing import Any

from host_client import Channel, Device, Host
from tests.unit.host_client.fake_daemon import Peer
from tests.unit.host_client.probe import INTERFACE, offered
from tests.unit.host_client.ring_guest import RingGuest
from vmbusd.abi.packets import Packet

PATIENCE = 10.0


class Taker(Device):
    """Writes down packets; what else happens a test says."""

    interface = INTERFACE

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.batches = 0
        self.signals = 0
        self.closed: list[str] = []
        self.then: Callable[[Channel, list[Packet]], object] = lambda _channel, _packets: None
        self.opening: Callable[[Channel], object] = lambda _channel: None
        self.seen = threading.Condition()

    def on_open(self, channel: Channel) -> None:
        self.opening(channel)

    def on_packets(self, channel: Channel, packets: list[Packet]) -> None:
        with self.seen:
            self.batches += 1
            self.packets += [packet.payload for packet in packets]
            self.seen.notify_all()
        self.then(channel, packets)

    def on_signal(self, channel: Channel) -> None:
        self.signals += 1

    def on_close(self, channel: Channel) -> None:
        self.closed.append("closed")

    def wait_for(self, count: int) -> bool:
        with self.seen:
            return self.seen.wait_for(lambda: len(self.packets) >= count, PATIENCE)


class Plain(Device):
    """A device without callbacks."""

    interface = INTERFACE


def opened(host: Host, peer: Peer, guest: RingGuest, device: Device) -> Channel:
    offer = offered(host, peer, device)
    assert guest.open(peer, offer.id) == 0
    assert offer.channel is not None
    return offer.channel


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def first_of(guest: RingGuest) -> Packet:
    """The next packet, polled for."""
    found: list[Packet] = []

    def look() -> bool:
        found.extend(guest.receive_many(1))
        return bool(found)

    eventually(look)
    return found[0]
