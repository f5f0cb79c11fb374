"""The storm's guest control process: opens what is offered, closes, opens again, moves channels for ever.

It is a process of its own so that it can be killed; its workers are those of the library. Every open and
close that it asks for is counted when it is asked and when it is answered. During a pause it asks nothing,
and confirms the pause when everything asked has been answered.
"""

import random
import threading
import time
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from guest_client import Channel, Guest
from tests.storm.driver import CellDriver, StormDriver
from tests.storm.ledger import Ledger
from tests.storm.lines import Line, Lines, Pause
from tests.storm.packet_driver import PacketDriver
from vmbusd.abi import layout
from vmbusd.abi.errors import (
    ChannelGone,
    LinkClosed,
    NoDaemon,
    RefusedError,
    TimedOut,
    UsageError,
    VmbusError,
)
from vmbusd.abi.link import Code

PATIENCE: Final = 60.0
RETRY: Final = 0.02
WINDOW: Final = 8
"""Retargets under way at once."""
PACE: Final = 0.005
"""Seconds between two such batches: the machine has to start a process each second, too."""
CLOSED: Final = 1.0
"""Most seconds until a closed channel is opened again."""
_LATER: Final = (Code.CONTROL_TAKEN, Code.RECOVERING)
"""Said while the death of the guest before us, or of its workers, has not been seen."""


class Asked:
    """Opens and closes: how many were asked for, and what came of them."""

    def __init__(self) -> None:
        self.asked = 0
        self.outcomes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def watch(self, call: "Future[Any]") -> None:
        """Count the answer, once there is one."""
        with self._lock:
            self.asked += 1
        call.add_done_callback(self._answered)

    def _answered(self, call: "Future[Any]") -> None:
        error = call.exception()
        with self._lock:
            self.outcomes["done" if error is None else type(error).__name__] += 1

    def open_questions(self) -> int:
        """How many have no answer yet."""
        with self._lock:
            return self.asked - self.outcomes.total()


class Probed(StormDriver):
    """A driver in the control process: what its probes open is counted too."""

    asked: Asked

    def probe(self, channel: Channel) -> "Future[None] | None":
        """Open it."""
        call = channel.begin_open()
        self.asked.watch(call)
        return call


class ProbedCells(Probed, CellDriver):
    """Of signals."""


class ProbedPackets(Probed, PacketDriver):
    """Of packets."""


class Player:
    """What the runner wants done, on a running guest."""

    def __init__(self, guest: Guest, ledger: Ledger, draw: random.Random, asked: Asked) -> None:
        self._guest = guest
        self._ledger = ledger
        self._draw = draw
        self._asked = asked
        self._lock = threading.Lock()
        self._closed: dict[Channel, float] = {}
        """Channels that we closed, and when they are to be opened again."""
        self.retargets: Counter[str] = Counter()

    def _opened(self) -> list[Channel]:
        return [channel for channel in self._guest.channels if channel.is_open]

    def close(self, number: int) -> None:
        """Close a channel, and open it again some time after that is done."""
        opened = self._opened()
        if not opened:
            return
        channel = opened[number % len(opened)]
        flag, generation = channel.event_flag, channel.generation
        with self._lock:
            if channel in self._closed:
                return
            self._closed[channel] = float("inf")

        def done(call: "Future[None]") -> None:
            with self._lock:
                self._closed[channel] = time.monotonic() + self._draw.random() * CLOSED
            if call.exception() is None:
                self._ledger.note_close(flag, generation)

        try:
            call = channel.begin_close()
        except (UsageError, LinkClosed):
            with self._lock:
                del self._closed[channel]
            return
        self._asked.watch(call)
        call.add_done_callback(done)

    def reopen(self) -> None:
        """Open again what is due; what was rescinded meanwhile is another channel by now."""
        now = time.monotonic()
        with self._lock:
            due = [channel for channel, at in self._closed.items() if at <= now]
            for channel in due:
                del self._closed[channel]
        for channel in due:
            try:
                self._asked.watch(channel.begin_open())
            except ChannelGone:
                continue

    def retarget(self) -> None:
        """Move some channels, all at once, and wait until that is answered."""
        opened = self._opened()
        some = self._draw.sample(opened, min(WINDOW, len(opened)))
        moves = [(channel, self._draw.randrange(self._guest.vps)) for channel in some]
        done = 0
        for outcome in self._guest.retarget_many(moves, window=WINDOW):
            done += outcome is None
            self.retargets["done" if outcome is None else type(outcome).__name__] += 1
        self._ledger.add("retargets", done)

    def at_rest(self) -> bool:
        """Whether everything asked for has been answered, and no removal is under way."""
        return not self._asked.open_questions() and self._guest.wait_ready(0)

    def report(self) -> dict[str, Any]:
        """Every channel there is, and the numbers."""
        with self._lock:
            closed = set(self._closed)
        channels = [
            {
                "relid": channel.relid,
                "generation": channel.generation,
                "instance": str(channel.instance),
                "host": channel.host_link,
                "vp": channel.target_vp,
                "open": channel.is_open,
                "closed": channel in closed,
            }
            for channel in self._guest.channels
        ]
        return {
            "channels": channels,
            "asked": self._asked.asked,
            "outcomes": dict(self._asked.outcomes),
            "retargets": dict(self.retargets),
            "statistics": self._guest.statistics(),
        }


def attach(partition: str, runtime_dir: str) -> Guest:
    """Attach, however often the daemon dies meanwhile, once the guest before us is gone."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return Guest.attach(partition, runtime_dir=runtime_dir)
        except (NoDaemon, LinkClosed, RefusedError, TimedOut) as error:
            later = not isinstance(error, RefusedError) or error.code in _LATER
            if not later or time.monotonic() > deadline:
                raise
            time.sleep(RETRY)


def main(spec: dict[str, Any], lines: Lines) -> int:
    """Run one guest until it is told to quit."""
    ledger = Ledger(Path(spec["ledger"]))
    pause, quitting = Pause(on=spec["paused"]), threading.Event()
    closes: list[int] = []

    def obey(line: Line) -> None:
        pause.obey(line)
        if line["do"] == "close":
            closes.append(line["number"])
        elif line["do"] == "quit":
            quitting.set()

    lines.follow(obey)
    with attach(spec["partition"], spec["runtime_dir"]) as guest:
        # The guest before us has been unloaded: every open that a device was asked for is over.
        for flag in range(1, layout.FLAGS):
            ledger.note_close(flag, ledger.opened(flag))
        asked = Asked()
        for kind in (ProbedCells, ProbedPackets):
            driver = kind(spec["ledger"])
            driver.asked = asked
            guest.register(driver)
        player = Player(guest, ledger, random.Random(spec["seed"]), asked)
        guest.start(spec["vps"], "process")
        lines.tell(event="ready")
        failed = threading.Thread(target=_wait, args=(guest, lines), name="end", daemon=True)
        failed.start()
        while not quitting.is_set():
            if not failed.is_alive():
                return 1
            if pause.on:
                if player.at_rest() and (number := pause.confirm()) is not None:
                    lines.tell(event="paused", number=number, **player.report())
                time.sleep(RETRY)
                continue
            while closes:
                player.close(closes.pop())
            player.reopen()
            player.retarget()
            time.sleep(PACE)
        guest.stop()
    return 0


def _wait(guest: Guest, lines: Lines) -> None:
    try:
        guest.wait()
    except VmbusError as error:
        lines.tell(event="failed", text=f"{type(error).__name__}: {error}")
