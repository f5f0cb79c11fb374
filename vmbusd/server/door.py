"""The door: a new connection says hello and becomes a guest, worker or host link, or is told why not.

Order of the checks: bytes, ABI version, socket, partition, who may, then what the role needs. A refusal is
always a packet with a code and a text that names the thing. Nothing is made for a peer before its hello was
found good. Source: docs/design.md section 4.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Mapping
from typing import Final

from structlog.typing import FilteringBoundLogger

from vmbusd.abi import layout, link
from vmbusd.abi.attach import PARTITION_NAME
from vmbusd.abi.errors import ProtocolError, RefusedError, ResourceError
from vmbusd.abi.link import Code, HelloFlag, Kind, Role
from vmbusd.abi.session import Session
from vmbusd.server import limits
from vmbusd.server.attached import Attached
from vmbusd.server.links import GuestControl, HostLink, Worker
from vmbusd.server.partition import Partition
from vmbusd.server.peer import Peer
from vmbusd.server.sockets import PacketLink, close_politely
from vmbusd.server.tokens import WrongTokens
from vmbusd.server.turn import Turn

GUEST_ROLES: Final = frozenset({Role.GUEST_CONTROL, Role.GUEST_WORKER})
HOST_ROLES: Final = frozenset({Role.HOST})


def refusal(code: Code, text: str) -> RefusedError:
    """The error that answers a hello with no."""
    return RefusedError(text, code)


class Door:
    """Receives the connections of one daemon until their hello is answered.

    Attributes: `waiting`, connections that have not said hello yet; `links`, sockets of guests and hosts that
    are open; `grace`, seconds that a resumable link may be away; `turn`, of all its links; `hits`, how often
    a limit was met, by its name in the status.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        partitions: Mapping[str, Partition],
        log: FilteringBoundLogger,
        grace: float = limits.GRACE,
    ) -> None:
        self.waiting: set[Newcomer] = set()
        self.links = 0
        self.hits: Counter[str] = Counter()
        self.grace = grace
        self.wrong_tokens = WrongTokens()
        self.loop = loop
        self.partitions = partitions
        self.log = log
        self.turn = Turn(loop)

    def accepted(self, sock: socket.socket, scarce: bool, roles: frozenset[Role], max_packet: int) -> None:
        """A connection came in; `scarce`: there are no descriptors left to serve it."""
        if scarce or self.links >= limits.MAX_LINKS:
            self.hits["descriptors" if scarce else "links"] += 1
            text = "too many links" if not scarce else "too many open files"
            self._turn_away(sock, Code.LIMIT, f"vmbusd is at its limit: {text}")
            return
        try:
            peer = Peer(sock)
        except ResourceError as error:
            self._turn_away(sock, Code.NOT_ALLOWED, str(error))
            return
        newcomer = Newcomer(self, PacketLink(self.loop, sock, max_packet, self.turn), peer, roles)
        self.waiting.add(newcomer)
        self.links += 1

    def _turn_away(self, sock: socket.socket, code: Code, text: str) -> None:
        try:
            sock.send(
                link.encode(link.Refused(code, text.encode())), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
            )
        except OSError:
            text += ", and it did not wait for the answer"
        self.log.warning("refused", code=code.name, reason=text)
        close_politely(sock)

    def link_closed(self) -> None:
        """One link fewer."""
        self.links -= 1

    def close(self, code: Code, text: str) -> None:
        """Refuse everybody who has not said hello yet."""
        for newcomer in list(self.waiting):
            newcomer.refuse(code, text)


class Newcomer:
    """A connection before its hello."""

    def __init__(self, door: Door, wire: PacketLink, peer: Peer, roles: frozenset[Role]) -> None:
        self._door = door
        self._wire = wire
        self._peer = peer
        self._roles = roles
        self._timer = door.loop.call_later(limits.HELLO_TIMEOUT, self._too_late)
        wire.start(self)

    # -- from the link -------------------------------------------------------------------------------------

    def packet(self, data: bytes) -> None:
        try:
            hello = self._hello(data)
            partition = self._partition(hello.partition)
            if any(hello.token):
                self._resume(partition, hello)
            else:
                self._admit(partition, hello)
        except ProtocolError as error:
            self.refuse(Code.BAD_PACKET, str(error))
        except RefusedError as error:
            self.refuse(Code(error.code), str(error))
        except ResourceError as error:
            self.refuse(Code.LIMIT, str(error))

    def broken(self, text: str) -> None:
        self.refuse(Code.BAD_PACKET, text)

    def overflowed(self, text: str) -> None:
        self.refuse(Code.LIMIT, text)

    def drained(self) -> None:
        """A refusal is all that a newcomer is told, and it waits nowhere here."""

    def ended(self, reason: str) -> None:
        del reason
        self._leave()
        self._door.link_closed()
        self._peer.close()

    def refuse(self, code: Code, text: str) -> None:
        """Say no, with a reason, and close."""
        self._door.log.warning("refused", code=code.name, reason=text, pid=self._peer.pid, uid=self._peer.uid)
        self._wire.finish(link.encode(link.Refused(code, text.encode())), text)

    def _too_late(self) -> None:
        self._door.hits["hello_seconds"] += 1
        self.refuse(Code.BAD_PACKET, f"no hello within {limits.HELLO_TIMEOUT:g} s")

    def _leave(self) -> None:
        self._timer.cancel()
        self._door.waiting.discard(self)

    # -- hello ---------------------------------------------------------------------------------------------

    def _hello(self, data: bytes) -> link.Hello:
        header = link.decode_header(data)
        if header.kind != Kind.HELLO:
            raise ProtocolError(f"a hello was expected, packet kind {header.kind} came")
        hello = link.decode_body(header, data)
        assert isinstance(hello, link.Hello)
        if hello.abi_version != layout.ABI_VERSION:
            raise refusal(
                Code.ABI_VERSION, f"ABI version {hello.abi_version}, this vmbusd speaks {layout.ABI_VERSION}"
            )
        if hello.role not in self._roles:
            names = " or ".join(sorted(role.name for role in self._roles))
            raise refusal(Code.NOT_ALLOWED, f"role {hello.role}: this socket is for {names}")
        if hello.flags & ~HelloFlag.RESUMABLE.value:
            raise ProtocolError(f"hello with unknown flags {hello.flags:#x}")
        if hello.received and not any(hello.token):
            raise ProtocolError(f"hello of a new link that has received {hello.received} packets")
        return hello

    def _partition(self, name: str) -> Partition:
        if not PARTITION_NAME.fullmatch(name):
            raise refusal(
                Code.UNKNOWN_PARTITION, f"partition name {name!r} is none: a-z, 0-9 and -, at most 32"
            )
        partition = self._door.partitions.get(name)
        if partition is None:
            raise refusal(Code.UNKNOWN_PARTITION, f"there is no partition {name!r}")
        if partition.dead is not None:
            raise refusal(Code.PARTITION_DEAD, f"partition {name} is dead: {partition.dead}")
        if not partition.allows(self._peer.uid):
            raise refusal(Code.NOT_ALLOWED, f"uid {self._peer.uid} may not attach to partition {name}")
        return partition

    def _admit(self, partition: Partition, hello: link.Hello) -> None:
        role = Role(hello.role)
        log = partition.log.bind(role=role.name.lower(), pid=self._peer.pid, uid=self._peer.uid)
        session = Session() if hello.flags & HelloFlag.RESUMABLE else None
        if role is Role.GUEST_CONTROL:
            self._control(partition, log, session)
        elif role is Role.GUEST_WORKER:
            self._worker(partition, log, session, hello.vp)
        else:
            self._host(partition, log, session)

    def _become(self, attached: Attached) -> None:
        """From now on the packets, the end and the death of this peer are the link's."""
        self._leave()
        self._wire.receiver = attached
        attached.enter(self._door.loop, self._door.link_closed, self._door.grace)
        attached.log.info("link attached", resumable=attached.session is not None)

    # -- a link that comes back ----------------------------------------------------------------------------

    def _resume(self, partition: Partition, hello: link.Hello) -> None:
        """The socket is the link's from now on if its token is good, and the process the one it was given.

        The one check that decides is the last: until it, nothing but the end of the old socket has happened,
        which only the link's own process can bring about.
        """
        attached = partition.tokens.find(hello.token)
        if attached is None or not self._is_process_of(attached, hello):
            self._wrong_token(partition)
            return
        attached.leave_socket()
        if attached.session is None or not attached.linked:
            raise refusal(Code.BAD_TOKEN, f"partition {partition.name}: the link of this token is over")
        attached.session.check_resume(hello.received)
        number = attached.number if isinstance(attached, HostLink) else 0
        vp = attached.vp if isinstance(attached, Worker) else 0
        with partition.welcome(attached.role, number=number, vp=vp) as welcome:
            self._leave()
            self._wire.receiver = attached
            attached.adopt(self._wire, hello.received, hello.token)
            self._peer.close()
            welcome(attached)
            attached.go_on()

    def _is_process_of(self, attached: Attached, hello: link.Hello) -> bool:
        """Liveness is judged by the process, so no other one may take the link over, whoever gave it the
        token.
        """
        return attached.role == hello.role and attached.peer.is_same(self._peer)

    def _wrong_token(self, partition: Partition) -> None:
        text = f"partition {partition.name} has no link to resume by that token"
        delay = self._door.wrong_tokens.delay(self._peer.uid, self._door.loop.time())
        if not delay:
            raise refusal(Code.BAD_TOKEN, text)
        self._door.hits["wrong_tokens"] += 1
        self._wire.listen(False)
        self._timer.cancel()
        self._timer = self._door.loop.call_later(delay, self.refuse, Code.BAD_TOKEN, text)

    # -- a new link ----------------------------------------------------------------------------------------

    def _control(self, partition: Partition, log: FilteringBoundLogger, session: Session | None) -> None:
        if partition.control is not None:
            partition.control.catch_up()
        if partition.control is not None and partition.control.was_never_known_to(self._peer):
            partition.control.forget("its welcome never arrived")
        if partition.control is not None:
            raise refusal(
                Code.CONTROL_TAKEN,
                f"partition {partition.name} has a guest: pid {partition.control.peer.pid}",
            )
        if lingering := partition.vps.lingering():
            who = ", ".join(f"VP {seat.vp}" for seat in lingering)
            raise refusal(Code.RECOVERING, f"workers of the guest before still run: {who}")
        control = GuestControl(partition, self._wire, self._peer, log, session)
        with partition.welcome(Role.GUEST_CONTROL) as welcome:
            self._become(control)
            partition.guest_attached(control)
            welcome(control)

    def _worker(
        self, partition: Partition, log: FilteringBoundLogger, session: Session | None, vp: int
    ) -> None:
        if vp >= partition.spec.vps:
            raise refusal(
                Code.VP_RANGE, f"VP {vp}: partition {partition.name} has 0..{partition.spec.vps - 1}"
            )
        control = partition.control
        if control is None:
            raise refusal(Code.NO_CONTROL, f"partition {partition.name} has no guest control link")
        if self._peer.uid not in (control.peer.uid, 0):
            raise refusal(
                Code.NOT_ALLOWED, f"uid {self._peer.uid} may not serve a guest of uid {control.peer.uid}"
            )
        taken = partition.vps.settled(vp).worker
        if isinstance(taken, Worker) and taken.was_never_known_to(self._peer):
            taken.give_up()
            taken = None
        if partition.vps.seats[vp].unplugged:
            raise refusal(Code.VP_OFFLINE, f"VP {vp} of partition {partition.name} is offline by order")
        if taken is not None:
            raise refusal(Code.VP_TAKEN, f"VP {vp} of partition {partition.name} has pid {taken.peer.pid}")
        worker = Worker(partition, self._wire, self._peer, log.bind(vp=vp), vp, session)
        with partition.welcome(Role.GUEST_WORKER, vp=vp) as welcome:
            self._become(worker)
            partition.worker_attached(worker)
            welcome(worker)

    def _host(self, partition: Partition, log: FilteringBoundLogger, session: Session | None) -> None:
        number = partition.free_host_number()
        if number is None:
            partition.counters["host links at limit"] += 1
            raise refusal(Code.LIMIT, f"partition {partition.name} has {limits.MAX_HOST_LINKS} host links")
        host = HostLink(partition, self._wire, self._peer, log.bind(host=number), number, session)
        with partition.host_objects(number), partition.welcome(Role.HOST, number=number) as welcome:
            self._become(host)
            partition.host_attached(host)
            welcome(host)
