"""Pages that the guest named at contact, as its host uses them: legacy interrupt page and monitor page.

Host to guest, a legacy interrupt page costs the daemon nothing: senders find it by the table. Guest to host
there is nobody but the daemon behind the shared event connection (2): told by a Signal packet, it hands the
bits of the page's second half to the hosts. Likewise the trigger bits of the monitor page, which nobody
announces: while a monitored channel is open the page is scanned, once in the shortest latency that it asks
for. These two, and nothing else, stop while no daemon runs. Sources: OpenVMM
vmbus_server (channel_bitmap.rs, monitor.rs), cases 013, 157, 234, 235, 299-303.
"""

import asyncio
import mmap
import os
from typing import Final

import msgspec
from structlog.typing import FilteringBoundLogger

from vmbusd.abi import layout
from vmbusd.abi.errors import ResourceError
from vmbusd.abi.link import Object
from vmbusd.abi.native import Doorbell, EventFlags, HostSender, InterruptPage, MonitorScanner, Ticker
from vmbusd.bus.effects import ArmMonitor, DisarmMonitor, ModifyPages
from vmbusd.bus.negotiation import Pages
from vmbusd.server import limits
from vmbusd.server.memory import Memory, Window

LATENCY_UNIT: Final = 100
"""Nanoseconds in one unit of the monitor page's latencies."""


class HostEnd:
    """The page and the doorbell of one host link, as a guest has them.

    Attributes: `sender`, which signals; `flags`, to set bits that nobody is told of.
    """

    def __init__(self, memory: Memory, number: int) -> None:
        """Raises ResourceError when they cannot be mapped."""
        self._memory = memory
        self._windows: list[Window] = []
        self._eventfd: int | None = None
        try:
            page = self._map(Object.HOST_PAGE, number)
            self.flags = EventFlags(page)
            self.sender = HostSender(page, self._bell(number))
        except BaseException:
            self.close()
            raise

    def _map(self, what: Object, number: int) -> mmap.mmap:
        made = self._memory.objects[what, number]
        self._windows.append(self._memory.window(made, made.size))
        return self._windows[-1].map

    def _bell(self, number: int) -> Doorbell:
        if not self._memory.objects.eventfd:
            return Doorbell.semaphore(self._map(Object.HOST_SEMAPHORE, number))
        # Our own descriptor: the object's is closed with the link, and its number means another file then.
        self._eventfd = os.dup(self._memory.objects[Object.HOST_EVENTFD, number].fd)
        return Doorbell.eventfd(self._eventfd)

    def close(self) -> None:
        """Nobody signals through it any more."""
        for window in self._windows:
            self._memory.drop(window)
        self._windows.clear()
        if self._eventfd is not None:
            os.close(self._eventfd)
            self._eventfd = None


class GuestPages:
    """The guest's pages of one partition.

    Attributes: `unknown`, bits of the interrupt page that meant no open channel.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, memory: Memory, log: FilteringBoundLogger) -> None:
        self.unknown = 0
        self._loop = loop
        self._memory = memory
        self._log = log
        self._hosts: dict[int, HostEnd] = {}
        self._interrupt: Window | None = None
        self._monitor: Window | None = None
        self._scanner: MonitorScanner | None = None
        self._armed: dict[int, int] = {}  # monitor id -> host link
        self._ticker: Ticker | None = None
        self._period = 0

    # -- which pages -----------------------------------------------------------------------------------------

    def use(self, asked: ModifyPages) -> bool:
        """Use these pages from now on; if they cannot be had, False, and what was in use stays in use."""
        made: list[Window | None] = []
        try:
            for gpa in (asked.interrupt_page, asked.child_to_parent):
                made.append(self._page(gpa) if gpa else None)
        except ResourceError as error:
            self._log.warning("pages of the guest cannot be used", reason=str(error))
            for window in made:
                if window is not None:
                    self._memory.drop(window)
            return False
        self._exchange(*made)
        self._memory.table.set_pages(asked.interrupt_page, asked.child_to_parent)
        return True

    def take_over(self, pages: Pages) -> None:
        """Use what a daemon before us used."""
        if not (pages.interrupt or pages.child_to_parent):
            self.let_go()
        elif not self.use(ModifyPages(0, *msgspec.structs.astuple(pages))):
            self._log.error("pages of the guest are lost: its signals through them are not heard")

    def let_go(self) -> None:
        """Use none. No channel is open with interrupts any more."""
        self._memory.table.set_pages(0, 0)
        self._exchange(None, None)

    def _page(self, gpa: int) -> Window:
        # Allocated before anybody stores to it, so that a full /dev/shm is an answer and no fault.
        self._memory.objects.reserve(Object.RAM, gpa, layout.PAGE)
        return self._memory.window(self._memory.objects[Object.RAM, 0], layout.PAGE, gpa)

    def _exchange(self, interrupt: Window | None, monitor: Window | None) -> None:
        old = self._interrupt, self._monitor
        self._interrupt, self._monitor = interrupt, monitor
        # No id is armed when the pages change (case 304).
        self._scanner = None if monitor is None else MonitorScanner(monitor.map, limits.MONITOR_LATENCY)
        for window in old:
            if window is not None:
                self._memory.drop(window)

    # -- monitored channels ----------------------------------------------------------------------------------

    def arm(self, effect: ArmMonitor) -> None:
        """A monitored channel opens."""
        end = self._host(effect.host)
        if end is None or self._scanner is None:
            return
        self._scanner.arm(effect.monitor_id, end.sender, effect.flag)
        self._armed[effect.monitor_id] = effect.host
        self._set_period()

    def disarm(self, effect: DisarmMonitor) -> None:
        """Its open ends. The last one ends the scans."""
        host = self._armed.pop(effect.monitor_id, None)
        if self._scanner is not None:
            self._scanner.disarm(effect.monitor_id)
        if host is not None:
            self._drop_unused(host)
        self._set_period()

    def _set_period(self) -> None:
        latency = self._scanner.latency() if self._scanner is not None else 0
        period = max(latency * LATENCY_UNIT, limits.SHORTEST_SCAN) if latency else 0
        if period == self._period:
            return
        self._period = period
        if self._ticker is None:
            try:
                self._ticker = Ticker()
            except ResourceError as error:
                # Not for ever: the next channel that opens tries again.
                self._log.error("monitored channels are not looked at", reason=str(error))
                self._period = 0
                return
            self._loop.add_reader(self._ticker.fileno(), self._tick)
        self._ticker.every(period)
        if not period:
            self._end_ticker()

    def _tick(self) -> None:
        if self._ticker is not None and self._ticker.take() and self._scanner is not None:
            self._scanner.scan()
            # The guest may ask for another latency at any time.
            self._set_period()

    def _end_ticker(self) -> None:
        if self._ticker is not None:
            self._loop.remove_reader(self._ticker.fileno())
            self._ticker.close()
            self._ticker = None

    # -- the shared event connection -------------------------------------------------------------------------

    def signalled(self) -> bool:
        """The guest signalled connection 2: its hosts get what stands in its page. False if it named none."""
        if self._interrupt is None:
            return False
        table = self._memory.table
        senders = {number: end.sender for number, end in self._hosts.items()}
        homeless, unknown = InterruptPage(self._interrupt.map).deliver(table, senders)
        self.unknown += unknown
        for relid in homeless:
            # The first signal to its host: from now on there is an end for it.
            record = table.record(relid)
            end = self._host(record["host_link"])
            if end is not None:
                end.sender.signal(record["event_flag"])
        return True

    # -- hosts -----------------------------------------------------------------------------------------------

    def _host(self, number: int) -> HostEnd | None:
        """Where to signal a host link; None when it has ended, or cannot be mapped."""
        end = self._hosts.get(number)
        if end is None and self._memory.objects.host_objects(number):
            try:
                end = self._hosts[number] = HostEnd(self._memory, number)
            except (ResourceError, OSError) as error:
                self._log.error("a host cannot be signalled for its guest", host=number, reason=str(error))
        return end

    def _drop_unused(self, number: int) -> None:
        if not self._memory.objects.host_objects(number) and number not in self._armed.values():
            self.host_gone(number)

    def host_gone(self, number: int) -> None:
        """The host link has ended, and its objects with it."""
        if number in self._hosts and number not in self._armed.values():
            self._hosts.pop(number).close()

    # -- what it did -----------------------------------------------------------------------------------------

    def statistics(self) -> dict[str, int]:
        """Ids armed, nanoseconds between scans (0: none), scans and signals since the pages are in use."""
        scanner = self._scanner
        return {
            "armed": len(self._armed),
            "period": self._period,
            "scans": scanner.scans if scanner else 0,
            "signals": scanner.signals if scanner else 0,
            "unknown": self.unknown,
        }

    def close(self) -> None:
        """Look at nothing any more, and unmap everything. May be called again."""
        self._end_ticker()
        self._armed.clear()
        self._exchange(None, None)
        for end in self._hosts.values():
            end.close()
        self._hosts.clear()
