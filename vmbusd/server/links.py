"""What a guest, a worker and a host may say on their links, and what each is told.

The first packet of a link is a hello; `door` turns it into one of the receivers here. A packet that does not
fit its link ends the link with a reason (Bye); what is wrong inside a channel message is for the bus to judge
and ends nothing. How a link lives on without its socket is `attached`'s matter. Source: docs/design.md
section 4, docs/sockets.md.
"""

from collections import deque
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from vmbusd.abi import device_link, link
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.link import Kind, Role
from vmbusd.abi.session import WINDOW, Session
from vmbusd.server import limits
from vmbusd.server.armed import Armed
from vmbusd.server.attached import Attached
from vmbusd.server.inputs import GuestPacket, HostPacket
from vmbusd.server.objects import SharedObject
from vmbusd.server.peer import Peer
from vmbusd.server.sockets import PacketLink

if TYPE_CHECKING:
    from vmbusd.server.partition import Partition


class GuestControl(Attached):
    """The link that carries channel messages; its end is the end of the guest's connection."""

    role = Role.GUEST_CONTROL

    def __init__(
        self,
        partition: "Partition",
        wire: PacketLink | None,
        peer: Peer,
        log: FilteringBoundLogger,
        session: Session | None = None,
    ) -> None:
        super().__init__(partition, wire, peer, log, session)
        self._letting_in = False
        self._is_hearing = True
        # Of a session, while the bus takes no more; what goes on from here may be held by faults, in `held`.
        self._awaiting_bus: deque[tuple[link.Header, bytes]] = deque()

    def packet(self, data: bytes) -> None:
        # Nearly all that a daemon hears on a plain link; whatever is wrong with a packet is said below.
        quick = self.session is None and self.held is None and not self.rules
        if quick and link.message_of(data) is not None:
            self.partition.keeper.settle()
            self.partition.feed(self, GuestPacket(data))
        else:
            super().packet(data)

    def handle(self, header: link.Header, data: bytes) -> None:
        if header.kind == Kind.DETACHED:
            self.leave()
            return
        if header.kind == Kind.SIGNAL:
            self.signal_event(header, data)
            return
        if header.kind == Kind.VP_ORDER:
            body = link.decode_body(header, data)
            assert isinstance(body, link.VpOrder)
            number = header.sequence if self.session is not None else 0
            # Before it is judged, workers are heard: a snapshot now would have the packet and not the order.
            with self.partition.keeper.held():
                self.partition.vps.ordered_by_guest(
                    body.vp, online=bool(body.online), sequence=number, tag=body.tag
                )
            return
        if header.kind != Kind.MESSAGE:
            raise self.misplaced(header)
        size = len(data) - link.HEADER.size
        if size > link.MAX_CHANNEL_MESSAGE:
            raise ProtocolError(f"channel message of {size} bytes, at most {link.MAX_CHANNEL_MESSAGE}")
        self.partition.feed(self, GuestPacket(data))

    def deliver(self, message: bytes, vp: int, sint: int) -> None:
        """Send a channel message."""
        delay = 0.0
        if (faults := self.partition.faults).to_guest:
            delay = faults.telling_guest(self, message)
        if delay >= 0:
            number = self.next_sequence()
            self.transmit(link.encode_message(message, where=vp, sint=sint, sequence=number), delay)

    @property
    def rules(self) -> tuple[Armed, ...]:
        return self.partition.faults.from_guest

    def tell(self, what: link.VpChanged) -> None:
        """Tell what becomes of a VP."""
        self.transmit(link.encode(what, sequence=self.next_sequence()))

    def numbered(self, header: link.Header, data: bytes) -> None:
        if self.session is None or (self.takes and not self._awaiting_bus):
            super().numbered(header, data)
        elif header.kind == Kind.DETACHED:
            # Its unload is its last word; what it said before and nobody looked at does not count any more.
            self.leave()
        elif len(self._awaiting_bus) < WINDOW:
            self._awaiting_bus.append((header, data))
        else:
            raise ProtocolError(f"more than {WINDOW} packets that nobody has confirmed")

    def listen(self, on: bool) -> None:
        """Take messages, or let them wait.

        A plain link leaves them in the socket, which the guest finds full then. On a resumable one the
        guest's confirmations must still come through, so its messages wait here, at most a window of them:
        they are not taken yet, so none is confirmed, and the guest stops.
        """
        self.takes = on
        if self.held is not None:
            self.held.let_in()
        elif self.session is None:
            self.read_on(on)
        if self.session is not None and on and self._awaiting_bus and not self._letting_in:
            self._letting_in = True
            try:
                while self._awaiting_bus and self.takes and self.linked:
                    self.in_order(super().numbered, *self._awaiting_bus.popleft())
            finally:
                self._letting_in = False

    def transmit(self, packet: bytes, delay: float = 0.0) -> None:
        super().transmit(packet, delay)
        if self._is_hearing and self.linked and self.backlog > limits.OUTPUT_HIGH:
            self._judge_output()

    def drained(self) -> None:
        if not self._is_hearing:
            self._judge_output()

    def go_on(self) -> None:
        # The bus may be of before a restart, and wait for a guest that has taken everything since.
        self._is_hearing = self.backlog > limits.OUTPUT_LOW
        self._judge_output()
        super().go_on()

    def _judge_output(self) -> None:
        """Let a guest that does not take what it is told wait, until it has taken most of it: a flood of
        questions fills nobody's memory with answers.
        """
        if self._is_hearing is (self.backlog > limits.OUTPUT_LOW):
            self._is_hearing = not self._is_hearing
            if not self._is_hearing:
                self.partition.counters["guest output full"] += 1
            self.partition.guest_output(self._is_hearing)

    def lost(self, reason: str) -> None:
        # They were never taken: the guest sends them again.
        self._awaiting_bus.clear()
        super().lost(reason)

    def over(self) -> None:
        self._awaiting_bus.clear()
        self.peer.close()
        self.partition.guest_ended()


class Worker(Attached):
    """The link of the process or thread that plays one VP."""

    role = Role.GUEST_WORKER

    def __init__(
        self,
        partition: "Partition",
        wire: PacketLink | None,
        peer: Peer,
        log: FilteringBoundLogger,
        vp: int,
        session: Session | None = None,
    ) -> None:
        super().__init__(partition, wire, peer, log, session)
        self.vp = self.number = vp
        self._on_vp = True

    def ask_to_detach(self) -> None:
        """Ask it to serve what is pending and to leave."""
        self.transmit(link.encode(link.Detach(self.vp), sequence=self.next_sequence()))

    def handle(self, header: link.Header, data: bytes) -> None:
        if header.kind == Kind.SIGNAL:
            self.signal_event(header, data)
            return
        if header.kind != Kind.DETACHED:
            raise self.misplaced(header)
        body = link.decode_body(header, data)
        if not isinstance(body, link.Detached) or body.vp != self.vp:
            raise ProtocolError(f"detached from another VP than {self.vp}")
        self._on_vp = False
        self.peer.close()
        self.partition.worker_detached(self)
        self.leave()

    def drained(self) -> None:
        """A worker is told one thing, once."""

    def give_up(self) -> None:
        """Nobody ever played this VP over this link."""
        self._on_vp = False
        self.peer.close()
        self.partition.worker_detached(self)
        self.forget("its welcome never arrived")

    def over(self) -> None:
        if self._on_vp:
            self.partition.worker_unlinked(self)

    def process_died(self) -> None:
        if not self._on_vp:
            return
        super().process_died()
        self._on_vp = False
        self.peer.close()
        self.partition.worker_died(self)


class HostLink(Attached):
    """The link of a device process.

    Attributes: `number`, j of its `-host<j>` objects.
    """

    role = Role.HOST

    def __init__(
        self,
        partition: "Partition",
        wire: PacketLink | None,
        peer: Peer,
        log: FilteringBoundLogger,
        number: int,
        session: Session | None = None,
    ) -> None:
        super().__init__(partition, wire, peer, log, session)
        self.number = number
        self._orderly = False
        self._alive = True

    def handle(self, header: link.Header, data: bytes) -> None:
        if header.kind == Kind.DETACHED:
            self._orderly = True
            self.leave()
            return
        if header.kind not in device_link.FROM_HOST_KINDS:
            raise self.misplaced(header)
        message = device_link.decode(header, data)
        assert isinstance(message, device_link.FromHost)
        if isinstance(message, device_link.Offer | device_link.SocketAnswer):
            self.partition.tell_time()
        self.partition.feed(self, HostPacket(self.number, data, message))

    def tell(self, message: device_link.ToHost) -> None:
        """Send a device message."""
        delay = 0.0
        if (faults := self.partition.faults).to_host:
            delay = faults.telling_host(self, message)
        if delay >= 0:
            self.transmit(device_link.encode(message, sequence=self.next_sequence()), delay)

    @property
    def rules(self) -> tuple[Armed, ...]:
        return self.partition.faults.from_host

    def drained(self) -> None:
        """Whoever asks a host waits for its answer: what it is told is bounded by what the guest may ask."""

    def announce(self, granted: list[SharedObject], tail: bytes, to: Attached) -> None:
        """Tell a guest link that this host link exists, with its page and doorbell."""
        to.send(link.HostLink(self.number, 0, tail), [made.fd for made in granted])

    def over(self) -> None:
        self.partition.host_ended(self)
        # Whoever never offered anything, because its welcome never arrived perhaps, has nothing to signal: it
        # may live for long, and has another link by now.
        if self._orderly or (self.session is not None and not self.session.received):
            self._finish()

    def process_died(self) -> None:
        # Before its channels end: what it set last and did not ring for is still theirs.
        self.partition.hand_over_bits()
        super().process_died()
        self._finish()

    def _finish(self) -> None:
        if self._alive:
            self._alive = False
            self.peer.close()
            self.partition.host_dead(self)
