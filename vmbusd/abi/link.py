"""The packets of `guest.sock` and what both sockets share: hello, welcome, refusal, descriptors, farewell.

Every packet is one SEQPACKET datagram: a 24-byte header, then the body that its kind names. Fixed
little-endian structs, so that C can speak it. A channel message rides byte for byte as HvPostMessage carries
it, at most 240 bytes. `host.sock` uses the same header and the kinds of `device_link` beside the shared ones.
Source: docs/design.md section 4; docs/sockets.md is this table in prose.
"""

import enum
import struct
from typing import ClassVar, Final

import msgspec

from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.packing import U8, U16, U32, U64, Bytes16, Name32, Packing, Tail

MAX_CHANNEL_MESSAGE: Final = 240
MAX_GUEST_PACKET: Final = 24 + 4096
"""Largest packet on guest.sock: a welcome with 253 descriptors; channel messages are far smaller."""
MAX_HOST_PACKET: Final = 128 << 10
"""Largest packet on host.sock: a GPADL of 8190 pages is 65 544 bytes."""
MAX_DESCRIPTORS: Final = 253
"""SCM_MAX_FD: what one packet can carry."""
MESSAGE_CONNECTION_OLD: Final = 1
MESSAGE_CONNECTION_MULTI_CLIENT: Final = 4
SHARED_EVENT_CONNECTION: Final = 2
"""A guest of 0.13 or 1.1 signals this one when it has set bits in its interrupt page."""


class Kind(enum.IntEnum):
    """Kinds of packets that are not device messages."""

    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    MESSAGE = 4
    HOST_LINK = 5
    DETACH = 6
    DETACHED = 7
    BYE = 8
    CONFIRM = 9
    SIGNAL = 10
    VP_ORDER = 11
    VP_CHANGED = 12


class HelloFlag(enum.IntFlag):
    """`Hello.flags`."""

    RESUMABLE = 0x1
    """The link is to outlive its socket: packets are numbered, kept and confirmed, the Welcome has a token.
    """


class Role(enum.IntEnum):
    """Who says hello."""

    GUEST_CONTROL = 1
    GUEST_WORKER = 2
    HOST = 3


class Object(enum.IntEnum):
    """What a passed descriptor is."""

    EVENTS = 1
    TABLE = 2
    VPWORK = 3
    GUEST = 4
    RAM = 5
    HOST_PAGE = 6
    VP_SEMAPHORE = 7
    HOST_SEMAPHORE = 8
    VP_EVENTFD = 9
    HOST_EVENTFD = 10


class Header(msgspec.Struct, frozen=True, gc=False):
    """The 24 bytes before every body. `where` is a connection id from the guest, a VP to the guest;
    `sequence` the packet's number on a resumable link, 0 for what is bound to its socket.
    """

    kind: U32
    where: U32 = 0
    sint: U8 = 0
    vtl: U8 = 0
    flags: U16 = 0
    zero: U32 = 0
    sequence: U64 = 0


class Hello(msgspec.Struct, frozen=True):
    """First packet of a link. `vp` counts for workers only; `token` is 16 zero bytes for a new link, else
    that of the link to resume, of which `received` is the last number that came. `flags` are HelloFlags.
    """

    kind: ClassVar[Kind] = Kind.HELLO
    abi_version: U32
    role: U32
    vp: U32
    flags: U32
    partition: Name32
    token: Bytes16 = bytes(16)
    received: U64 = 0


class Welcome(msgspec.Struct, frozen=True):
    """The daemon's answer; its packet carries one descriptor per `Grant` of the tail, in that order.

    `link` is the host link's number j (hosts only); `incarnation` counts the admissions to this VP. Resumable
    links only: `token` resumes the link, within `grace` milliseconds after the socket was lost; `received` is
    the last number that came from the client.
    """

    kind: ClassVar[Kind] = Kind.WELCOME
    abi_version: U32
    vps: U32
    ram_size: U64
    epoch: U64
    link: U32
    vp: U32
    incarnation: U64
    token: Bytes16
    received: U64
    grace: U32
    reserved: U32
    grants: Tail


class HostLink(msgspec.Struct, frozen=True):
    """To guest and worker links: host link `link` exists; carries its page and doorbell as grants."""

    kind: ClassVar[Kind] = Kind.HOST_LINK
    link: U32
    reserved: U32
    grants: Tail


class Refused(msgspec.Struct, frozen=True):
    """The daemon says no and closes. `text` is UTF-8."""

    kind: ClassVar[Kind] = Kind.REFUSED
    code: U32
    text: Tail


class Detach(msgspec.Struct, frozen=True):
    """To a worker: serve what is pending, then leave with Detached."""

    kind: ClassVar[Kind] = Kind.DETACH
    vp: U32


class Detached(msgspec.Struct, frozen=True):
    """From a client: an orderly end; nothing of it touches the shared words any more, and it never resumes.
    `vp` is a worker's.
    """

    kind: ClassVar[Kind] = Kind.DETACHED
    vp: U32


class Bye(msgspec.Struct, frozen=True):
    """The daemon ends the link; `text` (UTF-8) is the reason."""

    kind: ClassVar[Kind] = Kind.BYE
    code: U32
    text: Tail


class Confirm(msgspec.Struct, frozen=True):
    """Resumable links, both ways: every packet up to number `received` came."""

    kind: ClassVar[Kind] = Kind.CONFIRM
    received: U64


class Signal(msgspec.Struct, frozen=True):
    """From a guest or its worker: HvSignalEvent. Served is the shared event connection (2) of a guest with a
    legacy interrupt page; every other signal goes through shared memory.
    """

    kind: ClassVar[Kind] = Kind.SIGNAL
    connection_id: U32
    flag_number: U16 = 0
    zero: U16 = 0


class VpOrder(msgspec.Struct, frozen=True):
    """From a guest's control link: take VP `vp` offline (`online` 0), or have it back (1); VpChanged answers.

    `tag` is the guest's own, not 0, and comes back in the answer. The last VP that has a worker stays.
    """

    kind: ClassVar[Kind] = Kind.VP_ORDER
    vp: U32
    online: U32
    tag: U32


class VpChanged(msgspec.Struct, frozen=True):
    """To a guest's control link, when somebody ordered VP `vp` offline or online. `state`: 3, its worker is
    asked to leave and must not be replaced; 2, it is offline; 1, give it a worker if it has none. `tag`:
    the guest's order that this answers, 0 for none. With a `text` (UTF-8) that is refused for this reason,
    and `state` is the VP's now.
    """

    kind: ClassVar[Kind] = Kind.VP_CHANGED
    vp: U32
    state: U32
    tag: U32
    text: Tail


class Grant(msgspec.Struct, frozen=True):
    """One passed descriptor: what it is, which one (VP or host link), whether writable, its bytes."""

    what: U16
    index: U16
    writable: U32
    size: U64


class Code(enum.IntEnum):
    """Why a link was refused or ended."""

    UNKNOWN_PARTITION = 1
    ABI_VERSION = 2
    VP_RANGE = 3
    VP_TAKEN = 4
    CONTROL_TAKEN = 5
    NO_CONTROL = 6
    NOT_ALLOWED = 7
    LIMIT = 8
    BAD_PACKET = 9
    STOPPING = 10
    PARTITION_DEAD = 11
    REMOVED = 12
    GUEST_GONE = 13
    RECOVERING = 14
    BAD_TOKEN = 15
    RESET = 16
    VP_OFFLINE = 17


HEADER: Final = Packing(Header)
_NUMBER_AT: Final = 16
GRANT: Final = Packing(Grant)
BODIES: Final[dict[Kind, Packing[msgspec.Struct]]] = {
    cls.kind: Packing(cls)
    for cls in (
        Hello,
        Welcome,
        HostLink,
        Refused,
        Detach,
        Detached,
        Bye,
        Confirm,
        Signal,
        VpOrder,
        VpChanged,
    )
}


def encode(body: msgspec.Struct, *, where: int = 0, sequence: int = 0) -> bytes:
    """One packet with a shared-kind body."""
    kind: Kind = body.kind  # type: ignore[attr-defined]
    return _header(kind, where, 0, sequence) + BODIES[kind].encode(body)


def encode_message(message: bytes, *, where: int, sint: int = 0, sequence: int = 0) -> bytes:
    """One packet with a channel message in it."""
    try:
        return HEADER.pack(Kind.MESSAGE, where, sint, 0, 0, 0, sequence) + message
    except struct.error as error:
        raise UsageError(f"header: {error}: {where}, {sint}, {sequence}") from error


def _header(kind: int, where: int, sint: int, sequence: int) -> bytes:
    try:
        return HEADER.pack(kind, where, sint, 0, 0, 0, sequence)
    except struct.error as error:
        raise UsageError(f"header: {error}: {kind}, {where}, {sint}, {sequence}") from error


def header_of(kind: int, sequence: int) -> bytes:
    """The header of a packet that goes nowhere in particular: a device message."""
    return _header(kind, 0, 0, sequence)


def message_of(packet: bytes) -> tuple[int, bytes] | None:
    """The connection id (or VP) and the channel message of a packet; None if it is not sound, or another."""
    if HEADER.size <= len(packet) <= HEADER.size + MAX_CHANNEL_MESSAGE:
        kind, where, _sint, _vtl, _flags, zero, _sequence = HEADER.unpack(packet)
        if kind == Kind.MESSAGE and not zero:
            return where, packet[HEADER.size :]
    return None


def renumber(packet: bytes, sequence: int) -> bytes:
    """The same packet with another number in its header."""
    return packet[:_NUMBER_AT] + sequence.to_bytes(8, "little") + packet[HEADER.size :]


def decode_header(packet: bytes) -> Header:
    """The header of a packet. Raises ProtocolError when it is cut short or its zero word is not zero."""
    header = HEADER.decode(packet)
    if header.zero:
        raise ProtocolError(f"header: the reserved word is {header.zero:#x}, must be 0")
    return header


def decode_body(header: Header, packet: bytes) -> msgspec.Struct:
    """The body of a shared-kind packet. Raises ProtocolError for an unknown kind or a short body."""
    try:
        packing = BODIES[Kind(header.kind)]
    except (ValueError, KeyError):
        raise ProtocolError(f"unknown packet kind {header.kind}") from None
    return packing.decode(packet, HEADER.size)


def encode_grants(grants: list[Grant]) -> bytes:
    """The tail of a Welcome or HostLink."""
    return b"".join(GRANT.encode(grant) for grant in grants)


def decode_grants(tail: bytes) -> list[Grant]:
    """The grants of a tail. Raises ProtocolError when it is not a whole number of them."""
    if len(tail) % GRANT.size:
        raise ProtocolError(f"grants: {len(tail)} bytes are no multiple of {GRANT.size}")
    return [GRANT.decode(tail, offset) for offset in range(0, len(tail), GRANT.size)]
