"""A link without its socket: when the next attempt to come back is due, and when it is too late.

Holds times only; `vmbusd.abi.lasting` makes the attempts. Seconds of the monotonic clock.
"""

from typing import Final

from vmbusd.abi.attach import WELCOME_TIMEOUT

FIRST_RETRY: Final = 0.005
LAST_RETRY: Final = 0.1
"""Seconds between attempts to connect, doubling from first to last: a daemon that comes back is met soon, one
that does not costs nothing.
"""


class Away:
    """One absence, from the loss of a socket on.

    Attributes: `why`, how the socket was lost; `grace`, how many seconds the daemon keeps the link.
    """

    def __init__(self, why: str, grace: float, now: float) -> None:
        self.why = why
        self.grace = grace
        self._until = now + grace
        self._next = now
        self._delay = FIRST_RETRY
        self._answer_by: float | None = None

    def is_over(self, now: float) -> bool:
        """Whether the daemon has given the link up by now."""
        return now >= self._until

    def may_try(self, now: float) -> bool:
        """Whether it is time to connect."""
        return now >= self._next

    def asked(self, now: float) -> None:
        """A hello is out: its answer is waited for."""
        self._answer_by = now + WELCOME_TIMEOUT

    def is_unanswered(self, now: float) -> bool:
        """Whether the hello was asked in vain."""
        return self._answer_by is not None and now >= self._answer_by

    def failed(self, now: float) -> None:
        """This attempt led to nothing: the next is due later, and each time more so."""
        self._answer_by = None
        self._next = now + self._delay
        self._delay = min(2 * self._delay, LAST_RETRY)

    def due(self, now: float) -> float:
        """Seconds until something of this is to be done, at least 0."""
        at = self._next if self._answer_by is None else self._answer_by
        return max(0.0, min(at, self._until) - now)
