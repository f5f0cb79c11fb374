"""Carries out what the bus wants, one effect at a time, on one partition's memory and links.

Memory comes before promises: a channel's block is allocated before its slot names it, and the pages of a
GPADL before a host hears of them. Where there is none, the bus is told what the host would have answered.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from vmbusd.abi import device_link, layout
from vmbusd.abi.errors import ResourceError
from vmbusd.abi.link import Object
from vmbusd.abi.native import TableWriter
from vmbusd.bus import effects
from vmbusd.server import inputs
from vmbusd.server.attached import Attached
from vmbusd.server.objects import ObjectSet
from vmbusd.server.steps import Step

if TYPE_CHECKING:
    from vmbusd.server.partition import Partition


class Carrier:
    """The hands of one partition's bus."""

    def __init__(self, partition: "Partition") -> None:
        self._partition = partition
        self._methods: dict[type, Callable[[Any, Attached | None], None]] = {
            effects.Refused: self._refused,
            effects.SendToGuest: self._send_to_guest,
            effects.AskHost: self._ask_host,
            effects.FillSlot: self._fill_slot,
            effects.SetTarget: lambda effect, _: self._table.set_target(effect.relid, effect.vp),
            effects.OpenSlot: lambda effect, _: self._table.open(
                effect.flag, effect.relid, effect.generation
            ),
            effects.CloseSlot: self._close_slot,
            effects.EmptySlot: lambda effect, _: self._table.empty(effect.flag, effect.relid),
            effects.ModifyPages: self._modify_pages,
            effects.ResetPages: lambda _effect, _: partition.pages.let_go(),
            effects.ArmMonitor: lambda effect, _: partition.pages.arm(effect),
            effects.DisarmMonitor: lambda effect, _: partition.pages.disarm(effect),
            effects.SetState: lambda effect, _: self._table.set_state(effect.relid, effect.state),
            effects.Disconnected: lambda _effect, _: partition.log.info("guest disconnected"),
            effects.ResetDone: lambda _effect, _: partition.log.info("reset done"),
        }

    @property
    def _table(self) -> TableWriter:
        return self._partition.memory.table

    def carry_out(self, wanted: list[effects.Effect], source: Attached | None) -> None:
        """Do all of it in its order; `source` is the link whose input led to it."""
        methods = self._methods
        steps = self._partition.steps
        for at, effect in enumerate(wanted):
            if at and steps.armed:
                steps.reach(Step.CARRYING)
            methods[type(effect)](effect, source)

    def _refused(self, effect: effects.Refused, source: Attached | None) -> None:
        self._partition.counters["refused"] += 1
        if source is not None:
            source.refuse(effect.kind, effect.reason)

    def _send_to_guest(self, effect: effects.SendToGuest, _: Attached | None) -> None:
        control = self._partition.control
        if control is None:
            self._partition.counters["messages to no guest"] += 1
        else:
            control.deliver(effect.data, effect.vp, effect.sint)

    def _ask_host(self, effect: effects.AskHost, _: Attached | None) -> None:
        host = self._partition.hosts.get(effect.host)
        if host is None:
            self._partition.counters["requests to no host"] += 1
            return
        message = effect.message
        if effect.pages:
            try:
                reserve_pages(self._partition.objects, effect.pages)
            except ResourceError as error:
                assert isinstance(message, device_link.Gpadl), message
                host.refuse("no memory", str(error))
                self._partition.answer_for(host, message.offer_id, message.gpadl)
                return
        host.tell(message)

    def _fill_slot(self, effect: effects.FillSlot, _: Attached | None) -> None:
        self.reserve_block(effect)
        self._partition.memory.fill(effect)

    def reserve_block(self, effect: effects.FillSlot) -> None:
        """Memory for the block of a channel; where there is none its offer is taken back. Done twice it is
        done once."""
        try:
            self._partition.objects.reserve_block(effect.flag)
        except ResourceError as error:
            if (host := self._partition.hosts.get(effect.host)) is not None:
                host.refuse("no memory", str(error))
                self._partition.feed(host, inputs.TakenBack(effect.host, effect.offer_id))

    def _modify_pages(self, effect: effects.ModifyPages, _: Attached | None) -> None:
        self.modify_pages(effect)

    def modify_pages(self, effect: effects.ModifyPages) -> None:
        """Use these pages, if they can be had, and say so. Done twice it is done once."""
        ok = self._partition.pages.use(effect)
        self._partition.feed(None, inputs.PagesModified(effect.ticket, ok))

    def _close_slot(self, effect: effects.CloseSlot, _: Attached | None) -> None:
        self._partition.memory.table.close(effect.flag)
        self._partition.closing.add(effect.flag, effect.generation)


def reserve_pages(objects: ObjectSet, pages: tuple[int, ...]) -> None:
    """Reserve pages of guest memory, before a host hears of them. Raises ResourceError. Done twice it is done
    once."""
    for first, count in runs(pages):
        objects.reserve(Object.RAM, first * layout.PAGE, count * layout.PAGE)


def runs(numbers: tuple[int, ...]) -> Iterable[tuple[int, int]]:
    """(first, count) of each run of consecutive numbers, each number once whatever the order is."""
    first, count = numbers[0], len(numbers)
    if count == 1 or numbers == tuple(range(first, first + count)):
        return ((first, count),)
    return _scattered(set(numbers))


def _scattered(numbers: set[int]) -> Iterator[tuple[int, int]]:
    for _, run in groupby(enumerate(sorted(numbers)), key=lambda item: item[1] - item[0]):
        members = [number for _, number in run]
        yield members[0], len(members)
