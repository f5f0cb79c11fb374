"""Packing: typed struct classes to bytes and back, strictly."""

from typing import Annotated
from uuid import UUID

import msgspec
import pytest

from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.packing import U8, U16, U32, U64, Bytes16, Guid, Name32, Packing, Tail


class Sample(msgspec.Struct, frozen=True):
    """One field of each kind."""

    small: U8
    middle: U16
    big: U32
    huge: U64
    guid: Guid
    name: Name32
    raw: Bytes16


class WithTail(msgspec.Struct, frozen=True):
    """A number and what follows it."""

    number: U32
    rest: Tail


SAMPLE = Packing(Sample)
GUID = UUID("00112233-4455-6677-8899-aabbccddeeff")


def test_a_class_becomes_its_bytes_and_back() -> None:
    """Fields stand in order, little-endian, without padding; GUIDs are mixed-endian."""
    sample = Sample(1, 0x0203, 0x04050607, 0x08090A0B0C0D0E0F, GUID, "demo", bytes(range(16)))

    data = SAMPLE.encode(sample)

    assert SAMPLE.size == len(data) == 1 + 2 + 4 + 8 + 16 + 32 + 16
    assert data.hex().startswith("010302070605040f0e0d0c0b0a090833221100554477668899aabbccddeeff")
    assert SAMPLE.decode(data) == sample


def test_a_tail_takes_what_follows() -> None:
    """The last field may be of any length, also none."""
    packing = Packing(WithTail)

    assert packing.has_tail
    assert packing.decode(packing.encode(WithTail(7, b"abc"))) == WithTail(7, b"abc")
    assert packing.decode(packing.encode(WithTail(7, b""))) == WithTail(7, b"")


def test_bytes_after_a_message_without_tail_are_ignored() -> None:
    """Real senders pad (case 023)."""
    sample = Sample(1, 2, 3, 4, GUID, "x", bytes(16))

    assert SAMPLE.decode(SAMPLE.encode(sample) + b"padding") == sample


@pytest.mark.parametrize("length", [0, 1, 78])
def test_a_message_cut_short_is_the_peers_fault(length: int) -> None:
    """Too few bytes never become a message (case 018)."""
    data = SAMPLE.encode(Sample(1, 2, 3, 4, GUID, "x", bytes(16)))

    with pytest.raises(ProtocolError, match=f"Sample needs 79 bytes, {length} came"):
        SAMPLE.decode(data[:length])


def test_a_name_must_be_ascii() -> None:
    """Bytes that are no ASCII text are the peer's fault."""
    data = bytearray(SAMPLE.encode(Sample(1, 2, 3, 4, GUID, "x", bytes(16))))
    data[31] = 0xC3

    with pytest.raises(ProtocolError, match="ASCII"):
        SAMPLE.decode(bytes(data))


@pytest.mark.parametrize(
    "sample",
    [
        Sample(256, 0, 0, 0, GUID, "x", b""),
        Sample(0, 0, -1, 0, GUID, "x", b""),
        Sample(0, 0, 0, 0, GUID, "x" * 33, b""),
        Sample(0, 0, 0, 0, GUID, "x", bytes(17)),
    ],
)
def test_a_value_that_does_not_fit_is_the_callers_fault(sample: Sample) -> None:
    """Nothing is cut or wrapped silently."""
    with pytest.raises(UsageError, match="Sample"):
        SAMPLE.encode(sample)


def test_a_field_may_carry_padding() -> None:
    """A struct code with pad bytes is one value; the pad is zero out and ignored in."""

    class Padded(msgspec.Struct, frozen=True):
        first: Annotated[int, "B2x"]
        second: U8

    packing = Packing(Padded)

    assert packing.encode(Padded(1, 2)) == b"\x01\0\0\x02"
    assert packing.decode(b"\x01\xff\xff\x02") == Padded(1, 2)


def test_a_class_that_cannot_be_packed_is_refused() -> None:
    """Fields without a code, or after the tail, are found when the packing is made."""

    class Bare(msgspec.Struct, frozen=True):
        number: int

    class Late(msgspec.Struct, frozen=True):
        rest: Tail
        number: U32

    for cls in (Bare, Late):
        with pytest.raises(UsageError, match=f"{cls.__name__}.number"):
            Packing(cls)
