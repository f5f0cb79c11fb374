"""What the guest's half of the protocol wants done, as data, to be done in the order of the list."""

from typing import Any

import msgspec

from vmbusd.abi import messages


class Post(msgspec.Struct, frozen=True):
    """Send one channel message to message connection `connection`."""

    connection: int
    data: bytes


class Offered(msgspec.Struct, frozen=True):
    """A channel exists now; find it a driver."""

    offer: messages.Offer


class OffersDelivered(msgspec.Struct, frozen=True):
    """The first list is complete; what comes later is hot-added."""


class Opened(msgspec.Struct, frozen=True):
    """The channel is open; its slot tells the generation."""

    relid: int


class Detach(msgspec.Struct, frozen=True):
    """Call nothing of this channel any more."""

    relid: int


class Watch(msgspec.Struct, frozen=True):
    """Call `Client.quiet(relid)` once the slot is seen closed and then the claim is seen free."""

    relid: int


class Free(msgspec.Struct, frozen=True):
    """Nobody uses the ring memory of this channel any more."""

    relid: int


class Gone(msgspec.Struct, frozen=True):
    """The channel was rescinded and is at rest: call `Client.release(relid)` when its driver has let go."""

    relid: int


class Done(msgspec.Struct, frozen=True):
    """The operation that was begun with `token` has ended, with `error` if it failed."""

    token: Any
    error: Exception | None = None


class Refused(msgspec.Struct, frozen=True):
    """A message of the daemon was ignored: count it under `kind`, log `reason` once per kind."""

    kind: str
    reason: str


Action = Post | Offered | OffersDelivered | Opened | Detach | Watch | Free | Gone | Done | Refused
