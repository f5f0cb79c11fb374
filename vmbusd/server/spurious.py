"""Spurious: sets bits of interrupt pages that nobody signalled, at a rate, with and without a doorbell.

A bit that means nothing must be harmless: of a channel that is open it is one more callback, of any other,
and of flag 0, it is counted as spurious by whoever takes it. Bits are set where somebody looks: on VPs that
have a worker, or on the pages of hosts. Which bit, on which page and whether the doorbell is rung is drawn
from the seed. Source: docs/signal-protocol.md section 2, docs/faults.md.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from vmbusd.abi import layout
from vmbusd.abi.errors import ResourceError
from vmbusd.abi.native import EventFlags
from vmbusd.server.armed import Armed, draw
from vmbusd.server.guest_pages import HostEnd
from vmbusd.server.seats import VpState

if TYPE_CHECKING:
    from vmbusd.server.partition import Partition

TICK: Final = 0.01
"""Seconds between looks whether a bit is due: short enough to look continuous, too long to cost anything."""


class Spurious:
    """One rule at work, until `stop`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        partition: "Partition",
        rule: Armed,
        fired: Callable[[Armed], object],
    ) -> None:
        """`fired(rule)` is told after the bits of a tick."""
        self._loop = loop
        self._partition = partition
        self._rule = rule
        self._fired = fired
        self._owed = 0.0
        self._complained = False
        self._last = loop.time()
        self._timer = loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        # A daemon that was stopped for a while does not make up for it in one turn.
        self._owed += (self._rule.fault.rate or 0) * min(now - self._last, 10 * TICK)
        self._last = now
        count, self._owed = int(self._owed), self._owed % 1
        if count and self._partition.dead is None:
            self._set(count)
        if not self._rule.spent:
            self._timer = self._loop.call_later(TICK, self._tick)

    def _set(self, count: int) -> None:
        before = self._rule.fired
        if self._rule.fault.host is not None:
            self._set_at_host(self._rule.fault.host, count)
        else:
            self._set_at_vps(count)
        if self._rule.fired > before:
            self._fired(self._rule)

    def _set_at_vps(self, count: int) -> None:
        partition, wanted = self._partition, self._rule.fault.vp
        seats = partition.vps.seats
        vps = [seat.vp for seat in seats if seat.state is VpState.ONLINE and wanted in (None, seat.vp)]
        if not vps:
            return
        for _ in range(count):
            if not self._rule.fires():
                return
            drawn = draw(self._rule.fault.seed, self._rule.seen)
            vp = vps[(drawn >> 16) % len(vps)]
            EventFlags(partition.memory.event_pages, vp * layout.PAGE).set(self._flag(drawn))
            if drawn >> 30:
                partition.memory.doorbells[vp].ring()

    def _set_at_host(self, number: int, count: int) -> None:
        memory = self._partition.memory
        if not memory.objects.host_objects(number):
            return
        try:
            end = HostEnd(memory, number)
        except (ResourceError, OSError) as error:
            if not self._complained:
                self._partition.log.error("no spurious bits", host=number, reason=str(error))
            self._complained = True
            return
        self._complained = False
        try:
            for _ in range(count):
                if not self._rule.fires():
                    return
                drawn = draw(self._rule.fault.seed, self._rule.seen)
                if drawn >> 30:
                    end.sender.signal(self._flag(drawn))
                else:
                    end.flags.set(self._flag(drawn))
        finally:
            end.close()

    def _flag(self, drawn: int) -> int:
        """The rule's channel, or any flag at all."""
        relid = self._rule.fault.relid
        if relid is None:
            return drawn % layout.FLAGS
        return int(self._partition.memory.table.record(relid)["event_flag"])

    def stop(self) -> None:
        """Set no more."""
        self._timer.cancel()
