"""One offer of a device to the guest: what was said about it and what has become of it."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from host_client.channel import Channel
from host_client.device import Device
from vmbusd.abi.gpadl import Range

REVOKE_TIMEOUT: Final = 60.0
"""Seconds for the daemon's answer to a revoke: several times as long as a daemon may be away by default."""


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


def not_revoked(partition: str, offer: Offer, timeout: float | None) -> str:
    """What is to be said when the answer to a revoke does not come."""
    return (
        f"{partition}: offer {offer.id} ({offer.instance}): "
        f"the daemon did not confirm the revoke within {timeout or 0:g} s; it goes on"
    )
