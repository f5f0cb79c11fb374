"""Values of a script: numbers in all the ways people write them, GUIDs, bytes, lists of pages.

The type of a field decides how its value is read, and a value that does not fit the field is an error where
it stands. Negative numbers are two's complement of the field's width, as a status of -1 is.
"""

import re
import struct
from typing import Final
from uuid import UUID

from tests.conformance.script import ANYTHING, FAILED, Value
from vmbusd.abi import device_link, messages
from vmbusd.abi.layout import NO_TARGET

NAMES: Final = {
    "OK": messages.SUCCESS,
    "SUCCESS": messages.SUCCESS,
    "UNSUCCESSFUL": messages.UNSUCCESSFUL,
    "REFUSED": messages.CONNECTION_REFUSED,
    "NONE": NO_TARGET,
    "LOW_RESOURCES": int(messages.ConnectionState.LOW_RESOURCES),
    "UNKNOWN_FAILURE": int(messages.ConnectionState.UNKNOWN_FAILURE),
    "YES": 1,
    "NO": 0,
    "TRUE": 1,
    "FALSE": 0,
} | {flag.name: int(flag) for flag in (*messages.Feature, *device_link.OfferFlag) if flag.name}
"""Words that stand for numbers."""
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")
_RUN: Final = re.compile(r"(\w+)\.\.(\w+)")
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min)?")
_UNITS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0, "min": 60_000.0, None: 1.0}
_BYTES: Final = re.compile(r"([0-9a-fA-F]{2})(?:\*(\d+))?[ ,]*")
MOST_BYTES: Final = 1 << 16
"""Bytes in one value: far more than any message has."""


def number(text: str, width: int = 64) -> int:
    """A number of `width` bits: decimal, 0x, -1, 5.3, a name, or several joined by |. Raises ValueError."""
    value = 0
    for part in text.split("|"):
        match = _VERSION.fullmatch(part)
        if match:
            one = int(match[1]) << 16 | int(match[2])
        elif part.upper() in NAMES:
            one = NAMES[part.upper()]
        else:
            try:
                one = int(part, 0)
            except ValueError:
                if not part.isascii() or not part.isdigit():
                    raise ValueError(f"{part!r} is no number") from None
                one = int(part)  # leading zeros
        if one < 0:
            one += 1 << width
        value |= one
    if not 0 <= value < 1 << width:
        raise ValueError(f"{text} does not fit in {width} bits")
    return value


def numbers(text: str) -> tuple[int, ...]:
    """A list such as 16,17,0x20..0x2f; a run includes its last number. Raises ValueError."""
    values: list[int] = []
    for part in text.strip("[]").split(","):
        match = _RUN.fullmatch(part)
        values += range(number(match[1]), number(match[2]) + 1) if match else [number(part)]
    return tuple(values)


def raw(text: str) -> bytes:
    """Bytes in hexadecimal, apart or not; `00*241` repeats a byte. Raises ValueError."""
    out, at = bytearray(), 0
    text = text.strip()
    while at < len(text):
        match = _BYTES.match(text, at)
        if match is None:
            raise ValueError(f"{text[at : at + 8]!r} are no hexadecimal bytes")
        times = int(match[2] or 1)
        if times > MOST_BYTES - len(out):
            raise ValueError(f"more than {MOST_BYTES} bytes")
        out += bytes.fromhex(match[1]) * times
        at = match.end()
    return bytes(out)


def milliseconds(text: str) -> int:
    """A time such as 100ms or 5s. Raises ValueError."""
    match = _TIME.fullmatch(text.replace(" ", ""))
    if match is None:
        raise ValueError(f"{text!r} is no time: a number and us, ms, s or min")
    return round(float(match[1]) * _UNITS[match[2]])


def guid(text: str) -> UUID:
    """A GUID, or the number of one: 3 is 00000000-0000-0000-0000-000000000003. Raises ValueError."""
    if "-" in text.strip("{}") or len(text) == 32:
        try:
            return UUID(text)
        except ValueError:
            raise ValueError(f"{text!r} is no GUID") from None
    return UUID(int=number(text, 128))


def value(text: str, quoted: bool, kind: type, code: str) -> Value:
    """The value of a field with this type and struct code. Raises ValueError."""
    if text == "*" and not quoted:
        return ANYTHING
    if kind is UUID:
        return guid(text)
    if kind is str:
        return text
    if kind is bytes:
        data = text.encode() if quoted else raw(text.removeprefix("0x"))
        room = int(code[:-1]) if code.endswith("s") else None
        if room is not None and len(data) > room:
            raise ValueError(f"{len(data)} bytes, at most {room} fit")
        return data if room is None else data.ljust(room, b"\0")
    width = 8 * struct.calcsize("<" + code.rstrip("x0123456789"))
    if text.upper() in ("FAILED", "FAILURE") and width == 32:
        return FAILED
    return number(text, width)
