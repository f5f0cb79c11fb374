"""Both sides of one open channel in this process, over anonymous memory, and threads that take the flags."""

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.unit.abi.world import FILL, World
from vmbusd.abi import layout, native
from vmbusd.abi.rings import Rings
from vmbusd.abi.verbs import Verbs

FLAG = 5


class Side(Verbs):
    """One side as a channel object of a client: its rings, and the verbs over them."""

    def __init__(self, out: native.RingView, into: native.RingView, name: str, **more: Any) -> None:
        self.both = Rings(name, out, into, changed=threading.Condition(), **more)
        self.bind_rings(self.both)

    def rings(self) -> Rings:
        return self.both


class Pair:
    """`host` and `guest` of a channel with rings of `size` bytes; `memory`: guest to host, host to guest."""

    def __init__(self, size: int = 4096) -> None:
        self.world = World(vps=1)
        self.world.writer.fill(FLAG, FLAG, **FILL)
        self.world.writer.open(FLAG, FLAG, 1)
        self.world.writer.set_target(FLAG, 0)
        self.memory = [bytearray(layout.PAGE + size) for _ in range(2)]
        views, again = ([native.RingView(ring) for ring in self.memory] for _ in range(2))
        for view in views:
            view.format()
        route = native.Route()
        route.bind(self.world.sender, FLAG, FLAG)
        route.live = True
        self.route = route
        self.page = mmap.mmap(-1, layout.PAGE)
        sender = native.HostSender(self.page, self.world.bells[0])
        self.guest = Side(
            views[0],
            views[1],
            "guest",
            host=sender,
            flag=FLAG,
            requests=native.Requests(self.world.blocks, FLAG),
            blocks=self.world.blocks,
        )
        self.host = Side(again[1], again[0], "host", announce=True, route=route, requests=native.Requests())

    def guest_heard(self) -> bool:
        """Take the guest's flag."""
        return FLAG in self.world.pages[0].take()

    def host_heard(self) -> bool:
        """Take the host's flag."""
        return FLAG in native.EventFlags(self.page).take()

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Threads that take the flags of both sides and say so, as hosts and workers do."""
        stop = threading.Event()

        def take() -> None:
            while not stop.wait(0.0005):
                if self.guest_heard():
                    self.guest.both.signalled()
                if self.host_heard():
                    self.host.both.signalled()

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
