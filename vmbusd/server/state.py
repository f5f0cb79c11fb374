"""The state of a partition as plain data: what a snapshot holds, and what a replay begins with and ends in.

It is all that must be as it was when a daemon starts again: the bus, who plays which VP, and the links with
their tokens and sessions. What is in shared memory is not here, it is still there; counters for people and
what is under way for a clock begin anew.
"""

from typing import TYPE_CHECKING, Final

import msgspec

from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.link import Role
from vmbusd.abi.session import SessionState
from vmbusd.bus import saved
from vmbusd.server.armed import FaultState
from vmbusd.server.attached import Attached
from vmbusd.server.inputs import SeatSet

if TYPE_CHECKING:
    from vmbusd.server.partition import Partition


class LinkState(msgspec.Struct, frozen=True, array_like=True):
    """A link: whose it is, as `inputs.LinkMade`; the tokens that are good, the newest last; `session`, None
    when it has ended or would end with its socket. What has ended waits for the death of its process."""

    role: Role
    number: int
    pid: int
    start_time: int
    uid: int
    gid: int
    tokens: tuple[bytes, ...]
    session: SessionState | None


class PartitionState(msgspec.Struct, frozen=True, array_like=True):
    """Everything: `bus`, the bytes of `bus.saved`; `seats`, one per VP; `offline`, VPs that the bus was told
    to be without worker; `links`; `unplugged`, VPs that are offline by order; `faults`, and the id that the
    next one gets."""

    bus: bytes
    seats: tuple[SeatSet, ...]
    offline: tuple[int, ...]
    links: tuple[LinkState, ...]
    unplugged: tuple[int, ...] = ()
    next_fault: int = 1
    faults: tuple[FaultState, ...] = ()


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(PartitionState, strict=True)


def encode(state: PartitionState) -> bytes:
    """The bytes that a snapshot keeps."""
    return _ENCODER.encode(state)


def decode(data: bytes) -> PartitionState:
    """Raises ProtocolError for what `encode` never made."""
    try:
        return _DECODER.decode(data)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"the state of a partition: {error}") from error


def of(partition: "Partition") -> PartitionState:
    """The state of a living partition, between two inputs."""
    links: list[tuple[Role, int, Attached]] = [
        *((Role.HOST, number, host) for number, host in partition.hosts.items()),
        *((Role.GUEST_WORKER, worker.vp, worker) for worker in partition.workers),
    ]
    if partition.control is not None:
        links.append((Role.GUEST_CONTROL, 0, partition.control))
    seats = partition.vps.seats
    next_fault, faults = partition.faults.save()
    return PartitionState(
        bus=saved.encode(partition.bus.save()),
        seats=tuple(seat.record() for seat in seats),
        offline=tuple(seat.vp for seat in seats if seat.told_offline),
        links=tuple(_of_link(role, number, attached) for role, number, attached in links),
        unplugged=tuple(seat.vp for seat in seats if seat.unplugged),
        next_fault=next_fault,
        faults=faults,
    )


def _of_link(role: Role, number: int, attached: Attached) -> LinkState:
    peer = attached.peer
    session = attached.session.save() if attached.session is not None and attached.linked else None
    return LinkState(role, number, peer.pid, peer.start_time, peer.uid, peer.gid, attached.tokens, session)
