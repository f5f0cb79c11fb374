"""One offer of a device to the guest: what was said about it and what has become of it."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from host_client.channel import Channel
from host_client.device import Device
from vmbusd.abi.errors import TimedOut
from vmbusd.abi.gpadl import Range

ANSWER_TIMEOUT: Final = 60.0
"""Seconds for the daemon's answer to an offer or a revoke: several times what it may be away by default."""


@dataclass(eq=False, slots=True)
class Offer:
    """An offered channel. `id` is the host's own number for it; the guest knows it by its relid once open.

    `channel` is the current open, None while closed; `gpadls` the memory that the guest described on it.
    `result` resolves when the daemon has taken the offer, `gone` when it has been withdrawn.
    """

    id: int
    device: Device
    instance: UUID
    subchannel_index: int
    channel: Channel | None = None
    gpadls: dict[int, list[Range]] = field(default_factory=dict)
    result: "Future[None]" = field(default_factory=Future, repr=False)
    gone: "Future[None] | None" = field(default=None, repr=False)
    torn_down: set[int] = field(default_factory=set, repr=False)
    """GPADLs that the guest took back while the open channel still has its rings there."""


def not_answered(partition: str, offer: Offer, timeout: float | None) -> TimedOut:
    """The error for an offer, or its revoke, to which no answer comes."""
    what = "take the offer" if offer.gone is None else "confirm the revoke"
    return TimedOut(
        f"{partition}: offer {offer.id} ({offer.instance}): "
        f"the daemon did not {what} within {timeout or 0:g} s; it goes on"
    )
