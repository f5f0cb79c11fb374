"""Golden vectors of device channels: VSTOR, NVSP, RNDIS and pipe packets as ring payloads."""

import struct
from collections.abc import Callable
from typing import Final

from vmbusd.abi import dev_nvsp, dev_pipe, dev_rndis, dev_vstor
from vmbusd.abi.dev_vstor import Operation
from vmbusd.testing.vector_fields import Fields, VectorError, same, same_bytes, same_structure

Check = Callable[[str, Fields, Fields], None]

VSTOR_ANSWERS: Final[tuple[tuple[str, int, type[dev_vstor.Union]], ...]] = (
    ("srb_status", Operation.EXECUTE_SRB, dev_vstor.Srb),
    ("max_channel_cnt", Operation.QUERY_PROPERTIES, dev_vstor.Properties),
    ("primary_active", Operation.FC_HBA_DATA, dev_vstor.Wwn),
)
"""A completion says nothing about the request it answers: here its fields do."""


def vstor_packet(_name: str, entry: Fields, fields: Fields) -> None:
    """A packet of the SCSI controller, requests by operation and answers by what is in them."""
    data = entry.hex("hex")
    operation = fields.number("operation", bits=32)
    flags, status = fields.number("flags", bits=32), fields.number("status", bits=32)
    answers: int | None = None
    cls: type[dev_vstor.Union]
    cls = dev_vstor.REQUESTS.get(operation, dev_vstor.Nothing)
    if operation == Operation.COMPLETE_IO:
        answers = Operation.BEGIN_INIT
        for field, answered, body in VSTOR_ANSWERS:
            if fields.has(field):
                answers, cls = answered, body
    if cls is dev_vstor.Srb and len(data) == dev_vstor.OLD_PACKET_SIZE:
        cls = dev_vstor.OldSrb
    packet = dev_vstor.VstorPacket(operation, flags, status, fields.structure(cls))
    fields.finish()
    same_bytes("hex", dev_vstor.encode(packet, len(data)), data)
    decoded = dev_vstor.decode(data, answers)
    same("hex", (decoded.operation, decoded.flags, decoded.status), (operation, flags, status))
    same_structure(decoded.body, packet.body)


def nvsp_message(_name: str, entry: Fields, fields: Fields) -> None:
    """A message of the network adapter, in a union of any size."""
    data = entry.hex("hex")
    number = fields.number("msg_type", bits=32)
    cls = dev_nvsp.MESSAGES.get(number)
    if cls is None:
        raise VectorError("fields.msg_type", f"{number} is no NVSP message")
    message: dev_nvsp.Message
    if cls is dev_nvsp.SendIndirectionTable:
        table = fields.numbers("table", bits=32)
        start = fields.number("offset", bits=32)
        head = start - dev_nvsp.TABLE_START
        if head < 0:
            raise VectorError("fields.offset", f"{start} is inside the message's head")
        rest = bytes(head) + struct.pack(f"<{len(table)}I", *table)
        message = fields.structure(cls, offset=start, rest=rest)
        same("fields.table", list(message.table()), table)
    else:
        message = fields.structure(cls)
    fields.finish()
    same_bytes("hex", dev_nvsp.encode(message, len(data)), data)
    same_structure(dev_nvsp.decode(data), message)


def rndis_message(_name: str, entry: Fields, fields: Fields) -> None:
    """An RNDIS message: header, body as hex, tail; the fields of its body may be there by name too."""
    data = entry.hex("hex")
    number, size = fields.number("ndis_msg_type", bits=32), fields.number("msg_len", bits=32)
    body, tail = fields.hex("body_words"), fields.hex("tail")
    same_bytes("hex", dev_rndis.HEADER.pack(number, size) + body + tail, data)
    if number not in dev_rndis.MESSAGES:
        raise VectorError("fields.ndis_msg_type", f"{number:#x} is no RNDIS message")
    message = dev_rndis.decode(data)
    same("fields.ndis_msg_type", type(message).__name__, dev_rndis.MESSAGES[number].__name__)
    same("fields.tail", message.tail, tail)
    for name in message.__struct_fields__:
        if name != "tail" and fields.has(name):
            same(f"fields.{name}", getattr(message, name), fields.number(name, bits=32))
    fields.finish()
    same_bytes("hex", dev_rndis.encode(message), data)


def pipe_packet(_name: str, entry: Fields, fields: Fields) -> None:
    """A pipe header and its data."""
    data = entry.hex("hex")
    kind, size = fields.number("pkt_type", bits=32), fields.number("data_size", bits=32)
    packet = dev_pipe.PipePacket(kind, size, fields.hex("data"))
    fields.finish()
    same_bytes("hex", dev_pipe.encode(packet), data)
    same_structure(dev_pipe.decode(data), packet)


KINDS: Final[dict[str, Check]] = {
    "VSTOR_PACKET": vstor_packet,
    "NVSP_MESSAGE": nvsp_message,
    "RNDIS_MESSAGE": rndis_message,
    "PIPE_PACKET": pipe_packet,
}
