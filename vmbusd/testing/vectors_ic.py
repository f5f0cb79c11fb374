"""Golden vectors of integration components: whole ring payloads, requests and a Linux guest's answers.

The answer to a negotiation stands in the host's own buffer, so what follows its first 16 body bytes are the
host's versions: they are taken from the bytes, and the whole is made again from the request, if the file has
it under the same name with `-request`.
"""

from collections.abc import Callable
from typing import Any, Final

from vmbusd.abi import dev_ic, dev_ic_bodies
from vmbusd.abi.dev_ic import IcHeader, IcType
from vmbusd.abi.dev_ic_bodies import Body
from vmbusd.testing.vector_fields import (
    Fields,
    VectorError,
    same,
    same_bytes,
    same_structure,
    versions,
)

Check = Callable[[str, Fields, Fields], None]

U32: Final = 4
U64_TYPES: Final = (8, 11)
STRING: Final = 1
_TEXTS: Final = frozenset(
    {
        "key",
        "file_name",
        "path_name",
        "adapter_id",
        "ip_addr",
        "sub_net",
        "gate_way",
        "dns_addr",
    }
)
"""Fields of UTF-16 text, written in vectors as the text itself."""


def negotiate(_name: str, entry: Fields, fields: Fields) -> None:
    """What a host offers, or what a guest chose."""
    data = entry.hex("hex")
    header = _header(fields, IcType.NEGOTIATE)
    counts = fields.number("icframe_vercnt", bits=16), fields.number("icmsg_vercnt", bits=16)
    if fields.has("answer_versions"):
        _negotiate_answer(data, header, counts, fields)
        return
    offer = dev_ic.Negotiate(versions(fields, "framework_versions"), versions(fields, "message_versions"))
    fields.finish()
    same("fields.icframe_vercnt", len(offer.frameworks), counts[0])
    same("fields.icmsg_vercnt", len(offer.messages), counts[1])
    body = dev_ic.encode_negotiate(offer)
    same("fields.icmsgsize", len(body), header.icmsgsize)
    same_bytes("hex", dev_ic.encode(header, body), data)
    _, decoded = _decode(data, header)
    same_structure(dev_ic.decode_negotiate(decoded), offer)


def _negotiate_answer(data: bytes, header: IcHeader, counts: tuple[int, int], fields: Fields) -> None:
    chosen = versions(fields, "answer_versions")
    if len(chosen) != 2:
        raise VectorError("fields.answer_versions", f"{len(chosen)} versions, must be 2")
    answer = dev_ic.NegotiateAnswer(fields.flag("negotiated"), *chosen)
    own = versions(fields, "guest_framework_versions"), versions(fields, "guest_message_versions")
    fields.finish()
    same("fields.icframe_vercnt", int(answer.agreed), counts[0])
    same("fields.icmsg_vercnt", int(answer.agreed), counts[1])
    same("fields.icmsgsize", dev_ic.ANSWER_SIZE, header.icmsgsize)
    _, body = _decode(data, header)
    same_structure(dev_ic.decode_answer(body), answer)
    leftover = body[dev_ic.ANSWER_SIZE :]
    same_bytes("hex", dev_ic.encode(header, dev_ic.encode_answer(answer) + leftover), data)
    if answer.agreed:
        for name, one, known in zip(("framework", "message"), chosen, own, strict=True):
            if one not in known:
                raise VectorError("fields.answer_versions", f"{name} version {one} is not the guest's own")


def answers(request: Fields, answer: Fields) -> None:
    """The guest's answer, made from the request that the file has beside it."""
    fields = Fields(answer.raw("fields"), "fields.")
    own = versions(fields, "guest_framework_versions"), versions(fields, "guest_message_versions")
    same_bytes("hex", dev_ic.answer_negotiation(request.hex("hex"), *own), answer.hex("hex"))


def message(name: str, entry: Fields, fields: Fields) -> None:
    """A request or answer with a body."""
    data = entry.hex("hex")
    rows = [row for row in dev_ic_bodies.BODIES if name in (row.name, *ALIASES.get(row.name, ()))]
    header = _header(fields, rows[0].kind)
    body = fields.structure(rows[0].cls, **_texts(rows[0].cls, fields))
    fields.finish()
    encoded = dev_ic_bodies.encode(body, header.icmsgsize)
    same_bytes("hex", dev_ic.encode(header, encoded), data)
    decoded = dev_ic_bodies.decode(*_decode(data, header))
    same_structure(decoded, body)


def _texts(cls: type[Body], fields: Fields) -> dict[str, Any]:
    """The fields of a body that vectors write in another way than as hex."""
    given: dict[str, Any] = {}
    names = cls.__struct_fields__
    for name in names:
        if name in _TEXTS:
            given[name] = dev_ic_bodies.utf16(fields.text(name))
    if "display_message" in names:
        given["display_message"] = _ascii(fields)
    if "value" in names:
        given["value"] = _value(fields)
    if "service_id0" in names:
        for name in ("service_id0", "service_id1"):
            given[name] = fields.guid(name, "00000000-0000-0000-0000-000000000000").bytes_le
    if "data" in names:
        given["data"] = fields.hex("data")
        same("fields.data_size", len(given["data"]), fields.number("data_size", bits=32))
    return given


def _ascii(fields: Fields) -> bytes:
    text = fields.text("display_message_ascii")
    if not text.isascii():
        raise VectorError("fields.display_message_ascii", "is not ASCII")
    return text.encode("ascii")


def _value(fields: Fields) -> bytes:
    """A value of the data exchange: text, or a number in its type's bytes."""
    kind = fields.number("value_type", bits=32)
    if isinstance(fields.raw("value"), int):
        return fields.number("value").to_bytes(8 if kind in U64_TYPES else U32, "little")
    return dev_ic_bodies.utf16(fields.text("value")) if kind in (0, STRING) else fields.hex("value")


def _header(fields: Fields, kind: IcType) -> IcHeader:
    header = fields.structure(IcHeader)
    same("fields.icmsgtype", int(kind), header.icmsgtype)
    return header


def _decode(data: bytes, header: IcHeader) -> tuple[IcHeader, bytes]:
    decoded, body = dev_ic.decode(data)
    same_structure(decoded, header)
    same("fields.pipe_msgsize", len(data) - dev_ic.PIPE_SIZE, header.pipe_msgsize)
    return decoded, body


ALIASES: Final = {
    "IC_KVP_VALUE": ("IC_KVP_GET", "IC_KVP_SET", "IC_KVP_EXCHANGE"),
    "IC_KVP_IP_INFO": ("IC_KVP_GET_IP_INFO", "IC_KVP_SET_IP_INFO"),
}
"""Operations that share a layout, by the names of their own."""

KINDS: Final[dict[str, Check]] = {
    "IC_NEGOTIATE": negotiate,
    **{row.name: message for row in dev_ic_bodies.BODIES},
    **{name: message for names in ALIASES.values() for name in names},
}
