"""A script of messages: a bus, a server that only keeps a dict for a table, and checks on every effect.

`Script` carries out each effect as the server would and asserts what must hold at that moment: no slot is
opened before the claim of its last open was free, a generation never comes back, a channel is offered with
its slot filled, nothing is sent about a relid that was rescinded, a question is answered once, the memory
of the rings is not given back while it may be touched. Tests read the effects it returns.
"""

import struct
from collections import Counter
from dataclasses import dataclass
from uuid import UUID

import msgspec

from tests.unit.bus.pairing import Key, Question, answered_key, asked_key, request_key, response_key
from vmbusd.abi import device_link, gpadl, layout, messages, wire
from vmbusd.bus.bus import Bus
from vmbusd.bus.channels import ChannelView, State
from vmbusd.bus.effects import (
    ArmMonitor,
    AskHost,
    CloseSlot,
    DisarmMonitor,
    Disconnected,
    Effect,
    EmptySlot,
    FillSlot,
    ModifyPages,
    OpenSlot,
    Refused,
    SendToGuest,
    SetState,
    SetTarget,
)
from vmbusd.bus.options import BusOptions

VPS = 4
RAM_PAGES = 1 << 20
CONTACT = messages.InitiateContact(wire.V5_3, 0, 2, 0, 0, 0, 0)
FAILURE = 0xFFFFFFFF
"""A device's status -1."""


@dataclass
class Slot:
    """The fake table's slot and record of one event flag."""

    fill: FillSlot
    open: int = 0
    target: int | None = None
    state: int | None = None
    ring: tuple[int, int] | None = None


class Script:
    """A bus and everything around it. `state_of` and the attributes tell what the server would know."""

    def __init__(
        self, options: BusOptions | None = None, *, vps: int = VPS, ram_pages: int = RAM_PAGES
    ) -> None:
        self.bus = Bus(vps=vps, ram_pages=ram_pages, options=options)
        self.vps = vps
        self.table: dict[int, Slot] = {}
        self.watched: dict[int, int] = {}  # flag -> generation whose claim the server polls
        self.generations: Counter[int] = Counter()
        self.known: set[int] = set()  # relids between OFFER and RELID_RELEASED
        self.rescinded: set[int] = set()
        self.links: set[int] = {0}
        self.ghosts: set[int] = set()  # links that ended and whose process lives
        self.offers: set[tuple[int, int]] = set()  # living offers: host, offer id
        self.asked: set[Question] = set()  # what the devices owe
        self.owed: Counter[Key] = Counter()  # answers that the guest may still get
        self.retarget_to: dict[Question, int] = {}  # the VP of each Retarget
        self.kept: set[int] = set()  # relids that an unload does not wait for
        self.armed: dict[int, int] = {}  # monitor id -> event flag
        self.ticket = 0
        self.late = False  # messages may come out that were held back
        self.unloads = 0

    # Inputs

    def guest(
        self, message: msgspec.Struct, connection_id: int = 1, *, trusted: bool = False
    ) -> list[Effect]:
        """The guest posts a message."""
        return self.guest_bytes(wire.encode(message), connection_id, trusted=trusted)

    def guest_bytes(self, data: bytes, connection_id: int = 1, *, trusted: bool = False) -> list[Effect]:
        """The guest posts bytes."""
        version, features = self.bus.version, self.bus.features
        self.late = self.bus.paused
        effects = self.bus.guest_message(data, connection_id, trusted=trusted)
        if not refusals(effects):
            message = wire.decode(data, version, features)
            key = request_key(message)
            if key is not None and (key[0] != "modify" or version >= wire.V5_3):
                self.owed[key] += 1
            match message:
                case messages.RelidReleased(child_relid=relid):
                    self.known.remove(relid)
                    self.owed = Counter({key: n for key, n in self.owed.items() if key[1] != relid})
                case messages.Close(child_relid=relid):
                    self.owed["modify", relid, 0] = 0
                case messages.OpenReserved(child_relid=relid):
                    self.kept.add(relid)
        return self._carry_out(effects)

    def host(self, message: device_link.FromHost, host: int = 0) -> list[Effect]:
        """A host link says something; an answer settles what it was asked."""
        self.asked.discard((host, answered_key(message)))
        return self._carry_out(self.bus.host_message(host, message))

    def claim_free(self, flag: int = 1) -> list[Effect]:
        """The server sees the claim of a closed slot free."""
        return self._carry_out(self.bus.claim_free(flag, self.watched.pop(flag)))

    def host_gone(self, host: int = 0) -> list[Effect]:
        """A host link ends, its process lives."""
        self._lose(host)
        self.ghosts.add(host)
        return self._carry_out(self.bus.host_gone(host))

    def host_dead(self, host: int = 0) -> list[Effect]:
        """A host's process is gone."""
        self._lose(host)
        self.ghosts.discard(host)
        return self._carry_out(self.bus.host_dead(host))

    def guest_gone(self) -> list[Effect]:
        """The guest's link ends."""
        return self._carry_out(self.bus.guest_gone())

    def pages(self, ok: bool = True) -> list[Effect]:
        """The backend answers the last ModifyPages."""
        return self._carry_out(self.bus.pages_modified(self.ticket, ok))

    def reset(self) -> list[Effect]:
        """The daemon resets the bus."""
        opens = State.OPENING, State.OPENING_CLIENT_RELEASE
        self.kept = {slot.fill.relid for slot in self.table.values() if slot.state in opens}
        self.owed.clear()
        self.known.clear()
        return self._carry_out(self.bus.reset())

    def output(self, ready: bool) -> list[Effect]:
        """The transport takes messages, or not."""
        self.late = True
        return self._carry_out(self.bus.guest_output(ready))

    def tick(self, now: float) -> list[Effect]:
        """Time passes."""
        return self._carry_out(self.bus.tick(now))

    def vp_offline(self, vp: int, live: int) -> list[Effect]:
        """A VP has no worker any more."""
        return self._carry_out(self.bus.vp_offline(vp, live))

    def vp_online(self, vp: int) -> list[Effect]:
        """A VP has a worker again."""
        return self._carry_out(self.bus.vp_online(vp))

    def order(self, name: str, *numbers: int) -> list[Effect]:
        """The administrator orders a retarget or a rescind."""
        return self._carry_out(getattr(self.bus, name)(*numbers))

    # Short ways to a state

    def offer(self, offer_id: int = 1, *, host: int = 0, interface: int = 1, index: int = 0) -> list[Effect]:
        """A host offers a channel; the instance is the offer id unless it is a sub-channel."""
        instance = UUID(int=0xABC if index else offer_id)
        return self.host(device_link.Offer(offer_id, UUID(int=interface), instance, 0, index), host)

    def connect(self, version: int = wire.V5_3, features: int = 0, *, trusted: bool = False) -> list[Effect]:
        """Contact and REQUEST_OFFERS."""
        effects = self.guest(contact(version, features=features), trusted=trusted)
        return effects + self.guest(messages.RequestOffers(), trusted=trusted)

    def create_gpadl(self, relid: int = 1, handle: int = 1, pages: int = 4) -> list[Effect]:
        """A GPADL of whole pages, page numbers from 100 on."""
        parts = gpadl.split(relid, handle, [gpadl.whole_pages(range(100, 100 + pages))])
        return [effect for part in parts for effect in self.guest(part)]

    def accept_gpadl(self, offer_id: int = 1, handle: int = 1, *, host: int = 0) -> list[Effect]:
        """The device accepts a GPADL."""
        return self.host(device_link.GpadlAccepted(offer_id, handle, 0), host)

    def opening(self, relid: int = 1, *, offer_id: int = 1, vp: int = 0, host: int = 0) -> list[Effect]:
        """A ring GPADL with the relid's number, then OPENCHANNEL."""
        self.create_gpadl(relid, relid)
        self.accept_gpadl(offer_id, relid, host=host)
        return self.guest(messages.Open(relid, relid, relid, vp, 2, bytes(120)))

    def opened(self, relid: int = 1, *, offer_id: int = 1, vp: int = 0, host: int = 0) -> list[Effect]:
        """`opening`, and the device agrees."""
        self.opening(relid, offer_id=offer_id, vp=vp, host=host)
        return self.host(device_link.Opened(offer_id, self.generation(relid), 0), host)

    def generation(self, relid: int = 1) -> int:
        """The last generation of the relid's event flag."""
        slot = self.slot(relid)
        return self.generations[slot.fill.flag if slot else relid]

    def slot(self, relid: int) -> Slot | None:
        """The slot of a channel, if it has one now."""
        return next((slot for slot in self.table.values() if slot.fill.relid == relid), None)

    def view(self, relid: int = 1) -> ChannelView:
        """What the bus shows of a channel."""
        return next(view for view in self.bus.channels() if view.relid == relid)

    def state_of(self, relid: int = 1) -> State:
        """The state the record shows."""
        slot = self.slot(relid)
        assert slot is not None
        state = slot.state
        assert state is not None
        return State(state)

    # The server

    def _lose(self, host: int) -> None:
        self.links.discard(host)
        self.offers = {offer for offer in self.offers if offer[0] != host}
        self.asked = {question for question in self.asked if question[0] != host}

    def _carry_out(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            match effect:
                case FillSlot(flag=flag):
                    assert flag not in self.table, f"flag {flag} is filled"
                    assert flag not in self.watched, f"flag {flag} still has a claim"
                    assert effect.host in self.links
                    self.table[flag] = Slot(effect)
                case SetTarget(relid=relid, vp=vp):
                    assert vp < self.vps or vp == layout.NO_TARGET
                    self._slot(relid).target = vp
                case OpenSlot(flag=flag, generation=generation):
                    slot = self.table[flag]
                    assert not slot.open, f"flag {flag} is open"
                    assert flag not in self.watched, f"flag {flag} opened before its claim was free"
                    assert generation > self.generations[flag], f"generation of flag {flag} came back"
                    assert slot.target is not None
                    slot.open = self.generations[flag] = generation
                case CloseSlot(flag=flag, generation=generation):
                    slot = self.table[flag]
                    assert slot.open == generation
                    assert flag not in self.watched
                    slot.open = 0
                    self.watched[flag] = generation
                case EmptySlot(flag=flag):
                    slot = self.table.pop(flag)
                    assert not slot.open, f"flag {flag} emptied while open"
                    assert flag not in self.watched, f"flag {flag} emptied before its claim was free"
                case SetState(relid=relid, state=state):
                    self._slot(relid).state = state
                case ModifyPages(ticket=ticket):
                    self.ticket = ticket
                case ArmMonitor(monitor_id=monitor_id, flag=flag):
                    assert monitor_id not in self.armed
                    assert self.table[flag].open
                    self.armed[monitor_id] = flag
                case DisarmMonitor(monitor_id=monitor_id):
                    assert self.table[self.armed.pop(monitor_id)].open
                case AskHost(host=host, message=message):
                    self._ask(host, message)
                case SendToGuest(vp=vp):
                    assert vp < self.vps
                    assert len(effect.data) <= wire.MAX_MESSAGE
                    self._send(decode(effect.data))
                case Disconnected():
                    assert {slot.fill.relid for slot in self.table.values()} <= self.kept
                    assert self.watched.keys() <= self.table.keys()
                    self.known.clear()
                    self.rescinded.clear()
                    self.owed = Counter(
                        {key: n for key, n in self.owed.items() if key[0] == "open" and key[1] in self.kept}
                    )
                case Refused():
                    assert effect.kind
                    assert effect.reason
        self.late = False
        return effects

    def _slot(self, relid: int) -> Slot:
        slot = self.slot(relid)
        assert slot is not None, f"relid {relid} has no slot"
        return slot

    def _ask(self, host: int, message: device_link.ToHost) -> None:
        assert host in self.links, f"{message} for a host that is gone"
        if isinstance(message, device_link.OfferResult):
            if message.status == messages.SUCCESS:
                self.offers.add((host, message.offer_id))
            return
        if isinstance(message, device_link.SocketsProvided | device_link.SocketConnect):
            return
        if isinstance(message, device_link.SubchannelsEnabled):
            assert (host, message.offer_id) in self.offers
            return
        assert (host, message.offer_id) in self.offers
        if isinstance(message, device_link.Revoked):
            self.offers.remove((host, message.offer_id))
            self.asked = {(to, key) for to, key in self.asked if (to, key[1]) != (host, message.offer_id)}
            return
        if isinstance(message, device_link.Withdraw):
            self.asked = {(to, key) for to, key in self.asked if (to, key[1]) != (host, message.offer_id)}
        question = host, asked_key(message)
        assert question not in self.asked, f"asked twice: {message}"
        self.asked.add(question)
        if isinstance(message, device_link.Retarget):
            self.retarget_to[question] = message.vp
        if isinstance(message, device_link.Open):
            slot = self.table[message.event_flag]
            assert slot.open == message.generation, "asked before the slot was open"
            slot.ring = host, message.ring_gpadl

    def _send(self, message: msgspec.Struct) -> None:
        key = response_key(message)
        if key is not None:
            assert self.owed[key] > 0, f"an answer nobody waits for: {message}"
            self.owed[key] -= 1
        match message:
            case messages.Offer(child_relid=relid):
                slot = self.slot(relid)
                assert slot is None or slot.state == State.CLOSED or self.late
                assert relid not in self.known, f"relid {relid} offered twice"
                self.known.add(relid)
                self.rescinded.discard(relid)
            case messages.Rescind(child_relid=relid):
                assert relid in self.known - self.rescinded
                self.rescinded.add(relid)
                self.owed["open", relid, 0] = self.owed["modify", relid, 0] = 0
            case messages.GpadlTorndown(gpadl=handle):
                for flag, slot in self.table.items():
                    if slot.ring is not None and slot.ring[1] == handle:
                        assert not slot.open, "the rings are in use"
                        assert flag not in self.watched, "a callback may still use the rings"
                        assert slot.ring[0] not in self.ghosts, "a host may still use the rings"
            case messages.OpenResult(child_relid=relid, status=status):
                slot = self.slot(relid)
                assert relid in (self.known | self.kept) - self.rescinded
                assert bool(slot and slot.open) == (status == 0) or self.late
            case messages.ModifyChannelResponse(child_relid=relid, status=0):
                assert self.late or self._slot(relid).open
            case messages.UnloadResponse():
                self.unloads += 1


def decode(data: bytes) -> msgspec.Struct:
    """A message to the guest, of whatever version and feature."""
    return wire.decode(data, wire.V6_0, 0xFF, sender=wire.Sender.HOST)


def sent(effects: list[Effect]) -> list[msgspec.Struct]:
    """The messages that went to the guest."""
    return [decode(effect.data) for effect in effects if isinstance(effect, SendToGuest)]


def asked(effects: list[Effect]) -> list[device_link.ToHost]:
    """The messages that went to hosts."""
    return [effect.message for effect in effects if isinstance(effect, AskHost)]


def refusals(effects: list[Effect]) -> list[str]:
    """The kinds of the refusals; a refused message has no other effect."""
    kinds = [effect.kind for effect in effects if isinstance(effect, Refused)]
    assert not kinds or len(effects) == 1, effects
    return kinds


def contact(
    version: int = wire.V5_3,
    *,
    vp: int = 0,
    sint: int = 2,
    vtl: int = 0,
    pages: tuple[int, int] = (0, 0),
    features: int = 0,
    interrupt_page: int = 0,
    client_id: UUID | None = None,
) -> msgspec.Struct:
    """A contact in the form of its version."""
    if version < wire.V5_0:
        return messages.InitiateContactOld(version, vp, interrupt_page, *pages)
    if client_id is not None:
        return messages.InitiateContact2(version, vp, sint, vtl, features, *pages, client_id)
    return messages.InitiateContact(version, vp, sint, vtl, features, *pages)


def header(
    relid: int, handle: int, words: bytes, *, count: int = 1, length: int | None = None
) -> messages.GpadlHeader:
    """A GPADL_HEADER as a guest may write it, right or wrong."""
    return messages.GpadlHeader(relid, handle, len(words) if length is None else length, count, words)


def range_words(byte_count: int, byte_offset: int, pages: int) -> bytes:
    """A range header and its page numbers, right or wrong."""
    return struct.pack(f"<II{pages}Q", byte_count, byte_offset, *range(pages))
