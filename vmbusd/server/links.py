"""What a guest, a worker and a host may say on their links, and what each is told.

The first packet of a link is a hello; `door` turns it into one of the receivers here. A packet that does not
fit its link ends the link with a reason (Bye); what is wrong inside a channel message is for the bus to judge
and ends nothing. Source: docs/design.md section 4, docs/sockets.md.
"""

import abc
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import msgspec
from structlog.typing import FilteringBoundLogger

from vmbusd.abi import device_link, link
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.link import Code, Kind, Role
from vmbusd.bus.effects import FillSlot
from vmbusd.server.limits import CATCH_UP
from vmbusd.server.log import Once
from vmbusd.server.objects import SharedObject
from vmbusd.server.peer import Peer
from vmbusd.server.sockets import PacketLink

if TYPE_CHECKING:
    from vmbusd.server.partition import Partition


class Attached(abc.ABC):
    """A link after its hello: one role in one partition.

    Attributes: `peer`, its process; `refused`, trouble it made, by kind; `linked`, whether it is still there;
    `closed`, called once when it no longer is.
    """

    role: ClassVar[Role]

    def __init__(
        self, partition: "Partition", wire: PacketLink, peer: Peer, log: FilteringBoundLogger
    ) -> None:
        self.partition = partition
        self.peer = peer
        self.refused = Once()
        self.linked = True
        self.closed: Callable[[], None] = lambda: None
        self.log = log
        self._wire = wire
        self._sequence = 0

    def send(self, body: msgspec.Struct, fds: list[int] | None = None) -> None:
        """Send a shared-kind packet; the descriptors stay ours."""
        self._sequence += 1
        self._wire.send(link.encode(body, sequence=self._sequence), fds or ())

    def bye(self, code: Code, text: str) -> None:
        """End the link with a reason."""
        self._sequence += 1
        self._wire.finish(link.encode(link.Bye(code, text.encode()), sequence=self._sequence), text)

    def traffic(self) -> dict[str, int]:
        """Packets so far, each way."""
        return {"packets_in": self._wire.packets_in, "packets_out": self._wire.packets_out}

    def refuse(self, kind: str, reason: str) -> None:
        """Count something that was refused without an answer; the first of its kind is logged."""
        if self.refused.first(kind):
            self.log.warning("refused", kind=kind, reason=reason)

    def catch_up(self) -> None:
        """Take in what has arrived, and death, before somebody judges by our state."""
        for _ in range(CATCH_UP):
            if not self._wire.read_one():
                break
        if self.peer.is_dead():
            self.process_died()

    # -- from the link -------------------------------------------------------------------------------------

    def packet(self, data: bytes) -> None:
        try:
            self.handle(link.decode_header(data), data)
        except ProtocolError as error:
            self.broken(str(error))

    def broken(self, text: str) -> None:
        self.log.warning("bad packet", reason=text)
        self.bye(Code.BAD_PACKET, text)

    def overflowed(self, text: str) -> None:
        self.bye(Code.LIMIT, text)

    def ended(self, reason: str) -> None:
        self.linked = False
        self.log.info("link ended", reason=reason)
        if self._wire.descriptors_refused:
            self.log.warning(
                "packets came with descriptors, all closed", packets=self._wire.descriptors_refused
            )
        self.closed()
        self.over()

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

    @abc.abstractmethod
    def over(self) -> None:
        """The link is gone; the process may live."""

    def process_died(self) -> None:
        """The process is known to be gone."""
        self._wire.close("its process died")


class GuestControl(Attached):
    """The link that carries channel messages; its end is the end of the guest's connection."""

    role = Role.GUEST_CONTROL

    def __init__(
        self, partition: "Partition", wire: PacketLink, peer: Peer, log: FilteringBoundLogger
    ) -> None:
        super().__init__(partition, wire, peer, log)
        hear = partition.bus.guest_message
        self._hear = partial(hear, trusted=True) if partition.spec.trusted else hear

    def packet(self, data: bytes) -> None:
        # Nearly all that a daemon hears; whatever is wrong with a packet is said below.
        heard = link.message_of(data)
        if heard is None:
            super().packet(data)
        else:
            where, message = heard
            self.partition.feed(self, self._hear, message, where)

    def handle(self, header: link.Header, data: bytes) -> None:
        if header.kind == Kind.SIGNAL:
            self.signal_event(header, data)
            return
        if header.kind != Kind.MESSAGE:
            raise self.misplaced(header)
        size = len(data) - link.HEADER.size
        raise ProtocolError(f"channel message of {size} bytes, at most {link.MAX_CHANNEL_MESSAGE}")

    def deliver(self, message: bytes, vp: int, sint: int) -> None:
        """Send a channel message."""
        self._sequence += 1
        self._wire.send(link.encode_message(message, where=vp, sint=sint, sequence=self._sequence))

    def listen(self, on: bool) -> None:
        """Read on, or let packets wait in the socket: the guest finds it full then."""
        self._wire.listen(on)

    def over(self) -> None:
        self.peer.close()
        self.partition.guest_ended()


class Worker(Attached):
    """The link of the process or thread that plays one VP."""

    role = Role.GUEST_WORKER

    def __init__(
        self, partition: "Partition", wire: PacketLink, peer: Peer, log: FilteringBoundLogger, vp: int
    ) -> None:
        super().__init__(partition, wire, peer, log)
        self.vp = vp
        self._on_vp = True

    def ask_to_detach(self) -> None:
        """Ask it to serve what is pending and to leave."""
        self.send(link.Detach(self.vp))

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
        self._wire.close("detached")

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
        self, partition: "Partition", wire: PacketLink, peer: Peer, log: FilteringBoundLogger, number: int
    ) -> None:
        super().__init__(partition, wire, peer, log)
        self.number = number
        self._orderly = False
        self._alive = True

    def handle(self, header: link.Header, data: bytes) -> None:
        if header.kind == Kind.DETACHED:
            self._orderly = True
            self._wire.close("detached")
            return
        if header.kind not in device_link.FROM_HOST_KINDS:
            raise self.misplaced(header)
        message = device_link.decode(header, data)
        assert isinstance(message, device_link.FromHost)
        if isinstance(message, device_link.Offer | device_link.SocketAnswer):
            self.partition.tell_time()
        self.partition.feed(self, self.partition.bus.host_message, self.number, message)

    def tell(self, message: device_link.ToHost) -> None:
        """Send a device message."""
        self._sequence += 1
        self._wire.send(device_link.encode(message, sequence=self._sequence))

    def take_back(self, effect: FillSlot, reason: str) -> None:
        """There is no memory for this channel's block: revoke its offer in the host's name."""
        self.refuse("no memory", reason)
        self.partition.feed(
            self, self.partition.bus.host_message, self.number, device_link.Revoke(effect.offer_id)
        )

    def announce(self, granted: list[SharedObject], tail: bytes, to: Attached) -> None:
        """Tell a guest link that this host link exists, with its page and doorbell."""
        to.send(link.HostLink(self.number, 0, tail), [made.fd for made in granted])

    def over(self) -> None:
        self.partition.host_ended(self)
        if self._orderly:
            self._finish()

    def process_died(self) -> None:
        super().process_died()
        self._finish()

    def _finish(self) -> None:
        if self._alive:
            self._alive = False
            self.peer.close()
            self.partition.host_dead(self)
