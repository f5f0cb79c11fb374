"""The sans-IO half of a link that outlives its socket: numbers, what is kept, what is confirmed.

Both ends of a resumable link use it alike. Packets that belong to the session carry the numbers 1, 2, 3 ...
of their direction in their header; a number of 0 marks what lives and dies with one socket (hello, welcome,
host link, farewell, confirmation). A sender keeps each packet until it is confirmed, and has at most WINDOW
of them sent and unconfirmed; the rest waits, in order. A receiver takes each number once, in order, and
confirms at least every CONFIRM_EVERY. When a socket is lost both ends say on the next one what they took
last, and the sender goes on behind that. Source: docs/design.md section 4, docs/sockets.md "A link that lives
on".
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec

from vmbusd.abi import link
from vmbusd.abi.errors import ProtocolError

WINDOW: Final = 64
"""Packets sent and not confirmed: bounds what a peer can make us hold for it, and what a resume sends again.
"""
CONFIRM_EVERY: Final = 32
"""Half a window: the sender never has to stop while its peer keeps up."""


class SessionState(msgspec.Struct, frozen=True):
    """One end of a session as plain data: the last number taken, the last one the peer confirmed, and the
    packets after that, sent or not.
    """

    received: int
    confirmed: int
    packets: tuple[bytes, ...]


class Session:
    """One end of a session. Not thread-safe.

    Attributes: `received`, the last number taken from the peer; `confirmed`, the last of ours that it
    confirmed; `sent`, the last of ours that was handed to the socket of now; `last`, the last of ours;
    `queued`, bytes of the packets that are kept.
    """

    __slots__ = ("_kept", "_told", "confirmed", "last", "queued", "received", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.confirmed = 0
        self.sent = 0
        self.last = 0
        self.queued = 0
        self._told = 0
        self._kept: deque[bytes] = deque()

    # -- out -----------------------------------------------------------------------------------------------

    def number(self) -> int:
        """The number that the next posted packet must have in its header."""
        return self.last + 1

    def post(self, packet: bytes) -> None:
        """Keep a packet, numbered `number()`, until it is confirmed, and send it when its turn comes."""
        self.last += 1
        self.queued += len(packet)
        self._kept.append(packet)

    def stamp_and_post(self, packet: bytes) -> None:
        """As `post`, for a packet that was encoded without a number."""
        self.post(link.renumber(packet, self.last + 1))

    @property
    def waiting(self) -> int:
        """How many packets of ours the socket of now has not got yet."""
        return self.last - self.sent

    @property
    def may_send(self) -> bool:
        """Whether one of them may go now."""
        return self.sent < self.last and self.sent - self.confirmed < WINDOW

    def peek(self) -> bytes | None:
        """The packet that may go next, None if there is none or the window is full."""
        return self._kept[self.sent - self.confirmed] if self.may_send else None

    def shift(self) -> None:
        """What `peek` showed was handed to the socket."""
        self.sent += 1

    def due(self, before: int | None = None) -> Iterator[bytes]:
        """Every packet that may go now, of those with numbers below `before`; each counts as handed to the
        socket."""
        first = self.sent - self.confirmed
        end = WINDOW if before is None else min(WINDOW, before - 1 - self.confirmed)
        burst = list(islice(self._kept, first, end)) if self.may_send and end > first else []
        self.sent += len(burst)
        return iter(burst)

    def take_confirmation(self, received: int) -> None:
        """The peer has everything up to `received`. Raises ProtocolError for what was never sent."""
        if received > self.sent:
            raise ProtocolError(f"packet {received} is confirmed, {self.sent} is the last one sent")
        self._forget(received)

    def _forget(self, received: int) -> None:
        while self.confirmed < received:
            self.confirmed += 1
            self.queued -= len(self._kept.popleft())

    # -- in ------------------------------------------------------------------------------------------------

    def take(self, number: int) -> bool:
        """Whether the packet of this number is new: handle it then, and drop it otherwise.

        Raises ProtocolError for a number with a gap before it, for 0, and for more than a window.
        """
        if number == self.received + 1:
            if number > self._told + WINDOW:
                raise ProtocolError(f"packet {number} came while {self._told} was the last one confirmed")
            self.received = number
            return True
        if not number:
            raise ProtocolError("a packet without a number")
        if number > self.received:
            raise ProtocolError(f"packet {number} came after {self.received}")
        return False

    def confirmation(self, *, idle: bool = False) -> int | None:
        """The number to confirm now, None if none is due; when `idle`, whatever is unconfirmed is."""
        unconfirmed = self.received - self._told
        return self.received if unconfirmed >= CONFIRM_EVERY or (idle and unconfirmed) else None

    def told(self, received: int) -> None:
        """The peer is being told that we have everything up to `received`."""
        self._told = received

    # -- the next socket -----------------------------------------------------------------------------------

    def check_resume(self, received: int) -> None:
        """Raises ProtocolError if a peer that took `received` last cannot be continued with."""
        if not self.confirmed <= received <= self.last:
            raise ProtocolError(
                f"a resume after packet {received}: between {self.confirmed} and {self.last} is possible"
            )

    def resume(self, received: int) -> None:
        """Go on over a new socket, with a peer that took `received` last and hears now what we took.

        Raises as `check_resume`, and changes nothing then.
        """
        self.check_resume(received)
        self._forget(received)
        self.sent = received
        self._told = self.received

    # -- as data -------------------------------------------------------------------------------------------

    def save(self) -> SessionState:
        """Everything that must survive this process."""
        return SessionState(self.received, self.confirmed, tuple(self._kept))

    @classmethod
    def restore(cls, state: SessionState) -> "Session":
        """A session that waits for its `resume`. Raises ProtocolError for data that no session saved."""
        if state.received < 0 or state.confirmed < 0:
            raise ProtocolError(f"session: received {state.received}, confirmed {state.confirmed}")
        made = cls()
        made.received = made._told = state.received
        made.confirmed = made.sent = made.last = state.confirmed
        for packet in state.packets:
            if link.decode_header(packet).sequence != made.number():
                raise ProtocolError(f"session: packet {made.number()} has another number")
            made.post(packet)
        return made
