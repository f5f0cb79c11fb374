"""A guest that names pages of its memory at contact, made by hand, and a device that counts its signals."""

import gc
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from host_client.channel import Channel
from host_client.device import Device
from host_client.host import Host
from host_client.offer import Offer
from tests.live import peers
from tests.live.daemon import Daemon, daemon
from tests.live.peers import INTERFACE
from vmbusd.abi import gpadl, layout, link, messages, native, wire
from vmbusd.abi.link import Object
from vmbusd.server import requests

PAGE = 3 * layout.PAGE
MONITOR_PAGES = (4 * layout.PAGE, 5 * layout.PAGE)
EACH_DOORBELL = pytest.mark.parametrize("running", ["semaphore", "eventfd"], indirect=True)


class Heard(Device):
    """Counts the guest's signals."""

    interface = INTERFACE

    def __init__(self) -> None:
        self.signals = 0

    def on_signal(self, channel: Channel) -> None:
        self.signals += 1


class OldGuest(peers.Guest):
    """A control link that speaks a version of its own choice."""

    version = wire.V1_1

    def hear_any(self) -> msgspec.Struct:
        while True:
            packet, fds = peers.receive(self.attached)
            if link.decode_header(packet).kind == link.Kind.HOST_LINK:
                self.attached.add_host_link(packet, fds)
                continue
            return wire.decode(packet[link.HEADER.size :], self.version, sender=wire.Sender.HOST)

    def contact(self, version: int, *pages: int) -> bool:
        """Contact with (interrupt page, monitor pages); whether it was accepted."""
        self.version = version
        self.say(messages.InitiateContactOld(version, 0, *pages, *(0,) * (3 - len(pages))))
        return bool(self.hear(messages.VersionResponse).version_supported)

    def open_all(self, channels: int) -> list[messages.Offer]:
        """Ask for that many offers and open them all on VP 0."""
        self.say(messages.RequestOffers())
        offers = [self.hear(messages.Offer) for _ in range(channels)]
        self.hear(messages.AllOffersDelivered)
        for offer in offers:
            relid = offer.child_relid
            first = 16 + 4 * relid
            for part in gpadl.split(relid, relid, [gpadl.whole_pages(range(first, first + 4))]):
                self.say(part)
            assert self.hear(messages.GpadlCreated).creation_status == 0
            self.say(messages.Open(relid, relid, relid, 0, 2, bytes(120)))
            assert self.hear(messages.OpenResult).status == 0
        return offers

    def page(self) -> native.InterruptPage:
        """Its interrupt page."""
        return native.InterruptPage(self.attached[Object.RAM], PAGE)

    def flags(self, vp: int = 0) -> native.EventFlags:
        """The interrupt page of a VP."""
        return native.EventFlags(self.attached[Object.EVENTS], vp * layout.PAGE)


def offers(host: Host, count: int = 1, **fields: int) -> list[tuple[Heard, Offer]]:
    """That many devices, each with its offer."""
    return [(device, host.offer(device, None, **fields)) for device in (Heard() for _ in range(count))]


def pages(running: Daemon) -> dict[str, int]:
    """What status says of the guest's pages."""
    view: dict[str, int] = running.status("a")["guest_pages"]
    return view


@pytest.fixture
def running(request: pytest.FixtureRequest, runtime_dir: Path) -> Iterator[Daemon]:
    """A daemon with partition a."""
    with daemon(runtime_dir) as running:
        running.ask(requests.PartitionAdd("a", doorbell=getattr(request, "param", "semaphore")))
        yield running


@pytest.fixture
def host(running: Daemon) -> Iterator[Host]:
    """A host that serves its link in threads."""
    with Host.connect("a", runtime_dir=running.runtime_dir) as host, host.serving():
        yield host
    gc.collect()  # a channel and its offer know each other, and hold mappings


@pytest.fixture
def old(running: Daemon) -> Iterator[OldGuest]:
    """A guest that has not said anything."""
    with peers.guest(running.runtime_dir) as control:
        yield OldGuest(control.attached)
