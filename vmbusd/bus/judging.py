"""Judging: whether a `SavedBus` could have been saved by a bus of these options. Trusts nothing in it.

Rules. Types and ranges were checked when it was decoded; here is what its parts say of each other. A state
that no bus can reach is refused, also where it would do no harm now: what a channel waits for must be under
way, or it waits for ever. Channels are judged by `judging_channels`. Source: `channels.TRANSITIONS`, the
modules of the parts, cases 203, 211-214.
"""

from vmbusd.abi import messages, wire
from vmbusd.abi.errors import ProtocolError
from vmbusd.bus.negotiation import Contact
from vmbusd.bus.options import BusOptions
from vmbusd.bus.saved import SavedBus


def judge(saved: SavedBus, vps: int, ram_pages: int, options: BusOptions) -> None:
    """Raises SavedError naming the first field that cannot be."""


def contact_in(data: bytes) -> Contact:
    """The contact in these bytes. Raises ProtocolError when they are none."""
    message = wire.decode(data, wire.NOT_CONNECTED)
    if not isinstance(message, Contact):
        raise ProtocolError(f"{type(message).__name__} is no contact")
    return message


def socket_request_in(data: bytes, version: int) -> messages.TlConnect | messages.TlConnect2:
    """The connect in these bytes. Raises ProtocolError when they are none."""
    message = wire.decode(data, version)
    if not isinstance(message, messages.TlConnect | messages.TlConnect2):
        raise ProtocolError(f"{type(message).__name__} is no socket connect")
    return message
