"""The device protocol of `host.sock`: offers, requests of the bus to a device, and the device's answers.

Same header and framing as `link`; kinds from 16 on. An `offer_id` is chosen by the host and unique among its
living offers. `generation` names one open: an answer that carries another generation is stale and dropped.
The answers CLOSED, GPADL_TORN_DOWN and RETARGETED also say that no signal call begun before is still running
(docs/design.md section 2): a host sends them only after it made sure of that. Source: section 4 there.
"""

import enum
from typing import ClassVar, Final, get_args

import msgspec

from vmbusd.abi import link
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.layout import NO_MONITOR
from vmbusd.abi.packing import U8, U16, U32, Bytes120, Guid, Packing, Tail

NO_ORDER: Final = 0xFFFFFFFF


class Kind(enum.IntEnum):
    """Device messages; the comment says who sends them."""

    OFFER = 16  # host
    REVOKE = 17  # host
    PROVIDE_SOCKETS = 18  # host
    ENABLE_SUBCHANNELS = 19  # host
    OPENED = 32  # host
    CLOSED = 33  # host
    GPADL_ACCEPTED = 34  # host
    GPADL_TORN_DOWN = 35  # host
    RETARGETED = 36  # host
    SOCKET_ANSWER = 37  # host
    OFFER_RESULT = 48  # daemon
    REVOKED = 49  # daemon
    OPEN = 50  # daemon
    CLOSE = 51  # daemon
    GPADL = 52  # daemon
    TEARDOWN = 53  # daemon
    RETARGET = 54  # daemon
    WITHDRAW = 55  # daemon
    SUBCHANNELS_ENABLED = 56  # daemon
    SOCKETS_PROVIDED = 57  # daemon
    SOCKET_CONNECT = 58  # daemon


class OfferFlag(enum.IntFlag):
    """`Offer.flags`: what the bus makes of an offer."""

    MONITORED = 0x1
    """Give it a monitor id if there is one; `monitor_id` names it, or NO_MONITOR for any (cases 297-300).
    """
    PIPE = 0x2
    """A byte pipe: `user_defined` holds 112 bytes, the bus writes pipe type and `pipe_flags` (case 041)."""
    MESSAGE_PIPE = 0x4
    """The same in message mode."""
    SOCKET = 0x8
    """A socket the host connects to a service of the guest: `interface_id` names the service."""


REDIRECT_INTERRUPT: Final = 0x1
"""`Open.flags`: the guest asked for redirected interrupts (6.0 with feature 0x02)."""


class Offer(msgspec.Struct, frozen=True, gc=False):
    """Offer a channel. `order` sorts offers of one interface, NO_ORDER last (case 037). `flags` are
    OfferFlags; `max_subchannels` bounds what EnableSubchannels may ask.
    """

    kind: ClassVar[Kind] = Kind.OFFER
    offer_id: U32
    interface_id: Guid
    instance_id: Guid
    chn_flags: U16 = 0
    subchannel_index: U16 = 0
    mmio_megabytes: U16 = 0
    mmio_megabytes_optional: U16 = 0
    order: U32 = NO_ORDER
    flags: U32 = 0
    user_defined: Bytes120 = bytes(120)
    pipe_flags: U32 = 0
    max_subchannels: U16 = 0
    monitor_id: U8 = NO_MONITOR
    reserved: U8 = 0


class Revoke(msgspec.Struct, frozen=True, gc=False):
    """Withdraw an offer, and with a primary its subchannels; none of their signals is running any more.
    Answered by Revoked for each.
    """

    kind: ClassVar[Kind] = Kind.REVOKE
    offer_id: U32


class ProvideSockets(msgspec.Struct, frozen=True, gc=False):
    """Ask for the guest's socket connects (1) or no longer (0). One host link of a partition may. Answered by
    SocketsProvided.
    """

    kind: ClassVar[Kind] = Kind.PROVIDE_SOCKETS
    enable: U32


class EnableSubchannels(msgspec.Struct, frozen=True, gc=False):
    """Have `count` subchannels of the open primary `offer_id`: those missing are offered, index i with offer
    id `first_offer_id` + i - 1. Answered by SubchannelsEnabled.
    """

    kind: ClassVar[Kind] = Kind.ENABLE_SUBCHANNELS
    offer_id: U32
    generation: U32
    count: U32
    first_offer_id: U32


class SocketAnswer(msgspec.Struct, frozen=True, gc=False):
    """Answer to SocketConnect: with status 0 the bus offers the socket's channel as `offer_id` and says
    OfferResult.
    """

    kind: ClassVar[Kind] = Kind.SOCKET_ANSWER
    request_id: U32
    status: U32
    offer_id: U32


class Opened(msgspec.Struct, frozen=True, gc=False):
    """Answer to Open. A status with bit 31 set is a failure."""

    kind: ClassVar[Kind] = Kind.OPENED
    offer_id: U32
    generation: U32
    status: U32


class Closed(msgspec.Struct, frozen=True, gc=False):
    """Answer to Close: the device has let go of the rings."""

    kind: ClassVar[Kind] = Kind.CLOSED
    offer_id: U32
    generation: U32


class GpadlAccepted(msgspec.Struct, frozen=True, gc=False):
    """Answer to Gpadl."""

    kind: ClassVar[Kind] = Kind.GPADL_ACCEPTED
    offer_id: U32
    gpadl: U32
    status: U32


class GpadlTornDown(msgspec.Struct, frozen=True, gc=False):
    """Answer to Teardown: the last mapping is gone."""

    kind: ClassVar[Kind] = Kind.GPADL_TORN_DOWN
    offer_id: U32
    gpadl: U32


class Retargeted(msgspec.Struct, frozen=True, gc=False):
    """Answer to Retarget: no signal call that had loaded the old target is still running."""

    kind: ClassVar[Kind] = Kind.RETARGETED
    offer_id: U32
    generation: U32
    vp: U32
    status: U32


class OfferResult(msgspec.Struct, frozen=True, gc=False):
    """Status 0, or a refusal with its reason in UTF-8."""

    kind: ClassVar[Kind] = Kind.OFFER_RESULT
    offer_id: U32
    status: U32
    text: Tail


class Revoked(msgspec.Struct, frozen=True, gc=False):
    """The offer is gone; its id may be used again."""

    kind: ClassVar[Kind] = Kind.REVOKED
    offer_id: U32


class Open(msgspec.Struct, frozen=True, gc=False):
    """The guest opens the channel. The slot is open already: signalling may begin at once (case 072)."""

    kind: ClassVar[Kind] = Kind.OPEN
    offer_id: U32
    generation: U32
    relid: U32
    event_flag: U32
    connection_id: U32
    target_vp: U32
    ring_gpadl: U32
    downstream_page: U32
    user_data: Bytes120
    flags: U32 = 0


class Close(msgspec.Struct, frozen=True, gc=False):
    """The guest closes the channel, or is gone."""

    kind: ClassVar[Kind] = Kind.CLOSE
    offer_id: U32
    generation: U32


class Gpadl(msgspec.Struct, frozen=True, gc=False):
    """The guest describes memory: `ranges` is the range buffer as GPADL_HEADER carries it (u64 words)."""

    kind: ClassVar[Kind] = Kind.GPADL
    offer_id: U32
    gpadl: U32
    range_count: U32
    reserved: U32
    ranges: Tail


class Teardown(msgspec.Struct, frozen=True, gc=False):
    """The guest takes memory back."""

    kind: ClassVar[Kind] = Kind.TEARDOWN
    offer_id: U32
    gpadl: U32


class Retarget(msgspec.Struct, frozen=True, gc=False):
    """The channel's target VP has changed; the table already says so."""

    kind: ClassVar[Kind] = Kind.RETARGET
    offer_id: U32
    generation: U32
    vp: U32


class Withdraw(msgspec.Struct, frozen=True, gc=False):
    """The bus has rescinded the channel: close it if it is open and answer with Revoke, which says that no
    signal of it is running.
    """

    kind: ClassVar[Kind] = Kind.WITHDRAW
    offer_id: U32


class SubchannelsEnabled(msgspec.Struct, frozen=True, gc=False):
    """Status 0, or a refusal with its reason in UTF-8; `live` subchannels exist now."""

    kind: ClassVar[Kind] = Kind.SUBCHANNELS_ENABLED
    offer_id: U32
    status: U32
    live: U32
    text: Tail


class SocketsProvided(msgspec.Struct, frozen=True, gc=False):
    """Status 0, or a refusal with its reason in UTF-8."""

    kind: ClassVar[Kind] = Kind.SOCKETS_PROVIDED
    status: U32
    text: Tail


class SocketConnect(msgspec.Struct, frozen=True, gc=False):
    """The guest connects a socket to a service; answered by SocketAnswer. A silo id of zero means none."""

    kind: ClassVar[Kind] = Kind.SOCKET_CONNECT
    request_id: U32
    endpoint_id: Guid
    service_id: Guid
    silo_id: Guid


FromHost = (
    Offer
    | Revoke
    | Opened
    | Closed
    | GpadlAccepted
    | GpadlTornDown
    | Retargeted
    | ProvideSockets
    | EnableSubchannels
    | SocketAnswer
)
ToHost = (
    OfferResult
    | Revoked
    | Open
    | Close
    | Gpadl
    | Teardown
    | Retarget
    | Withdraw
    | SubchannelsEnabled
    | SocketsProvided
    | SocketConnect
)

_FROM_HOST = get_args(FromHost)
_TO_HOST = get_args(ToHost)
_PACKING: Final[dict[int, Packing[msgspec.Struct]]] = {
    cls.kind: Packing(cls) for cls in _FROM_HOST + _TO_HOST
}
FROM_HOST_KINDS: Final = frozenset(cls.kind for cls in _FROM_HOST)


def encode(message: FromHost | ToHost, *, sequence: int = 0) -> bytes:
    """One packet with a device message."""
    return link.header_of(message.kind, sequence) + _PACKING[message.kind].encode(message)


def decode(header: link.Header, packet: bytes) -> FromHost | ToHost:
    """The device message in a packet. Raises ProtocolError for an unknown kind or a short body."""
    packing = _PACKING.get(header.kind)
    if packing is None:
        raise ProtocolError(f"unknown device message kind {header.kind}")
    return packing.decode(packet, link.HEADER.size)  # type: ignore[return-value]
