"""A device process, asyncio flavour: the same core, served by the event loop.

Everything, device callbacks included, runs in the loop's thread; only the wait for the guest's signals has a
thread of its own, because a semaphore is nothing that a loop can poll. Callbacks are plain functions; one
that wants to wait makes a task. Works on asyncio's loop and on any other with `add_reader`.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any
from uuid import UUID

from host_client.core import Core
from host_client.device import Device
from host_client.host import OFFERS_IN_FLIGHT
from host_client.offer import Offer
from host_client.view import HostView
from vmbusd.abi.attach import Attached, attach
from vmbusd.abi.errors import LinkLost, UsageError
from vmbusd.abi.link import Role
from vmbusd.abi.link_socket import WAIT_SLICE

log = logging.getLogger(__name__)


class AsyncHost(HostView):
    """A host link of the running loop; an async context manager. Attributes and rules as `Host`."""

    def __init__(self, attached: Attached) -> None:
        super().__init__(Core(attached))
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._stopping = threading.Event()
        self._serving = False
        self._closed = False
        # Flags the waiter took and the loop has not seen: a set, so that a guest cannot make it grow.
        self._taken: set[int] = set()
        self._taken_lock = threading.Lock()
        self._loop.add_reader(attached.fileno(), self._readable)

    @classmethod
    async def connect(
        cls, partition: str, *, runtime_dir: str | os.PathLike[str] | None = None
    ) -> "AsyncHost":
        """Attach to `partition` of the daemon of `runtime_dir`. Raises as `vmbusd.abi.attach.attach`."""
        attached = await asyncio.to_thread(attach, Role.HOST, partition, runtime_dir=runtime_dir)
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

    async def offer(self, device: Device, instance: UUID | None = None, **fields: Any) -> Offer:
        """Offer a channel; arguments and errors as `Host.offer`. A callback makes a task of it."""
        offer = self._core.offer(device, instance, fields)
        await asyncio.wrap_future(offer.result)
        return offer

    async def offer_many(self, devices: Iterable[Device]) -> list[Offer]:
        """Offer each device with an instance of its own, many at a time. Raises as `Host.offer_many`."""
        offers: list[Offer] = []
        for device in devices:
            offers.append(self._core.offer(device, None, {}))
            if len(offers) >= OFFERS_IN_FLIGHT:
                await asyncio.wrap_future(offers[-OFFERS_IN_FLIGHT].result)
        for offer in offers:
            await asyncio.wrap_future(offer.result)
        return offers

    async def revoke(self, offer: Offer) -> None:
        """Withdraw an offer: `on_close` if it was open, then wait until the daemon has let go of it."""
        await asyncio.wrap_future(self._core.revoke(offer))

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
                    continue
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

    def _readable(self) -> None:
        self._core.read()
        if self._core.ended is not None:
            self._loop.remove_reader(self._core.attached.fileno())
        self._changed.set()

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
        """Leave: no channel of ours is signalled any more when this returns. May be called again."""
        if self._closed:
            return
        if self._serving:
            raise UsageError("stop the host before closing it")
        self._closed = True
        self._loop.remove_reader(self._core.attached.fileno())
        self._core.leave()
