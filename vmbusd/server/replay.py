"""Replay: a state and the inputs after it give the state at a daemon's death, and nobody outside notices.

The bus and the sessions are pure functions of their inputs, so what was sent, with which number, comes out
again: each packet is put where it waits to be confirmed. No memory, socket or process is touched, but for
one question. Every record but the last has been carried out to its end before the next was written; of the
last one nobody knows how far it came. Where its effects depend on what only the machine can say (are there
pages for this GPADL?), the machine is asked now. If the first daemon had got so far, its answer was yes, and
asking again changes nothing. Source: docs/design.md section 4.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from vmbusd.abi import device_link, link
from vmbusd.abi.errors import ProtocolError, ResourceError
from vmbusd.abi.link import Role
from vmbusd.abi.session import Session
from vmbusd.bus import effects, saved
from vmbusd.bus.bus import Bus
from vmbusd.server import inputs
from vmbusd.server.armed import FaultState
from vmbusd.server.config import PartitionSpec
from vmbusd.server.inputs import Key, SeatSet
from vmbusd.server.seats import changed_by
from vmbusd.server.state import LinkState, PartitionState

Reserve = Callable[[tuple[int, ...]], None]
"""Raises ResourceError when there is no memory for these pages."""


@dataclass(slots=True)
class KnownLink:
    """A link of before: its process, its tokens, and its session if it can be resumed."""

    made: inputs.LinkMade
    tokens: tuple[bytes, ...]
    session: Session | None


class NotSentAgain:
    """The packets of a journal that a fault dropped instead of sending: they are dropped again.

    A drop is known by the link, counted among those that had its name, and by the number that the packet
    would have had: the next one that is sent has it, so drops of one number come before that.
    """

    def __init__(self, whats: Iterable[inputs.Input] = ()) -> None:
        self._links: Counter[Key] = Counter()
        self._drops: Counter[tuple[Key, int, int]] = Counter()
        for what in whats:
            if isinstance(what, inputs.LinkMade):
                self.made(what)
            elif isinstance(what, inputs.NotSent):
                key = what.role, what.number
                self._drops[key, self._links[key], what.sequence] += 1
        self._links.clear()

    def made(self, what: inputs.LinkMade) -> None:
        """A link of this name begins."""
        self._links[what.role, what.number] += 1

    def drops(self, role: Role, number: int, sequence: int) -> bool:
        """Whether what is about to be sent as packet `sequence` was not."""
        if not self._drops:
            return False
        drop = (role, number), self._links[role, number], sequence
        if not self._drops[drop]:
            return False
        self._drops[drop] -= 1
        return True


class Replay:
    """A partition without hands.

    Attributes: `bus`; `links`; `seats`, one per VP; `offline`, VPs of which the bus was told so; `unplugged`,
    those that are offline by order; `faults`, by id, and `next_fault`, the next id.
    """

    def __init__(self, state: PartitionState, spec: PartitionSpec, ram_pages: int) -> None:
        """Raises ProtocolError (SavedError) for a state that cannot be."""
        self.bus = Bus.restore(
            saved.decode(state.bus), vps=spec.vps, ram_pages=ram_pages, options=spec.bus_options()
        )
        self.seats = list(state.seats)
        self.offline = set(state.offline)
        self.unplugged = set(state.unplugged)
        self.links = {(each.role, each.number): _known(each) for each in state.links}
        self.next_fault = state.next_fault
        self.faults = {each.id: each for each in state.faults}
        self._not_sent = NotSentAgain()
        self._trusted = spec.trusted
        if [seat.vp for seat in self.seats] != list(range(spec.vps)):
            raise ProtocolError(f"the state of a partition: {len(self.seats)} seats for {spec.vps} VPs")

    def run(self, number: int, bodies: list[bytes], reserve: Reserve) -> None:
        """Apply the inputs of a journal, the first of which has number `number`.

        Raises ProtocolError for a body that was never written.
        """
        whats = [inputs.decode(body) for body in bodies]
        unasked = {what for what in whats if isinstance(what, inputs.NoPages)}
        asides = (inputs.NoPages, inputs.NotSent, inputs.FaultFired, inputs.FaultCounted)
        real = (at for at in reversed(range(len(whats))) if not isinstance(whats[at], asides))
        self._not_sent = NotSentAgain(whats)
        last = number + next(real, 0)
        refused: list[inputs.NoPages] = []

        def lacks(cause: int, effect: effects.AskHost) -> bool:
            message = effect.message
            if not effect.pages:
                return False
            assert isinstance(message, device_link.Gpadl), message
            answer = inputs.NoPages(cause, effect.host, message.offer_id, message.gpadl)
            if answer in unasked:
                return True
            if cause < last:
                return False
            try:
                reserve(effect.pages)
            except ResourceError:
                refused.append(answer)
                return True
            return False

        for offset, what in enumerate(whats):
            self.apply(number + offset, what, lacks)
        # What the first daemon would have been told next, had it lived to ask.
        for answer in refused:
            self.apply(number + len(whats), answer, lambda _cause, _effect: False)

    def apply(self, number: int, what: inputs.Input, lacks: Callable[[int, effects.AskHost], bool]) -> None:
        """One input; `lacks(number, effect)`: whether a host was not asked because there was no memory."""
        if isinstance(what, inputs.OfServer):
            self._of_server(what)
            return
        if isinstance(what, inputs.OfFaults):
            self._of_faults(what)
            return
        self._of_links(what)
        for effect in inputs.apply(self.bus, what, trusted=self._trusted):
            if isinstance(effect, effects.SendToGuest):
                self._post_to_guest(effect)
            elif isinstance(effect, effects.AskHost) and not lacks(number, effect):
                session = self._session((Role.HOST, effect.host))
                if session is not None and not self._not_sent.drops(Role.HOST, effect.host, session.number()):
                    session.post(device_link.encode(effect.message, sequence=session.number()))

    # -- faults --------------------------------------------------------------------------------------------

    def _of_faults(self, what: inputs.OfFaults) -> None:
        if isinstance(what, inputs.FaultAdded):
            self.faults[what.rule] = FaultState(what.rule, what.fault, 0, 0, what.slot, what.device)
            self.next_fault = what.rule + 1
        elif isinstance(what, inputs.FaultRemoved):
            self.faults.pop(what.rule, None)
        elif isinstance(what, inputs.FaultCounted):
            if (fault := self.faults.get(what.rule)) is not None:
                self.faults[what.rule] = msgspec.structs.replace(fault, ended=fault.ended | what.ended)
        else:
            if isinstance(what, inputs.NotTaken) and what.sequence:
                self._heard((what.role, what.number), what.sequence)
            if (fault := self.faults.get(what.rule)) is not None:
                self.faults[what.rule] = msgspec.structs.replace(fault, seen=what.seen, fired=what.fired)

    # -- links ---------------------------------------------------------------------------------------------

    def _session(self, key: Key) -> Session | None:
        known = self.links.get(key)
        return known.session if known is not None else None

    def _post_to_guest(self, effect: effects.SendToGuest) -> None:
        session = self._session((Role.GUEST_CONTROL, 0))
        if session is not None and not self._not_sent.drops(Role.GUEST_CONTROL, 0, session.number()):
            number = session.number()
            session.post(link.encode_message(effect.data, where=effect.vp, sint=effect.sint, sequence=number))

    def _of_links(self, what: inputs.ToBus) -> None:
        """What an input to the bus says of a link."""
        if isinstance(what, inputs.GuestPacket):
            self._heard((Role.GUEST_CONTROL, 0), link.decode_header(what.packet).sequence)
        elif isinstance(what, inputs.HostPacket):
            self._heard((Role.HOST, what.host), link.decode_header(what.packet).sequence)
        elif isinstance(what, inputs.GuestGone):
            self.links.pop((Role.GUEST_CONTROL, 0), None)
        elif isinstance(what, inputs.HostGone):
            self._ended((Role.HOST, what.host))
        elif isinstance(what, inputs.HostDead):
            self.links.pop((Role.HOST, what.host), None)
        elif isinstance(what, inputs.Offline):
            self.offline.add(what.vp)
        elif isinstance(what, inputs.Online):
            self.offline.discard(what.vp)

    def _heard(self, key: Key, number: int) -> None:
        known = self.links.get(key)
        if known is not None and known.session is not None:
            known.session.received = number
            known.tokens = known.tokens[-1:]

    def _ended(self, key: Key) -> None:
        if (known := self.links.get(key)) is not None:
            known.session = None
            known.tokens = ()

    def _of_server(self, what: inputs.OfServer) -> None:
        if isinstance(what, inputs.LinkMade):
            if what.role is Role.GUEST_CONTROL:
                self.unplugged.clear()
            resumable = bool(what.token)
            self._not_sent.made(what)
            self.links[what.role, what.number] = KnownLink(
                what, (what.token,) if resumable else (), Session() if resumable else None
            )
        elif isinstance(what, inputs.LinkRenewed):
            if (known := self.links.get((what.role, what.number))) is not None:
                known.tokens = (what.shown, what.token)
        elif isinstance(what, inputs.LinkConfirmed):
            if (session := self._session((what.role, what.number))) is not None:
                session.resume(what.received)
        elif isinstance(what, inputs.LinkLost):
            self._ended((Role.GUEST_WORKER, what.vp))
        elif isinstance(what, inputs.VpOrdered):
            self._ordered(what)
        else:
            self._sit(what)

    def _ordered(self, what: inputs.VpOrdered) -> None:
        if what.sequence:
            self._heard((Role.GUEST_CONTROL, 0), what.sequence)
        self._post_vp(changed_by(what, self.seats[what.vp] if what.vp < len(self.seats) else None))
        if not what.refused:
            (self.unplugged.discard if what.online else self.unplugged.add)(what.vp)

    def _post_vp(self, body: link.VpChanged) -> None:
        session = self._session((Role.GUEST_CONTROL, 0))
        if session is not None:
            session.post(link.encode(body, sequence=session.number()))

    def _sit(self, seat: SeatSet) -> None:
        key = (Role.GUEST_WORKER, seat.vp)
        session = self._session(key)
        if seat.asked and not self.seats[seat.vp].asked and session is not None:
            session.post(link.encode(link.Detach(seat.vp), sequence=session.number()))
        if not seat.occupied:
            self.links.pop(key, None)
        if seat.handed_over and not self.seats[seat.vp].handed_over and seat.vp in self.unplugged:
            self._post_vp(link.VpChanged(seat.vp, seat.state, 0, b""))
        self.seats[seat.vp] = seat


def _known(state: LinkState) -> KnownLink:
    made = inputs.LinkMade(state.role, state.number, state.pid, state.start_time, state.uid, state.gid, b"")
    session = Session.restore(state.session) if state.session is not None else None
    return KnownLink(made, state.tokens, session)
