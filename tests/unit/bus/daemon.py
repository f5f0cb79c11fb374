"""A daemon in small: a bus with a journal, snapshots, a table that outlives it, and links that count.

`Daemon` takes the inputs of a bus and gives back their effects, like a bus; beside it runs a bus that nothing
ever happens to. At almost every input the daemon dies somewhere. Then a new one is made of snapshot and
journal, compares the table with the picture, and sends again what a peer has not got. Whatever happened, the
peers must have heard what they would have heard from the bus beside, and the table must say what its table
says. After every input that is also asked of a bus saved and restored at that moment.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from vmbusd.abi.layout import NO_TARGET
from vmbusd.bus import effects, saved
from vmbusd.bus.bus import Bus
from vmbusd.bus.effects import Effect
from vmbusd.bus.negotiation import NO_PAGES, Pages
from vmbusd.bus.options import BusOptions
from vmbusd.bus.picture import Picture

INPUTS: Final = frozenset(
    {
        *("guest_message", "guest_output", "guest_gone", "host_message", "host_gone", "host_dead"),
        *("claim_free", "pages_modified", "reset", "tick", "vp_offline", "vp_online", "retarget", "rescind"),
    }
)
FEW: Final = 64
"""Channels up to which everything is compared at every input."""
SNAPSHOTS: Final = 0.2
"""How often an input is followed by a snapshot."""
LOST: Final = -1
"""Where to crash: before the input is in the journal. Its sender sends it again."""
Record = tuple[str, tuple[object, ...], dict[str, Any]]
Sent = tuple[object, int, Effect]
"""A message: to whom, its number, what."""


@dataclass
class Slot:
    """One slot with its record."""

    fill: effects.FillSlot
    target: int = NO_TARGET
    state: int = 0
    open: int = 0


@dataclass
class Memory:
    """What the backend has: the table, which outlives a daemon, and what a daemon itself has under way."""

    slots: dict[int, Slot] = field(default_factory=dict)
    generations: Counter[int] = field(default_factory=Counter, compare=False)
    closing: dict[int, int] = field(default_factory=dict)
    armed: dict[int, effects.ArmMonitor] = field(default_factory=dict)
    pages: Pages = NO_PAGES
    modifying: effects.ModifyPages | None = None

    def carry_out(self, effect: Effect) -> None:
        """An effect on the table or the backend."""
        match effect:
            case effects.FillSlot(flag=flag):
                self.slots[flag] = Slot(effect)
            case effects.SetTarget(relid=relid, vp=vp):
                self._slot(relid).target = vp
            case effects.SetState(relid=relid, state=state):
                self._slot(relid).state = state
            case effects.OpenSlot(flag=flag, generation=generation):
                self._open(flag, generation)
            case effects.CloseSlot(flag=flag, generation=generation):
                self.slots[flag].open = 0
                self.closing[flag] = generation
            case effects.EmptySlot(flag=flag):
                del self.slots[flag]
            case effects.ArmMonitor(monitor_id=monitor_id):
                self.armed[monitor_id] = effect
            case effects.DisarmMonitor(monitor_id=monitor_id):
                del self.armed[monitor_id]
            case effects.ModifyPages():
                self.modifying = effect
            case effects.ResetPages():
                self.pages, self.modifying = NO_PAGES, None

    def notice(self, name: str, arguments: tuple[object, ...]) -> None:
        """What the backend itself reports."""
        if name == "claim_free" and self.closing.get(arguments[0]) == arguments[1]:  # type: ignore[call-overload]
            del self.closing[arguments[0]]  # type: ignore[arg-type]
        asked = self.modifying
        if name == "pages_modified" and asked is not None and arguments[0] == asked.ticket:
            self.modifying = None
            if arguments[1]:
                self.pages = Pages(
                    asked.interrupt_page, asked.parent_to_child, asked.child_to_parent, asked.own_monitor
                )

    def reconcile(self, picture: Picture) -> None:
        """What a new daemon does: writes only what differs; what it has under way is begun again."""
        for flag in self.slots.keys() - picture.slots.keys():
            del self.slots[flag]
        for flag, shown in picture.slots.items():
            slot = self.slots.get(flag)
            if slot is None or slot.fill != shown.fill:
                slot = self.slots[flag] = Slot(shown.fill)
            slot.target, slot.state = shown.target_vp, shown.state
            generation = shown.open.generation if shown.open else 0
            if generation != slot.open:
                slot.open = 0
                if generation:
                    self._open(flag, generation)
        self.closing = {close.flag: close.generation for close in picture.closing}
        self.armed = {armed.monitor_id: armed for armed in picture.armed}
        self.pages, self.modifying = picture.pages, picture.modifying

    def shows(self, picture: Picture) -> None:
        """Asserts that this is what the bus believes."""
        other = Memory()
        for flag, shown in picture.slots.items():
            generation = shown.open.generation if shown.open else 0
            other.slots[flag] = Slot(shown.fill, shown.target_vp, shown.state, generation)
        other.closing = {close.flag: close.generation for close in picture.closing}
        other.armed = {armed.monitor_id: armed for armed in picture.armed}
        other.pages, other.modifying = picture.pages, picture.modifying
        assert self == other

    def _open(self, flag: int, generation: int) -> None:
        assert generation > self.generations[flag], "an old generation is opened again"
        self.slots[flag].open = self.generations[flag] = generation

    def _slot(self, relid: int) -> Slot:
        return next(slot for slot in self.slots.values() if slot.fill.relid == relid)


class Daemon:
    """A bus that is killed as the dice fall, while it has few channels."""

    def __init__(self, options: BusOptions, *, vps: int, ram_pages: int, dice: Random) -> None:
        self._made = {"vps": vps, "ram_pages": ram_pages, "options": options}
        self._uncrashed = Bus(vps=vps, ram_pages=ram_pages, options=options)
        self._bus = Bus(vps=vps, ram_pages=ram_pages, options=options)
        self._memory, self._other_memory = Memory(), Memory()
        self._snapshot = saved.encode(self._bus.save()), Counter[object](), list[Sent]()
        self._journal: list[Record] = []
        self._numbers: Counter[object] = Counter()
        self._unconfirmed: list[Sent] = []
        self._received: Counter[object] = Counter()
        self._delivered: list[Effect] = []
        self._last: list[Effect] = []
        self._dice = dice

    def __getattr__(self, name: str) -> Any:
        if name not in INPUTS:
            return getattr(self._bus, name)

        def call(*arguments: object, **named: object) -> list[Effect]:
            return self._input(name, arguments, named)

        return call

    def _input(self, name: str, arguments: tuple[object, ...], named: dict[str, object]) -> list[Effect]:
        wanted: list[Effect] = getattr(self._uncrashed, name)(*arguments, **named)
        self._other_memory.notice(name, arguments)
        for effect in wanted:
            self._other_memory.carry_out(effect)
        # In the middle of the effects, before the input is written down, or not at all.
        small = self._bus.statistics().channels <= FEW
        where = self._dice.choice([LOST, None, *range(len(wanted) + 1)]) if small else None
        self._delivered = []
        if where == LOST:
            self._restart()
            where = None
        self._journal.append((name, arguments, named))
        self._memory.notice(name, arguments)
        for effect in self._call(self._bus, self._journal[-1])[:where]:
            self._memory.carry_out(effect)
        sent = self._unconfirmed if where is None else self._unconfirmed_before(where)
        self._deliver(sent)
        if where is not None:
            self._restart()
        if small:
            self._judge(wanted)
        return wanted

    def _unconfirmed_before(self, where: int) -> list[Sent]:
        """The messages of the last input that left before its effect number `where`."""
        last = self._last[:where]
        return [sent for sent in self._unconfirmed if any(sent[2] is effect for effect in last)]

    def _call(self, bus: Bus, record: Record) -> list[Effect]:
        name, arguments, named = record
        method: Callable[..., list[Effect]] = getattr(bus, name)
        self._last = method(*arguments, **named)
        for effect in self._last:
            match effect:
                case effects.SendToGuest():
                    self._number("guest", effect)
                case effects.AskHost(host=host):
                    self._number(host, effect)
        return self._last

    def _number(self, to: object, effect: Effect) -> None:
        self._numbers[to] += 1
        self._unconfirmed.append((to, self._numbers[to], effect))

    def _deliver(self, sent: list[Sent]) -> None:
        """Each peer takes what it has not got yet, in order."""
        for to, number, effect in sent:
            if number > self._received[to]:
                assert number == self._received[to] + 1, "a message is missing"
                self._received[to] = number
                self._delivered.append(effect)

    def _restart(self) -> None:
        data, numbers, unconfirmed = self._snapshot
        self._bus = Bus.restore(saved.decode(data), **self._made)  # type: ignore[arg-type]
        self._numbers, self._unconfirmed = numbers.copy(), list(unconfirmed)
        for record in self._journal:
            self._call(self._bus, record)
        self._memory.reconcile(self._bus.picture())
        self._deliver(self._unconfirmed)

    def _judge(self, wanted: list[Effect]) -> None:
        messages = [one for one in wanted if isinstance(one, effects.SendToGuest | effects.AskHost)]
        for to in {_receiver(one) for one in messages}:
            want = [one for one in messages if _receiver(one) == to]
            assert [one for one in self._delivered if _receiver(one) == to] == want
        assert len(self._delivered) == len(messages)
        assert self._memory == self._other_memory
        self._memory.shows(self._bus.picture())
        now = self._bus.save()
        data = saved.encode(now)
        again = Bus.restore(saved.decode(data), **self._made)  # type: ignore[arg-type]
        assert saved.encode(again.save()) == data
        assert saved.encode(self._uncrashed.save()) == data
        self._bus = again
        if self._dice.random() < SNAPSHOTS:
            self._journal.clear()
            self._unconfirmed = self._unconfirmed[-64:]
            self._snapshot = data, self._numbers.copy(), list(self._unconfirmed)


def _receiver(effect: Effect) -> object:
    return effect.host if isinstance(effect, effects.AskHost) else "guest"
