"""What the guest's half of the protocol wants done, as data, to be done in the order of the list."""

from typing import Any

import msgspec

from vmbusd.abi import messages


class Post(msgspec.Struct, frozen=True):
    """Send one channel message to message connection `connection`."""

    connection: int
    data: bytes


class Offered(msgspec.Struct, frozen=True):
    """A channel exists now; find it a driver.

    `primary`: relid of the channel that it is a subchannel of, 0 for a device; `vp`: where its interrupts
    should go; `answers`: it is what a socket connect of ours asked for, whose `Done` follows.
    """

    offer: messages.Offer
    primary: int = 0
    vp: int = 0
    answers: bool = False


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
    """The channel was taken away and is at rest.

    Call `Client.release(relid)` when its driver has let go, unless it is `released` already.
    """

    relid: int
    released: bool = False


class Suspended(msgspec.Struct, frozen=True):
    """The host was left. The channels with these relids are yet to be `Resumed` or `Missing`; until then a
    relid means nothing."""

    relids: tuple[int, ...]


class Missing(msgspec.Struct, frozen=True):
    """A channel of before the suspension was not offered again: it is gone."""

    was: int


class Resumed(msgspec.Struct, frozen=True):
    """The channel that was `was` before the suspension is there again, with what the new offer says."""

    was: int
    offer: messages.Offer


class Done(msgspec.Struct, frozen=True):
    """The operation that was begun with `token` has ended, with `error` if it failed.

    `relid`: the channel that a socket connect got, else 0; `answered`: False when nobody answered and we go
    on all the same (case 172).
    """

    token: Any
    error: Exception | None = None
    relid: int = 0
    answered: bool = True


class Refused(msgspec.Struct, frozen=True):
    """A message of the daemon was ignored: count it under `kind`, log `reason` once per kind."""

    kind: str
    reason: str


Action = (
    Post
    | Offered
    | OffersDelivered
    | Opened
    | Detach
    | Watch
    | Free
    | Gone
    | Suspended
    | Missing
    | Resumed
    | Done
    | Refused
)
