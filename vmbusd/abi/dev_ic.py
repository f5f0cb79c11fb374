"""Integration components: the frame around every message, and how versions are agreed.

A ring payload is a pipe header (8), the component header (20) and a body; `dev_ic_bodies` knows the bodies.
The guest answers in the host's own buffer, whatever it does not write stays: so an answer is the request's
bytes with some replaced, never a new packet. Linux does not read the pipe header and echoes it.
Source: Linux 6.1 include/linux/hyperv.h, drivers/hv/channel_mgmt.c
vmbus_prep_negotiate_resp.
"""

import enum
import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from vmbusd.abi.dev_pipe import PipeType
from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.packing import U8, U16, U32, Packing

Version = tuple[int, int]
"""(major, minor)."""


class IcType(enum.IntEnum):
    """icmsgtype: which component a message is for."""

    NEGOTIATE = 0
    HEARTBEAT = 1
    KVP = 2
    SHUTDOWN = 3
    TIMESYNC = 4
    VSS = 5
    RDV = 6
    FCOPY = 7
    VM_SESSION = 8


class IcStatus(enum.IntEnum):
    """Statuses of an answer (HRESULTs)."""

    OK = 0
    FAIL = 0x80004005
    NO_MORE_ITEMS = 0x80070103
    NOT_SUPPORTED = 0x80070032
    INVALID_ARGUMENT = 0x80070057
    GUID_NOT_FOUND = 0x80041002
    ALREADY_EXISTS = 0x80070050
    DISK_FULL = 0x80070070
    NOT_CONNECTED = 0x8007048F
    LOCKED = 0x800704F7


TRANSACTION: Final = 1
REQUEST: Final = TRANSACTION | 2
RESPONSE: Final = TRANSACTION | 4
"""icflags of the host's requests and of the guest's answers."""


class IcHeader(msgspec.Struct, frozen=True):
    """Pipe header and component header, 28 bytes; the last two of them are reserved and zero."""

    pipe_flags: U32
    pipe_msgsize: U32
    icverframe_major: U16
    icverframe_minor: U16
    icmsgtype: U16
    icvermsg_major: U16
    icvermsg_minor: U16
    icmsgsize: U16
    status: U32
    ictransaction_id: U8
    icflags: U8


_HEADER: Final = Packing(IcHeader)
PIPE_SIZE: Final = 8
HEADER_SIZE: Final = _HEADER.size + 2
MAX_MESSAGE: Final = 13312
"""The largest message of a component, header included (OpenVMM)."""
MAX_VERSIONS: Final = 100
"""More versions than this in either list are refused (Linux IC_VERSION_NEGOTIATION_MAX_VER_COUNT)."""
_COUNTS: Final = struct.Struct("<HHI")
_PAIR: Final = struct.Struct("<HH")
ANSWER_SIZE: Final = _COUNTS.size + 2 * _PAIR.size

FRAMEWORKS: Final[tuple[Version, ...]] = ((1, 0), (3, 0))
"""What OpenVMM's host offers, ascending."""
LINUX_FRAMEWORKS: Final[dict[IcType, tuple[Version, ...]]] = {
    IcType.SHUTDOWN: ((3, 0), (1, 0)),
    IcType.TIMESYNC: ((3, 0), (1, 0)),
    IcType.HEARTBEAT: ((3, 0), (1, 0)),
    IcType.KVP: ((3, 0), (1, 0)),
    IcType.VSS: ((3, 0),),
    IcType.FCOPY: ((3, 0),),
}
LINUX_MESSAGES: Final[dict[IcType, tuple[Version, ...]]] = {
    IcType.SHUTDOWN: ((3, 2), (3, 1), (3, 0), (1, 0)),
    IcType.TIMESYNC: ((4, 0), (3, 0), (1, 0)),
    IcType.HEARTBEAT: ((3, 0), (1, 0)),
    IcType.KVP: ((4, 0), (3, 0), (1, 0)),
    IcType.VSS: ((5, 0),),
    IcType.FCOPY: ((1, 1),),
}
"""What a Linux guest speaks, newest first."""


class Negotiate(msgspec.Struct, frozen=True):
    """Body 0 of the host: the versions it speaks, in its order."""

    frameworks: tuple[Version, ...]
    messages: tuple[Version, ...]


class NegotiateAnswer(msgspec.Struct, frozen=True):
    """Body 0 of the guest. Not `agreed` means no common pair; the two versions then mean nothing."""

    agreed: bool
    framework: Version
    message: Version


def encode(header: IcHeader, body: bytes) -> bytes:
    """The ring payload of a header as it is and a body. Raises UsageError when it does not fit."""
    if HEADER_SIZE + len(body) > PIPE_SIZE + MAX_MESSAGE:
        raise UsageError(f"a component's message of {len(body)} bytes of body, at most {MAX_MESSAGE} in all")
    return _HEADER.encode(header) + b"\0\0" + body


def decode(payload: bytes) -> tuple[IcHeader, bytes]:
    """Header and all bytes after it; the body proper are the first `icmsgsize` of them.

    Raises ProtocolError when the payload is cut short or longer than any message.
    """
    if len(payload) < HEADER_SIZE:
        raise ProtocolError(f"a component's header needs {HEADER_SIZE} bytes, {len(payload)} came")
    # The ring pads to 8.
    if len(payload) > PIPE_SIZE + MAX_MESSAGE + 7:
        raise ProtocolError(f"a component's message of {len(payload)} bytes, at most {MAX_MESSAGE}")
    header = _HEADER.decode(payload)
    if header.icmsgsize > len(payload) - HEADER_SIZE:
        raise ProtocolError(f"icmsgsize {header.icmsgsize}, {len(payload) - HEADER_SIZE} bytes came")
    return header, bytes(payload[HEADER_SIZE:])


def request(kind: IcType, body: bytes, *, framework: Version, message: Version, transaction: int) -> bytes:
    """A request of the host. Raises UsageError like `encode`."""
    header = IcHeader(
        pipe_flags=PipeType.DATA,
        pipe_msgsize=HEADER_SIZE - PIPE_SIZE + len(body),
        icverframe_major=framework[0],
        icverframe_minor=framework[1],
        icmsgtype=kind,
        icvermsg_major=message[0],
        icvermsg_minor=message[1],
        icmsgsize=len(body),
        status=IcStatus.OK,
        ictransaction_id=transaction,
        icflags=REQUEST,
    )
    return encode(header, body)


def response(payload: bytes, status: int = IcStatus.OK, body: bytes = b"", size: int | None = None) -> bytes:
    """The guest's answer: the request's buffer with status, flags and the first bytes of its body new.

    `size` is the new icmsgsize, if it changes. Raises ProtocolError when `payload` is no request.
    """
    header, rest = decode(payload)
    changed = msgspec.structs.replace(
        header, status=status, icflags=RESPONSE, icmsgsize=header.icmsgsize if size is None else size
    )
    return _HEADER.encode(changed) + payload[_HEADER.size : HEADER_SIZE] + body + rest[len(body) :]


def encode_negotiate(offer: Negotiate) -> bytes:
    """The body that offers versions. Raises UsageError for too many of them."""
    if max(len(offer.frameworks), len(offer.messages)) > MAX_VERSIONS:
        raise UsageError(f"a negotiation lists at most {MAX_VERSIONS} versions each")
    counts = _COUNTS.pack(len(offer.frameworks), len(offer.messages), 0)
    return counts + b"".join(_PAIR.pack(*pair) for pair in (*offer.frameworks, *offer.messages))


def decode_negotiate(body: bytes) -> Negotiate:
    """What the host offers. Raises ProtocolError for lists that are too long or cut short."""
    if len(body) < _COUNTS.size:
        raise ProtocolError(f"a negotiation needs {_COUNTS.size} bytes, {len(body)} came")
    frameworks, both = _counts(body)
    if frameworks > MAX_VERSIONS or both - frameworks > MAX_VERSIONS:
        raise ProtocolError(f"a negotiation lists at most {MAX_VERSIONS} versions each, not {body[:4].hex()}")
    if len(body) < _COUNTS.size + both * _PAIR.size:
        raise ProtocolError(f"a negotiation of {both} versions in {len(body)} bytes")
    pairs = tuple(_pair(body, index) for index in range(both))
    return Negotiate(pairs[:frameworks], pairs[frameworks:])


def encode_answer(answer: NegotiateAnswer) -> bytes:
    """The 16 bytes that the guest writes over the beginning of the host's lists."""
    counts = _COUNTS.pack(answer.agreed, answer.agreed, 0)
    return counts + _PAIR.pack(*answer.framework) + _PAIR.pack(*answer.message)


def decode_answer(body: bytes) -> NegotiateAnswer:
    """What the guest chose. Counts other than 1 and 1 are "no supported versions".

    Raises ProtocolError when it is cut short.
    """
    if len(body) < ANSWER_SIZE:
        raise ProtocolError(f"an answer to a negotiation needs {ANSWER_SIZE} bytes, {len(body)} came")
    return NegotiateAnswer(body[:4] == b"\1\0\1\0", _pair(body, 0), _pair(body, 1))


def answer_negotiation(payload: bytes, frameworks: Sequence[Version], messages: Sequence[Version]) -> bytes:
    """A Linux guest's answer to a negotiation, given what it speaks, newest first.

    The first of its own versions that the host listed wins. Without a match the version is what Linux leaves
    there: the host's count and 0. Raises ProtocolError when there is no room for the counts or the answer.
    """
    header, rest = decode(payload)
    if header.icmsgtype != IcType.NEGOTIATE or len(rest) < ANSWER_SIZE:
        raise ProtocolError(f"message {header.icmsgtype} with {len(rest)} bytes is no negotiation")
    counted, both = _counts(rest)
    framework, message = (counted, 0), (both - counted, 0)
    agreed = False
    try:
        offer = decode_negotiate(rest)
    except ProtocolError:
        # Linux answers "nothing in common" to lists that it does not look into.
        offer = Negotiate((), ())
    common = [version for version in frameworks if version in offer.frameworks]
    if common:
        framework = common[0]
        common = [version for version in messages if version in offer.messages]
        if common:
            message, agreed = common[0], True
    body = encode_answer(NegotiateAnswer(agreed, framework, message))
    # Linux does not touch the reserved word between counts and versions.
    return response(payload, body=body[:4] + rest[4:8] + body[8:], size=ANSWER_SIZE)


def _counts(body: bytes) -> tuple[int, int]:
    """How many framework versions, how many of both kinds."""
    frameworks, messages = _PAIR.unpack_from(body)
    return frameworks, frameworks + messages


def _pair(body: bytes, index: int) -> Version:
    major, minor = _PAIR.unpack_from(body, _COUNTS.size + index * _PAIR.size)
    return major, minor
