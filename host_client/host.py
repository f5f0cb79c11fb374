"""A device process, blocking flavour: connect, offer, serve the link and the guest's signals.

`run` serves the link in the thread that calls it and takes the guest's signals in a second one; both run
device callbacks, one at a time. Channels may be signalled from any thread. The death of the daemon does not
end `run`: signals need no daemon, so channels go on until `stop`; only a farewell of the daemon is an end.
"""

import logging
import os
import select
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final
from uuid import UUID

from host_client.core import Core
from host_client.device import Device
from host_client.offer import Offer
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
        super().__init__(Core(attached))
        self._reading = threading.Lock()
        self._reader: int | None = None
        self._running = threading.Lock()
        self._stopping = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closed = False

    @classmethod
    def connect(cls, partition: str, *, runtime_dir: str | os.PathLike[str] | None = None) -> "Host":
        """Attach to `partition` of the daemon of `runtime_dir`. Raises as `vmbusd.abi.attach.attach`."""
        attached = attach(Role.HOST, partition, runtime_dir=runtime_dir)
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

    def offer(self, device: Device, instance: UUID | None = None, **fields: Any) -> Offer:
        """Offer a channel and wait until the daemon has taken it. Callable from callbacks and any thread.

        `instance` is made up when not given. `fields` are those of `device_link.Offer`: subchannel_index,
        chn_flags, mmio_megabytes, mmio_megabytes_optional, order, user_defined. Raises RefusedError with the
        daemon's reason, UsageError, LinkClosed.
        """
        offer = self._core.offer(device, instance, fields)
        self._await(offer.result)
        return offer

    def offer_many(self, devices: Iterable[Device]) -> list[Offer]:
        """Offer each device with an instance of its own, many at a time.

        Raises RefusedError at the first refusal; what was taken before stays offered (`offers`).
        """
        offers: list[Offer] = []
        for device in devices:
            offers.append(self._core.offer(device, None, {}))
            if len(offers) >= OFFERS_IN_FLIGHT:
                self._await(offers[-OFFERS_IN_FLIGHT].result)
        for offer in offers:
            self._await(offer.result)
        return offers

    def revoke(self, offer: Offer) -> None:
        """Withdraw an offer: `on_close` if it was open, then wait until the daemon has let go of it."""
        self._await(self._core.revoke(offer))

    def _await(self, future: "Future[None]") -> None:
        """Wait for a result, reading the link if nobody else does. Requests read meanwhile wait for `run`."""
        core = self._core
        mine = self._reader == threading.get_ident()
        while not future.done():
            if mine or self._reading.acquire(blocking=False):
                try:
                    if not core.read() and not future.done():
                        core.attached.wait_readable(WAIT_SLICE)
                finally:
                    if not mine:
                        self._reading.release()
            else:
                # Lets go of the monitor, also when a callback holds it: the reader may need it to get on.
                with core.monitor:
                    core.monitor.wait_for(future.done, WAIT_SLICE)
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
        core = self._core
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(core.attached.fileno(), select.POLLIN)
        orphaned = False
        while not self._stopping.is_set():
            busy = core.read()
            core.serve()
            core.attached.check()
            if signals.done():
                signals.result()
            if isinstance(core.ended, LinkLost) and not orphaned:
                orphaned = True
                poll.unregister(core.attached.fileno())
                log.warning("%s: %s; open channels go on without it", self.partition, core.ended)
            elif core.ended is not None and not orphaned:
                raise core.ended
            due = core.feed.look()
            if not busy or orphaned:
                poll.poll(due * 1000)

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
