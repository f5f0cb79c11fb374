"""Fixed little-endian structs from typed classes: one declaration gives fields, sizes, encode and decode.

A message is a frozen `msgspec.Struct` whose fields are annotated with the types below. `Packing(cls)` turns
the annotations into one `struct.Struct`; a final field of type `Tail` takes the bytes that follow it.
Decoding is strict: too short is an error that names the message and both lengths. Bytes after a message
without a tail are ignored, because real senders pad (UEFI always posts 240 bytes).
"""

import re
import struct
from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

from vmbusd.abi.errors import ProtocolError, UsageError

U8 = Annotated[int, "B"]
U16 = Annotated[int, "H"]
U32 = Annotated[int, "I"]
U64 = Annotated[int, "Q"]
S32 = Annotated[int, "i"]
Guid = Annotated[UUID, "16s"]
Name32 = Annotated[str, "32s"]
Bytes16 = Annotated[bytes, "16s"]
Bytes120 = Annotated[bytes, "120s"]
Tail = Annotated[bytes, "tail"]

NO_GUID = UUID(int=0)

S = TypeVar("S", bound=msgspec.Struct)

_PADDING = re.compile(r"\d*x")
_astuple = msgspec.structs.astuple


def _name_to_bytes(text: str) -> bytes:
    return text.encode("ascii")


def _name_from_bytes(raw: bytes) -> str:
    try:
        return raw.rstrip(b"\0").decode("ascii")
    except UnicodeDecodeError as error:
        raise ProtocolError(f"name is not ASCII: {raw!r}") from error


_OUT: dict[object, Callable[[Any], bytes]] = {UUID: lambda guid: guid.bytes_le, str: _name_to_bytes}
_IN: dict[object, Callable[[bytes], Any]] = {UUID: lambda raw: UUID(bytes_le=raw), str: _name_from_bytes}


class Packing(Generic[S]):
    """Encoder and decoder of one struct class.

    Attributes: `size`, bytes of the fixed part; `has_tail`, whether variable bytes follow it; `names`,
    `kinds` and `widths` of the fields, in order: Python type, and bytes without padding (None for the tail);
    `pack` and `unpack`, the fixed part from and to bare values, for headers whose struct nobody needs.
    """

    def __init__(self, cls: type[S]) -> None:
        self.cls = cls
        codes: list[str] = []
        self._out: list[tuple[int, int, Callable[[Any], bytes]]] = []
        self._in: list[tuple[int, Callable[[bytes], Any]]] = []
        self.has_tail = False
        hints = get_type_hints(cls, include_extras=True)
        self.names = cls.__struct_fields__
        self.kinds: list[object] = []
        self.widths: list[int | None] = []
        for index, name in enumerate(self.names):
            hint = hints[name]
            if get_origin(hint) is not Annotated or self.has_tail:
                raise UsageError(f"{cls.__name__}.{name}: not a packed field, or it follows the tail")
            kind, code = get_args(hint)[:2]
            self.kinds.append(kind)
            if code == "tail":
                self.has_tail = True
                self.widths.append(None)
                continue
            codes.append(code)
            width = struct.calcsize("<" + _PADDING.sub("", code))
            self.widths.append(width)
            if "s" in code:
                self._out.append((index, width, _OUT.get(kind, bytes)))
                if kind in _IN:
                    self._in.append((index, _IN[kind]))
        self._struct = struct.Struct("<" + "".join(codes))
        self.size = self._struct.size
        self.pack = self._struct.pack
        self.unpack = self._struct.unpack_from
        self._codes = "".join(codes)
        self._plain = not self._out and not self.has_tail

    def encode(self, message: S) -> bytes:
        """The exact bytes of `message`. Raises UsageError for a value that does not fit its field."""
        try:
            if self._plain:
                return self.pack(*_astuple(message))
            values = list(_astuple(message))
            tail = values.pop() if self.has_tail else b""
            for index, width, convert in self._out:
                raw = values[index] = convert(values[index])
                if len(raw) > width:
                    raise UsageError(
                        f"{self.cls.__name__}.{self.names[index]}: {len(raw)} bytes, at most {width} fit"
                    )
            return self.pack(*values) + tail
        except struct.error as error:
            raise UsageError(f"{self.cls.__name__}: {error} in {message}") from error

    def decode(self, data: bytes, offset: int = 0) -> S:
        """The message that starts at `offset` of `data`. Raises ProtocolError if it is cut short."""
        if len(data) - offset < self.size:
            raise ProtocolError(
                f"{self.cls.__name__} needs {self.size} bytes, {max(len(data) - offset, 0)} came"
            )
        if not self._in:
            if self.has_tail:
                return self.cls(*self.unpack(data, offset), bytes(data[offset + self.size :]))
            return self.cls(*self.unpack(data, offset))
        values = list(self.unpack(data, offset))
        for index, convert in self._in:
            values[index] = convert(values[index])
        if self.has_tail:
            values.append(bytes(data[offset + self.size :]))
        return self.cls(*values)

    def writer(self, prefix: bytes) -> Callable[[S], bytes]:
        """`encode` made for one place: it begins with `prefix`, and messages of numbers take one step."""
        if not self._plain:
            return lambda message: prefix + self.encode(message)
        pack = struct.Struct(f"<{len(prefix)}s{self._codes}").pack

        def write(message: S) -> bytes:
            try:
                return pack(prefix, *_astuple(message))
            except struct.error as error:
                raise UsageError(f"{self.cls.__name__}: {error} in {message}") from error

        return write

    def reader(self, offset: int) -> Callable[[bytes], S]:
        """`decode` made for one place, `offset`, and for data whose length the caller has checked."""
        if self._in:
            return lambda data: self.decode(data, offset)
        cls, unpack, end = self.cls, struct.Struct(f"<{offset}x{self._codes}").unpack_from, offset + self.size
        if self.has_tail:
            return lambda data: cls(*unpack(data), data[end:])
        return lambda data: cls(*unpack(data))
