"""A host process of the demo: offers its share of the channels and signals them between start and stop.

Credit mode is a real ring's rule: signal only when the other side has caught up, so one lost interrupt stops
the channel for ever. Burst mode counts and signals as fast as it can. Commands come as lines on standard
input (start and stop, as often as wanted, then quit; its end means quit), reports go as JSON lines to
standard output.
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from host_client import Channel, Device, Host
from vmbusd.abi.errors import VmbusError
from vmbusd.abi.native import Words
from vmbusd.demo import cell, packets
from vmbusd.demo.driver import STORM_INTERFACE
from vmbusd.demo.oracle import HUNG_SECONDS
from vmbusd.demo.packets import PacketDevice

REPORT_SECONDS: Final = 0.25
SETTLE_LOOK_SECONDS: Final = 0.02
SWITCH_SECONDS: Final = 0.0002
"""How long the storm may keep the link thread from answering: retargets wait for these answers."""


class StormDevice(Device):
    """All channels of this process, split by mode."""

    interface = STORM_INTERFACE

    def __init__(self) -> None:
        # Held for a pass of the storm and while channels come or go: a pass uses ring memory.
        self.lock = threading.Lock()
        self.credit: dict[Channel, Words] = {}
        self.burst: dict[Channel, Words] = {}

    def on_open(self, channel: Channel) -> None:
        """Name the generation for the oracle, then let the storm have the channel."""
        words = Words(channel.memory(cell.CELL_PAGE))
        words.store(cell.GENERATION, channel.generation)
        with self.lock:
            (self.credit if cell.is_credit(channel.relid) else self.burst)[channel] = words

    def on_close(self, channel: Channel) -> None:
        """Let go of the ring memory before the answer that says so."""
        with self.lock:
            self.credit.pop(channel, None)
            self.burst.pop(channel, None)

    def storm(self, host: Host) -> int:
        """One pass over all channels. Returns how many were signalled."""
        with self.lock:
            return self._signal_credit(host) + self._signal_burst(host)

    def _signal_credit(self, host: Host) -> int:
        ready = []
        for channel, words in self.credit.items():
            produced = words.load(cell.PRODUCED)
            if words.load(cell.SEEN) == produced:
                words.store(cell.STAMP, time.monotonic_ns())
                words.store(cell.PRODUCED, produced + 1)
                ready.append(channel)
        host.signal_many(ready)
        return len(ready)

    def _signal_burst(self, host: Host) -> int:
        for words in self.burst.values():
            words.add(cell.PRODUCED, 1)
        host.signal_many(list(self.burst))
        return len(self.burst)


class _Reporter:
    """Writes JSON lines to standard output, where the demo reads them."""

    def __init__(self, host: Host, packet_devices: Sequence[PacketDevice]) -> None:
        self._host = host
        self._packet_devices = packet_devices
        self._next = 0.0

    def report(self, event: str) -> None:
        """One line: what happened, and the host's counters at that moment."""
        counts = {**self._host.statistics(), **packets.report(self._packet_devices)}
        line = msgspec.json.encode({"event": event, "link": self._host.link, **counts})
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()

    def now_and_then(self) -> None:
        """A progress report, at most every REPORT_SECONDS."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + REPORT_SECONDS
            self.report("progress")


def _follow(commands: dict[str, threading.Event]) -> None:
    """Turn lines of standard input into events; its end is 'quit', which is 'stop' too."""
    for line in sys.stdin:
        if line.strip() == "quit":
            break
        if line.strip() in commands:
            commands[line.strip()].set()
    _give_all(commands)


def _give_all(commands: dict[str, threading.Event]) -> None:
    # 'quit' first: whoever is woken by 'start', or clears it, then sees it.
    for name in ("quit", "stop", "start"):
        commands[name].set()


def _serve(host: Host, channels: int, packet_channels: int, commands: dict[str, threading.Event]) -> None:
    """Offer, follow the commands, leave. Raises why the link ended, if it did; the storm is over then."""
    with ThreadPoolExecutor(1, "link") as threads:
        serving = threads.submit(host.run)
        serving.add_done_callback(lambda _: _give_all(commands))
        try:
            _storm(host, channels, packet_channels, commands)
        finally:
            host.stop()
        serving.result()


def _storm(host: Host, channels: int, packet_channels: int, commands: dict[str, threading.Event]) -> None:
    device = StormDevice()
    packet_devices = [PacketDevice() for _ in range(packet_channels)]
    host.offer_many([device] * channels)
    host.offer_many(packet_devices)
    reporter = _Reporter(host, packet_devices)
    reporter.report("offered")
    start, quitting = commands["start"], commands["quit"]
    # Looked at before the wait too: a 'quit' that came before 'start' was cleared sets it no more.
    while not quitting.is_set() and start.wait() and not quitting.is_set():
        while not commands["stop"].is_set():
            if not device.storm(host) + sum(one.push() for one in packet_devices):
                os.sched_yield()
            reporter.now_and_then()
        packets.settle(packet_devices, HUNG_SECONDS, SETTLE_LOOK_SECONDS)
        start.clear()
        commands["stop"].clear()
        reporter.report("stopped")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one host process of the demo."""
    parser = argparse.ArgumentParser(prog="python -m vmbusd.demo.host")
    parser.add_argument("--runtime-dir", required=True)
    parser.add_argument("--partition", required=True)
    parser.add_argument("--channels", type=int, required=True)
    parser.add_argument("--packet-channels", type=int, default=0)
    parser.add_argument("--cpu", type=int)
    options = parser.parse_args(argv)
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    sys.setswitchinterval(SWITCH_SECONDS)

    commands = {name: threading.Event() for name in ("start", "stop", "quit")}
    threading.Thread(target=_follow, args=(commands,), daemon=True).start()
    try:
        with Host.connect(options.partition, runtime_dir=options.runtime_dir) as host:
            _serve(host, options.channels, options.packet_channels, commands)
    except VmbusError as error:
        print(f"vmbusd demo: host process {os.getpid()}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
