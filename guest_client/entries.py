"""What the guest's protocol machine knows: the states of a connection, and one entry per channel."""

import enum
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from guest_client.phases import PHASES, Event, Phase
from vmbusd.abi import messages
from vmbusd.abi.errors import UsageError

SOCKET: Final = 0x2000
"""`chn_flags` of an offer that is a socket."""
_FOR_ACCEPT: Final = 4
"""Byte of a socket's `user_defined`: 1 when the host connects to a service of the guest."""


class State(enum.StrEnum):
    """Of the connection."""

    DISCONNECTED = "disconnected"
    CONTACTING = "contacting"
    CONNECTED = "connected"
    SUSPENDING = "suspending"
    SUSPENDED = "suspended"
    UNLOADING = "unloading"


@dataclass(slots=True)
class Entry:
    """One channel.

    `primary`: relid of the device's first channel when this is a subchannel, else 0; `subchannels`: the
    relids of a primary's. `vp`: where it is to be
    interrupted. `event_flag`: chosen for this open, 0: the relid. `opening` is set from an open's begin to
    its end, `failure` while it is being undone. `unwanted`: to be closed as soon as it is open. `dropped`:
    its application has let go for good. `close_sent`: of a STUCK channel, the host knows that it is closed.
    """

    offer: messages.Offer
    phase: Phase = Phase.OFFERED
    primary: int = 0
    subchannels: list[int] = field(default_factory=list)
    vp: int = 0
    gpadl: int = 0
    event_flag: int = 0
    has_memory: bool = False
    opening: messages.Open | messages.Open2 | None = None
    opener: Any = None
    failure: Exception | None = None
    unwanted: bool = False
    dropped: bool = False
    close_sent: bool = False
    closers: list[Any] = field(default_factory=list)
    retargets: deque[tuple[int, Any]] = field(default_factory=deque)

    @property
    def key(self) -> tuple[Any, ...]:
        """What no two living channels share."""
        return (self.offer.if_type, self.offer.if_instance, self.offer.sub_channel_index)

    @property
    def device(self) -> tuple[Any, ...]:
        """What all channels of a device share."""
        return (self.offer.if_type, self.offer.if_instance)

    @property
    def is_living(self) -> bool:
        """Whether the host has not taken it back."""
        return self.may(Event.RESCIND)

    @property
    def is_socket(self) -> bool:
        """Whether it is one end of a socket: opened once, always ended by a rescind (case 198)."""
        return bool(self.offer.chn_flags & SOCKET)

    @property
    def for_accept(self) -> bool:
        """Whether the host connects to a service of the guest, rather than the guest to one of the host."""
        return bool(self.offer.user_defined[_FOR_ACCEPT])

    def is_stray(self, answers: bool) -> bool:
        """Whether it is a socket that neither a connect of ours waits for (`answers`) nor a listener."""
        return self.is_socket and not self.for_accept and not answers

    def may(self, event: Event) -> bool:
        """Can this happen to the channel now?"""
        return event in PHASES[self.phase]

    def step(self, event: Event) -> None:
        """It happened. Raises UsageError when it cannot."""
        if not self.may(event):
            raise UsageError(f"relid {self.offer.child_relid} is {self.phase}: no {event.name}")
        self.phase = PHASES[self.phase][event]
