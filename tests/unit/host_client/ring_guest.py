"""The guest's side of a channel of a host under test: rings in the fake daemon's memory, its flags."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.unit.host_client.fake_daemon import FakeDaemon, Peer
from tests.unit.host_client.probe import RELID, open_request, ring_gpadl
from vmbusd.abi import device_link, gpadl
from vmbusd.abi.link import Object
from vmbusd.abi.native import EventFlags, HostSender, Requests
from vmbusd.abi.rings import Rings, map_rings
from vmbusd.abi.verbs import Verbs

PAGES = (4, 5, 9, 8)
DOWNSTREAM = 2


class RingGuest(Verbs):
    """A guest that has formatted the rings of a channel and plays it with the same verbs."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self.daemon = daemon
        up, down = map_rings(daemon.fds[Object.RAM, 0], PAGES, DOWNSTREAM, "guest")
        up.format()
        down.format()
        page = daemon.maps[Object.HOST_PAGE, 0]
        self.both = Rings(
            "guest",
            up,
            down,
            changed=threading.Condition(),
            requests=Requests(),
            host=HostSender(page, daemon.doorbell(Object.HOST_SEMAPHORE, 0)),
            flag=RELID,
        )

    def rings(self) -> Rings:
        return self.both

    def describe(self, peer: Peer, offer: int) -> None:
        """Send the ring GPADL."""
        peer.ask(ring_gpadl(offer, pfns=PAGES))
        peer.expect(device_link.GpadlAccepted)
        self.daemon.table.set_target(RELID, 0)

    def open(self, peer: Peer, offer: int, generation: int = 1) -> int:
        """Open the channel; returns the host's status."""
        if generation == 1:
            self.describe(peer, offer)
        peer.ask(open_request(offer, generation, downstream=DOWNSTREAM))
        return peer.expect(device_link.Opened).status

    def heard(self) -> bool:
        """Take the channel's flag off VP 0's page."""
        heard = RELID in EventFlags(self.daemon.maps[Object.EVENTS, 0]).take()
        if heard:
            self.both.signalled()
        return heard

    @contextmanager
    def taking(self) -> Iterator[None]:
        """A thread that takes the flag meanwhile, as a worker does."""
        stop = threading.Event()

        def take() -> None:
            while not stop.wait(0.0005):
                self.heard()

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def close(self) -> None:
        self.both.close("the test is over")


def buffer_gpadl(offer: int, handle: int, pfns: tuple[int, ...]) -> device_link.Gpadl:
    """A GPADL of a buffer that is no ring."""
    return device_link.Gpadl(offer, handle, 1, 0, gpadl.encode_ranges([gpadl.whole_pages(pfns)]))
