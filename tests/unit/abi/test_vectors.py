"""Golden bytes: what the real drivers put on the wire is what our codec writes and reads."""

import json
import struct
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from vmbusd.abi import gpadl, layout, messages, wire

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
Vector = dict[str, Any]


def load(name: str) -> list[Vector]:
    vectors: list[Vector] = json.loads((VECTORS / name).read_text())
    return vectors


def named(vector: Vector) -> str:
    return str(vector["name"])


def version_of(vector: Vector) -> int:
    """The version to decode with; a layout that depends on none is read with the newest."""
    if vector["protocol_version"] == "any":
        return wire.V6_0
    major, minor = vector["protocol_version"].split(".")
    return int(major) << 16 | int(minor)


def class_of(vector: Vector) -> type[msgspec.Struct]:
    """The class filed under the vector's name; contact below 5.0 has the same name and another layout."""
    classes = [row.cls for row in wire.MESSAGES if row.name == vector["message"]]
    return next(cls for cls in classes if len(classes) == 1 or _has(cls, vector["fields"]))


def _has(cls: type[msgspec.Struct], fields: dict[str, Any]) -> bool:
    return set(cls.__struct_fields__) == set(fields) - {"msgtype"}


def to_message(vector: Vector) -> msgspec.Struct:
    """The message with the vector's fields; GPADL range buffers are put together from theirs."""
    fields = {name: value for name, value in vector["fields"].items() if name != "msgtype"}
    if "pfns" in fields:
        pfns = fields.pop("pfns")
        words = struct.pack(f"<{len(pfns)}Q", *pfns)
        if "range0_byte_count" in fields:
            counts = fields.pop("range0_byte_count"), fields.pop("range0_byte_offset")
            words = struct.pack("<II", *counts) + words
        fields["ranges"] = words
    for name, value in fields.items():
        if isinstance(value, str):
            fields[name] = UUID(value) if "-" in value else bytes.fromhex(value)
    return class_of(vector)(**fields)


def to_fields(message: msgspec.Struct, number: int) -> dict[str, Any]:
    """The same the other way."""
    fields: dict[str, Any] = {"msgtype": number, **msgspec.structs.asdict(message)}
    if "ranges" in fields:
        raw = fields.pop("ranges")
        if isinstance(message, messages.GpadlHeader):
            fields["range0_byte_count"], fields["range0_byte_offset"] = struct.unpack_from("<II", raw)
            raw = raw[8:]
        fields["pfns"] = list(struct.unpack(f"<{len(raw) // 8}Q", raw))
    for name, value in fields.items():
        if isinstance(value, UUID):
            fields[name] = str(value)
        elif isinstance(value, bytes):
            fields[name] = value.hex()
    return fields


CONTROL = load("control-messages.json")
SEQUENCES = load("gpadl-sequences.json")
EVENT_FLAGS = [vector for vector in load("synic.json") if vector["message"] == "EVENT_FLAG"]


@pytest.mark.parametrize("vector", CONTROL, ids=named)
def test_fields_become_the_golden_bytes(vector: Vector) -> None:
    """Encoding the fields of a control message gives exactly its bytes."""
    encoded = wire.encode(to_message(vector))

    assert encoded.hex() == vector["hex"]
    assert len(encoded) == vector["size"]


@pytest.mark.parametrize("vector", CONTROL, ids=named)
def test_golden_bytes_become_the_fields(vector: Vector) -> None:
    """Decoding the bytes of a control message gives exactly its fields."""
    data = bytes.fromhex(vector["hex"])
    features = 0xFF if version_of(vector) == wire.V6_0 and vector["message"] != "OPENCHANNEL" else 0

    message = wire.decode(data, version_of(vector), features, sender=wire.Sender(vector["direction"]))

    assert type(message) is class_of(vector)
    assert to_fields(message, data[0]) == vector["fields"]


def test_every_message_has_golden_bytes() -> None:
    """No row of the table is without a vector, except the contact below 5.0, which shares its name."""
    assert {row.name for row in wire.MESSAGES} == {vector["message"] for vector in CONTROL}


@pytest.mark.parametrize("vector", SEQUENCES, ids=named)
def test_a_gpadl_is_split_as_linux_splits_it(vector: Vector) -> None:
    """Header and bodies of a range are the driver's own, byte for byte (cases 082, 083, 308)."""
    fields = vector["fields"]
    ranges = [gpadl.Range(fields["byte_count"], fields["byte_offset"], tuple(fields["pfns"]))]

    parts = gpadl.split(fields["child_relid"], fields["gpadl"], ranges)

    assert [wire.encode(part).hex() for part in parts] == vector["messages"]


@pytest.mark.parametrize("vector", SEQUENCES, ids=named)
def test_a_gpadl_of_linux_is_joined(vector: Vector) -> None:
    """The driver's messages, padded to the maximum, give back the range (cases 083, 084)."""
    fields = vector["fields"]
    parts = [
        wire.decode(bytes.fromhex(part).ljust(wire.MAX_MESSAGE, b"\xee"), wire.V5_3)
        for part in vector["messages"]
    ]
    assert isinstance(parts[0], messages.GpadlHeader)

    assembly = gpadl.Assembly(parts[0])
    for body in parts[1:]:
        assert assembly.missing
        assert isinstance(body, messages.GpadlBody)
        assembly.add(body.ranges)

    assert assembly.missing == 0
    assert gpadl.decode_ranges(assembly.buffer(), assembly.range_count) == [
        gpadl.Range(fields["byte_count"], fields["byte_offset"], tuple(fields["pfns"]))
    ]


@pytest.mark.parametrize("vector", EVENT_FLAGS, ids=named)
def test_an_event_flag_is_where_the_vector_says(vector: Vector) -> None:
    """A flag's byte and bit in the interrupt page follow from the layout's numbers: 256 bytes per SINT."""
    fields = vector["fields"]
    start = layout.FLAGS_OFFSET // layout.SINT * fields["sint"]

    assert start + fields["flag"] // 8 == vector["page_offset"]
    assert 1 << fields["flag"] % 8 == vector["byte_value"]
