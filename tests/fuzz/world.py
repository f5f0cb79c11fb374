"""A bus among hostile peers, driven by a fuzzer's bytes: what it asks is remembered, to be answered or not.

Only what everybody else must be able to rely on is checked here: no exception, a bounded number of effects
per input, messages of legal size, an end at which nothing is left, and a good guest that is then served.
"""

from typing import Any, Final, get_args
from uuid import UUID

import msgspec

from tests.fuzz.draw import Draw
from vmbusd.abi import device_link, gpadl, messages, wire
from vmbusd.abi.packing import Packing
from vmbusd.bus.bus import Bus
from vmbusd.bus.effects import (
    AskHost,
    CloseSlot,
    Effect,
    EmptySlot,
    ModifyPages,
    ResetPages,
    SendToGuest,
)
from vmbusd.bus.options import VERSIONS as SPOKEN
from vmbusd.bus.options import BusOptions
from vmbusd.bus.saved import SavedBus

VERSIONS: Final = (*SPOKEN, wire.NOT_CONNECTED)
VPS: Final = 3
HOSTS: Final = 3
RAM_PAGES: Final = 64
GOOD_HOST: Final = 99
FAR: Final = 1e9
"""Seconds: later than any deadline."""
ROUNDS: Final = 100
"""Turns in which everybody does what they owe before the bus is said not to come to rest."""
PER_INPUT: Final = 32
PER_CHANNEL: Final = 16
"""Effects of one input, at most: a few, and a few for each channel and GPADL there is."""
LARGE: Final = (0xFFFFFFFF, 0x80000000, 2047, 2048)
OPTIONS: Final = (
    BusOptions(),
    BusOptions(guest_pages=True),
    BusOptions(monitor_pages=(4096, 8192)),
    BusOptions(absolute_order=True, max_unfinished_gpadls=1, gpa_pinning=True),
)
GUEST: Final = tuple(row.cls for row in wire.MESSAGES if row.sender is wire.Sender.GUEST)
HOST: Final = get_args(device_link.FromHost)
PACKINGS: Final = {cls: Packing(cls) for cls in (*GUEST, *HOST)}


class World:
    """One bus and what its peers know."""

    def __init__(self, draw: Draw) -> None:
        self.options = draw.choice(OPTIONS)
        self.bus = Bus(vps=VPS, ram_pages=RAM_PAGES, options=self.options)
        self.asked: list[tuple[int, device_link.ToHost]] = []
        self.watched: dict[int, int] = {}
        self.tickets: list[int] = []
        self.linked = set(range(HOSTS))
        self.ghosts: set[int] = set()
        self.offline: set[int] = set()
        self.sent: list[bytes] = []
        self.backlog = 0
        self.now = 0.0

    def step(self, draw: Draw) -> None:
        """One input of the bus, chosen by the next bytes."""
        kind = draw.byte() % 16
        if kind <= 4:
            self.do(self.bus.guest_message(wire.encode(_any(draw.choice(GUEST), draw)), 1 + draw.byte() % 4))
        elif kind == 5:
            trusted = bool(draw.byte() & 1)
            self.do(self.bus.guest_message(draw.take(draw.byte()), 1, trusted=trusted))
        elif kind <= 7:
            if (host := draw.byte() % HOSTS) in self.linked:
                self.do(self.bus.host_message(host, _any(draw.choice(HOST), draw)))
        elif kind <= 9:
            self.answer(draw.byte(), draw.byte())
        elif kind == 10:
            self.release_claims()
        elif kind == 11:
            self.contact(draw.choice(SPOKEN), draw.byte())
        elif kind == 12:
            self.lose_or_attach(draw.byte())
        elif kind == 13:
            self.move_vps(draw.byte())
        elif kind == 14:
            self.pages(bool(draw.byte() & 1))
        else:
            self.transport(draw.byte())

    def do(self, effects: list[Effect]) -> list[Effect]:
        """Remember what the effects ask for, and check what must hold of them."""
        held = self.bus.statistics()
        inputs = 1 + self.backlog
        most = inputs * PER_INPUT + PER_CHANNEL * (held.channels + held.gpadls) + len(self.asked)
        # What is held back, or waits, comes out together when nothing holds it any more.
        self.backlog = self.backlog + 1 if self.bus.paused or not self.bus.accepting else 0
        assert len(effects) <= most, f"{len(effects)} effects of one input, at most {most}"
        for effect in effects:
            match effect:
                case SendToGuest(data=data, vp=vp):
                    assert len(data) <= wire.MAX_MESSAGE
                    assert vp < VPS
                    self.sent.append(data)
                case AskHost(host=host, message=message):
                    assert host in self.linked, "a question to a host that is gone"
                    if _reply(message, 0) is not None:
                        self.asked.append((host, message))
                case CloseSlot(flag=flag, generation=generation):
                    assert flag not in self.watched
                    self.watched[flag] = generation
                case EmptySlot(flag=flag):
                    assert flag not in self.watched
                case ModifyPages(ticket=ticket):
                    self.tickets.append(ticket)
                case ResetPages():
                    self.tickets.clear()
        return effects

    def answer(self, which: int, bad: int) -> None:
        """A device answers what it was asked, perhaps with no."""
        if self.asked:
            host, question = self.asked.pop(which % len(self.asked))
            reply = _reply(question, 0xFFFFFFFF if bad & 1 else 0)
            if reply is not None and host in self.linked:
                self.do(self.bus.host_message(host, reply))

    def release_claims(self) -> None:
        """The server saw a claim free."""
        for flag in list(self.watched)[:1]:
            self.do(self.bus.claim_free(flag, self.watched.pop(flag)))

    def contact(self, version: int, features: int) -> None:
        """A guest begins as it should, so that the rest of the input meets a connected bus."""
        for message in (_contact(version, features), messages.RequestOffers()):
            self.do(self.bus.guest_message(wire.encode(message), 1))

    def lose_or_attach(self, choice: int) -> None:
        """A link of a host or of the guest ends, or a process dies, or a new one comes."""
        host = choice // 4 % HOSTS
        if choice % 4 == 0:
            self.do(self.bus.guest_gone())
        elif choice % 4 == 1 and host in self.linked:
            self._unlink(host)
            self.ghosts.add(host)
            self.do(self.bus.host_gone(host))
        elif choice % 4 == 2:
            self._unlink(host)
            self.ghosts.discard(host)
            self.do(self.bus.host_dead(host))
        elif host not in self.ghosts:
            self.linked.add(host)

    def move_vps(self, choice: int) -> None:
        """A VP loses its worker, or gets one."""
        vp = choice % VPS
        if vp in self.offline:
            self.offline.remove(vp)
            self.do(self.bus.vp_online(vp))
        elif len(self.offline) < VPS - 1:
            self.offline.add(vp)
            self.do(self.bus.vp_offline(vp, min(set(range(VPS)) - self.offline)))

    def pages(self, ok: bool) -> None:
        """The backend answers ModifyPages."""
        if self.tickets:
            self.do(self.bus.pages_modified(self.tickets.pop(), ok))

    def transport(self, choice: int) -> None:
        """Time passes, the transport stops or goes on, the daemon resets the bus."""
        if choice % 8 == 7:
            self.do(self.bus.reset())
        elif choice % 8 >= 5:
            self.do(self.bus.guest_output(choice % 8 == 6))
        else:
            self.now += choice / 16
            self.do(self.bus.tick(self.now))

    def adopt(self, bus: Bus, state: SavedBus) -> None:
        """Go on with a bus made of a saved state, which may be another one than the bus so far."""
        picture = bus.picture()
        self.bus = bus
        self.watched = {close.flag: close.generation for close in picture.closing}
        self.tickets = [picture.modifying.ticket] if picture.modifying else []
        self.linked |= {channel.host for channel in state.channels if channel.host >= 0}
        if state.sockets.provider is not None:
            self.linked.add(state.sockets.provider)
        self.ghosts |= {host for host, _ in state.ghosts}
        self.offline = {vp for vp, _ in state.stand_ins}
        self.backlog = len(state.waiting) + len(state.outbox.held)
        self.now = state.sockets.now

    def settle(self) -> None:
        """Everybody does what they owe, then everybody leaves: nothing may be left."""
        for vp in sorted(self.offline):
            self.do(self.bus.vp_online(vp))
        self.do(self.bus.guest_output(True))
        self.do(self.bus.guest_gone())
        self._rest()
        for host in sorted(self.linked | self.ghosts):
            self._unlink(host)
            self.do(self.bus.host_dead(host))
        self.linked.clear()
        self.do(self.bus.guest_gone())
        self._rest()
        held = self.bus.statistics()
        assert self.bus.state == "disconnected", self.bus.state
        assert (held.channels, held.relids, held.gpadls, held.gpadl_pages) == (0, 0, 0, 0), held

    def serve_a_good_guest(self) -> None:
        """Contact, one offer, memory, open, close, unload: as if nothing had been."""
        self.sent.clear()
        self.linked = {GOOD_HOST}
        self.do(self.bus.host_message(GOOD_HOST, device_link.Offer(1, UUID(int=1), UUID(int=2))))
        self.contact(wire.V4_1, 0)
        heard = [wire.decode(data, wire.V4_1, sender=wire.Sender.HOST) for data in self.sent]
        (offer,) = (message for message in heard if isinstance(message, messages.Offer))
        relid = offer.child_relid
        for message, answer in (
            *((part, messages.GpadlCreated) for part in gpadl.split(relid, 7, [gpadl.whole_pages(range(4))])),
            (messages.Open(relid, relid, 7, 0, 2, bytes(120)), messages.OpenResult),
            (messages.Close(relid), None),
            (messages.GpadlTeardown(relid, 7), messages.GpadlTorndown),
            (messages.RelidReleased(relid), None),
            (messages.Unload(), messages.UnloadResponse),
        ):
            self.sent.clear()
            self.do(self.bus.guest_message(wire.encode(message), 1))
            self._rest()
            types = [type(wire.decode(data, wire.V4_1, sender=wire.Sender.HOST)) for data in self.sent]
            assert answer is None or answer in types, f"{type(message).__name__} led to {types}"

    def _rest(self) -> None:
        for _ in range(ROUNDS):
            if not (self.asked or self.watched or self.tickets):
                break
            while self.asked:
                self.answer(0, 0)
            while self.watched:
                self.release_claims()
            while self.tickets:
                self.pages(True)
            self.do(self.bus.tick(FAR))
        left = [*self.asked, *self.watched.items(), *self.tickets]
        assert not left, f"the bus does not come to rest: {left}"

    def _unlink(self, host: int) -> None:
        self.linked.discard(host)
        self.asked = [(asked, message) for asked, message in self.asked if asked != host]


def _any(cls: type[msgspec.Struct], draw: Draw) -> Any:
    """A message with small numbers, so that they often mean something, and now and then a large one."""
    packing = PACKINGS[cls]
    values: list[Any] = []
    for name, kind, width in zip(packing.names, packing.kinds, packing.widths, strict=True):
        if kind is UUID:
            values.append(UUID(int=draw.byte() % 4))
        elif name == "vmbus_version_requested":
            values.append(draw.choice(SPOKEN))
        elif name == "ranges":
            values.append(_range_words(draw))
        elif kind is bytes:
            values.append(bytes((width or 0) - 1) + bytes([draw.byte()]) if width else draw.take(8))
        else:
            byte = draw.byte()
            large = LARGE[byte % len(LARGE)] & ((1 << 8 * (width or 1)) - 1)
            values.append(large if byte >= 0xE0 else 2 if name == "msg_sint" else byte % 16)
    message = cls(*values)
    # A length that fits, mostly: a header that announces nonsense gets no further.
    if isinstance(message, messages.GpadlHeader) and message.range_buflen % 4 == 0:
        return msgspec.structs.replace(message, range_buflen=len(message.ranges))
    return message


def _range_words(draw: Draw) -> bytes:
    """Whole pages, few of them, sometimes not quite."""
    pages = draw.byte() % 8
    if draw.byte() >= 0xE0:
        return draw.take(8 * pages)
    return gpadl.encode_ranges([gpadl.whole_pages(range(pages + 1))])


def _contact(version: int, features: int) -> msgspec.Struct:
    if version < wire.V5_0:
        return messages.InitiateContactOld(version, 0, 4096, 0, 0)
    features &= ~int(messages.Feature.CLIENT_ID)
    return messages.InitiateContact(version, 0, 2, 0, features, 0, 0)


def _reply(question: device_link.ToHost, status: int) -> device_link.FromHost | None:
    """What a device answers, with this status where there is one."""
    match question:
        case device_link.Open(offer_id=offer, generation=generation):
            return device_link.Opened(offer, generation, status)
        case device_link.Close(offer_id=offer, generation=generation):
            return device_link.Closed(offer, generation)
        case device_link.Gpadl(offer_id=offer, gpadl=handle):
            return device_link.GpadlAccepted(offer, handle, status)
        case device_link.Teardown(offer_id=offer, gpadl=handle):
            return device_link.GpadlTornDown(offer, handle)
        case device_link.Retarget(offer_id=offer, generation=generation, vp=vp):
            return device_link.Retargeted(offer, generation, vp, status)
        case device_link.Withdraw(offer_id=offer):
            return device_link.Revoke(offer)
        case device_link.SocketConnect(request_id=request):
            return device_link.SocketAnswer(request, status, 200 + request % 50)
    return None
