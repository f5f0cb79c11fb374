"""A host process of the storm: a few devices, offered, signalled, revoked and offered again.

Odd relids signal in credit mode (only when everything was seen), even ones in bursts, a pass over all of them
every now and then. What was withdrawn, by us or by the administrator, is offered again after a while. During
a pause nothing is signalled or offered: what was produced before it has been signalled when it is confirmed.
"""

import contextlib
import random
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from host_client import Channel, Device, Host, Offer
from tests.storm.driver import INTERFACE
from tests.storm.ledger import Ledger
from tests.storm.lines import Line, Lines, Pause
from tests.storm.opens import Opens
from tests.storm.packet_device import PacketDevice, Standstill
from tests.storm.packets import is_of_packets
from vmbusd.abi.errors import LinkClosed, NoDaemon, RefusedError
from vmbusd.abi.native import Words
from vmbusd.demo import cell

PATIENCE: Final = 60.0
"""Seconds until a daemon that is not there, or not ready for us, is given up."""
RETRY: Final = 0.02
PACE: Final = 0.006
"""Most seconds between two passes: three storms have to share a small machine, and workers have to sleep."""
AWAY: Final = 1.5
"""Most seconds until a withdrawn offer is there again."""
TRICKLE_PACE: Final = 0.0001
"""Most seconds between two looks of a trickle: the next signal has to come while the worker falls asleep."""
SWITCH_SECONDS: Final = 0.0005


class CellDevice(Device):
    """All devices of this process that have signals alone."""

    interface = INTERFACE

    def __init__(self, ledger: Ledger, opens: Opens) -> None:
        self.lock = threading.Lock()
        self.cells: dict[Channel, Words] = {}
        self._ledger = ledger
        self._opens = opens

    def on_open(self, channel: Channel) -> None:
        """Name the generation, then let it be signalled."""
        words = Words(channel.memory(cell.CELL_PAGE))
        self._opens.begin(channel)
        words.store(cell.GENERATION, channel.generation)
        with self.lock:
            self.cells[channel] = words

    def on_close(self, channel: Channel) -> None:
        """Let go of the ring memory."""
        with self.lock:
            self.cells.pop(channel, None)
        self._opens.end(channel)

    def storm(self, host: Host) -> None:
        """One pass over all of them."""
        with self.lock:
            self._pass(host, list(self.cells))

    def trickle(self, host: Host) -> None:
        """The credit channel with the lowest relid alone: whom its signal does not wake nobody else does."""
        with self.lock:
            credit = [channel for channel in self.cells if cell.is_credit(channel.relid)]
            self._pass(host, sorted(credit, key=lambda channel: channel.relid)[:1])

    def _pass(self, host: Host, channels: list[Channel]) -> None:
        ready = []
        for channel in channels:
            words = self.cells[channel]
            if words.load(cell.GENERATION) != channel.generation:
                self._ledger.add("foreign")
            produced = words.load(cell.PRODUCED)
            if not cell.is_credit(channel.relid) or words.load(cell.SEEN) == produced:
                words.store(cell.PRODUCED, produced + 1)
                ready.append(channel)
        host.signal_many(ready)
        self._ledger.add("signals", len(ready))


class Devices:
    """What this process offers: a device for each instance, and the offer that it has now, if any."""

    def __init__(self, host: Host, devices: Mapping[UUID, Device], draw: random.Random) -> None:
        self._host = host
        self._devices = devices
        self._draw = draw
        self._offers: dict[UUID, Offer | None] = dict.fromkeys(devices)
        self._due = dict.fromkeys(devices, 0.0)
        self._threads = ThreadPoolExecutor(1, "offers")
        self._offering: dict[UUID, Future[Offer]] = {}

    def _offer(self, instance: UUID) -> Offer:
        """Until it is taken: the key may still be that of a process before us whose death nobody has seen."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self._host.offer(self._devices[instance], instance)
            except RefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY)

    def look(self, *, may_offer: bool) -> bool:
        """Note what is gone, and offer what is due; whether nothing is under way."""
        now = time.monotonic()
        for instance, offer in self._offers.items():
            if offer is not None and offer.gone is not None and offer.gone.done():
                self._offers[instance] = None
                self._due[instance] = now + self._draw.random() * AWAY
        for instance, begun in list(self._offering.items()):
            if begun.done():
                self._offers[instance] = begun.result()
                del self._offering[instance]
        if may_offer:
            for instance, offer in self._offers.items():
                if offer is None and now >= self._due[instance] and instance not in self._offering:
                    self._offering[instance] = self._threads.submit(self._offer, instance)
        going = (offer for offer in self._offers.values() if offer is not None and offer.gone is not None)
        return not self._offering and not any(True for _ in going)

    def revoke(self, number: int) -> None:
        """Withdraw one of what is offered; `look` sees it gone."""
        offered = [offer for offer in self._offers.values() if offer is not None and offer.gone is None]
        if offered:
            self._threads.submit(self._host.revoke, offered[number % len(offered)])

    def report(self) -> list[dict[str, Any]]:
        """One entry for each offer there is."""
        entries = []
        for instance, offer in self._offers.items():
            if offer is None:
                continue
            channel = offer.channel
            entry: dict[str, Any] = {"instance": str(instance), "relid": 0, "generation": 0}
            if channel is not None:
                entry |= {"relid": channel.relid, "generation": channel.generation}
            if isinstance(device := self._devices[instance], PacketDevice):
                entry["packets"] = device.report()
            entries.append(entry)
        return entries

    def close(self) -> None:
        """No more offers."""
        self._threads.shutdown(cancel_futures=True)


def connect(partition: str, runtime_dir: str) -> Host:
    """Attach, however often the daemon dies meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return Host.connect(partition, runtime_dir=runtime_dir)
        except (NoDaemon, LinkClosed):
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY)


class Orders:
    """What the runner wants of this process. `revokes`: lots for offers to be withdrawn."""

    def __init__(self, *, paused: bool) -> None:
        self.pause = Pause(on=paused)
        self.trickles = False
        self.quitting = threading.Event()
        self.revokes: list[int] = []

    def obey(self, line: Line) -> None:
        """One line of the runner's."""
        what = line["do"]
        # First: a pause that is confirmed must not be followed by a signal.
        if what in ("trickle", "pause", "resume"):
            self.trickles = what == "trickle"
        self.pause.obey(line)
        if what == "revoke":
            self.revokes.append(line["number"])
        elif what == "quit":
            self.quitting.set()


def main(spec: dict[str, Any], lines: Lines) -> int:
    """Run one host until it is told to quit."""
    sys.setswitchinterval(SWITCH_SECONDS)
    draw = random.Random(spec["seed"])
    orders = Orders(paused=spec["paused"])
    lines.follow(orders.obey)
    ledger = Ledger(Path(spec["ledger"]))
    with connect(spec["partition"], spec["runtime_dir"]) as host, host.serving():
        opens = Opens(ledger)
        cells = CellDevice(ledger, opens)
        with_packets = [
            PacketDevice(ledger, opens, orders.pause) for n in range(spec["devices"]) if is_of_packets(n)
        ]
        unused = iter(with_packets)
        devices = Devices(
            host,
            {
                UUID(int=(spec["number"] + 1) << 16 | n): next(unused) if is_of_packets(n) else cells
                for n in range(spec["devices"])
            },
            draw,
        )
        with contextlib.closing(devices):
            _storm(host, (cells, with_packets), devices, lines, orders, draw)
    return 0


def _storm(
    host: Host,
    stormers: tuple[CellDevice, list[PacketDevice]],
    devices: Devices,
    lines: Lines,
    orders: Orders,
    draw: random.Random,
) -> None:
    pause = orders.pause
    cells, with_packets = stormers
    standstill = Standstill(with_packets)
    ready = False
    while not orders.quitting.is_set():
        while orders.revokes:
            devices.revoke(orders.revokes.pop())
        # A process that begins in a pause has to offer something all the same.
        resting = devices.look(may_offer=not ready or not pause.on)
        if resting and not ready:
            ready = True
            lines.tell(event="ready", link=host.link)
        if orders.trickles:
            cells.trickle(host)
            time.sleep(draw.random() * TRICKLE_PACE)
            continue
        if not pause.on:
            cells.storm(host)
            for device in with_packets:
                device.push()
            time.sleep(draw.random() * PACE)
            continue
        still = ready and resting and standstill.is_reached(pause.number)
        if still and (number := pause.confirm()) is not None:
            report = devices.report()
            lines.tell(event="paused", number=number, link=host.link, offers=report, counts=host.statistics())
        time.sleep(RETRY)
