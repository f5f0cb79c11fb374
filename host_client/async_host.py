"""A device process, asyncio flavour: the same core, served by the event loop.

Everything, device callbacks included, runs in the loop's thread; only the wait for the guest's signals has a
thread of its own, because a semaphore is nothing that a loop can poll. Callbacks are plain functions; one
that wants to wait makes a task. Works on asyncio's loop and on any other with `add_reader`.
"""

import asyncio
import logging
import math
import os
import select
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import Any
from uuid import UUID

from host_client.core import Core
from host_client.device import Device
from host_client.host import OFFERS_IN_FLIGHT
from host_client.offer import ANSWER_TIMEOUT, Offer, not_answered
from host_client.view import HostView
from vmbusd.abi.attach import Attached, attach
from vmbusd.abi.errors import LinkLost, UsageError
from vmbusd.abi.link import Role
from vmbusd.abi.link_socket import WAIT_SLICE

log = logging.getLogger(__name__)


class AsyncHost(HostView):
    """A host link of the running loop; an async context manager. Attributes and rules as `Host`."""

    def __init__(self, attached: Attached) -> None:
        self._loop = asyncio.get_running_loop()
        hooks = (self._socket_goes, self._socket_came)
        super().__init__(Core(attached, full=self._full, hooks=hooks))
        self._retry: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._stopping = threading.Event()
        self._serving = False
        self._closed = False
        # Flags the waiter took and the loop has not seen: a set, so that a guest cannot make it grow.
        self._taken: set[int] = set()
        self._taken_lock = threading.Lock()
        self._socket_came(attached.fileno())

    @classmethod
    async def connect(
        cls, partition: str, *, runtime_dir: str | os.PathLike[str] | None = None
    ) -> "AsyncHost":
        """Attach to `partition` of the daemon of `runtime_dir`. Raises as `vmbusd.abi.attach.attach`."""
        attached = await asyncio.to_thread(
            attach, Role.HOST, partition, runtime_dir=runtime_dir, resumable=True
        )
        try:
            return cls(attached)
        except BaseException:
            attached.close()
            raise

    async def __aenter__(self) -> "AsyncHost":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def offer(
        self,
        device: Device,
        instance: UUID | None = None,
        *,
        timeout: float | None = ANSWER_TIMEOUT,
        **fields: Any,
    ) -> Offer:
        """Offer a channel; arguments and errors as `Host.offer`. A callback makes a task of it.

        Whoever is cancelled while it waits has made the offer nevertheless: it is in `offers` when the daemon
        has taken it.
        """
        offer = self._core.offer(device, instance, fields)
        await self._answered(offer, offer.result, timeout)
        return offer

    async def offer_many(self, devices: Iterable[Device]) -> list[Offer]:
        """Offer each device with an instance of its own, many at a time. Raises as `Host.offer_many`."""
        offers: list[Offer] = []
        for device in devices:
            offers.append(self._core.offer(device, None, {}))
            if len(offers) >= OFFERS_IN_FLIGHT:
                oldest = offers[-OFFERS_IN_FLIGHT]
                await self._answered(oldest, oldest.result, ANSWER_TIMEOUT)
        for offer in offers:
            await self._answered(offer, offer.result, ANSWER_TIMEOUT)
        return offers

    async def revoke(self, offer: Offer, timeout: float | None = ANSWER_TIMEOUT) -> None:
        """Withdraw an offer; `timeout` and errors as `Host.revoke`. It goes on if the caller is cancelled."""
        await self._answered(offer, self._core.revoke(offer), timeout)

    async def _answered(self, offer: Offer, future: "Future[None]", timeout: float | None) -> None:
        """Wait for it; whoever is cancelled meanwhile leaves it alone: the core will still settle it."""
        waiting = asyncio.wrap_future(future)
        # An error that nobody waits for any more is no news.
        waiting.add_done_callback(lambda late: late.cancelled() or late.exception())
        done, _ = await asyncio.wait([waiting], timeout=timeout)
        if not done:
            raise not_answered(self.partition, offer, timeout)
        waiting.result()

    async def serve(self) -> None:
        """Serve until `stop`; device callbacks run only meanwhile. Raises as `Host.run`."""
        if self._serving:
            raise UsageError("this host is being served already")
        self._serving = True
        core = self._core
        signals = self._loop.run_in_executor(None, self._wait_for_signals)
        signals.add_done_callback(lambda _: self._changed.set())
        orphaned = False
        try:
            while not self._stopping.is_set():
                self._changed.clear()
                core.serve()
                self._signalled()
                core.attached.check()
                if signals.done():
                    signals.result()
                if isinstance(core.ended, LinkLost):
                    if not orphaned:
                        log.warning("%s: %s; open channels go on without it", self.partition, core.ended)
                    orphaned = True
                elif core.ended is not None:
                    raise core.ended
                try:
                    async with asyncio.timeout(core.feed.look()):
                        await self._changed.wait()
                except TimeoutError:
                    # Time to look at the guards again.
                    core.link.flush(idle=True)
        finally:
            self._stopping.set()
            core.wake_waiter()
            await asyncio.wait([signals])
            self._stopping.clear()
            self._serving = False

    def stop(self) -> None:
        """Make `serve` return. Callable from callbacks, the loop's signal handlers and any thread."""
        self._stopping.set()
        self._loop.call_soon_threadsafe(self._changed.set)

    def _socket_came(self, fd: int) -> None:
        # Our farewell may need another socket, and nobody listens to that one.
        if not self._closed:
            self._loop.add_reader(fd, self._readable)

    def _socket_goes(self, fd: int) -> None:
        if not self._closed:
            self._unwatch(fd)

    def _unwatch(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)

    def _readable(self) -> None:
        link = self._core.link
        self._core.read()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._core.ended is not None:
            self._no_more_packets()
        elif (due := link.due()) < math.inf:
            self._retry = self._loop.call_later(due, self._readable)
        self._changed.set()

    def _no_more_packets(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if (fd := self._core.link.fileno()) >= 0:
            self._unwatch(fd)

    def _full(self) -> None:
        self._loop.call_soon_threadsafe(self._wait_for_room)

    def _wait_for_room(self) -> None:
        if not self._closed and (fd := self._core.link.fileno()) >= 0:
            self._loop.add_writer(fd, self._writable)

    def _writable(self) -> None:
        link = self._core.link
        link.flush()
        if not link.events & select.POLLOUT:
            self._loop.remove_writer(link.fileno())

    def _wait_for_signals(self) -> None:
        while not self._stopping.is_set():
            flags = self._core.feed.waiter.wait(WAIT_SLICE)
            self._core.feed.heard(flags)
            with self._taken_lock:
                first = not self._taken
                self._taken.update(flags)
            if flags and first:
                self._loop.call_soon_threadsafe(self._changed.set)

    def _signalled(self) -> None:
        with self._taken_lock:
            flags = sorted(self._taken)
            self._taken.clear()
        self._core.feed.serve(flags)

    async def close(self) -> None:
        """Leave: no channel of ours is signalled any more when this returns. May be called again.

        The loop goes on while the daemon is told; whoever is cancelled meanwhile has left all the same.
        """
        if self._closed:
            return
        if self._serving:
            raise UsageError("stop the host before closing it")
        self._closed = True
        self._no_more_packets()
        self._core.end_channels()
        told = self._loop.run_in_executor(None, self._core.say_farewell)
        try:
            await asyncio.wait([told])
        except asyncio.CancelledError:
            told.add_done_callback(lambda _: self._core.let_go())
            raise
        self._core.let_go()
        told.result()
