"""Refusal: a message that gets no answer and changes nothing, and the names under which that is counted."""

import enum

from vmbusd.abi.errors import ProtocolError


class Kind(enum.StrEnum):
    """Under which name a refusal is counted, beside those of `wire.Problem`."""

    CONNECTION_ID = "wrong connection id"
    UNKNOWN_CHANNEL = "unknown channel"
    UNKNOWN_GPADL = "unknown GPADL"
    UNKNOWN_OFFER = "unknown offer"
    WRONG_STATE = "wrong state"
    WRONG_TARGET = "wrong target"
    STALE_ANSWER = "stale answer"
    NOT_SUPPORTED = "not supported"
    NOT_TRUSTED = "not trusted"
    PAUSED = "paused"
    TOO_MANY = "too many waiting"


class Refusal(ProtocolError):
    """Raised inside the bus and turned into a `Refused` effect at its border; never leaves it."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
