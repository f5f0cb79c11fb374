"""Golden vectors of shared memory: SynIC pages, and how a guest signals."""

import struct
from collections.abc import Callable
from typing import Final

from vmbusd.abi import synic
from vmbusd.testing.vector_fields import Fields, each, same, same_bytes, same_structure

Check = Callable[[str, Fields, Fields], None]


def synic_message(_name: str, entry: Fields, fields: Fields) -> None:
    """A slot of the message page."""
    payload, data = fields.hex("payload"), entry.hex("hex")
    same("fields.slot_offset", synic.slot_offset(fields.number("sint")), fields.number("slot_offset"))
    same("fields.payload_size", len(payload), fields.number("payload_size"))
    kind, sender = fields.number("message_type", bits=32), fields.number("sender")
    message = synic.SlotMessage(kind, payload, sender, fields.flag("msg_pending"))
    fields.finish()
    same_bytes("hex", synic.encode_slot(message), data)
    decoded = synic.decode_slot(data)
    same("fields.payload", decoded.payload, payload)
    same_structure(decoded, message)


def event_flag(_name: str, entry: Fields, fields: Fields) -> None:
    """The position of a flag in the event page; there are no bytes."""
    position = synic.flag_position(fields.number("sint"), fields.number("flag"))
    fields.finish()
    for name, value in position._asdict().items():
        same(name, value, entry.number(name))


def post_message(_name: str, entry: Fields, fields: Fields) -> None:
    """The input of HvPostMessage."""
    payload, data = fields.hex("payload"), entry.hex("hex")
    same("fields.call_code", synic.POST_MESSAGE, fields.number("call_code"))
    same("fields.payload_size", len(payload), fields.number("payload_size"))
    kind = fields.number("message_type", bits=32)
    call = synic.PostMessage(fields.number("connection_id", bits=32), payload, kind)
    fields.finish()
    # Some senders hand over the whole 256 bytes of the input.
    same_bytes("hex", synic.encode_post(call).ljust(len(data), b"\0"), data)
    same("fields.payload", synic.decode_post(data).payload, payload)
    same_structure(synic.decode_post(data), call)


def signal_event(_name: str, entry: Fields, fields: Fields) -> None:
    """The input of HvSignalEvent."""
    data = entry.hex("hex")
    same("fields.call_code", synic.SIGNAL_EVENT, fields.number("call_code"))
    call = synic.SignalEvent(fields.number("connection_id", bits=32), fields.number("flag_number", bits=16))
    fields.finish()
    same_bytes("hex", synic.encode_signal(call), data)
    same_structure(synic.decode_signal(data), call)


def guest_signal(_name: str, entry: Fields, fields: Fields) -> None:
    """What a guest writes or calls to signal its host; there are no bytes."""
    monitor = fields.number("monitorid", bits=8)
    ours = synic.guest_signal(
        fields.number("child_relid", bits=32),
        fields.number("connection_id", bits=32),
        dedicated=fields.flag("is_dedicated_interrupt"),
        monitor=monitor if fields.flag("monitor_allocated") else None,
        low_latency=fields.flag("low_latency"),
    )
    fields.finish()
    _writes("interrupt_page_writes", ours.interrupt_page, entry)
    _writes("monitor_page_child_to_parent_writes", ours.monitor_page, entry)
    vector = entry.raw("hypercall")
    call: dict[str, int] | None = None
    if ours.call is not None:
        (register,) = struct.unpack("<Q", synic.encode_signal(ours.call))
        call = {"code": synic.SIGNAL_EVENT, "fast_input": register}
    same("hypercall", call, vector)


def _writes(name: str, ours: tuple[tuple[int, int], ...], entry: Fields) -> None:
    writes = each(entry.objects(name), lambda write: (write.number("offset"), write.number("value")))
    same(name, list(ours), writes)


KINDS: Final[dict[str, Check]] = {
    "SYNIC_MESSAGE": synic_message,
    "EVENT_FLAG": event_flag,
    "POST_MESSAGE_INPUT": post_message,
    "SIGNAL_EVENT_INPUT": signal_event,
    "GUEST_SIGNAL": guest_signal,
}
