"""Moves random channels to random VPs, as fast as it can or so many a second, until it is stopped.

How a batch is moved is the caller's: the demo posts MODIFYCHANNEL, the lab's old design moves lists as well.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from guest_client import Channel
from vmbusd.abi.errors import ChannelGone, RefusedError

IN_FLIGHT: Final = 64
"""MODIFYCHANNEL messages on their way at once: each takes four hops between busy processes."""
PACE_SECONDS: Final = 0.01
"""With a rate, moves come in batches of about this much time: a thread cannot be woken much oftener."""
LATE_SECONDS: Final = 0.1
"""What a busy machine made late is caught up with, up to this much."""
LONGEST_WAIT: Final = 60.0
"""Seconds of one wait, which has to be a number that the system can take."""

Move = tuple[Channel, int]
MoveMany = Callable[[Sequence[Move]], Iterable[Exception | None]]


class Retargeter:
    """A thread that moves `channels`; started and stopped any number of times.

    `rate`: moves a second of the time that it runs, None for as many as there can be, 0 for none; `at_once`:
    the most that `move_many` gets. Attributes: `moved`, moves that were answered with success; `refused`, of
    channels that went away meanwhile.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        vps: int,
        move_many: MoveMany,
        rate: float | None = None,
        *,
        at_once: int = IN_FLIGHT,
    ) -> None:
        self.moved = 0
        self.refused = 0
        self._channels = channels
        self._vps = vps
        self._move_many = move_many
        self._rate = rate
        self._at_once = min(at_once, len(channels))
        # Seconds of running until the next move is due: what is left of them when it is stopped holds at the
        # next start.
        self._wait = 1 / rate if rate else 0.0
        self._dice = random.Random(vps * 4099 + len(channels))
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(1, "retargeter")
        # Its thread is there before there is anything to move: one whose start was interrupted by a signal is
        # known to nobody, and `close` would not wait for what it has under way.
        self._threads.submit(int)
        self._running: Future[None] | None = None

    def start(self) -> None:
        """Begin, if there is anything to do."""
        if self._vps > 1 and self._rate != 0:
            self._stop.clear()
            self._running = self._threads.submit(self._run)

    def check(self) -> None:
        """Raises what ended it, if something did."""
        if self._running is not None and self._running.done():
            self._running.result()

    def stop(self) -> None:
        """End; what is under way is answered first. Raises what ended it before."""
        self._stop.set()
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def close(self) -> None:
        """End for good, whatever happened."""
        self._stop.set()
        self._threads.shutdown()

    def _run(self) -> None:
        if self._rate is None:
            while not self._stop.is_set():
                self._move(self._at_once)
        else:
            self._run_at(self._rate)

    def _run_at(self, rate: float) -> None:
        batch = max(1, min(self._at_once, int(rate * PACE_SECONDS)))
        due = time.monotonic() + self._wait
        while not self._stop.wait(min(max(0.0, due + (batch - 1) / rate - time.monotonic()), LONGEST_WAIT)):
            now = time.monotonic()
            due = max(due, now - LATE_SECONDS)
            if due + (batch - 1) / rate <= now:
                count = min(self._at_once, int((now - due) * rate) + 1)
                due += count / rate
                self._move(count)
        self._wait = due - time.monotonic()

    def _move(self, count: int) -> None:
        moves = [(channel, self._other_vp(channel)) for channel in self._pick(count)]
        for outcome in self._move_many(moves):
            if outcome is None:
                self.moved += 1
            elif isinstance(outcome, ChannelGone | RefusedError):
                self.refused += 1
            else:
                raise outcome

    def _pick(self, count: int) -> list[Channel]:
        return self._dice.sample(self._channels, count)

    def _other_vp(self, channel: Channel) -> int:
        vp = self._dice.randrange(self._vps - 1)
        return vp if vp < channel.target_vp else vp + 1
