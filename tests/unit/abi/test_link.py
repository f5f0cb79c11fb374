"""The two tables of packets: round trips, and that no bytes do anything but decode or raise ProtocolError."""

from typing import Any, get_type_hints
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmbusd.abi import device_link, link
from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.link import Grant, Object

U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
U64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)
NAME = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=32)
SHARED: list[type[msgspec.Struct]] = [
    link.Hello,
    link.Welcome,
    link.HostLink,
    link.Refused,
    link.Detach,
    link.Detached,
    link.Bye,
    link.Confirm,
    link.Signal,
]
DEVICE: list[type[msgspec.Struct]] = [
    device_link.Offer,
    device_link.Revoke,
    device_link.Opened,
    device_link.Closed,
    device_link.GpadlAccepted,
    device_link.GpadlTornDown,
    device_link.Retargeted,
    device_link.OfferResult,
    device_link.Revoked,
    device_link.Open,
    device_link.Close,
    device_link.Gpadl,
    device_link.Teardown,
    device_link.Retarget,
    device_link.ProvideSockets,
    device_link.EnableSubchannels,
    device_link.SocketAnswer,
    device_link.Withdraw,
    device_link.SubchannelsEnabled,
    device_link.SocketsProvided,
    device_link.SocketConnect,
]
SIZES = {
    link.Hello: 72,
    link.Welcome: 72,
    link.HostLink: 8,
    link.Refused: 4,
    link.Detach: 4,
    link.Detached: 4,
    link.Bye: 4,
    link.Confirm: 8,
    link.Signal: 8,
    device_link.Offer: 180,
    device_link.Revoke: 4,
    device_link.Opened: 12,
    device_link.Closed: 8,
    device_link.GpadlAccepted: 12,
    device_link.GpadlTornDown: 8,
    device_link.Retargeted: 16,
    device_link.OfferResult: 8,
    device_link.Revoked: 4,
    device_link.Open: 156,
    device_link.ProvideSockets: 4,
    device_link.EnableSubchannels: 16,
    device_link.SocketAnswer: 12,
    device_link.Withdraw: 4,
    device_link.SubchannelsEnabled: 12,
    device_link.SocketsProvided: 4,
    device_link.SocketConnect: 52,
    device_link.Close: 8,
    device_link.Gpadl: 16,
    device_link.Teardown: 8,
    device_link.Retarget: 12,
}


WIDTHS = {"B": 8, "H": 16, "I": 32, "Q": 64}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of one packed field: what its format code has room for."""
    code = kind.__metadata__[0]
    if code in WIDTHS:
        return st.integers(0, (1 << WIDTHS[code]) - 1)
    if code == "tail":
        return st.binary(max_size=64)
    size = int(code[:-1])
    exact = st.binary(min_size=size, max_size=size)
    return {UUID: st.uuids(), str: NAME}.get(kind.__origin__, exact)


def messages(classes: list[type[msgspec.Struct]]) -> st.SearchStrategy[msgspec.Struct]:
    def one(cls: type[msgspec.Struct]) -> st.SearchStrategy[msgspec.Struct]:
        hints = get_type_hints(cls, include_extras=True)
        return st.builds(cls, **{name: values(hints[name]) for name in cls.__struct_fields__})

    return st.one_of([one(cls) for cls in classes])


@given(messages(SHARED), U32, U64)
def test_a_shared_packet_survives_the_way(message: msgspec.Struct, where: int, sequence: int) -> None:
    """Header and body of every shared kind come back as they were sent."""
    packet = link.encode(message, where=where, sequence=sequence)
    header = link.decode_header(packet)

    assert (header.where, header.sequence) == (where, sequence)
    assert link.decode_body(header, packet) == message


@given(messages(DEVICE), U64)
def test_a_device_message_survives_the_way(message: Any, sequence: int) -> None:
    """Every device message comes back as it was sent, with its sequence number."""
    packet = device_link.encode(message, sequence=sequence)
    header = link.decode_header(packet)

    assert header.sequence == sequence
    assert device_link.decode(header, packet) == message


@pytest.mark.parametrize("cls", SHARED + DEVICE, ids=lambda cls: cls.__name__)
def test_the_fixed_part_is_as_long_as_a_c_struct(cls: type[msgspec.Struct]) -> None:
    """The bytes of each body before its tail are what C would lay out without padding."""
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(cls):
        kind = getattr(field.type, "__origin__", field.type)
        fields[field.name] = {UUID: UUID(int=0), bytes: b"", str: ""}.get(kind, 0)
    message: Any = cls(**fields)
    packet = link.encode(message) if cls in SHARED else device_link.encode(message)

    assert len(packet) - link.HEADER.size == SIZES[cls]


def test_kinds_do_not_overlap() -> None:
    """One number means one kind on both sockets."""
    kinds = [cls.kind for cls in SHARED + DEVICE]  # type: ignore[attr-defined]

    assert len(set(kinds)) == len(kinds)
    assert min(cls.kind for cls in DEVICE) >= 16 > max(link.Kind)  # type: ignore[attr-defined]


def test_guids_travel_in_wire_order() -> None:
    """GUIDs are little-endian structs in the packet, as in channel messages."""
    guid = UUID("00112233-4455-6677-8899-aabbccddeeff")
    packet = device_link.encode(device_link.Offer(1, guid, guid))

    assert packet[28:44].hex() == "33221100554477668899aabbccddeeff"


@given(st.binary(min_size=0, max_size=240), U32)
def test_a_channel_message_rides_byte_for_byte(message: bytes, where: int) -> None:
    """What a guest posts is what follows the header, unchanged."""
    packet = link.encode_message(message, where=where, sint=2, sequence=7)
    header = link.decode_header(packet)

    assert header == link.Header(link.Kind.MESSAGE, where, 2, 0, 0, 0, 7)
    assert packet[link.HEADER.size :] == message


@given(st.binary(max_size=400), st.integers(0, 60))
def test_no_bytes_do_more_than_raise(data: bytes, kind: int) -> None:
    """Any bytes either decode or raise ProtocolError, whatever kind they claim to be."""
    packet = kind.to_bytes(4, "little") + data
    for decode in (link.decode_body, device_link.decode):
        try:
            decode(link.decode_header(packet), packet)
        except ProtocolError:
            continue


@pytest.mark.parametrize("cls", SHARED + DEVICE, ids=lambda cls: cls.__name__)
def test_a_body_that_is_cut_short_is_refused(cls: type[msgspec.Struct]) -> None:
    """One byte less than the fixed part is an error that names the message and both lengths."""
    kind: int = cls.kind  # type: ignore[attr-defined]
    packet = link.HEADER.encode(link.Header(kind)) + bytes(SIZES[cls] - 1)
    decode: Any = link.decode_body if cls in SHARED else device_link.decode

    with pytest.raises(
        ProtocolError, match=f"{cls.__name__} needs {SIZES[cls]} bytes, {SIZES[cls] - 1} came"
    ):
        decode(link.decode_header(packet), packet)


def test_headers_are_checked() -> None:
    """A header that is cut short or uses its reserved word, and an unknown kind, are errors that say so."""
    with pytest.raises(ProtocolError, match="Header needs 24 bytes, 23 came"):
        link.decode_header(bytes(23))
    with pytest.raises(ProtocolError, match="reserved word is 0x5"):
        link.decode_header(link.HEADER.encode(link.Header(1, zero=5)))
    with pytest.raises(ProtocolError, match="unknown packet kind 99"):
        link.decode_body(link.Header(99), bytes(24))
    with pytest.raises(ProtocolError, match="unknown packet kind 4"):
        link.decode_body(link.Header(link.Kind.MESSAGE), bytes(24))
    with pytest.raises(ProtocolError, match="unknown device message kind 1"):
        device_link.decode(link.Header(1), bytes(24))


def test_what_does_not_fit_is_the_callers_error() -> None:
    """A value too large for its field or a name too long is refused before anything is sent."""
    with pytest.raises(UsageError, match="Detach"):
        link.encode(link.Detach(1 << 32))
    with pytest.raises(UsageError, match=r"Hello\.partition: 33 bytes, at most 32 fit"):
        link.encode(link.Hello(1, 1, 0, 0, "a" * 33))
    with pytest.raises(UsageError, match="user_defined: 121 bytes"):
        device_link.encode(device_link.Offer(1, UUID(int=1), UUID(int=2), user_defined=bytes(121)))


@given(st.lists(st.builds(Grant, st.sampled_from(Object), U16, st.integers(0, 1), U64), max_size=253))
def test_grants_survive_the_way(grants: list[Grant]) -> None:
    """Up to 253 grants, as many as one packet can carry descriptors, come back in order and fit."""
    tail = link.encode_grants(grants)

    assert link.decode_grants(tail) == grants
    assert link.HEADER.size + SIZES[link.Welcome] + len(tail) <= link.MAX_GUEST_PACKET


def test_a_broken_grant_is_refused() -> None:
    """A tail that is no whole number of grants is an error."""
    with pytest.raises(ProtocolError, match="17 bytes are no multiple of 16"):
        link.decode_grants(bytes(17))
