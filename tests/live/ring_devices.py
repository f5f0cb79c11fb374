"""Devices of live tests of packets, and how those tests reach their channels."""

from collections.abc import Callable, Sequence

import pytest

from guest_client import Channel
from host_client.channel import Channel as HostChannel
from host_client.device import Device
from host_client.offer import Offer
from tests.live import daemon
from tests.live.guest_support import MODES, World
from tests.live.ring_drivers import NOTES, PACKETS, number_of, packet
from vmbusd.abi.packets import Packet

both = pytest.mark.parametrize("workers", MODES)


def eventually(condition: Callable[[], object]) -> None:
    daemon.eventually(condition, "what the test waits for")


class Deaf(Device):
    """Never reads its ring."""

    interface = PACKETS


def offers(world: World, device: Callable[[], Device], count: int = 1) -> list[Offer]:
    return world.host.offer_many([device() for _ in range(count)])


def channel_of(offer: Offer) -> HostChannel:
    assert offer.channel is not None
    return offer.channel


class Listener(Device):
    """Notes what comes back, and whether it is whole and in order."""

    interface = PACKETS

    def __init__(self) -> None:
        self.next = 0
        self.again = 0
        self.corrupt = 0
        self.wild = 0
        self.all: list[bytes] = []

    def on_packets(self, _channel: HostChannel, packets: Sequence[Packet]) -> None:
        for one in packets:
            self.all.append(one.payload)
            number = number_of(one.payload)
            if number is None:
                self.corrupt += 1
            elif number == self.next:
                self.next += 1
            elif number < self.next:
                self.again += 1
            else:
                self.wild += 1


def listener(offer: Offer) -> Listener:
    assert isinstance(offer.device, Listener)
    return offer.device


def send_all(
    made: list[Offer], count: int, between: Callable[[int], object] = lambda _: None, *, first: int = 0
) -> None:
    """`count` packets of all sizes to each channel, from this thread, numbered from `first` on."""
    for number in range(first, first + count):
        for offer in made:
            channel_of(offer).send(packet(number, number * 4 % 1200))
        between(number)


def judged(channel: Channel) -> tuple[int, int, int]:
    """(numbers taken, out of order, corrupt) as the driver noted."""
    taken, wild, corrupt, _ = NOTES.unpack_from(channel.state)
    return taken, wild, corrupt


def assert_clean(made: list[Offer], channels: list[Channel], count: int) -> None:
    eventually(lambda: all(listener(offer).next == count for offer in made))
    for offer in made:
        assert (listener(offer).corrupt, listener(offer).wild) == (0, 0)
    eventually(lambda: all(judged(channel)[0] == count for channel in channels))
    assert [judged(channel)[1:] for channel in channels] == [(0, 0)] * len(channels)
