"""A storm whose daemon is killed again and again: real hosts, a real guest, and everything they ask for.

64 channels carry signals between processes and are moved from VP to VP; others are opened, signalled once and
closed, over and over. Each request must be answered, none twice, no signal lost, and what stays open keeps
relid and generation. `python -m tests.live.restart_storm --kills 500` is the long one; CI runs a short one.
"""

import argparse
import contextlib
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from unittest import mock
from uuid import UUID

from guest_client import Channel, Guest, batches
from host_client import Device, Host
from host_client.channel import Channel as HostChannel
from tests.live.daemon import Daemon, eventually
from tests.live.guest_drivers import RUNG, Rung
from tests.live.storms import let_pass
from vmbusd.ctl.client import AdminClient
from vmbusd.demo.driver import StormDriver
from vmbusd.demo.processes import hosts
from vmbusd.demo.storm import OPEN_SECONDS, Storm
from vmbusd.server import requests

PARTITION: Final = "storm"
VPS: Final = 3
CHANNELS: Final = 64
CYCLED: Final = 8
PATIENCE: Final = 60.0
"""Seconds for one open or close, restarts of the daemon included."""


class Ringer(Device):
    """Signals each open once, and writes down what it was asked."""

    interface = RUNG

    def __init__(self) -> None:
        self.opened: Counter[tuple[int, int]] = Counter()
        self.closed: Counter[tuple[int, int]] = Counter()

    def on_open(self, channel: HostChannel) -> None:
        self.opened[channel.relid, channel.generation] += 1
        channel.signal()

    def on_close(self, channel: HostChannel) -> None:
        self.closed[channel.relid, channel.generation] += 1


class Scene:
    """What runs while the daemon comes and goes. Made by `restart_storm`."""

    def __init__(self, runtime_dir: Path, guest: Guest, storm: Storm, ringer: Ringer) -> None:
        self.runtime_dir = runtime_dir
        self.guest = guest
        self.storm = storm
        self.ringer = ringer
        self.daemon: Daemon
        self.cycles = 0
        self.kills = 0
        self._cycled = [channel for channel in guest.channels if channel.interface == RUNG]
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(len(self._cycled), "cycle")
        self._cycling = [self._threads.submit(self._cycle, channel) for channel in self._cycled]
        self._shown = {channel.relid: channel.generation for channel in storm.channels}

    def _cycle(self, channel: Channel) -> None:
        """Open, be signalled, close: each answered, whatever becomes of the daemon meanwhile."""
        while not self._stop.is_set():
            channel.open(timeout=PATIENCE)
            # Needs no daemon: the signal was on its way when the open was answered.
            eventually(lambda: channel.state[0], f"{channel} is signalled")
            channel.close(timeout=PATIENCE)
            self.cycles += 1

    def let_cycle(self) -> None:
        """Wait until a channel was opened, signalled and closed."""
        before = self.cycles
        eventually(lambda: self.cycles > before, "channels are opened and closed", PATIENCE)

    def check(self) -> None:
        """Raise what ended a cycle."""
        for each in self._cycling:
            if each.done():
                each.result()

    def ask(self, request: requests.Request) -> dict[str, Any]:
        """An answer of the daemon of now."""
        with AdminClient(self.runtime_dir) as client:
            return client.ask(request)

    def all_are_back(self) -> bool:
        """Whether every link has a socket."""
        (view,) = self.ask(requests.Status())["partitions"]
        links = [view["guest"], *view["hosts"]]
        return all(link is not None and not link["away"] for link in links)

    def judge(self, *, all_retargets: bool = True) -> dict[str, int]:
        """Stop everything in order and require that nothing was lost, unanswered or answered twice; and that
        no retarget was refused, if `all_retargets` were to VPs that are online."""
        self._stop.set()
        for each in self._cycling:
            each.result(PATIENCE)
        self._threads.shutdown()
        self.storm.stop_retargeting()
        self.storm.stop_hosts()
        self.storm.settle()
        verdict = self.storm.oracle.verdict()
        assert (verdict.lost, verdict.behind, verdict.overlaps, verdict.stale) == (0, [], 0, 0)
        assert not self.storm.oracle.hung
        assert not (all_retargets and self.storm.refused_retargets)
        assert set(self.ringer.opened.values()) == {1}, "asked twice to open"
        assert self.ringer.opened == self.ringer.closed
        assert sum(self.ringer.opened.values()) == self.cycles
        assert self.guest.statistics()["refused"] == {}
        known = {view["relid"]: view for view in self.ask(requests.Channels(PARTITION))["channels"]}
        slots = {slot["relid"]: slot for slot in self.ask(requests.Table(PARTITION))["slots"]}
        for relid, generation in self._shown.items():
            assert known[relid]["generation"] == generation
            assert (slots[relid]["open"], slots[relid]["slot_generation"]) == (True, generation)
            assert slots[relid]["target_vp"] == known[relid]["target_vp"]
        for channel in self._cycled:
            assert not slots[channel.relid]["open"]
        return {
            "callbacks": verdict.callbacks,
            "retargets": self.storm.retargets,
            "opens": self.cycles,
            "resumed": self.guest.statistics()["resumed"],
        }

    def describe(self) -> str:
        """What is to be known when something stands still."""
        return json.dumps(
            {
                "kills": self.kills,
                "guest": self.guest.statistics(),
                "daemon": self.ask(requests.Status()),
                "hosts": [host.process.poll() for host in self.storm.hosts],
                "log": self.daemon.text()[-8000:].splitlines(),
            },
            indent=1,
            default=str,
        )

    def leave(self) -> None:
        """End the threads, whatever state the scene is in."""
        self._stop.set()
        self.storm.leave()
        self._threads.shutdown(cancel_futures=True)


@contextlib.contextmanager
def restart_storm(runtime_dir: Path) -> Iterator[Scene]:
    """The whole scene, storming, under a daemon that the caller may kill and start as `scene.daemon`."""
    running = start(runtime_dir)
    scene: Scene | None = None
    try:
        with ExitStack() as stack:
            # A retarget may have to outlast the deaths and starts of two daemons.
            stack.enter_context(mock.patch.object(batches, "OPEN_TIMEOUT", 60.0))
            shares = [CHANNELS // 2, CHANNELS // 2]
            stormers = stack.enter_context(hosts(runtime_dir, PARTITION, shares))
            host = stack.enter_context(Host.connect(PARTITION, runtime_dir=runtime_dir))
            stack.enter_context(host.serving())
            ringer = Ringer()
            for number in range(CYCLED):
                host.offer(ringer, UUID(int=number + 1))
            guest = stack.enter_context(Guest.attach(PARTITION, runtime_dir=runtime_dir))
            guest.register(StormDriver())
            guest.register(Rung())
            guest.start(VPS, "process")
            assert guest.wait_ready(OPEN_SECONDS)
            opened = [channel for channel in guest.channels if channel.interface == StormDriver.interface]
            assert len(opened) == CHANNELS
            storm = Storm(guest, stormers, opened)
            scene = Scene(runtime_dir, guest, storm, ringer)
            scene.daemon = running
            stack.callback(scene.leave)
            storm.start()
            yield scene
    finally:
        (scene.daemon if scene is not None else running).close()


def start(runtime_dir: Path) -> Daemon:
    """A daemon for the scene, ready."""
    arguments = ("--partition", f"{PARTITION}:{VPS}", "--grace", str(PATIENCE))
    return Daemon(runtime_dir, *arguments).wait_ready()


def kill_and_start(scene: Scene) -> float:
    """kill -9 and a new daemon; returns the seconds from its exec until it serves."""
    scene.daemon.kill()
    scene.daemon.log.unlink()
    begun = time.monotonic()
    scene.daemon = start(scene.runtime_dir)
    return time.monotonic() - begun


def kill_often(scene: Scene, kills: int, seed: int = 1) -> list[float]:
    """Kill the daemon at moments drawn by lot: some before all links are back, some long after."""
    draw = random.Random(seed)
    times = []
    for number in range(kills):
        if number % 2 == 0:
            eventually(scene.all_are_back, "every link is back", PATIENCE)
            let_pass(scene.storm, 500)
            scene.let_cycle()
        time.sleep(draw.choice((0.0, 0.01, 0.05, 0.2)) * draw.random())
        times.append(kill_and_start(scene))
        scene.kills += 1
        # Whose reports nobody reads stands still in the end.
        scene.storm.look()
        scene.check()
    eventually(scene.all_are_back, "every link is back", PATIENCE)
    return times


def main() -> int:
    """Run the long storm and print what it saw."""
    parser = argparse.ArgumentParser(prog="python -m tests.live.restart_storm")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vmb-", dir="/tmp") as directory:
        begun = time.monotonic()
        with restart_storm(Path(directory)) as scene:
            try:
                times = sorted(kill_often(scene, options.kills, options.seed))
                result = scene.judge()
            except BaseException:
                print(scene.describe())
                raise
        seconds = time.monotonic() - begun
    print(f"{options.kills} kills in {seconds:.0f} s: lost 0, unanswered 0, answered twice 0; {result}")
    print(f"exec to serving: median {times[len(times) // 2] * 1000:.0f} ms, worst {times[-1] * 1000:.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
