"""The bodies of the integration components: heartbeat, shutdown, time, data exchange, backup, file copy.

`BODIES` is a row per layout: the component, its class, the bytes that Linux sends and the least it accepts.
`decode` chooses by component, message version and operation. Text is UTF-16 with a NUL inside fixed fields;
sizes in bytes, NUL included. Source: Linux 6.1 include/uapi/linux/hyperv.h.
"""

from collections.abc import Callable
from typing import Annotated, Final, NamedTuple

import msgspec

from vmbusd.abi.dev_ic import IcHeader, IcType
from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.packing import U8, U32, U64, Bytes16, Packing

UNIX_EPOCH: Final = 116444736000000000
"""1970 in the components' time: 100 ns units since 1601."""

U8Pad3 = Annotated[int, "B3x"]
U8Pad2 = Annotated[int, "B2x"]
U8Pad7 = Annotated[int, "B7x"]
Bytes16Pad4 = Annotated[bytes, "16s4x"]
Bytes256 = Annotated[bytes, "256s"]
Bytes512 = Annotated[bytes, "512s"]
Bytes520 = Annotated[bytes, "520s"]
Bytes1024 = Annotated[bytes, "1024s"]
Bytes2048 = Annotated[bytes, "2048s"]
Bytes6144 = Annotated[bytes, "6144s"]


class Heartbeat(msgspec.Struct, frozen=True):
    """Host every 2 s; the guest adds 1 to the number. State: 1 healthy, 2 critical, 3 stopped."""

    seq_num: U64
    application_state: U32 = 0


class Shutdown(msgspec.Struct, frozen=True):
    """`flags`: bit 0 force, 1 restart, 2 hibernate. The guest answers before it acts."""

    reason_code: U32
    timeout_seconds: U32
    flags: U32
    display_message: Bytes2048 = b""


class Timesync(msgspec.Struct, frozen=True):
    """Below message version 4. `flags`: 1 sync (set the clock), 2 sample."""

    parenttime: U64
    childtime: U64
    roundtriptime: U64
    flags: U8


class TimesyncRef(msgspec.Struct, frozen=True):
    """From message version 4 on."""

    parenttime: U64
    vmreferencetime: U64
    flags: U8
    leapflags: U8
    stratum: U8Pad3


class KvpValue(msgspec.Struct, frozen=True):
    """Operations 0 get and 1 set. `value_type`: 1 string, 4 u32, 8 (Linux) or 11 (Windows) u64."""

    operation: U8
    pool: U8Pad2
    value_type: U32
    key_size: U32
    value_size: U32
    key: Bytes512
    value: Bytes2048


class KvpDelete(msgspec.Struct, frozen=True):
    """Operation 2."""

    operation: U8
    pool: U8Pad2
    key_size: U32
    key: Bytes512


class KvpEnumerate(msgspec.Struct, frozen=True):
    """Operation 3: which index is asked, and its value in the answer."""

    operation: U8
    pool: U8Pad2
    index: U32
    value_type: U32
    key_size: U32
    value_size: U32
    key: Bytes512
    value: Bytes2048


class KvpIpInfo(msgspec.Struct, frozen=True):
    """Operations 4 and 5; this body follows pool without padding. Family: 1 IPv4, 2 IPv6, 3 both."""

    operation: U8
    pool: U8
    adapter_id: Bytes256
    addr_family: U8
    dhcp_enabled: U8
    ip_addr: Bytes2048
    sub_net: Bytes2048
    gate_way: Bytes1024
    dns_addr: Bytes2048


class Vss(msgspec.Struct, frozen=True):
    """Operations 2 hot backup check, 5 freeze, 6 thaw and others; `flags` is 5 in the answer to 2."""

    operation: U8Pad7
    flags: U32


class FcopyStart(msgspec.Struct, frozen=True):
    """Operation 0. `copy_flags`: 1 overwrite, 2 create the path."""

    operation: U32
    service_id0: Bytes16
    service_id1: Bytes16
    file_name: Bytes520
    path_name: Bytes520
    copy_flags: U32
    file_size: U64


class FcopyWrite(msgspec.Struct, frozen=True):
    """Operation 1: `data_size` bytes of `data` belong at `offset`."""

    operation: U32
    service_id0: Bytes16
    service_id1: Bytes16Pad4
    offset: U64
    data_size: U32
    data: Bytes6144


class FcopyOp(msgspec.Struct, frozen=True):
    """Operations 2 complete and 3 cancel."""

    operation: U32
    service_id0: Bytes16
    service_id1: Bytes16


Body = (
    Heartbeat
    | Shutdown
    | Timesync
    | TimesyncRef
    | KvpValue
    | KvpDelete
    | KvpEnumerate
    | KvpIpInfo
    | Vss
    | FcopyStart
    | FcopyWrite
    | FcopyOp
)

Applies = Callable[[IcHeader, bytes], bool]


class Row(NamedTuple):
    """One layout: which component, the name of its vectors, its class, bytes that Linux sends (a longer body
    ends in zeros), the least that is accepted (what is missing is zero), and when it applies."""

    kind: IcType
    name: str
    cls: type[Body]
    size: int
    least: int
    applies: Applies = lambda _header, _body: True


def _operation(*numbers: int) -> Applies:
    return lambda _header, body: bool(body) and body[0] in numbers


def _copies(*numbers: int) -> Applies:
    return lambda _header, body: int.from_bytes(body[:4], "little") in numbers


BODIES: Final = (
    Row(IcType.HEARTBEAT, "IC_HEARTBEAT", Heartbeat, 40, 8),
    Row(IcType.SHUTDOWN, "IC_SHUTDOWN", Shutdown, 2060, 2060),
    Row(IcType.TIMESYNC, "IC_TIMESYNC", Timesync, 25, 25, lambda header, _: header.icvermsg_major < 4),
    Row(IcType.TIMESYNC, "IC_TIMESYNC_REF", TimesyncRef, 22, 22),
    Row(IcType.KVP, "IC_KVP_VALUE", KvpValue, 2576, 2576, _operation(0, 1)),
    Row(IcType.KVP, "IC_KVP_DELETE", KvpDelete, 520, 520, _operation(2)),
    Row(IcType.KVP, "IC_KVP_ENUMERATE", KvpEnumerate, 2580, 2580, _operation(3)),
    Row(IcType.KVP, "IC_KVP_IP_INFO", KvpIpInfo, 7428, 7428, _operation(4, 5)),
    Row(IcType.VSS, "IC_VSS", Vss, 12, 12),
    Row(IcType.FCOPY, "IC_FCOPY_START", FcopyStart, 1088, 1088, _copies(0)),
    Row(IcType.FCOPY, "IC_FCOPY_WRITE", FcopyWrite, 6196, 6196, _copies(1)),
    Row(IcType.FCOPY, "IC_FCOPY_OP", FcopyOp, 36, 36, _copies(2, 3)),
)
_PACKING: Final[dict[type[msgspec.Struct], Packing[Body]]] = {row.cls: Packing(row.cls) for row in BODIES}
_ROWS: Final = {row.cls: row for row in BODIES}


def encode(body: Body, size: int | None = None) -> bytes:
    """The bytes of a body, `size` of them, else as many as Linux sends.

    Raises UsageError for a value that does not fit, or a size below the least.
    """
    row = _ROWS[type(body)]
    wanted = row.size if size is None else size
    if wanted < row.least:
        raise UsageError(f"{row.cls.__name__} of {wanted} bytes, at least {row.least}")
    data = _PACKING[type(body)].encode(body)
    if any(data[wanted:]):
        raise UsageError(f"{row.cls.__name__} has more in it than {wanted} bytes can say")
    return data[:wanted].ljust(wanted, b"\0")


def decode(header: IcHeader, body: bytes) -> Body:
    """The body of a message; bytes beyond its layout are ignored, as real guests do.

    Raises ProtocolError for a component or operation without a layout and for a body that is cut short.
    """
    own = body[: header.icmsgsize]
    for row in BODIES:
        if row.kind == header.icmsgtype and row.applies(header, own):
            break
    else:
        raise ProtocolError(f"component message {header.icmsgtype} with operation {own[:4].hex()}")
    if len(own) < row.least:
        raise ProtocolError(f"{row.cls.__name__} needs {row.least} bytes, {len(own)} came")
    return _PACKING[row.cls].decode(own.ljust(row.size, b"\0"))


def utf16(text: str) -> bytes:
    """Text as it stands in a field, NUL included; no text is no bytes."""
    return (text + "\0").encode("utf-16-le") if text else b""


def text_of(raw: bytes) -> str:
    """The text of a field up to its NUL. Raises ProtocolError for bytes that are no UTF-16."""
    units = (raw[at : at + 2] for at in range(0, len(raw) & ~1, 2))
    text = bytearray()
    for unit in units:
        if unit == b"\0\0":
            break
        text += unit
    try:
        return text.decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise ProtocolError(f"no UTF-16: {error}") from error
