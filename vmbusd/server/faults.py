"""The faults of one partition: armed and taken back by an administrator, met by messages, kept for the next.

A message is dropped at the edge of the bus: before the bus takes it, or instead of being sent, and then it
has no number in its session. Both are in the journal, so the next daemon neither takes nor sends it again,
and every other packet has the number that it had. Each fault that was made is in the journal too: the counts
go on with the next daemon. Source: docs/faults.md.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from vmbusd.abi import device_link, link, wire
from vmbusd.abi.errors import ResourceError, UsageError
from vmbusd.abi.link import Role
from vmbusd.server import fault_rules, inputs
from vmbusd.server.armed import NO_SLOT, Armed, FaultState
from vmbusd.server.data_faults import DataFaults
from vmbusd.server.fault_requests import FaultAdd, FaultList, FaultRemove, FaultSpec
from vmbusd.server.fault_rules import MAX_RULES, NO_OFFER, RELID_AT, Kind
from vmbusd.server.spurious import Spurious
from vmbusd.server.steps import Step

if TYPE_CHECKING:
    from vmbusd.server.attached import Attached
    from vmbusd.server.partition import Partition

DROPPED: Final = -1.0
"""Instead of the seconds that a message is kept back: it is not passed on at all."""

_DROPS: Final = frozenset({Kind.DROP_MESSAGE, Kind.DROP_DEVICE_MESSAGE})
_GUEST: Final = frozenset({Kind.DROP_MESSAGE, Kind.DELAY_MESSAGE})
_HOST: Final = frozenset({Kind.DROP_DEVICE_MESSAGE, Kind.DELAY_DEVICE_MESSAGE})
_FROM_GUEST: Final = frozenset(row.number for row in wire.MESSAGES if row.sender is wire.Sender.GUEST)
_TO_GUEST: Final = frozenset(row.number for row in wire.MESSAGES if row.sender is wire.Sender.HOST)
_FROM_HOST: Final = device_link.FROM_HOST_KINDS
_TO_HOST: Final = frozenset(device_link.Kind) - _FROM_HOST

_HAS_OFFER: Final = frozenset(kind.value for kind in device_link.Kind if kind.name not in NO_OFFER)


def acts(partition: Callable[[str], "Partition"]) -> dict[type[Any], Callable[[Any], Any]]:
    """What the daemon does for each request; `partition` finds the one of a name."""
    return {
        FaultAdd: lambda r: {"id": partition(r.partition).faults.add(r.fault)},
        FaultList: lambda r: partition(r.partition).faults.view(),
        FaultRemove: lambda r: partition(r.partition).faults.remove(r.id),
    }


class Faults:
    """What is to go wrong in one partition.

    Attributes: `to_guest`, `from_guest`, `to_host`, `from_host`: the rules that may mean a message of this
    direction, empty while there are none: whoever passes a message on looks here first.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, partition: "Partition") -> None:
        self.to_guest: tuple[Armed, ...] = ()
        self.from_guest: tuple[Armed, ...] = ()
        self.to_host: tuple[Armed, ...] = ()
        self.from_host: tuple[Armed, ...] = ()
        self._loop = loop
        self._partition = partition
        self._data = DataFaults(partition.memory, lambda: partition.hosts)
        self._rules: dict[int, Armed] = {}
        self._next = 1
        self._spurious: dict[int, Spurious] = {}

    # -- administration ------------------------------------------------------------------------------------

    def add(self, asked: FaultSpec) -> int:
        """Arm a fault; returns its id. Raises UsageError saying what is wrong with the rule, or that the
        partition is dead, ResourceError when there are too many."""
        partition = self._partition
        if partition.dead is not None:
            raise UsageError(f"partition {partition.name} is dead: {partition.dead}")
        fault = fault_rules.check(asked, vps=partition.spec.vps)
        if fault.relid is not None and not partition.bus.primary_of(fault.relid):
            raise UsageError(f"fault {fault.kind}: relid {fault.relid}: the guest knows no such channel")
        if fault.host is not None and fault.host not in partition.hosts:
            raise UsageError(f"fault {fault.kind}: host {fault.host}: there is no such link")
        if len(self._rules) >= MAX_RULES:
            raise ResourceError(f"partition {partition.name} has {MAX_RULES} faults, which is the most")
        made, slot, device = self._next, NO_SLOT, False
        if fault.kind in fault_rules.DATA_KINDS:
            slot = self._data.free([rule.slot for rule in self._rules.values()])
            device = fault.relid is not None and partition.bus.primary_of(fault.relid) == fault.relid
        partition.keeper.keep(inputs.FaultAdded(made, fault, slot, device))
        self._next += 1
        self._rules[made] = Armed(FaultState(made, fault, 0, 0, slot, device))
        self._refresh()
        partition.log.warning("fault armed", fault=made, **_fields(fault))
        return made

    def remove(self, which: int | None) -> dict[str, Any]:
        """Take back a fault, or all (None); the answer is their ids, and each with its last counts. What is
        kept back already leaves when it is due.

        Raises UsageError when there is no such fault.
        """
        if which is not None and which not in self._rules:
            raise UsageError(f"fault {which}: partition {self._partition.name} has no such fault")
        ids = sorted(self._rules) if which is None else [which]
        gone = [self._rules.pop(each) for each in ids]
        for each in ids:
            self._partition.keeper.keep(inputs.FaultRemoved(each))
        self._refresh()
        self._partition.log.warning("faults taken back", faults=ids)
        return {"removed": ids, "rules": self._views(gone)}

    def view(self) -> dict[str, Any]:
        """For the status: whether any is armed, and each rule with its counts."""
        return {"armed": bool(self._rules), "rules": self._views(self._rules.values())}

    def _views(self, rules: Collection[Armed]) -> list[dict[str, Any]]:
        on_data = any(rule.slot != NO_SLOT for rule in rules)
        counts = self._data.counts() if on_data and self._partition.dead is None else {}
        return [_rule_view(each, each.ended | counts.get(each.slot, {})) for each in rules]

    def host_begins(self, number: int) -> None:
        """A host link is about to get its page, which goes on counting where the last of its number was.

        Raises ResourceError when the page cannot be mapped.
        """
        if counts := {rule.slot: rule.ended for rule in self._rules.values() if rule.ended}:
            self._data.begin_host(number, counts)

    def host_ends(self, number: int) -> None:
        """The page of a host link is about to go, and what it counted with it.

        It is kept before the end of the link is, and the page says all that its number ever counted: whoever
        dies between the two reads the same page again, and nothing counts twice.
        """
        if self._partition.dead is not None or not any(rule.slot != NO_SLOT for rule in self._rules.values()):
            return
        counts = self._data.of_host(number)
        for rule in self._rules.values():
            if counted := counts.get(rule.slot):
                self._partition.keeper.keep(inputs.FaultCounted(rule.id, counted))
                rule.ended = rule.ended | counted

    # -- restart -------------------------------------------------------------------------------------------

    def save(self) -> tuple[int, tuple[FaultState, ...]]:
        """The next id, and every fault."""
        return self._next, tuple(rule.state() for rule in self._rules.values())

    def restore(self, next_id: int, states: Iterable[FaultState]) -> None:
        """Go on with the faults of a daemon before us; nothing goes wrong before `go_on`."""
        self._next = next_id
        self._rules = {each.id: Armed(each) for each in states}

    def go_on(self) -> None:
        """The rules hold from now on."""
        self._refresh()

    def stop(self) -> None:
        """The daemon looks after the partition no more; what is in the table stays."""
        for each in self._spurious.values():
            each.stop()
        self._spurious.clear()
        self.to_guest = self.from_guest = self.to_host = self.from_host = ()
        self._partition.steps.armed = {}

    # -- what is armed -------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Make the table and the short cuts say what the rules say. A dead partition is left alone."""
        if self._partition.dead is not None:
            return
        self._data.install(
            {
                rule.slot: fault_rules.of_data(rule.fault, device=rule.device)
                for rule in self._rules.values()
                if rule.slot != NO_SLOT
            }
        )
        self.to_guest = self._meaning(_GUEST, _TO_GUEST)
        self.from_guest = self._meaning(_GUEST, _FROM_GUEST)
        self.to_host = self._meaning(_HOST, _TO_HOST)
        self.from_host = self._meaning(_HOST, _FROM_HOST)
        kills = [rule for rule in self._rules.values() if rule.fault.kind == Kind.KILL_DAEMON]
        steps = sorted({Step(rule.fault.step) for rule in kills if rule.fault.step is not None})
        self._partition.steps.armed = {step: self._killer(step, kills) for step in steps}
        bits = {rule.id: rule for rule in self._rules.values() if rule.fault.kind == Kind.SPURIOUS_BIT}
        for gone in self._spurious.keys() - bits.keys():
            self._spurious.pop(gone).stop()
        for new in bits.keys() - self._spurious.keys():
            self._spurious[new] = Spurious(self._loop, self._partition, bits[new], self._fired)

    def _meaning(self, kinds: frozenset[Kind], numbers: frozenset[int]) -> tuple[Armed, ...]:
        rules = (rule for rule in self._rules.values() if rule.fault.kind in kinds)
        return tuple(rule for rule in rules if any(map(rule.means, numbers)))

    def _killer(self, step: Step, kills: list[Armed]) -> Callable[[], None]:
        here = [rule for rule in kills if rule.fault.step == step]

        def reached() -> None:
            for rule in here:
                if rule.fires():
                    # In the journal before it happens: the next daemon must not die of the same one.
                    self._fired(rule)
                    self._partition.log.warning("killed by a fault", fault=rule.id, step=step)
                    os.kill(os.getpid(), signal.SIGKILL)

        return reached

    def _fired(self, rule: Armed) -> None:
        self._partition.keeper.keep(inputs.FaultFired(rule.id, rule.seen, rule.fired))

    # -- messages ------------------------------------------------------------------------------------------

    def telling_guest(self, attached: "Attached", message: bytes) -> float:
        """A channel message is about to be sent: seconds until it may leave, or DROPPED."""
        number = int.from_bytes(message[:4], "little")
        rule = self._judge(self.to_guest, number, lambda: _relid(number, message))
        return 0.0 if rule is None else self._told(rule, attached)

    def telling_host(self, attached: "Attached", message: device_link.ToHost) -> float:
        """A device message is about to be sent: seconds until it may leave, or DROPPED."""
        host, offer = attached.number, getattr(message, "offer_id", 0)
        find = lambda: self._partition.bus.relid_of(host, offer)  # noqa: E731
        rule = self._judge(self.to_host, message.kind, find, host)
        return 0.0 if rule is None else self._told(rule, attached)

    def _told(self, rule: Armed, attached: "Attached") -> float:
        if rule.fault.kind not in _DROPS:
            self._fired(rule)
            return _seconds(rule)
        session = attached.session
        sequence = session.number() if session is not None and attached.linked else 0
        self._dropped(
            inputs.NotSent(attached.role, attached.number, sequence, rule.id, rule.seen, rule.fired)
        )
        return DROPPED

    def hearing(self, attached: "Attached", header: link.Header, packet: bytes) -> float:
        """A packet has come and is the next of its link: seconds until it may be taken, or DROPPED, and then
        it counts as taken. A packet without a message passes."""
        if header.kind == link.Kind.MESSAGE and attached.role is Role.GUEST_CONTROL:
            message = packet[link.HEADER.size :]
            number = int.from_bytes(message[:4], "little")
            rule = self._judge(self.from_guest, number, lambda: _relid(number, message))
        elif header.kind in _FROM_HOST and attached.role is Role.HOST:
            offer = _word(packet, link.HEADER.size) if header.kind in _HAS_OFFER else 0
            find = lambda: self._partition.bus.relid_of(attached.number, offer)  # noqa: E731
            rule = self._judge(self.from_host, header.kind, find, attached.number)
        else:
            return 0.0
        if rule is None:
            return 0.0
        if rule.fault.kind not in _DROPS:
            self._fired(rule)
            return _seconds(rule)
        self._dropped(
            inputs.NotTaken(attached.role, attached.number, header.sequence, rule.id, rule.seen, rule.fired)
        )
        return DROPPED

    def _dropped(self, what: inputs.NotSent | inputs.NotTaken) -> None:
        self._partition.keeper.keep(what)
        self._partition.counters["messages dropped by faults"] += 1

    def _judge(
        self, rules: tuple[Armed, ...], number: int, find: Callable[[], int], host: int | None = None
    ) -> Armed | None:
        """The first rule, in the order of their making, that this message falls under and that fires."""
        relid: int | None = None
        for rule in rules:
            wanted = rule.fault
            if not rule.means(number) or wanted.host not in (None, host):
                continue
            if wanted.relid is not None:
                relid = find() if relid is None else relid
                if relid != wanted.relid and self._partition.bus.primary_of(relid) != wanted.relid:
                    continue
            if rule.fires():
                return rule
        return None


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _relid(number: int, message: bytes) -> int:
    """The channel that a message names, 0 if none."""
    at = RELID_AT.get(number)
    return 0 if at is None else _word(message, at)


def _seconds(rule: Armed) -> float:
    return (rule.fault.delay or 0) / 1e6


def _rule_view(rule: Armed, counted: dict[str, int]) -> dict[str, Any]:
    """A rule with its counts: those of the data path by whom the fault came to."""
    view = {"id": rule.id, **_fields(rule.fault)}
    if rule.slot == NO_SLOT:
        return view | {"seen": rule.seen, "fired": rule.fired}
    return view | {"fired": sum(counted.values()), "fired_by": counted}


def _fields(fault: FaultSpec) -> dict[str, Any]:
    """What a rule says beside its defaults."""
    fields: dict[str, Any] = msgspec.to_builtins(fault)
    return fields
