"""The channel messages of VMBus as one table: numbers, layouts, senders, first versions; encode and decode.

`MESSAGES` is the whole truth: a row per form of a message, the longer forms of a number before the shorter.
`decode` takes the first form that applies, and that form must be complete; bytes after it are ignored,
because UEFI always posts 240 (cases 018-024). `encode` writes the exact bytes. The classes stand in
`messages`. Sources: Linux 6.1 channel_mgmt.c, OpenVMM vmbus_core/src/protocol.rs.
"""

import enum
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from vmbusd.abi import messages
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.packing import Packing

MAX_MESSAGE: Final = 240
"""What HvPostMessage carries, header included."""
HEADER_SIZE: Final = 8

V0_13: Final = 0x0000000D
V1_1: Final = 0x00010001
V2_4: Final = 0x00020004
V3_0: Final = 0x00030000
V4_0: Final = 0x00040000
V4_1: Final = 0x00040001
V5_0: Final = 0x00050000
V5_1: Final = 0x00050001
V5_2: Final = 0x00050002
V5_3: Final = 0x00050003
V6_0: Final = 0x00060000
NOT_CONNECTED: Final = 0
"""The version to decode with before contact: only messages that need no connection are known then."""


class Sender(enum.Enum):
    """Who may send a message."""

    GUEST = "guest-to-host"
    HOST = "host-to-guest"


class Problem(enum.StrEnum):
    """Why bytes are no message."""

    TOO_LONG = "too long"
    TOO_SHORT = "too short"
    UNKNOWN = "unknown message"
    WRONG_DIRECTION = "wrong direction"
    NOT_AVAILABLE = "not available in this version"
    NOT_CONNECTED = "not connected"


class WireError(ProtocolError):
    """Bytes that are no message here and now; `problem` says why."""

    def __init__(self, problem: Problem, text: str) -> None:
        super().__init__(f"{problem}: {text}")
        self.problem = problem


# Plain ints: arithmetic on enum flags would cost more than all the rest of a decode.
_CLIENT_ID: Final = int(messages.Feature.CLIENT_ID)
_MONITOR_PAGES: Final = int(messages.Feature.SERVER_MONITOR_PAGES)
_SIGNALS: Final = int(messages.Feature.GUEST_SIGNAL_PARAMETERS | messages.Feature.INTERRUPT_REDIRECTION)
_MODIFY: Final = int(messages.Feature.MODIFY_CONNECTION)
_PAUSE: Final = int(messages.Feature.PAUSE_RESUME)

Applies = Callable[[bytes, int, int], bool]
"""Does a form apply, given the bytes, the version and the negotiated features?"""


def _word(data: bytes, offset: int) -> int:
    """The u32 at `offset`, 0 past the end: the form that then applies finds out that it is too short."""
    return struct.unpack_from("<I", data, offset)[0] if len(data) >= offset + 4 else 0


def _always(_data: bytes, _version: int, _features: int) -> bool:
    return True


def _asks_5_0(data: bytes, _version: int, _features: int) -> bool:
    return _word(data, 8) >= V5_0


def _asks_client_id(data: bytes, _version: int, _features: int) -> bool:
    return _word(data, 8) >= V6_0 and bool(_word(data, 20) & _CLIENT_ID)


def _signal_parameters(_data: bytes, _version: int, features: int) -> bool:
    return bool(features & _SIGNALS)


def _has_features(data: bytes, version: int, _features: int) -> bool:
    return version >= V6_0 and len(data) >= 20 and data[8] != 0


def _has_pages(data: bytes, version: int, features: int) -> bool:
    return _has_features(data, version, features) and bool(_word(data, 16) & _MONITOR_PAGES)


def _has_silo(data: bytes, version: int, _features: int) -> bool:
    return version >= V5_2 and len(data) >= 56


class Row(NamedTuple):
    """One form of a message: its number, name in the specification, class, sender, first version, feature it
    needs (0: none), and when this form applies rather than the next row of the same number."""

    number: int
    name: str
    cls: type[msgspec.Struct]
    sender: Sender
    since: int = V0_13
    feature: int = 0
    applies: Applies = _always


_G: Final = Sender.GUEST
_H: Final = Sender.HOST
_ANY: Final = NOT_CONNECTED

MESSAGES: Final = (
    Row(1, "OFFERCHANNEL", messages.Offer, _H),
    Row(2, "RESCIND_CHANNELOFFER", messages.Rescind, _H),
    Row(3, "REQUESTOFFERS", messages.RequestOffers, _G),
    Row(4, "ALLOFFERS_DELIVERED", messages.AllOffersDelivered, _H),
    Row(5, "OPENCHANNEL2", messages.Open2, _G, applies=_signal_parameters),
    Row(5, "OPENCHANNEL", messages.Open, _G),
    Row(6, "OPENCHANNEL_RESULT", messages.OpenResult, _H),
    Row(7, "CLOSECHANNEL", messages.Close, _G),
    Row(8, "GPADL_HEADER", messages.GpadlHeader, _G),
    Row(9, "GPADL_BODY", messages.GpadlBody, _G),
    Row(10, "GPADL_CREATED", messages.GpadlCreated, _H),
    Row(11, "GPADL_TEARDOWN", messages.GpadlTeardown, _G),
    Row(12, "GPADL_TORNDOWN", messages.GpadlTorndown, _H),
    Row(13, "RELID_RELEASED", messages.RelidReleased, _G),
    Row(14, "INITIATE_CONTACT2", messages.InitiateContact2, _G, _ANY, applies=_asks_client_id),
    Row(14, "INITIATE_CONTACT", messages.InitiateContact, _G, _ANY, applies=_asks_5_0),
    Row(14, "INITIATE_CONTACT", messages.InitiateContactOld, _G, _ANY),
    Row(15, "VERSION_RESPONSE3", messages.VersionResponse3, _H, _ANY, applies=_has_pages),
    Row(15, "VERSION_RESPONSE2", messages.VersionResponse2, _H, _ANY, applies=_has_features),
    Row(15, "VERSION_RESPONSE", messages.VersionResponse, _H, _ANY),
    Row(16, "UNLOAD", messages.Unload, _G),
    Row(17, "UNLOAD_RESPONSE", messages.UnloadResponse, _H, V1_1),
    Row(18, "OPEN_RESERVED_CHANNEL", messages.OpenReserved, _G, V4_0),
    Row(19, "CLOSE_RESERVED_CHANNEL", messages.CloseReserved, _G, _ANY),
    Row(20, "CLOSE_RESERVED_RESPONSE", messages.CloseReservedResponse, _H, V4_0),
    Row(21, "TL_CONNECT_REQUEST2", messages.TlConnect2, _G, V4_0, applies=_has_silo),
    Row(21, "TL_CONNECT_REQUEST", messages.TlConnect, _G, V4_0),
    Row(22, "MODIFYCHANNEL", messages.ModifyChannel, _G, V4_1),
    Row(23, "TL_CONNECT_RESULT", messages.TlConnectResult, _H, V4_1),
    Row(24, "MODIFYCHANNEL_RESPONSE", messages.ModifyChannelResponse, _H, V5_3),
    Row(25, "MODIFY_CONNECTION", messages.ModifyConnection, _G, V6_0, _MODIFY),
    Row(26, "MODIFY_CONNECTION_RESPONSE", messages.ModifyConnectionResponse, _H, V6_0, _MODIFY),
    Row(27, "PAUSE", messages.Pause, _G, V6_0, _PAUSE),
    Row(28, "PAUSE_RESPONSE", messages.PauseResponse, _H, V6_0, _PAUSE),
    Row(29, "RESUME", messages.Resume, _G, V6_0, _PAUSE),
)

_PACKING: Final[dict[type[msgspec.Struct], Packing[msgspec.Struct]]] = {
    row.cls: Packing(row.cls) for row in MESSAGES
}
_WRITERS: Final[dict[type[msgspec.Struct], Callable[[msgspec.Struct], bytes]]] = {
    row.cls: _PACKING[row.cls].writer(struct.pack("<II", row.number, 0)) for row in MESSAGES
}
_FORMS: Final[dict[int, tuple[Row, ...]]] = {
    number: tuple(row for row in MESSAGES if row.number == number)
    for number in {row.number for row in MESSAGES}
}
_LEAST: Final[dict[int, int]] = {
    number: min(HEADER_SIZE + _PACKING[form.cls].size for form in forms) for number, forms in _FORMS.items()
}
"""Bytes of the smallest form of a number."""
_QUICK: Final[dict[bytes, tuple[Sender, int, int, Callable[[bytes], msgspec.Struct]]]] = {
    struct.pack("<I", number): (
        row.sender,
        row.since,
        _LEAST[number],
        _PACKING[row.cls].reader(HEADER_SIZE),
    )
    for number, (row, *others) in _FORMS.items()
    if not others and not row.feature
}
"""Nearly every message: one form, no feature. The rest, and whatever is wrong, goes the long way."""


def size(cls: type[msgspec.Struct]) -> int:
    """Bytes of a message's fixed part, the 8-byte header included."""
    return HEADER_SIZE + _PACKING[cls].size


def encode(message: msgspec.Struct) -> bytes:
    """The exact bytes of a message. Raises UsageError for a value that does not fit its field."""
    return _WRITERS[type(message)](message)


def decode(data: bytes, version: int, features: int = 0, *, sender: Sender = Sender.GUEST) -> msgspec.Struct:
    """The message in `data`, sent by `sender` on a connection at `version` (NOT_CONNECTED before contact).

    Raises WireError and nothing else, whatever the bytes are.
    """
    quick = _QUICK.get(data[:4])
    if quick is not None:
        who, since, least, read = quick
        if who is sender and version >= since and least <= len(data) <= MAX_MESSAGE:
            return read(data)
    return _decode_slowly(data, version, features, sender)


def _decode_slowly(data: bytes, version: int, features: int, sender: Sender) -> msgspec.Struct:
    if len(data) > MAX_MESSAGE:
        raise WireError(Problem.TOO_LONG, f"{len(data)} bytes, at most {MAX_MESSAGE}")
    if len(data) < HEADER_SIZE:
        raise WireError(Problem.TOO_SHORT, f"a header needs {HEADER_SIZE} bytes, {len(data)} came")
    number = int.from_bytes(data[:4], "little")
    forms = _FORMS.get(number)
    if forms is None:
        raise WireError(Problem.UNKNOWN, f"type {number}")
    row = forms[0]
    if row.sender is not sender:
        raise WireError(Problem.WRONG_DIRECTION, f"{row.name} is sent {row.sender.value}")
    if version < row.since or row.feature & ~features:
        if version == NOT_CONNECTED:
            raise WireError(Problem.NOT_CONNECTED, row.name)
        raise WireError(
            Problem.NOT_AVAILABLE,
            f"{row.name} at {version >> 16}.{version & 0xFFFF} with features {features:#x}",
        )
    if len(forms) > 1:
        row = next(form for form in forms if form.applies(data, version, features))
    packing = _PACKING[row.cls]
    if len(data) < HEADER_SIZE + packing.size:
        raise WireError(
            Problem.TOO_SHORT, f"{row.name} needs {HEADER_SIZE + packing.size} bytes, {len(data)} came"
        )
    return packing.decode(data, HEADER_SIZE)


def check_size(data: bytes) -> None:
    """Is this a known message with at least the bytes of its smallest form? Raises WireError if not."""
    number = int.from_bytes(data[:4], "little")
    forms = _FORMS.get(number) if len(data) >= HEADER_SIZE else None
    if forms is None:
        raise WireError(Problem.UNKNOWN, f"{len(data)} bytes of type {number}")
    least = _LEAST[number]
    if len(data) < least:
        raise WireError(Problem.TOO_SHORT, f"{forms[0].name} needs {least} bytes, {len(data)} came")
