"""Tokens: what a link that lost its socket shows to be that link again.

A token is 128 random bits of one link. It is good for this link's partition, role and process only, it is
replaced by each resume, and no log ever shows it. The one before stays good until a packet came over the new
socket: the welcome that carried the new one may never have arrived. Who guesses is not helped by speed:
after a few wrong tokens of one uid, each further one is answered late. Source: docs/design.md section 4.
"""

import os
from collections import deque
from typing import TYPE_CHECKING, Final

from vmbusd.server import limits

if TYPE_CHECKING:
    from vmbusd.server.attached import Attached

TOKEN_SIZE: Final = 16
NO_TOKEN: Final = bytes(TOKEN_SIZE)


class Tokens:
    """The tokens of one partition's links, by value."""

    def __init__(self) -> None:
        self._links: dict[bytes, Attached] = {}

    def __len__(self) -> int:
        return len(self._links)

    def issue(self, attached: "Attached", shown: bytes = NO_TOKEN) -> None:
        """Give a link its next token. The one that it has just `shown` stays good until `heard`."""
        self.give(attached, os.urandom(TOKEN_SIZE), shown)

    def give(self, attached: "Attached", token: bytes, shown: bytes = NO_TOKEN) -> None:
        """As `issue`, with a token that was drawn before."""
        kept = tuple(old for old in attached.tokens if old == shown)
        self.drop(attached)
        attached.tokens = (*kept, token)
        for each in attached.tokens:
            self._links[each] = attached

    def heard(self, attached: "Attached") -> None:
        """A packet came over the socket that was welcomed with the newest token: no older one is good."""
        self.give(attached, attached.tokens[-1])

    def drop(self, attached: "Attached") -> None:
        """The link is over."""
        for token in attached.tokens:
            del self._links[token]
        attached.tokens = ()

    def find(self, token: bytes) -> "Attached | None":
        """The link that this is a good token of."""
        return self._links.get(token)


class WrongTokens:
    """Counts the wrong tokens of each uid."""

    def __init__(self) -> None:
        self._seen: dict[int, deque[float]] = {}

    def delay(self, uid: int, now: float) -> float:
        """Another wrong one at `now`; returns the seconds to wait before saying so."""
        if uid not in self._seen and len(self._seen) >= limits.WRONG_TOKEN_UIDS:
            self._forget(now)
        times = self._seen.setdefault(uid, deque(maxlen=limits.WRONG_TOKENS))
        is_many = len(times) == limits.WRONG_TOKENS and now - times[0] < limits.WRONG_TOKEN_WINDOW
        times.append(now)
        return limits.WRONG_TOKEN_DELAY if is_many else 0.0

    def _forget(self, now: float) -> None:
        kept = {
            uid: times for uid, times in self._seen.items() if now - times[-1] < limits.WRONG_TOKEN_WINDOW
        }
        # So many uids within one window: whoever came first is forgotten, not whoever comes now refused.
        self._seen = dict(list(kept.items())[-limits.WRONG_TOKEN_UIDS // 2 :])
