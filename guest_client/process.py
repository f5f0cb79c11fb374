"""A worker process: one VP, started by the control process and ended by it, by its death, or by the daemon.

It knows no offers and no opens: when the first interrupt of an open comes, it reads in the channel's record
and block what it needs and makes a `Channel`. Events never wait for a control message (docs/
signal-protocol.md section 4), and a channel of an older open is never called. For orders and news see
`supervisor`.
"""

import json
import logging
import os
import select
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from guest_client import driver as drivers
from guest_client.channel import Channel, log_failure
from guest_client.driver import Driver, DriverName
from guest_client.feed import Feed
from guest_client.space import Space
from guest_client.worker import Make, Service, VpWorker, admit, shipped
from vmbusd.abi import link
from vmbusd.abi.errors import LinkClosed, RefusedError, VmbusError
from vmbusd.abi.native import Registry

log = logging.getLogger("guest_client.process")

ORDER_LIMIT: Final = 1 << 20
"""Bytes of one line of orders; the longest names every lost channel of a VP."""


class Orders:
    """Our end of the socket to the control process."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = b""

    def fileno(self) -> int:
        """For polling."""
        return self._socket.fileno()

    def first(self) -> list[dict[str, Any]]:
        """Wait for the first line; what came with it follows. Nothing if the control process is gone."""
        while b"\n" not in self._buffer:
            if not self._receive():
                return []
        return self._lines()

    def more(self) -> list[dict[str, Any]] | None:
        """The lines that came since, None if the control process is gone."""
        return self._lines() if self._receive() else None

    def tell(self, news: dict[str, Any]) -> None:
        """Write one line of news; a control process that is gone does not need it."""
        try:
            self._socket.sendall(json.dumps(news).encode() + b"\n")
        except OSError as error:
            log.debug("nobody hears %s: %s", news, error)

    def are_over(self) -> bool:
        """Whether the control process is gone; what it said before may be unread. A look, not a wait."""
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        return bool(poll.poll(0))

    def _receive(self) -> bool:
        try:
            data = self._socket.recv(64 << 10)
        except ConnectionResetError:
            # It died with news of ours unread.
            return False
        self._buffer += data
        return bool(data) and len(self._buffer) < ORDER_LIMIT

    def _lines(self) -> list[dict[str, Any]]:
        *lines, self._buffer = self._buffer.split(b"\n")
        return [json.loads(line) for line in lines]


class Callbacks:
    """What this process calls for which channel; `lost` are opens whose state died with another process."""

    def __init__(self, space: Space, made: list[Driver]) -> None:
        self.registry = Registry(self._missing, log_failure)
        space.feed = Feed(space, self.registry, shared=True, owner=space.attached.welcome.vp)
        self.lost: set[tuple[int, int]] = set()
        self._space = space
        self._drivers: dict[UUID, Driver] = {driver.interface: driver for driver in made}
        self._bound: dict[int, Channel] = {}

    def add_lost(self, opens: list[list[int]]) -> None:
        """Never call these opens (flag, generation)."""
        self.lost.update((flag, generation) for flag, generation in opens)

    def _missing(self, flag: int, generation: int) -> None:
        """The first interrupt of an open. The claim is held, so the record cannot change under us."""
        if (flag, generation) in self.lost:
            return
        channel = Channel(self._space, self._space.relid_of(flag))
        channel.driver = driver = self._drivers.get(channel.interface)
        if driver is None:
            log.warning("%r: no driver of this process takes it", channel)
            return
        if driver.pinned and not self._is_home(channel):
            log.warning("%r: its driver is pinned, and its state is in another process", channel)
            return
        channel.generation = generation
        channel.locate_ring()
        if (old := self._bound.pop(flag, None)) is not None:
            self.registry.unbind(flag, old.generation)
            old.end(f"relid {old.relid}: that open is over")
            old.drop_ring()
        self._bound[flag] = channel
        self._space.feed.bind(channel)(channel)

    def _is_home(self, channel: Channel) -> bool:
        """Whether the state of a pinned driver is in this process. We have the claim, so nobody else asks."""
        blocks, vp = self._space.blocks, self._space.attached.welcome.vp
        home = blocks.home(channel.event_flag)
        if home is None:
            blocks.set_home(channel.event_flag, vp)
        return home in (None, vp)


def serve(orders: Orders, lines: list[dict[str, Any]], stopping: threading.Event, make: Make) -> None:
    """Serve the VP that the first line of orders names, until an orderly end."""
    first = lines[0]
    made = [drivers.make(DriverName(*name)) for name in first["drivers"]]
    service = Service(
        first["partition"], Path(first["runtime_dir"]), first["relook"], first["spin"], first["patience"]
    )
    attached = admit(service, first["vp"], stopping, orders.are_over)
    if attached is None:
        return
    space = Space(attached)
    callbacks = Callbacks(space, made)
    for line in lines:
        callbacks.add_lost(line["lost"])

    def heard() -> bool:
        news = orders.more()
        for line in news or ():
            callbacks.add_lost(line["lost"])
        if news is None:
            worker.stop()
        return news is not None

    watch = {orders.fileno(): heard}
    worker = VpWorker(service, attached, callbacks.registry, hosts=space.hosts, watch=watch, make=make)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    if stopping.is_set():
        worker.stop()
    orders.tell({"attached": attached.welcome.incarnation})
    worker.run(first["cpu"])
    if isinstance(worker.reason, LinkClosed):
        log.info("VP %d: %s", worker.vp, worker.reason)
    elif worker.reason is not None:
        raise worker.reason


def main(make: Make = shipped) -> int:
    """Run as `python -m guest_client.process` by the supervisor alone.

    A program of its own whose VPs are played otherwise calls this with its `make` (`Guest.worker_command`).
    """
    logging.basicConfig(level=logging.WARNING, format="%(process)d %(levelname)s %(name)s: %(message)s")
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    orders = Orders(socket.socket(fileno=os.dup(0)))
    # Drivers that read standard input get nothing, instead of our orders.
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    lines = orders.first()
    try:
        if lines:
            serve(orders, lines, stopping, make)
    except Exception as error:
        if isinstance(error, RefusedError) and error.code == link.Code.VP_OFFLINE:
            # Whoever replaced a worker that died had not heard yet that its VP is to be offline.
            log.info("%s", error)
            return 0
        orders.tell({"error": f"{error}", "kind": type(error).__name__})
        # Our own errors say all there is to know; only a mistake needs its place.
        trace = not isinstance(error, VmbusError)
        log.error("VP %s cannot be served: %s", lines[0]["vp"], error, exc_info=trace)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
