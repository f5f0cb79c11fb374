"""The door: a new connection says hello and becomes a guest, worker or host link, or is told why not.

Order of the checks: bytes, ABI version, socket, partition, who may, then what the role needs. A refusal is
always a packet with a code and a text that names the thing. Nothing is made for a peer before its hello was
found good. Source: docs/design.md section 4.
"""

import asyncio
import socket
from collections.abc import Mapping
from typing import Final

from structlog.typing import FilteringBoundLogger

from vmbusd.abi import layout, link
from vmbusd.abi.attach import PARTITION_NAME
from vmbusd.abi.errors import ProtocolError, RefusedError, ResourceError
from vmbusd.abi.link import Code, Kind, Role
from vmbusd.server import limits
from vmbusd.server.links import Attached, GuestControl, HostLink, Worker
from vmbusd.server.partition import Partition
from vmbusd.server.peer import Peer
from vmbusd.server.sockets import PacketLink, close_politely
from vmbusd.server.turn import Turn

GUEST_ROLES: Final = frozenset({Role.GUEST_CONTROL, Role.GUEST_WORKER})
HOST_ROLES: Final = frozenset({Role.HOST})


def refusal(code: Code, text: str) -> RefusedError:
    """The error that answers a hello with no."""
    return RefusedError(text, code)


class Door:
    """Receives the connections of one daemon until their hello is answered.

    Attributes: `waiting`, connections that have not said hello yet; `turn`, of all its links.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        partitions: Mapping[str, Partition],
        log: FilteringBoundLogger,
    ) -> None:
        self.waiting: set[Newcomer] = set()
        self.links = 0
        self.loop = loop
        self.partitions = partitions
        self.log = log
        self.turn = Turn(loop)

    def accepted(self, sock: socket.socket, scarce: bool, roles: frozenset[Role], max_packet: int) -> None:
        """A connection came in; `scarce`: there are no descriptors left to serve it."""
        if scarce or self.links >= limits.MAX_LINKS:
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
            self._admit(self._hello(data))
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
        if hello.flags:
            raise ProtocolError(f"hello with unknown flags {hello.flags:#x}")
        if any(hello.token):
            raise refusal(Code.NOT_ALLOWED, "this vmbusd has no link to resume by that token")
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

    def _admit(self, hello: link.Hello) -> None:
        partition = self._partition(hello.partition)
        role = Role(hello.role)
        log = partition.log.bind(role=role.name.lower(), pid=self._peer.pid, uid=self._peer.uid)
        if role is Role.GUEST_CONTROL:
            self._control(partition, log)
        elif role is Role.GUEST_WORKER:
            self._worker(partition, log, hello.vp)
        else:
            self._host(partition, log)

    def _become(self, attached: Attached) -> None:
        """From now on the packets, the end and the death of this peer are the link's."""
        self._leave()
        self._wire.receiver = attached
        attached.closed = self._door.link_closed
        self._peer.watch(self._door.loop, attached.process_died)
        attached.log.info("link attached")

    def _control(self, partition: Partition, log: FilteringBoundLogger) -> None:
        if partition.control is not None:
            partition.control.catch_up()
        if partition.control is not None:
            raise refusal(
                Code.CONTROL_TAKEN,
                f"partition {partition.name} has a guest: pid {partition.control.peer.pid}",
            )
        if lingering := partition.vps.lingering():
            who = ", ".join(f"VP {seat.vp}" for seat in lingering)
            raise refusal(Code.RECOVERING, f"workers of the guest before still run: {who}")
        control = GuestControl(partition, self._wire, self._peer, log)
        with partition.welcome(Role.GUEST_CONTROL) as welcome:
            self._become(control)
            partition.guest_attached(control)
            welcome(control)

    def _worker(self, partition: Partition, log: FilteringBoundLogger, vp: int) -> None:
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
        if taken is not None:
            raise refusal(Code.VP_TAKEN, f"VP {vp} of partition {partition.name} has pid {taken.peer.pid}")
        worker = Worker(partition, self._wire, self._peer, log.bind(vp=vp), vp)
        with partition.welcome(Role.GUEST_WORKER, vp=vp) as welcome:
            self._become(worker)
            partition.worker_attached(worker)
            welcome(worker)

    def _host(self, partition: Partition, log: FilteringBoundLogger) -> None:
        number = partition.free_host_number()
        if number is None:
            raise refusal(Code.LIMIT, f"partition {partition.name} has {limits.MAX_HOST_LINKS} host links")
        host = HostLink(partition, self._wire, self._peer, log.bind(host=number), number)
        with partition.host_objects(number), partition.welcome(Role.HOST, number=number) as welcome:
            self._become(host)
            partition.host_attached(host)
            welcome(host)
