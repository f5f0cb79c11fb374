"""Probes, removals and what else drivers are asked outside of interrupts: one at a time, in one thread.

Never in the link's thread: a probe may wait for an answer, and a rescind must get past it (case 135). Never
more than a window of opens under way; a host that does not answer holds it up a while.
"""

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from guest_client.channel import OPEN_TIMEOUT, Channel, mistake

log = logging.getLogger(__name__)

PROBE_WINDOW: Final = 64
"""Opens under way at a time; the daemon and a host take that many without a queue growing anywhere."""

Asked = Callable[[], "Future[None] | None"]
"""A call of a driver, which may go on in a future."""


class Probing:
    """The thread, and how much it still has to do. `failed` is told of a channel whose probe raised."""

    def __init__(self, failed: Callable[[Channel], None]) -> None:
        self.changed = threading.Condition()
        self.under_way = 0
        """Probes that were asked for and have not ended; `changed` is notified at 0."""
        self._failed = failed
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="guest-probe", daemon=True)
        self._window = threading.BoundedSemaphore(PROBE_WINDOW)

    def start(self) -> None:
        """Begin with what has been asked for."""
        self._thread.start()

    def stop(self) -> None:
        """End after the work that was asked for by now."""
        self._work.put(None)

    def join(self) -> None:
        """Wait for the end; a driver that hangs is left behind."""
        self._thread.join(OPEN_TIMEOUT)

    def probe(self, channel: Channel, asked: Asked, what: str = "probe") -> None:
        """Ask the driver of `channel` something that may open it."""
        self._count(1)
        self._work.put(lambda: self._probe(channel, asked, what))

    def do(self, work: Callable[[], None]) -> None:
        """Do something else, in turn."""
        self._work.put(work)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def _probe(self, channel: Channel, asked: Asked, what: str) -> None:
        held = self._window.acquire(timeout=OPEN_TIMEOUT)
        opening: Future[None] | None = None
        try:
            opening = asked()
        except Exception as error:
            log.error("%r: its driver's %s failed: %s", channel, what, error, exc_info=mistake(error))
            self._failed(channel)
        if opening is None:
            self._ended(channel, held, None)
        else:
            opening.add_done_callback(lambda done: self._ended(channel, held, done.exception()))

    def _ended(self, channel: Channel, held: bool, error: BaseException | None) -> None:
        if error is not None:
            log.warning("%r: cannot be opened: %s", channel, error)
        if held:
            self._window.release()
        self._count(-1)

    def _count(self, change: int) -> None:
        with self.changed:
            self.under_way += change
            if not self.under_way:
                self.changed.notify_all()
