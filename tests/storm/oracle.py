"""The judge: from what shared memory, bus, guest and hosts say at a calm point, exactly what is wrong.

What counts as delivered. At a calm point every process lives and is back, nothing moves, and the devices have
stopped: all that a living device produced it has signalled. Then for every open of a living host seen must be
equal to produced, whatever died since the open began:

- A killed worker may have been inside a callback, before or after it stored `seen`. Its claim is freed, its
  taken bits are put back, so the channel is called again: at least once. A second call stores the same value.
- A killed host may have produced and not signalled. Its offers are rescinded, so its opens are not judged any
  more, and the offers of its successor are new opens, which begin at zero.
- A killed guest control process is an unload: its opens end, a device may have produced after that. Those of
  its successor are new opens. What its workers still run is `late` once the successor has attached.
- A killed or replaced daemon ends nothing: same relid, same generation, same open.
- A stopped process does nothing and loses nothing; what it holds is done when it goes on.

An open that ends in between is not judged for what it had left: the protocol drops that. That nothing runs
after its end, or in two processes at once, or for another generation, is judged at every callback (`ledger`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from tests.storm.ledger import FORBIDDEN
from tests.storm.packets import Progress

CROSSING: Final = frozenset({"GpadlCreated", "GpadlTorndown", "OpenResult", "ModifyChannelResponse"})
"""Answers that may come when nobody waits for them any more: the channel was closed or rescinded meanwhile,
and what was asked crossed the rescind."""


class Slot(msgspec.Struct, frozen=True):
    """A slot of the table and its record."""

    relid: int
    open: bool
    generation: int
    vp: int
    host: int


class Cell(msgspec.Struct, frozen=True):
    """The words of an open in its ring memory."""

    produced: int
    seen: int
    generation: int


class Facts(msgspec.Struct, frozen=True):
    """A calm point: slots, cells and progress of packets by event flag, channels of bus and guest, offers by
    host link."""

    slots: Mapping[int, Slot]
    cells: Mapping[int, Cell]
    bus: Sequence[Mapping[str, Any]]
    guest: Mapping[str, Any]
    hosts: Mapping[int, Sequence[Mapping[str, Any]]]
    progress: Mapping[int, Progress]

    def missing(self) -> list[int]:
        """For each channel that waits for packets how many they are, as far as its host knows."""
        behind = (
            offer["packets"]["sent"] - offer["packets"]["back"]
            for offers in self.hosts.values()
            for offer in offers
            if offer["relid"] and "packets" in offer
        )
        return [count for count in behind if count]


def judge_counts(counts: Mapping[str, int]) -> list[str]:
    """What must never have happened, and has."""
    return [f"{name}: {counts[name]}" for name in FORBIDDEN if counts[name]]


def judge_storminess(
    counts: Mapping[str, int], signalled: int, kills: Mapping[str, int], least: int
) -> list[str]:
    """A storm in which nothing happened has proved nothing: what must have happened, and has not.

    `signalled`: signals between calm points; those of the calm points are in `counts` only, and run callbacks
    in however still a storm.
    """
    found = [] if signalled else ["no signal between calm points: the storm does not storm"]
    found += [] if counts["callbacks"] else ["no callback ran: the storm does not storm"]
    found += [] if counts["packets_back"] else ["no packet came back: the storm does not storm"]
    return found + [
        f"{count} kills of kind {kind}, {least} at least were wanted"
        for kind, count in kills.items()
        if count < least
    ]


def judge(facts: Facts) -> list[str]:
    """What is wrong at a calm point; nothing if all is well."""
    return [
        *_judge_offers(facts),
        *_judge_strangers(facts),
        *_judge_cells(facts),
        *_judge_packets(facts),
        *_judge_answers(facts),
    ]


def _by_instance(entries: Sequence[Mapping[str, Any]], instance: str) -> list[Mapping[str, Any]]:
    return [entry for entry in entries if entry["instance"] == instance]


def _judge_offers(facts: Facts) -> Iterator[str]:
    """No channel is lost by anyone, and all say the same of it."""
    for link, offers in facts.hosts.items():
        for offer in offers:
            name = f"host {link} instance {offer['instance'][-6:]}"
            in_bus = _by_instance(facts.bus, offer["instance"])
            at_guest = _by_instance(facts.guest["channels"], offer["instance"])
            if len(in_bus) != 1 or in_bus[0]["host"] != link:
                yield f"{name}: the bus has {in_bus}"
            elif len(at_guest) != 1 or at_guest[0]["relid"] != in_bus[0]["relid"]:
                yield f"{name}: the bus has {in_bus[0]}, the guest {at_guest}"
            else:
                yield from _judge_channel(name, facts, offer, in_bus[0], at_guest[0])


def _judge_channel(
    name: str,
    facts: Facts,
    offer: Mapping[str, Any],
    in_bus: Mapping[str, Any],
    at_guest: Mapping[str, Any],
) -> Iterator[str]:
    slot = facts.slots.get(in_bus["flag"])
    everything = f"host {offer}, bus {in_bus}, guest {at_guest}, slot {slot}"
    if slot is None or slot.relid != in_bus["relid"] or slot.host != in_bus["host"]:
        yield f"{name}: no slot of its own: {everything}"
    elif at_guest["open"]:
        generations = {offer["generation"], in_bus["generation"], at_guest["generation"], slot.generation}
        if in_bus["state"] != "open" or not slot.open or offer["relid"] != in_bus["relid"]:
            yield f"{name}: not open everywhere: {everything}"
        elif len(generations) != 1:
            yield f"{name}: different generations: {everything}"
        elif not slot.vp == in_bus["target_vp"] == at_guest["vp"]:
            yield f"{name}: different targets: {everything}"
    elif not at_guest["closed"]:
        yield f"{name}: the guest could not open it: {everything}"
    elif in_bus["state"] != "closed" or slot.open or offer["relid"]:
        yield f"{name}: not closed everywhere: {everything}"


def _judge_strangers(facts: Facts) -> Iterator[str]:
    """Nobody has a channel that no host offers."""
    offered = {offer["instance"] for offers in facts.hosts.values() for offer in offers}
    relids = {channel["relid"] for channel in facts.bus}
    for channel in facts.bus:
        if channel["instance"] not in offered:
            yield f"the bus has a channel that nobody offers: {channel}"
    for channel in facts.guest["channels"]:
        if channel["instance"] not in offered:
            yield f"the guest has a channel that nobody offers: {channel}"
    for flag, slot in facts.slots.items():
        if slot.relid not in relids:
            yield f"slot {flag} is of no channel: {slot}"


def _judge_cells(facts: Facts) -> Iterator[str]:
    """Nothing is lost."""
    for flag, slot in facts.slots.items():
        cell = facts.cells.get(flag)
        if not slot.open or flag in facts.progress:
            continue
        if cell is None or cell.generation != slot.generation:
            yield f"flag {flag}: the ring memory of {slot} has {cell}"
        elif cell.seen != cell.produced:
            yield f"flag {flag} generation {slot.generation}: lost {cell.produced - cell.seen}: {cell}"


def _judge_packets(facts: Facts) -> Iterator[str]:
    """Every packet of a living host is there and back; what came when is judged as it comes (`packets`)."""
    for link, offers in facts.hosts.items():
        for offer in offers:
            if not offer["relid"] or "packets" not in offer:
                continue
            name = f"host {link} instance {offer['instance'][-6:]} packets {offer['packets']}"
            sent, back = offer["packets"]["sent"], offer["packets"]["back"]
            guests = [
                facts.progress.get(channel["flag"]) for channel in _by_instance(facts.bus, offer["instance"])
            ]
            guest = guests[0] if guests else None
            if offer["packets"]["generation"] != offer["generation"]:
                yield f"{name}: they are of another open than {offer['generation']}"
            elif guest is None:
                yield f"{name}: the memory of the guest has no open channel of packets there"
            elif sent != back:
                yield f"{name}: lost {sent - back} packets: {guest}"
            elif not sent == guest.next == guest.back_sent:
                yield f"{name}: all are back, and the guest says {guest}"


def _judge_answers(facts: Facts) -> Iterator[str]:
    """Every question has one answer, and no answer came to what nobody asked."""
    asked, answered = facts.guest["asked"], sum(facts.guest["outcomes"].values())
    if asked != answered:
        yield f"the guest asked {asked} times and has {answered} answers: {facts.guest['outcomes']}"
    refused = facts.guest["statistics"]["refused"]
    if set(refused) - CROSSING:
        yield f"the guest refused messages of the bus: {refused}"
