"""A device process, blocking flavour: connect, offer, serve the link and the guest's signals.

`run` serves the link in the thread that calls it and takes the guest's signals in a second one; both run
device callbacks, one at a time. Channels may be signalled from any thread. A daemon that dies and comes back
within its grace time is a number in `statistics`, no more. One that stays away does not end `run` either:
signals need no daemon, so channels go on until `stop`; only a farewell of the daemon is an end.
"""

import logging
import math
import os
import select
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final
from uuid import UUID

from host_client.core import Core
from host_client.device import Device
from host_client.offer import ANSWER_TIMEOUT, Offer, not_answered
from host_client.view import HostView
from vmbusd.abi.attach import Attached, attach
from vmbusd.abi.errors import LinkLost, UsageError
from vmbusd.abi.link import Role
from vmbusd.abi.link_socket import WAIT_SLICE

log = logging.getLogger(__name__)

OFFERS_IN_FLIGHT: Final = 64
"""Offers sent before the first result is awaited: keeps the daemon busy, and its queue to us short."""


class Host(HostView):
    """A host link. A context manager: leaving it stops all signalling, says Detached and closes the link."""

    def __init__(self, attached: Attached) -> None:
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            super().__init__(Core(attached, full=lambda: os.eventfd_write(self._wake, 1)))
        except BaseException:
            os.close(self._wake)
            raise
        self._reading = threading.Lock()
        self._reader: int | None = None
        self._running = threading.Lock()
        self._stopping = threading.Event()
        self._closed = False

    @classmethod
    def connect(cls, partition: str, *, runtime_dir: str | os.PathLike[str] | None = None) -> "Host":
        """Attach to `partition` of the daemon of `runtime_dir`. Raises as `vmbusd.abi.attach.attach`."""
        attached = attach(Role.HOST, partition, runtime_dir=runtime_dir, resumable=True)
        try:
            return cls(attached)
        except BaseException:
            attached.close()
            raise

    def __enter__(self) -> "Host":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- offers --------------------------------------------------------------------------------------------

    def offer(
        self,
        device: Device,
        instance: UUID | None = None,
        *,
        timeout: float | None = ANSWER_TIMEOUT,
        **fields: Any,
    ) -> Offer:
        """Offer a channel and wait until the daemon has taken it. Callable from callbacks and any thread.

        `instance` is made up when not given. `fields` are those of `device_link.Offer`: subchannel_index,
        chn_flags, mmio_megabytes, mmio_megabytes_optional, order, user_defined, flags (OfferFlag.MONITORED:
        the guest may signal by a monitor bit). Raises RefusedError with the daemon's reason, UsageError,
        LinkClosed, TimedOut after `timeout` seconds (None: never) without its answer; then the offer goes on,
        and is in `offers` for whoever wants to revoke it.
        """
        offer = self._core.offer(device, instance, fields)
        self._answered(offer, offer.result, timeout)
        return offer

    def offer_many(self, devices: Iterable[Device]) -> list[Offer]:
        """Offer each device with an instance of its own, many at a time.

        Raises RefusedError at the first refusal; what was taken before stays offered (`offers`). Else as
        `offer`.
        """
        offers: list[Offer] = []
        for device in devices:
            offers.append(self._core.offer(device, None, {}))
            if len(offers) >= OFFERS_IN_FLIGHT:
                oldest = offers[-OFFERS_IN_FLIGHT]
                self._answered(oldest, oldest.result, ANSWER_TIMEOUT)
        for offer in offers:
            self._answered(offer, offer.result, ANSWER_TIMEOUT)
        return offers

    def revoke(self, offer: Offer, timeout: float | None = ANSWER_TIMEOUT) -> None:
        """Withdraw an offer: `on_close` if it was open, then wait until the daemon has let go of it.

        Raises TimedOut after `timeout` seconds (None: never) without its answer: nothing is signalled any
        more, the revoke goes on, and asking again waits for the same answer. Else as `offer`.
        """
        self._answered(offer, self._core.revoke(offer), timeout)

    def _answered(self, offer: Offer, future: "Future[None]", timeout: float | None) -> None:
        """Wait for a result, reading the link if nobody else does. Requests read meanwhile wait for `run`.

        Raises TimedOut when there is none after `timeout` seconds; the error, if the result is one.
        """
        core = self._core
        mine = self._reader == threading.get_ident()
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while not future.done():
            left = deadline - time.monotonic()
            if left <= 0:
                raise not_answered(self.partition, offer, timeout)
            wait = min(WAIT_SLICE, left)
            if mine or self._reading.acquire(blocking=False):
                try:
                    if not core.read() and not future.done():
                        core.link.wait(wait)
                finally:
                    if not mine:
                        self._reading.release()
            else:
                # Lets go of the monitor, also when a callback holds it: the reader may need it to get on.
                with core.monitor:
                    core.monitor.wait_for(future.done, wait)
        future.result()

    # -- serving -------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until `stop`. Device callbacks run only meanwhile.

        Raises LinkClosed with the daemon's reason when it ends the link, ProtocolError for a packet it must
        not send, ObjectDead when a peer truncated shared memory. Returns at once if `stop` came before.
        """
        if not self._running.acquire(blocking=False):
            raise UsageError("this host is running already")
        with ThreadPoolExecutor(1, f"host{self.link}-signals") as threads:
            signals = threads.submit(self._wait_for_signals)
            # If it fails, the loop below must look.
            signals.add_done_callback(lambda _: os.eventfd_write(self._wake, 1))
            try:
                with self._reading:
                    self._reader = threading.get_ident()
                    self._serve(signals)
            finally:
                self._reader = None
                self._stopping.set()
                self._core.wake_waiter()
                threads.shutdown()
                self._stopping.clear()
                self._drain_wake()
                self._running.release()

    def stop(self) -> None:
        """Make `run` return. Callable from any thread, callback or signal handler."""
        self._stopping.set()
        if not self._closed:
            os.eventfd_write(self._wake, 1)

    @contextmanager
    def serving(self) -> Iterator["Host"]:
        """Run in a thread of its own inside the `with` block; what `run` raised is raised at its end."""
        with ThreadPoolExecutor(1, f"host{self.link}") as threads:
            running = threads.submit(self.run)
            try:
                yield self
            finally:
                self.stop()
        # `run` may have ended before it could see this stop.
        self._stopping.clear()
        running.result()

    def _serve(self, signals: "Future[None]") -> None:
        core, orphaned = self._core, False
        while not self._stopping.is_set():
            busy = core.read()
            core.serve()
            core.attached.check()
            if signals.done():
                signals.result()
            if isinstance(core.ended, LinkLost) and not orphaned:
                orphaned = True
                log.warning("%s: %s; open channels go on without it", self.partition, core.ended)
            elif core.ended is not None and not orphaned:
                raise core.ended
            due = core.feed.look()
            if not busy or orphaned:
                self._wait_for_packets(orphaned, due)

    def _wait_for_packets(self, orphaned: bool, due: float) -> None:
        link = self._core.link
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        timeout = due
        if not orphaned:
            timeout = min(timeout, link.due())
            # Another one after each resume.
            if (fd := link.fileno()) >= 0:
                poll.register(fd, link.events)
        ready = poll.poll(timeout * 1000)
        if ready:
            self._drain_wake()
        if not orphaned:
            link.flush(idle=not ready and timeout >= WAIT_SLICE)

    def _wait_for_signals(self) -> None:
        core = self._core
        core.feed.taker = threading.get_ident()
        try:
            while not self._stopping.is_set():
                core.signalled(core.feed.waiter.wait(WAIT_SLICE))
        finally:
            core.feed.taker = None

    def _drain_wake(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Leave: no channel of ours is signalled any more when this returns. May be called again.

        Raises UsageError while another thread is in `run`.
        """
        if self._closed:
            return
        if not self._running.acquire(blocking=False):
            raise UsageError("stop the host before closing it")
        self._closed = True
        try:
            self._core.leave()
        finally:
            os.close(self._wake)
            self._running.release()
