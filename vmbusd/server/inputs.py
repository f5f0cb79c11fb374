"""Everything that can change a partition's state, as data: what the journal keeps and a replay applies again.

State is the bus, the links with their sessions, and who plays which VP. An input is what came from outside
or was decided by what only this moment knows (a claim seen free, memory that was not there, the time); what
follows from inputs by rule is not kept. A packet is kept as it came, behind one byte that says whose it is,
because packets are many; the rest is msgpack. Source: docs/design.md section 4.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from vmbusd.abi import device_link, link
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.link import Role
from vmbusd.abi.messages import UNSUCCESSFUL
from vmbusd.bus.bus import Bus
from vmbusd.bus.effects import Effect
from vmbusd.server.fault_requests import FaultSpec

_GUEST: Final = b"g"
_HOST: Final = b"h"
_OTHER: Final = b"m"

Key = tuple[Role, int]
"""Names a link of a partition: 0, the VP or the number of the host link."""


class GuestPacket(msgspec.Struct, frozen=True):
    """A channel message with its header, as it came on the control link."""

    packet: bytes


class HostPacket(msgspec.Struct, frozen=True):
    """A device message with its header, as it came from a host link; `message` spares decoding it twice."""

    host: int
    packet: bytes
    message: device_link.FromHost | None = None


class NoPages(msgspec.Struct, frozen=True, tag=1, array_like=True):
    """There was no memory for the pages of a GPADL that effects of input `cause` asked `host` to take: it was
    not asked, and this is the answer in its name."""

    cause: int
    host: int
    offer_id: int
    gpadl: int


class TakenBack(msgspec.Struct, frozen=True, tag=2, array_like=True):
    """There was no memory for the block of a channel: its offer is revoked in the host's name."""

    host: int
    offer_id: int


class ClaimFree(msgspec.Struct, frozen=True, tag=3, array_like=True):
    """The claim of a closed slot was seen free."""

    flag: int
    generation: int


class PagesModified(msgspec.Struct, frozen=True, tag=4, array_like=True):
    """The answer to ModifyPages."""

    ticket: int
    ok: bool


class Offline(msgspec.Struct, frozen=True, tag=5, array_like=True):
    """A VP has no worker any more, and `live` takes its channels."""

    vp: int
    live: int


class Online(msgspec.Struct, frozen=True, tag=6, array_like=True):
    """A VP has a worker again."""

    vp: int


class GuestGone(msgspec.Struct, frozen=True, tag=7, array_like=True):
    """The guest's control link is over."""


class HostGone(msgspec.Struct, frozen=True, tag=8, array_like=True):
    """A host link is over, its process may live."""

    host: int


class HostDead(msgspec.Struct, frozen=True, tag=9, array_like=True):
    """Nothing of a host signals any more; its number is free."""

    host: int


class Tick(msgspec.Struct, frozen=True, tag=10, array_like=True):
    """It is `now` seconds of CLOCK_MONOTONIC."""

    now: float


class GuestOutput(msgspec.Struct, frozen=True, tag=11, array_like=True):
    """Whether the guest takes messages."""

    ready: bool


class Reset(msgspec.Struct, frozen=True, tag=12, array_like=True):
    """Make the bus as new."""


class Retarget(msgspec.Struct, frozen=True, tag=18, array_like=True):
    """The administrator moves a channel to a VP."""

    relid: int
    vp: int


class Rescind(msgspec.Struct, frozen=True, tag=19, array_like=True):
    """The administrator takes a channel from the guest."""

    relid: int


class LinkMade(msgspec.Struct, frozen=True, tag=13, array_like=True):
    """A link begins. `pid` and `start_time` (field 22 of /proc/PID/stat, 0: not known) name its process;
    `token` is empty when the link dies with its socket."""

    role: Role
    number: int
    pid: int
    start_time: int
    uid: int
    gid: int
    token: bytes


class LinkRenewed(msgspec.Struct, frozen=True, tag=14, array_like=True):
    """A link came back with the token `shown`, which stays good until something was heard over the new
    socket, and has the new one `token`."""

    role: Role
    number: int
    shown: bytes
    token: bytes


class LinkConfirmed(msgspec.Struct, frozen=True, tag=17, array_like=True):
    """A link's peer has every packet up to number `received`: a replay need not keep them."""

    role: Role
    number: int
    received: int


class LinkLost(msgspec.Struct, frozen=True, tag=15, array_like=True):
    """A worker's link was given up while its process lives."""

    vp: int


class SeatSet(msgspec.Struct, frozen=True, tag=16, array_like=True):
    """Who plays a VP has changed: the state that its owner words show. `occupied`: by the worker link of this
    VP, whose end is `occupied` becoming false; `asked`: that worker was asked to leave, by a packet;
    `handed_over`: it is offline and all that it had is another's, which a guest that ordered it is told."""

    vp: int
    state: int
    incarnation: int
    occupied: bool
    asked: bool
    recoveries: int
    redelivered: int
    handed_over: bool


class VpOrdered(msgspec.Struct, frozen=True, tag=20, array_like=True):
    """Somebody ordered a VP offline or `online`. `sequence`: the packet by which the guest did, 0 for the
    administrator or a link without numbers; `tag`: the guest's name for it, 0 for the administrator;
    `refused`: the answer to a guest that may not."""

    vp: int
    online: bool
    sequence: int
    tag: int
    refused: str


class FaultAdded(msgspec.Struct, frozen=True, tag=30, array_like=True):
    """A fault was armed; `slot` and `device` as in its `armed.FaultState`."""

    rule: int
    fault: FaultSpec
    slot: int
    device: bool


class FaultRemoved(msgspec.Struct, frozen=True, tag=31, array_like=True):
    """A fault was taken back."""

    rule: int


class FaultFired(msgspec.Struct, frozen=True, tag=32, array_like=True):
    """A fault came: its occasions and how often it came, this time included."""

    rule: int
    seen: int
    fired: int


class FaultCounted(msgspec.Struct, frozen=True, tag=35, array_like=True):
    """A host link is about to end: what its page has counted of a fault, by whom it came to."""

    rule: int
    ended: dict[str, int]


class NotTaken(msgspec.Struct, frozen=True, tag=33, array_like=True):
    """A fault dropped packet `sequence` of a link (0: of a plain link) before the bus took it."""

    role: Role
    number: int
    sequence: int
    rule: int
    seen: int
    fired: int


class NotSent(msgspec.Struct, frozen=True, tag=34, array_like=True):
    """A fault dropped what the link would have been told as packet `sequence` (0: a plain link), by the input
    before this one; the next that it is told has that number."""

    role: Role
    number: int
    sequence: int
    rule: int
    seen: int
    fired: int


ToBus = (
    GuestPacket
    | HostPacket
    | NoPages
    | TakenBack
    | ClaimFree
    | PagesModified
    | Offline
    | Online
    | GuestGone
    | HostGone
    | HostDead
    | Tick
    | GuestOutput
    | Reset
    | Retarget
    | Rescind
)
"""What the bus hears of."""
OfServer = LinkMade | LinkRenewed | LinkConfirmed | LinkLost | SeatSet | VpOrdered
"""What it does not."""
OfFaults = FaultAdded | FaultRemoved | FaultFired | FaultCounted | NotTaken | NotSent
"""What goes wrong on purpose."""
Input = ToBus | OfServer | OfFaults
_Other = (
    NoPages
    | TakenBack
    | ClaimFree
    | PagesModified
    | Offline
    | Online
    | GuestGone
    | HostGone
    | HostDead
    | Tick
    | GuestOutput
    | Reset
    | Retarget
    | Rescind
    | LinkMade
    | LinkRenewed
    | LinkConfirmed
    | LinkLost
    | SeatSet
    | VpOrdered
    | OfFaults
)
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Other, strict=True)


def encode(what: Input) -> bytes:
    """The body of a journal record."""
    if type(what) is GuestPacket:
        return _GUEST + what.packet
    if type(what) is HostPacket:
        return _HOST + bytes((what.host,)) + what.packet
    return _OTHER + _ENCODER.encode(what)


def decode(body: bytes) -> Input:
    """The input in a record's body. Raises ProtocolError for what `encode` never made."""
    kind, rest = body[:1], body[1:]
    if kind == _GUEST and len(rest) >= link.HEADER.size:
        return GuestPacket(rest)
    if kind == _HOST and len(rest) > link.HEADER.size:
        return HostPacket(rest[0], rest[1:])
    if kind != _OTHER:
        raise ProtocolError(f"an input that begins with {body[:1]!r} and has {len(body)} bytes")
    try:
        other: Input = _DECODER.decode(rest)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"an input: {error}") from error
    return other


# -- what the bus makes of them ------------------------------------------------------------------------------


def _guest_packet(bus: Bus, what: GuestPacket, trusted: bool) -> list[Effect]:
    packet = what.packet
    connection = int.from_bytes(packet[4:8], "little")
    return bus.guest_message(packet[link.HEADER.size :], connection, trusted=trusted)


def _host_packet(bus: Bus, what: HostPacket, _trusted: bool) -> list[Effect]:
    message = what.message
    if message is None:
        decoded = device_link.decode(link.decode_header(what.packet), what.packet)
        assert isinstance(decoded, device_link.FromHost)
        message = decoded
    return bus.host_message(what.host, message)


# Any: each function takes the class it is filed under.
_APPLY: Final[dict[type[msgspec.Struct], Callable[[Bus, Any, bool], list[Effect]]]] = {
    GuestPacket: _guest_packet,
    HostPacket: _host_packet,
    NoPages: lambda bus, what, _: bus.host_message(
        what.host, device_link.GpadlAccepted(what.offer_id, what.gpadl, UNSUCCESSFUL)
    ),
    TakenBack: lambda bus, what, _: bus.host_message(what.host, device_link.Revoke(what.offer_id)),
    ClaimFree: lambda bus, what, _: bus.claim_free(what.flag, what.generation),
    PagesModified: lambda bus, what, _: bus.pages_modified(what.ticket, what.ok),
    Offline: lambda bus, what, _: bus.vp_offline(what.vp, what.live),
    Online: lambda bus, what, _: bus.vp_online(what.vp),
    GuestGone: lambda bus, _what, _: bus.guest_gone(),
    HostGone: lambda bus, what, _: bus.host_gone(what.host),
    HostDead: lambda bus, what, _: bus.host_dead(what.host),
    Tick: lambda bus, what, _: bus.tick(what.now),
    GuestOutput: lambda bus, what, _: bus.guest_output(what.ready),
    Reset: lambda bus, _what, _: bus.reset(),
    Retarget: lambda bus, what, _: bus.retarget(what.relid, what.vp),
    Rescind: lambda bus, what, _: bus.rescind(what.relid),
}


def apply(bus: Bus, what: ToBus, *, trusted: bool) -> list[Effect]:
    """The effects of an input; `trusted`: whether the guest's messages count as trusted."""
    return _APPLY[type(what)](bus, what, trusted)
