"""Wire: which bytes are which message, from whom, in which version."""

import dataclasses
from typing import Any, get_args, get_type_hints
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmbusd.abi import messages, wire
from vmbusd.abi.errors import UsageError
from vmbusd.abi.wire import Problem, Sender, WireError

ALL_FEATURES = 0xFF
VERSIONS = [
    wire.NOT_CONNECTED,
    wire.V0_13,
    wire.V1_1,
    wire.V2_4,
    wire.V3_0,
    wire.V4_0,
    wire.V4_1,
    wire.V5_0,
    wire.V5_1,
    wire.V5_2,
    wire.V5_3,
    wire.V6_0,
]


def problem(data: bytes, version: int, features: int = 0, sender: Sender = Sender.GUEST) -> Problem:
    """Why these bytes are no message."""
    with pytest.raises(WireError) as caught:
        wire.decode(data, version, features, sender=sender)
    return caught.value.problem


def empty(row: wire.Row) -> bytes:
    """A message of the row's size with its number and nothing but zeros."""
    return row.number.to_bytes(4, "little").ljust(wire.size(row.cls), b"\0")


def number(value: int) -> bytes:
    return value.to_bytes(4, "little") + bytes(wire.MAX_MESSAGE - 4)


def contact(version: int, features: int = 0, client: UUID | None = None) -> bytes:
    if client is not None:
        return wire.encode(messages.InitiateContact2(version, 0, 2, 0, features, 0, 0, client))
    return wire.encode(messages.InitiateContact(version, 0, 2, 0, features, 0, 0))


def test_sizes_are_those_of_the_specification() -> None:
    """The fixed part of every message has the size of the table of wire sizes."""
    sizes: dict[int, set[int]] = {}
    for row in wire.MESSAGES:
        sizes.setdefault(row.number, set()).add(wire.size(row.cls))

    assert sizes == {
        1: {196}, 2: {12}, 3: {8}, 4: {8}, 5: {148, 156}, 6: {20}, 7: {12}, 8: {20}, 9: {16}, 10: {20},
        11: {16}, 12: {12}, 13: {12}, 14: {40, 56}, 15: {16, 20, 40}, 16: {8}, 17: {8}, 18: {28}, 19: {20},
        20: {12}, 21: {40, 56}, 22: {16}, 23: {44}, 24: {16}, 25: {24}, 26: {9}, 27: {8}, 28: {8}, 29: {8},
    }  # fmt: skip


def test_byte_oracles() -> None:
    """Three messages written out in the conformance cases."""
    assert wire.encode(messages.Close(5)).hex(" ") == "07 00 00 00 00 00 00 00 05 00 00 00"
    assert wire.encode(messages.Unload()).hex(" ") == "10 00 00 00 00 00 00 00"
    header = wire.encode(messages.GpadlHeader(5, 1, 7, 6, b""))
    assert header[8:].hex(" ") == "05 00 00 00 01 00 00 00 07 00 06 00"


@pytest.mark.parametrize("length", range(8))
def test_less_than_a_header_is_too_short(length: int) -> None:
    """0 to 7 bytes are no message (case 018)."""
    assert problem(bytes(length), wire.V5_3) is Problem.TOO_SHORT


@pytest.mark.parametrize("length", [8, 39])
def test_a_contact_cut_short_is_too_short(length: int) -> None:
    """INITIATE_CONTACT needs 40 bytes (case 018)."""
    assert problem(contact(wire.V5_3)[:length], wire.NOT_CONNECTED) is Problem.TOO_SHORT


@pytest.mark.parametrize("value", [0, 30, 0xFFFFFFFF])
@pytest.mark.parametrize("version", VERSIONS)
def test_unknown_numbers(value: int, version: int) -> None:
    """Types 0, 30 and 0xFFFFFFFF are unknown in any state (case 019)."""
    assert problem(number(value), version, ALL_FEATURES) is Problem.UNKNOWN


@pytest.mark.parametrize("value", [3, 5, 7, 8, 9, 11, 13, 16, 18, 21, 22, 25, 27])
def test_nothing_but_contact_is_heard_before_contact(value: int) -> None:
    """While disconnected only 14 and 19 are messages (case 020)."""
    assert problem(number(value), wire.NOT_CONNECTED) is Problem.NOT_CONNECTED


def test_contact_and_close_reserved_are_heard_before_contact() -> None:
    """14 and 19 need no connection (case 020)."""
    assert isinstance(wire.decode(contact(wire.V5_3), wire.NOT_CONNECTED), messages.InitiateContact)
    assert isinstance(wire.decode(number(19), wire.NOT_CONNECTED), messages.CloseReserved)


@pytest.mark.parametrize(
    ("value", "version", "features"),
    [
        *((value, wire.V4_0, 0) for value in (22, 25, 27)),
        *((value, wire.V3_0, 0) for value in (18, 21)),
        (25, wire.V6_0, ALL_FEATURES & ~messages.Feature.MODIFY_CONNECTION),
        (27, wire.V6_0, ALL_FEATURES & ~messages.Feature.PAUSE_RESUME),
        (29, wire.V6_0, 0),
        (25, wire.V5_3, ALL_FEATURES),
    ],
)
def test_messages_of_a_later_version_or_feature(value: int, version: int, features: int) -> None:
    """A message is not available below its version or without its feature (case 021)."""
    assert problem(number(value), version, features) is Problem.NOT_AVAILABLE


@pytest.mark.parametrize("value", [1, 2, 4, 6, 10, 12, 15, 17, 20, 23, 24, 26, 28])
def test_host_messages_from_a_guest(value: int) -> None:
    """What only a host may send is refused from a guest, connected or not (case 022)."""
    assert problem(number(value), wire.V6_0, ALL_FEATURES) is Problem.WRONG_DIRECTION
    assert problem(number(value), wire.NOT_CONNECTED) is Problem.WRONG_DIRECTION


def test_guest_messages_from_a_host() -> None:
    """The same table guards the guest."""
    assert problem(number(3), wire.V5_3, sender=Sender.HOST) is Problem.WRONG_DIRECTION


def test_bytes_after_a_message_are_ignored() -> None:
    """A message may be padded to 240 bytes, not to 241 (cases 023, 309)."""
    close = wire.encode(messages.Close(5))

    assert wire.decode(close.ljust(240, b"\xff"), wire.V5_3) == messages.Close(5)
    assert problem(close.ljust(241, b"\0"), wire.V5_3) is Problem.TOO_LONG


SHORTEST = {row.number: row for row in wire.MESSAGES if wire.size(row.cls) > wire.HEADER_SIZE}


@pytest.mark.parametrize("row", SHORTEST.values(), ids=lambda row: row.cls.__name__)
def test_one_byte_less_than_the_form_is_too_short(row: wire.Row) -> None:
    """No message is read from fewer bytes than its shortest form has."""
    data = empty(row)[:-1]

    assert problem(data, wire.V6_0, ALL_FEATURES & ~0x3, row.sender) is Problem.TOO_SHORT


@pytest.mark.parametrize("features", [0x01, 0x02, 0x03])
def test_the_long_open_is_mandatory_with_its_features(features: int) -> None:
    """At 6.0 with 0x01 or 0x02 an OPENCHANNEL of 148 bytes is too short (case 024)."""
    short = wire.encode(messages.Open(1, 1, 1, 0, 2, bytes(120)))

    assert problem(short, wire.V6_0, features) is Problem.TOO_SHORT


def test_the_long_open_is_read_as_the_short_one_without_its_features() -> None:
    """156 bytes mean 148 unless 0x01 or 0x02 was negotiated (case 024)."""
    long = wire.encode(messages.Open2(1, 2, 3, 0, 2, bytes(120), 0x2001, 1, 0))

    assert wire.decode(long, wire.V6_0) == messages.Open(1, 2, 3, 0, 2, bytes(120))
    assert isinstance(wire.decode(long, wire.V6_0, 0x01), messages.Open2)


def test_a_client_id_needs_its_flag() -> None:
    """The GUID counts only with flag 0x08 at 6.0, and then it must be there (cases 008-011)."""
    client = UUID(int=7)
    asked = messages.Feature.CLIENT_ID
    cut = contact(wire.V6_0, asked, client)[:40]

    assert wire.decode(contact(wire.V6_0, asked, client), 0) == messages.InitiateContact2(
        wire.V6_0, 0, 2, 0, asked, 0, 0, client
    )
    assert problem(cut, wire.NOT_CONNECTED) is Problem.TOO_SHORT
    assert isinstance(wire.decode(contact(wire.V6_0, 0, client), 0), messages.InitiateContact)
    assert isinstance(wire.decode(contact(wire.V5_3, asked, client), 0), messages.InitiateContact)


def test_a_contact_below_5_0_names_an_interrupt_page() -> None:
    """The same bytes are a page below 5.0 and a SINT from 5.0 on (case 013)."""
    old = messages.InitiateContactOld(wire.V4_1, 0, 0x12345000, 0, 0)

    assert wire.decode(wire.encode(old), wire.NOT_CONNECTED) == old


def test_the_size_chooses_the_socket_request() -> None:
    """From 5.2 a TL_CONNECT_REQUEST of 56 bytes has a silo id; before it has none."""
    long = wire.encode(messages.TlConnect2(UUID(int=1), UUID(int=2), UUID(int=3)))

    assert isinstance(wire.decode(long, wire.V5_2), messages.TlConnect2)
    assert wire.decode(long, wire.V5_1) == messages.TlConnect(UUID(int=1), UUID(int=2))
    assert wire.decode(long[:40], wire.V5_2) == messages.TlConnect(UUID(int=1), UUID(int=2))


def test_a_version_response_has_what_was_asked_for() -> None:
    """16 bytes below 6.0 and for unsupported, 20 at 6.0, 40 with the host's monitor pages (case 002)."""

    def read(message: msgspec.Struct, version: int) -> msgspec.Struct:
        return wire.decode(wire.encode(message), version, sender=Sender.HOST)

    full = messages.VersionResponse3(1, 0, 1, 0x40, 0x1000, 0x2000)
    assert read(full, wire.V6_0) == full
    assert read(full, wire.V5_3) == messages.VersionResponse(1, 0, 1)
    assert read(messages.VersionResponse2(1, 0, 1, 5), wire.V6_0) == messages.VersionResponse2(1, 0, 1, 5)
    assert read(messages.VersionResponse(0, 0, 0), wire.V6_0) == messages.VersionResponse(0, 0, 0)


def test_user_data_longer_than_120_bytes_is_refused_before_sending() -> None:
    """121 bytes do not fit an OPENCHANNEL (case 068)."""
    with pytest.raises(UsageError, match="userdata"):
        wire.encode(messages.Open(1, 1, 1, 0, 2, bytes(121)))


@dataclasses.dataclass(frozen=True)
class Form:
    """A row and the version and features with which its bytes mean it."""

    row: wire.Row
    version: int
    features: int


FORMS = [
    Form(row, wire.V6_0, ALL_FEATURES if row.cls is not messages.Open else ALL_FEATURES & ~0x3)
    for row in wire.MESSAGES
]
BOUNDS = {"B": 8, "H": 16, "I": 32, "Q": 64}


def values(hint: Any) -> st.SearchStrategy[Any]:
    kind, code = get_args(hint)[:2]
    if kind is UUID:
        return st.uuids()
    if code == "tail":
        return st.binary(max_size=216)
    if code.endswith("s"):
        return st.binary(min_size=int(code[:-1]), max_size=int(code[:-1]))
    return st.integers(0, (1 << BOUNDS[code[0]]) - 1)


@st.composite
def filled(draw: st.DrawFn) -> tuple[Form, msgspec.Struct]:
    """A form and a message of it whose bytes say which form they are."""
    form = draw(st.sampled_from(FORMS))
    hints = get_type_hints(form.row.cls, include_extras=True)
    message = form.row.cls(**{name: draw(values(hint)) for name, hint in hints.items()})
    change: dict[str, Any] = {}
    match message:
        case messages.InitiateContactOld():
            change = {"vmbus_version_requested": draw(st.integers(0, wire.V4_1))}
        case messages.InitiateContact():
            change = {"vmbus_version_requested": draw(st.integers(wire.V5_0, wire.V5_3))}
        case messages.InitiateContact2(feature_flags=flags):
            change = {"vmbus_version_requested": wire.V6_0, "feature_flags": flags | 0x08}
        case messages.VersionResponse():
            change = {"version_supported": 0}
        case messages.VersionResponse2(supported_features=flags):
            change = {"version_supported": 1, "supported_features": flags & ~0x40}
        case messages.VersionResponse3(supported_features=flags):
            change = {"version_supported": 1, "supported_features": flags | 0x40}
    return form, msgspec.structs.replace(message, **change)


@given(filled())
def test_every_message_survives_the_round_trip(case: tuple[Form, msgspec.Struct]) -> None:
    """decode(encode(m)) == m for every message and any field values."""
    form, message = case

    data = wire.encode(message)

    assert wire.decode(data, form.version, form.features, sender=form.row.sender) == message


@given(
    st.binary(max_size=260)
    | st.builds(lambda n, rest: n.to_bytes(4, "little") + rest, st.integers(0, 31), st.binary(max_size=240)),
    st.sampled_from(VERSIONS),
    st.integers(0, 0xFFFFFFFF),
    st.sampled_from(Sender),
)
def test_any_bytes_are_a_message_or_a_wire_error(
    data: bytes, version: int, features: int, sender: Sender
) -> None:
    """Decoding raises WireError and nothing else, and what it reads it can write (case 314)."""
    try:
        message = wire.decode(data, version, features, sender=sender)
    except WireError:
        return

    again = wire.encode(message)
    assert wire.decode(again, version, features, sender=sender) == message
