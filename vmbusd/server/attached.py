"""A link after its hello: its packets in and out, its socket of now, and its life without one.

A plain link ends with its socket. A resumable one is *away* then: what it is told is kept in its session, and
it is over only when the grace time has passed, its process is known to be gone, or somebody said farewell.
Until then the same process may show the link's token at the door and goes on where the two sessions stand.
Source: docs/design.md section 4, docs/sockets.md "A link that lives on".
"""

import abc
import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import msgspec
from structlog.typing import FilteringBoundLogger

from vmbusd.abi import link
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.link import Code, Kind, Role
from vmbusd.abi.session import Session
from vmbusd.server import limits
from vmbusd.server.armed import Armed
from vmbusd.server.held import Held
from vmbusd.server.log import Once
from vmbusd.server.peer import Peer
from vmbusd.server.sockets import PacketLink
from vmbusd.server.tokens import NO_TOKEN

if TYPE_CHECKING:
    from vmbusd.server.partition import Partition


class Attached(abc.ABC):
    """One role in one partition.

    Attributes: `peer`, its process; `wire`, its socket of now, None while it is away; `session`, None for a
    plain link; `tokens`, those that are good, the newest last; `refused`, trouble it made, by kind; `linked`,
    whether it is not over; `resumed`, how often it came back; `heard`, whether its process has said
    anything, so has got its first welcome; `grace`, seconds it may be away; `closed`, called for each socket
    that has ended; `number`, which of its role it is, 0 for a guest; `held`, what faults keep back, None
    while they never did; `takes`, whether packets that came may be taken now.
    """

    role: ClassVar[Role]
    number = 0

    def __init__(
        self,
        partition: "Partition",
        wire: PacketLink | None,
        peer: Peer,
        log: FilteringBoundLogger,
        session: Session | None = None,
    ) -> None:
        """Without `wire` it is a link of before a restart: `expect` has to follow."""
        self.partition = partition
        self.peer = peer
        self.session = session
        self.tokens: tuple[bytes, ...] = ()
        self.refused = Once()
        self.linked = True
        self.resumed = 0
        self.heard = False
        self.grace = limits.GRACE
        self.closed: Callable[[], None] = lambda: None
        self.held: Held | None = None
        self.takes = True
        self.log = log
        self.wire = wire
        self._sequence = 0
        self._final = False
        self._away: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self._packets_in = 0
        self._packets_out = 0

    # -- out -----------------------------------------------------------------------------------------------

    def send(self, body: msgspec.Struct, fds: list[int] | None = None) -> None:
        """Send what is bound to the socket of now; the descriptors stay ours. Nothing while away."""
        if self.session is None:
            self._sequence += 1
        if self.wire is not None:
            self.wire.send(link.encode(body, sequence=self._sequence), fds or ())

    def next_sequence(self) -> int:
        """The number of the packet about to be transmitted."""
        if self.session is not None:
            return self.session.number()
        self._sequence += 1
        return self._sequence

    def transmit(self, packet: bytes, delay: float = 0.0) -> None:
        """Send a packet that is encoded already, with `next_sequence` in its header, `delay` seconds from now
        and not before anything that is delayed already."""
        session = self.session
        if delay and self.held is None:
            self.held = Held(self._loop, self)
        if session is None:
            if self.held is not None and (delay or self.held.says):
                self.held.say_later(packet, delay)
            elif self.wire is not None:
                self.wire.send(packet)
            return
        if delay and self.held is not None:
            self.held.hold(session.number(), delay)
        session.post(packet)
        self.pump()
        if self.backlog > limits.MAX_QUEUE_BYTES and self.linked:
            kept = session.last - session.confirmed
            self.overflowed(f"the peer does not confirm: {kept} packets are kept for it")

    @property
    def backlog(self) -> int:
        """What the peer has not taken yet, in bytes and the cost of packets."""
        if (session := self.session) is None:
            kept = self.held.queued if self.held is not None else 0
            return kept + (self.wire.queued if self.wire is not None else 0)
        return session.queued + (session.last - session.confirmed) * limits.QUEUE_PACKET_COST

    def pump(self) -> None:
        """Send what of the session may be sent now."""
        if (wire := self.wire) is not None and self.session is not None:
            for packet in self.session.due(None if self.held is None else self.held.before):
                wire.send(packet)

    def bye(self, code: Code, text: str) -> None:
        """End the link with a reason."""
        self._final = True
        if self.wire is not None:
            self._sequence += self.session is None
            self.wire.finish(link.encode(link.Bye(code, text.encode()), sequence=self._sequence), text)
        elif self.linked:
            self._end(text)

    def traffic(self) -> dict[str, int]:
        """Packets so far, each way."""
        wire = self.wire
        return {
            "packets_in": self._packets_in + (wire.packets_in if wire else 0),
            "packets_out": self._packets_out + (wire.packets_out if wire else 0),
        }

    def refuse(self, kind: str, reason: str) -> None:
        """Count something that was refused without an answer; the first of its kind is logged."""
        if self.refused.first(kind):
            self.log.warning("refused", kind=kind, reason=reason)

    # -- from the socket -----------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Take in what has arrived, and death, before somebody judges by our state."""
        for _ in range(limits.CATCH_UP):
            if self.wire is None or not self.wire.read_one():
                break
        if self.peer.is_dead():
            self.process_died()

    def packet(self, data: bytes) -> None:
        # Here nothing is half done: not this packet, and none of what the last one led to.
        self.partition.keeper.settle()
        try:
            header = link.decode_header(data)
        except ProtocolError as error:
            self.broken(str(error))
        else:
            self.in_order(self.numbered if self.session is None else self._in_session, header, data)

    def in_order(
        self, handler: Callable[[link.Header, bytes], None], header: link.Header, data: bytes
    ) -> None:
        """Handle a packet; one that has no place here ends the link."""
        try:
            handler(header, data)
        except ProtocolError as error:
            self.broken(str(error))

    def _in_session(self, header: link.Header, data: bytes) -> None:
        assert self.session is not None
        self.heard = True
        if len(self.tokens) > 1:
            self.partition.tokens.heard(self)
        if header.kind == Kind.CONFIRM:
            body = link.decode_body(header, data)
            assert isinstance(body, link.Confirm)
            if body.received > self.session.confirmed:
                self.session.take_confirmation(body.received)
                self.partition.link_confirmed(self, body.received)
            self.pump()
            self.drained()
        elif header.kind == Kind.SIGNAL:
            # Not numbered: it says "look", and a resume looks anyway.
            self.signal_event(header, data)
        else:
            self.numbered(header, data)

    def numbered(self, header: link.Header, data: bytes) -> None:
        """A packet that has its place in the order of the link: of the session, or any of a plain link.

        Raises ProtocolError when it has no place on this link.
        """
        if self.held is None and not self.rules:
            self.take(header, data)
            return
        if self.held is None:
            self.held = Held(self._loop, self)
        self.held.hear(header, data)

    @property
    def rules(self) -> tuple[Armed, ...]:
        """The faults that a packet from this link may meet."""
        return ()

    def judge(self, header: link.Header, data: bytes) -> float:
        """Seconds that faults keep back the next packet, DROPPED for one that is to be passed over."""
        is_new = self.session is None or header.sequence == self.session.received + 1
        return self.partition.faults.hearing(self, header, data) if is_new and self.rules else 0.0

    def take(self, header: link.Header, data: bytes) -> None:
        """Handle a packet whose turn it is, once. Raises ProtocolError when it has no place on this link."""
        if self.session is None:
            self.handle(header, data)
        elif self.session.take(header.sequence):
            self.handle(header, data)
            self._confirm(self.session)

    def pass_over(self, header: link.Header, _data: bytes) -> None:
        """The packet counts as taken. Raises ProtocolError as `take`."""
        if self.session is not None and self.session.take(header.sequence):
            self._confirm(self.session)

    def _confirm(self, session: Session) -> None:
        if (number := session.confirmation()) is not None:
            session.told(number)
            self.send(link.Confirm(number))

    def read_on(self, on: bool) -> None:
        """Whether what comes next may come: a plain link leaves it in the socket; a session has a window."""
        if self.session is None and self.wire is not None:
            self.wire.listen(on)

    @abc.abstractmethod
    def handle(self, header: link.Header, data: bytes) -> None:
        """One packet. Raises ProtocolError when it has no place on this link."""

    def signal_event(self, header: link.Header, data: bytes) -> None:
        """HvSignalEvent of a guest, on the one connection that has nobody but the daemon behind it."""
        body = link.decode_body(header, data)
        assert isinstance(body, link.Signal)
        if body.connection_id != link.SHARED_EVENT_CONNECTION:
            self.refuse("unknown connection", f"signal on event connection {body.connection_id}")
        elif not self.partition.pages.signalled():
            self.refuse(
                "no interrupt page", "signal on the shared event connection without an interrupt page"
            )

    def misplaced(self, header: link.Header) -> ProtocolError:
        """The error for a kind of packet that this role does not send."""
        return ProtocolError(f"packet kind {header.kind} has no place on a {self.role.name} link")

    def broken(self, text: str) -> None:
        self.log.warning("bad packet", reason=text)
        self.bye(Code.BAD_PACKET, text)

    def overflowed(self, text: str) -> None:
        self.partition.counters["queue at limit"] += 1
        self.bye(Code.LIMIT, text)

    @abc.abstractmethod
    def drained(self) -> None:
        """The peer has taken something that it was told, or all of it."""

    def ended(self, reason: str) -> None:
        wire, self.wire = self.wire, None
        assert wire is not None
        self._packets_in += wire.packets_in
        self._packets_out += wire.packets_out
        if wire.descriptors_refused:
            self.log.warning("packets came with descriptors, all closed", packets=wire.descriptors_refused)
        self.closed()
        if self.session is None or self._final:
            self._end(reason)
        else:
            self.lost(reason)

    def lost(self, reason: str) -> None:
        """The socket is gone and the link is away."""
        if self.held is not None:
            self.held.forget_heard()
        self.log.warning("link lost", reason=reason, grace=self.grace)
        self._away = self._loop.call_later(self.grace, self._grace_is_over)

    # -- the life of the link ------------------------------------------------------------------------------

    def enter(self, loop: asyncio.AbstractEventLoop, closed: Callable[[], None], grace: float) -> None:
        """The hello was found good: from now on the death of the process is ours to hear."""
        self._loop = loop
        self.closed = closed
        self.grace = grace
        self.peer.watch(loop, self.process_died)
        if self.session is not None and not self.tokens:
            self.partition.tokens.issue(self)

    def expect(self, loop: asyncio.AbstractEventLoop, closed: Callable[[], None], grace: float) -> None:
        """As `enter`, for a link of before a restart, which is away from the start."""
        self.enter(loop, closed, grace)
        self._away = loop.call_later(grace, self._grace_is_over)

    def leave_socket(self) -> None:
        """Whoever is at the door is this link's process: what the old socket still holds is taken, and no
        more comes over it.
        """
        self.catch_up()
        if self.wire is not None:
            self.wire.close("its process came with another socket")

    def adopt(self, wire: PacketLink, received: int, shown: bytes) -> None:
        """Go on over this socket, with a peer that took packet `received` last and showed the token `shown`;
        a welcome and `go_on` follow.

        Raises ProtocolError for what no peer of this session can have taken.
        """
        assert self.session is not None
        assert self.wire is None
        before = self.session.confirmed
        self.session.resume(received)
        if received > before:
            self.partition.link_confirmed(self, received)
        self._end_grace()
        self.wire = wire
        self.resumed += 1
        self.partition.tokens.issue(self, shown)
        self.partition.link_renewed(self, shown)

    def go_on(self) -> None:
        """The welcome is out: send again what the peer lacks."""
        assert self.session is not None
        self.log.info("link resumed", resumed=self.resumed, again=self.session.waiting)
        self.pump()
        self.partition.pages.signalled()

    def was_never_known_to(self, peer: Peer) -> bool:
        """Whether this process asked for this link, and asks again because no welcome came: the daemon died,
        or the socket was lost, between the two.
        """
        return not self.heard and self.linked and self.wire is None and self.peer.is_same(peer)

    @property
    def token(self) -> bytes:
        """The newest token, zeros for a plain link."""
        return self.tokens[-1] if self.tokens else NO_TOKEN

    def leave(self) -> None:
        """It said farewell: its end is final."""
        self._final = True
        if self.wire is not None:
            if self.session is not None:
                # Else it would come back to say it again.
                self.send(link.Confirm(self.session.received))
            self.wire.close("detached")

    def forget(self, reason: str) -> None:
        """It is away, and nobody is to come back to it."""
        self._final = True
        self._end(reason)

    def _end_grace(self) -> None:
        if self._away is not None:
            self._away.cancel()
            self._away = None

    def _grace_is_over(self) -> None:
        self._away = None
        self._end(f"away for {self.grace:g} s")

    def _end(self, reason: str) -> None:
        self.linked = False
        if self.held is not None:
            self.held.stop()
        self._end_grace()
        self.partition.tokens.drop(self)
        self.log.info("link ended", reason=reason)
        self.over()

    @abc.abstractmethod
    def over(self) -> None:
        """The link is gone; the process may live."""

    def process_died(self) -> None:
        """The process is known to be gone."""
        self._final = True
        if self.wire is not None:
            self.wire.close("its process died")
        elif self.linked:
            self._end("its process died")
