"""Which answer belongs to which question, on the guest's side and the hosts': bookkeeping of `script`."""

import msgspec

from vmbusd.abi import device_link, messages

Key = tuple[str, int, int]
Question = tuple[int, Key]
"""The host that was asked, and what."""


def asked_key(message: device_link.ToHost) -> Key:
    """What identifies a question to a device: kind, offer, generation or GPADL handle."""
    match message:
        case device_link.Open() | device_link.Close() | device_link.Retarget():
            return type(message).__name__, message.offer_id, message.generation
        case device_link.Gpadl() | device_link.Teardown():
            return type(message).__name__, message.offer_id, message.gpadl
        case device_link.Withdraw():
            return "Withdraw", message.offer_id, 0
    raise AssertionError(message)


def answered_key(message: device_link.FromHost) -> Key:
    """The question that a device's message answers."""
    match message:
        case device_link.Opened():
            return "Open", message.offer_id, message.generation
        case device_link.Closed():
            return "Close", message.offer_id, message.generation
        case device_link.Retargeted():
            return "Retarget", message.offer_id, message.generation
        case device_link.GpadlAccepted():
            return "Gpadl", message.offer_id, message.gpadl
        case device_link.GpadlTornDown():
            return "Teardown", message.offer_id, message.gpadl
        case device_link.Revoke():
            return "Withdraw", message.offer_id, 0
    return "nothing", 0, 0


def request_key(message: msgspec.Struct) -> Key | None:
    """What identifies a guest's request that has an answer. A relid has one open and one modify at a time."""
    match message:
        case messages.Open() | messages.Open2() | messages.OpenReserved():
            return "open", message.child_relid, 0
        case messages.ModifyChannel(child_relid=relid):
            return "modify", relid, 0
        case messages.GpadlHeader(child_relid=relid, gpadl=handle):
            return "gpadl", relid, handle
        case messages.GpadlTeardown(gpadl=handle):
            return "teardown", 0, handle
    return None


def response_key(message: msgspec.Struct) -> Key | None:
    """The request that a message to the guest answers."""
    match message:
        case messages.OpenResult(child_relid=relid):
            return "open", relid, 0
        case messages.ModifyChannelResponse(child_relid=relid):
            return "modify", relid, 0
        case messages.GpadlCreated(child_relid=relid, gpadl=handle):
            return "gpadl", relid, handle
        case messages.GpadlTorndown(gpadl=handle):
            return "teardown", 0, handle
    return None
