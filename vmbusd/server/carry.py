"""Carries out what the bus wants, one effect at a time, on one partition's memory and links.

Memory comes before promises: a channel's block is allocated before its slot names it, and the pages of a
GPADL before a host hears of them. Where there is none, the bus is told what the host would have answered.
"""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from vmbusd.abi import device_link, gpadl, layout, link
from vmbusd.abi.errors import ResourceError
from vmbusd.abi.link import Object
from vmbusd.abi.messages import UNSUCCESSFUL
from vmbusd.abi.native import TableWriter
from vmbusd.bus import effects
from vmbusd.server.links import Attached

if TYPE_CHECKING:
    from vmbusd.server.partition import Partition


class Carrier:
    """The hands of one partition's bus."""

    def __init__(self, partition: "Partition") -> None:
        self._partition = partition
        self._methods: dict[type, Callable[[Any], None]] = {
            effects.SendToGuest: self._send_to_guest,
            effects.AskHost: self._ask_host,
            effects.FillSlot: self._fill_slot,
            effects.SetTarget: lambda effect: self._table.set_target(effect.relid, effect.vp),
            effects.OpenSlot: lambda effect: self._table.open(effect.flag, effect.relid, effect.generation),
            effects.CloseSlot: self._close_slot,
            effects.EmptySlot: lambda effect: self._table.empty(effect.flag, effect.relid),
            effects.ModifyPages: self._modify_pages,
            effects.ResetPages: lambda _: partition.pages.let_go(),
            effects.ArmMonitor: partition.pages.arm,
            effects.DisarmMonitor: partition.pages.disarm,
            effects.SetState: lambda effect: self._table.set_state(effect.relid, effect.state),
            effects.Disconnected: lambda _: partition.log.info("guest disconnected"),
            effects.ResetDone: lambda _: partition.log.info("reset done"),
        }

    @property
    def _table(self) -> TableWriter:
        return self._partition.memory.table

    def carry_out(self, effect: effects.Effect, source: Attached | None) -> None:
        """Do it; `source` is the link whose input led to it."""
        if isinstance(effect, effects.Refused):
            self._partition.counters["refused"] += 1
            if source is not None:
                source.refuse(effect.kind, effect.reason)
        else:
            self._methods[type(effect)](effect)

    def _send_to_guest(self, effect: effects.SendToGuest) -> None:
        control = self._partition.control
        if control is None:
            self._partition.counters["messages to no guest"] += 1
            return
        sequence = control.next_sequence()
        control.transmit(
            link.encode_message(effect.data, where=effect.vp, sint=effect.sint, sequence=sequence)
        )

    def _ask_host(self, effect: effects.AskHost) -> None:
        host = self._partition.hosts.get(effect.host)
        if host is None:
            self._partition.counters["requests to no host"] += 1
            return
        message = effect.message
        if isinstance(message, device_link.Gpadl):
            try:
                self._reserve_pages(message)
            except ResourceError as error:
                host.refuse("no memory", str(error))
                answer = device_link.GpadlAccepted(message.offer_id, message.gpadl, UNSUCCESSFUL)
                self._partition.feed(host, self._partition.bus.host_message, effect.host, answer)
                return
        host.tell(message)

    def _reserve_pages(self, message: device_link.Gpadl) -> None:
        ranges = gpadl.decode_ranges(message.ranges, message.range_count)
        for first, count in runs({pfn for one in ranges for pfn in one.pfns}):
            self._partition.objects.reserve(Object.RAM, first * layout.PAGE, count * layout.PAGE)

    def _fill_slot(self, effect: effects.FillSlot) -> None:
        try:
            self._partition.objects.reserve_block(effect.flag)
        except ResourceError as error:
            if (host := self._partition.hosts.get(effect.host)) is not None:
                host.take_back(effect, str(error))
        self._partition.memory.fill(effect)

    def _modify_pages(self, effect: effects.ModifyPages) -> None:
        ok = self._partition.pages.use(effect)
        self._partition.feed(None, self._partition.bus.pages_modified, effect.ticket, ok)

    def _close_slot(self, effect: effects.CloseSlot) -> None:
        self._partition.memory.table.close(effect.flag)
        self._partition.closing.add(effect.flag, effect.generation)


def runs(numbers: set[int]) -> Iterator[tuple[int, int]]:
    """(first, count) of each run of consecutive numbers."""
    for _, run in groupby(enumerate(sorted(numbers)), key=lambda item: item[1] - item[0]):
        members = [number for _, number in run]
        yield members[0], len(members)
