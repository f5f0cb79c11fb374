"""Fields of a golden vector: read strictly, each error naming the field; compared one by one.

`Fields` hands out every value once and by type, and `finish` complains about what nobody asked for. So a
checker cannot overlook a field, and a misspelt one is an error. Used by the `vectors_*` modules.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from vmbusd.abi.packing import Packing

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")
MISSING: Any = object()


class VectorError(Exception):
    """A vector that is wrong or that our codec disagrees with. Attribute: `field`, where."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.field = field


class Fields:
    """The keys of one JSON object.

    Args: `values`, the object; `prefix`, how its keys are named in errors.
    """

    def __init__(self, values: Any, prefix: str = "") -> None:
        if not isinstance(values, dict):
            raise VectorError(prefix.rstrip(".") or "entry", f"must be an object, is {kind_of(values)}")
        self._values: dict[str, Any] = values
        self._prefix = prefix
        self._left = dict.fromkeys(values)

    def error(self, name: str, text: str) -> VectorError:
        """An error about the field `name`."""
        return VectorError(self._prefix + name, text)

    def has(self, *names: str) -> bool:
        """Is any of these there?"""
        return any(name in self._values for name in names)

    def raw(self, name: str, default: Any = MISSING) -> Any:
        """The value, whatever it is."""
        self._left.pop(name, None)
        value = self._values.get(name, default)
        if value is MISSING:
            raise self.error(name, "missing")
        return value

    def number(self, name: str, default: Any = MISSING, *, bits: int = 64) -> int:
        """An integer of at most `bits` bits."""
        value = self.raw(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(name, f"must be an integer, is {kind_of(value)}")
        if not 0 <= value < 1 << bits:
            raise self.error(name, f"{value} does not fit {bits} bits")
        return value

    def flag(self, name: str) -> bool:
        """true, false, 1 or 0."""
        value = self.raw(name)
        if value not in (0, 1):
            raise self.error(name, f"must be true, false, 1 or 0, is {value!r}")
        return bool(value)

    def text(self, name: str, default: Any = MISSING) -> str:
        """A string."""
        value = self.raw(name, default)
        if not isinstance(value, str):
            raise self.error(name, f"must be a string, is {kind_of(value)}")
        return value

    def hex(self, name: str, default: Any = MISSING) -> bytes:
        """Bytes, in hex."""
        value = self.text(name, default)
        try:
            data = bytes.fromhex(value)
        except ValueError:
            raise self.error(name, "is not hex") from None
        if data.hex() != value:
            raise self.error(name, "is not plain lower-case hex")
        return data

    def guid(self, name: str, default: Any = MISSING) -> UUID:
        """A GUID as a canonical string."""
        value = self.text(name, default)
        try:
            guid = UUID(value)
        except ValueError:
            raise self.error(name, f"{value!r} is not a GUID") from None
        if str(guid) != value:
            raise self.error(name, f"{value!r} is not a canonical GUID")
        return guid

    def items(self, name: str, default: Any = MISSING) -> list[Any]:
        """A list."""
        value = self.raw(name, default)
        if not isinstance(value, list):
            raise self.error(name, f"must be a list, is {kind_of(value)}")
        return value

    def numbers(self, name: str, *, bits: int = 64) -> list[int]:
        """A list of integers."""
        values = self.items(name)
        for index, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << bits:
                raise self.error(f"{name}[{index}]", f"must be an integer of {bits} bits, is {value!r}")
        return values

    def objects(self, name: str) -> list["Fields"]:
        """A list of objects."""
        values = enumerate(self.items(name))
        return [Fields(value, f"{self._prefix}{name}[{index}].") for index, value in values]

    def structure(self, cls: type[S], **given: Any) -> S:
        """A message of the vector's fields and those `given`. Fields with a default may be absent."""
        packing = Packing(cls)
        values = dict(given)
        required = len(packing.names) - len(cls.__struct_defaults__)
        for index, name in enumerate(packing.names):
            if name in values or (index >= required and not self.has(name)):
                continue
            values[name] = self._typed(name, packing.kinds[index], packing.widths[index])
        return cls(**values)

    def _typed(self, name: str, kind: object, width: int | None) -> Any:
        if kind is int:
            return self.number(name, bits=8 * (width or 8))
        if kind is UUID:
            return self.guid(name)
        data = self.hex(name)
        if width is not None and len(data) != width:
            raise self.error(name, f"{len(data)} bytes, must be {width}")
        return data

    def finish(self) -> None:
        """Raises VectorError when there is a field that nobody asked for."""
        for name in self._left:
            raise self.error(name, "unknown field")


def same(field: str, ours: object, vector: object) -> None:
    """Raises VectorError unless both are equal."""
    if ours != vector:
        raise VectorError(field, f"ours is {shown(ours)}, the vector says {shown(vector)}")


def same_bytes(field: str, ours: bytes, vector: bytes) -> None:
    """Raises VectorError naming the first byte that differs."""
    if ours == vector:
        return
    pairs = zip(ours, vector, strict=False)
    at = next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(vector)))
    what = f"{ours[at : at + 8].hex() or 'its end'}, the vector has {vector[at : at + 8].hex() or 'its end'}"
    raise VectorError(field, f"at byte {at} ours has {what} ({len(ours)} and {len(vector)} bytes)")


def same_structure(ours: msgspec.Struct, vector: msgspec.Struct, prefix: str = "fields.") -> None:
    """Raises VectorError naming the first field that differs. Short byte strings stand for padded ones."""
    if type(ours) is not type(vector):
        raise VectorError("hex", f"decodes as {type(ours).__name__}, not {type(vector).__name__}")
    for name in ours.__struct_fields__:
        mine, theirs = getattr(ours, name), getattr(vector, name)
        if isinstance(mine, bytes) and isinstance(theirs, bytes):
            mine, theirs = mine.rstrip(b"\0"), theirs.rstrip(b"\0")
        same(prefix + name, mine, theirs)


def version(field: str, text: object) -> tuple[int, int]:
    """A version written "major.minor"."""
    parts = text.split(".") if isinstance(text, str) else []
    if len(parts) != 2 or not all(part.isdecimal() and int(part) < 1 << 16 for part in parts):
        raise VectorError(field, f'{text!r} is not a version such as "5.3"')
    return int(parts[0]), int(parts[1])


def versions(fields: Fields, name: str) -> tuple[tuple[int, int], ...]:
    """A list of versions."""
    return tuple(version(f"fields.{name}", text) for text in fields.items(name))


def kind_of(value: object) -> str:
    """The JSON name of a value's type."""
    names: Sequence[tuple[type, str]] = (
        (bool, "a boolean"),
        (int, "an integer"),
        (float, "a float"),
        (str, "a string"),
        (list, "a list"),
        (dict, "an object"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def shown(value: object) -> str:
    """A value, shortened for a message."""
    text = value.hex() if isinstance(value, bytes) else repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def each(items: list[Fields], read: Callable[[Fields], T]) -> list[T]:
    """What `read` makes of every object, which must use all its fields."""
    values = []
    for item in items:
        values.append(read(item))
        item.finish()
    return values
