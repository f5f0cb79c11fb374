"""A world for the live guest tests: daemon, host, devices, a storm of signals."""

import threading
from typing import Literal
from uuid import UUID

from guest_client import Channel, Driver, Guest
from host_client.channel import Channel as HostChannel
from host_client.device import Device
from host_client.host import Host
from host_client.offer import Offer
from tests.live.daemon import PATIENCE, Daemon
from tests.live.guest_drivers import COUNTED, SEEN

Mode = Literal["thread", "process"]
MODES: tuple[Mode, ...] = ("thread", "process")


class Signaller(Device):
    """A device that counts what it produced in the ring memory and hears the guest's answers."""

    def __init__(self, interface: UUID = COUNTED, *, refuse: int = 0) -> None:
        self.interface = interface
        self.refuse = refuse
        self.answers = 0
        self.opens = 0

    def on_open(self, channel: HostChannel) -> None:
        self.opens += 1
        if self.opens <= self.refuse:
            raise RuntimeError("this device does not want to be opened")

    def on_signal(self, channel: HostChannel) -> None:
        self.answers += 1


def produce(offer: Offer) -> int:
    """Count one thing up in the ring memory, then signal. Returns the new count."""
    channel = offer.channel
    assert channel is not None
    produced = int.from_bytes(channel.memory(1)[:8], "little") + 1
    channel.memory(1)[:8] = produced.to_bytes(8, "little")
    channel.signal()
    return produced


def relid_of(offer: Offer) -> int:
    """The relid of an offer that is open."""
    assert offer.channel is not None
    return offer.channel.relid


def seen(offer: Offer) -> int:
    """What the guest has seen of what was produced."""
    channel = offer.channel
    assert channel is not None
    return int.from_bytes(channel.memory(1)[8:16], "little")


def callbacks(channel: Channel) -> tuple[int, int]:
    """(callbacks since the open, process of the last one)."""
    count, pid = SEEN.unpack_from(channel.state)
    return count, pid


class Storm:
    """Produces on all offers, round and round, in a thread, until it is stopped; then all must be seen."""

    def __init__(self, offers: list[Offer]) -> None:
        self.rounds = 0
        self._offers = offers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="storm")

    def __enter__(self) -> "Storm":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            for offer in self._offers:
                produce(offer)
            self.rounds += 1

    def all_seen(self) -> bool:
        """Whether every channel has caught up with the last thing produced, without another signal."""
        return all(seen(offer) == self.rounds for offer in self._offers)


class World:
    """A daemon with partition "demo" of 2 VPs, and a host on it."""

    def __init__(self, running: Daemon, host: Host) -> None:
        self.directory = running.runtime_dir
        self.daemon = running
        self.host = host

    def offer(self, count: int = 1) -> list[Offer]:
        return self.host.offer_many([Signaller() for _ in range(count)])

    def guest(self, *drivers: Driver) -> Guest:
        guest = Guest.attach("demo", runtime_dir=self.directory)
        for driver in drivers:
            guest.register(driver)
        return guest


def begin(guest: Guest, workers: Mode = "thread", vps: int | None = None) -> list[Channel]:
    guest.start(workers=workers, vps=vps)
    assert guest.wait_ready(PATIENCE)
    return guest.channels
