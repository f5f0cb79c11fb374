"""The guest's signals on their way to devices: who waits for one, who gets packets, who is looked at again.

Every flag taken off the host's page is told to the threads that wait for its channel first, then the device
is called under the monitor. A callback that waits for room lets go of the monitor meanwhile, and if it runs
in the thread that takes the flags it goes on taking them: they are kept on the page until it has returned.

waiting callback, monitor held                  close, in another thread
w1 let go of the monitor                        c1 take the monitor
w2 take flags or sleep                          c2 close the rings: reason set, waiters woken
w3 take the monitor, look at reason             c3 wait until no callback of this channel runs
   raise ChannelGone, callback ends             c4 on_close

c3 lets go of the monitor too, so that w3 can happen: on_close comes after the last callback.
"""

import contextlib
import logging
import mmap
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from host_client.channel import Channel
from vmbusd.abi import layout
from vmbusd.abi.delivery import Mode, run_pass
from vmbusd.abi.errors import RingDead, VmbusError
from vmbusd.abi.link_socket import WAIT_SLICE
from vmbusd.abi.native import Doorbell, EventFlags, HostWaiter, Requests
from vmbusd.abi.rings import Rings, map_rings

log = logging.getLogger(__name__)

GUARD_DELAY: Final = 0.1
"""Seconds after an open at which the host looks whether the guest sleeps on packets (cases 073, 074)."""

Call = Callable[..., bool]
"""Runs a callback of a device; False, logged and counted, when it raised."""


class Feed:
    """What of a host link has to do with the guest's signals.

    Attributes: `waiter`, the end of the page, for one thread at a time; `by_flag`, event flag -> open
    channel; `taker`, the thread that takes the flags and runs callbacks for them, None if that is not one.
    """

    def __init__(
        self,
        ram_fd: int,
        page: mmap.mmap,
        bell: Doorbell,
        table: mmap.mmap,
        monitor: threading.Condition,
        counts: dict[str, int],
        call: Call,
    ) -> None:
        self.waiter = HostWaiter(page, bell, table)
        self.by_flag: dict[int, Channel] = {}
        self.taker: int | None = None
        self._ram_fd = ram_fd
        self._page = EventFlags(page)
        self._bell = bell
        self._monitor = monitor
        self._counts = counts
        self._call = call
        # Not the monitor: a callback may wait for the end of a thread that waits for packets.
        self._changed = threading.Condition()
        self._pumping = False
        self._kept: set[int] = set()
        self._guards: deque[tuple[float, Channel]] = deque()

    # -- flags ---------------------------------------------------------------------------------------------

    def heard(self, flags: Iterable[int]) -> None:
        """These flags were taken: threads that wait for their channels look again."""
        for flag in flags:
            channel = self.by_flag.get(flag)
            if channel is not None and channel.made is not None:
                channel.made.signalled()

    def serve(self, flags: Iterable[int]) -> None:
        """Call the devices whose channels' flags were taken."""
        for flag in flags:
            with self._monitor:
                channel = self.by_flag.get(flag)
                if channel is None:
                    # Set before a close and taken after it, or our own wake.
                    self._counts["unrouted"] += 1
                    continue
                self._counts["guest_signals"] += 1
                self._run(channel)
        with self._monitor:
            kept, self._kept = self._kept, set()
            self._page.set_many(flag for flag in kept if flag in self.by_flag)

    def again(self, channel: Channel) -> None:
        """Serve the channel once more, behind those that are signalled already."""
        self._page.set(channel.event_flag)
        if self.taker != threading.get_ident():
            self._bell.ring()

    def wake(self) -> None:
        """Make a running `waiter.wait` return. Only a flag does that: one that no open channel has."""
        flag = next((flag for flag in range(layout.MAX_RELID, 0, -1) if flag not in self.by_flag), 1)
        self._page.set(flag)
        self._bell.ring()

    def pump(self, seconds: float) -> bool:
        """As `ring_wait.Waiting` wants it: take flags for a callback that waits, and keep them for later."""
        if self.taker != threading.get_ident():
            return False
        with self._outside():
            self._pumping = True
            try:
                flags = self.waiter.wait(min(seconds, WAIT_SLICE))
                self.heard(flags)
            finally:
                self._pumping = False
        self._kept.update(flags)
        return True

    @contextlib.contextmanager
    def _outside(self) -> Iterator[None]:
        """Let go of the monitor, however often this thread has taken it, and take it again."""
        depth = 0
        with contextlib.suppress(RuntimeError):  # not ours any more
            while True:
                self._monitor.release()
                depth += 1
        try:
            yield
        finally:
            for _ in range(depth):
                self._monitor.acquire()

    # -- channels ------------------------------------------------------------------------------------------

    def rings_of(self, channel: Channel) -> Rings:
        """Map the rings of a channel that is open. Raises UsageError, ResourceError, RingDead."""
        name = f"relid {channel.relid}"
        up, down = map_rings(self._ram_fd, channel.ring_pages, channel.downstream_page, name)
        return Rings(
            name,
            down,
            up,
            changed=self._changed,
            requests=Requests(),
            announce=True,
            pump=self.pump,
            outside=self._outside,
            route=channel,
        )

    def opening(self, channel: Channel) -> None:
        """Before `on_open`: a device with `on_packets` has its rings, masked. Raises as `rings_of`."""
        device = channel.offer.device
        if device.mode is not Mode.ISR and hasattr(device, "on_packets"):
            channel.delivered = True
            channel.rings().port.mask()

    def opened(self, channel: Channel) -> None:
        """After the answer to the open: see what the guest sent before it, and whether it sleeps on ours."""
        if channel.delivered:
            self.again(channel)
        self._guards.append((time.monotonic() + GUARD_DELAY, channel))

    def closing(self, channel: Channel, reason: str) -> None:
        """Before `on_close`, monitor held: no verb works any more, and no callback of the channel runs."""
        channel.end(reason)
        me = threading.get_ident()
        while channel.busy not in (None, me):
            if self._pumping:
                self.wake()
            self._monitor.wait(WAIT_SLICE)

    def look(self) -> float:
        """Look at the rings of channels whose guard delay is over; seconds until the next one is due."""
        while self._guards:
            due, channel = self._guards[0]
            left = due - time.monotonic()
            if left > 0:
                return min(left, WAIT_SLICE)
            self._guards.popleft()
            with self._monitor:
                if channel.made is None or channel.closed:
                    continue
                try:
                    self._counts["unstuck"] += channel.made.unstick()
                except RingDead as error:
                    self._die(channel, error)
        return WAIT_SLICE

    def _run(self, channel: Channel) -> None:
        """One pass of a channel, under the monitor."""
        device, rings = channel.offer.device, channel.made
        if rings is None or not channel.delivered:
            self._call(device.on_signal, channel)
            return
        if rings.reason is not None:
            return
        on_packets: Callable[..., None] = device.on_packets  # type: ignore[attr-defined]
        on_completion: Callable[..., None] | None = getattr(device, "on_completion", None)
        channel.busy = threading.get_ident()
        try:
            more = run_pass(
                rings,
                partial(self._call, on_packets, channel),
                on_completion and partial(self._call, on_completion, channel),
                mode=device.mode,
                packets=device.budget_packets,
                seconds=device.budget_seconds,
            )
        except VmbusError as error:
            self._die(channel, error)
        else:
            if more:
                self.again(channel)
        finally:
            channel.busy = None
            self._monitor.notify_all()

    def _die(self, channel: Channel, error: VmbusError) -> None:
        """The guest broke a ring: this open is over for the device, every other channel goes on."""
        # As text: whoever keeps log records would keep the shared memory, too.
        log.error("%s: %s", repr(channel), str(error))
        self._counts["dead_rings"] += 1
        channel.end(str(error))
