"""Errors by meaning: whose fault it is, never an errno.

Every error a user of this project can catch derives from `VmbusError`. The class says who has to change
something: `ProtocolError` the peer, `UsageError` the caller, `ResourceError` the machine, `ChannelGone`
and `LinkClosed` nobody (the other side went away, and it says why). `RingDead` is two of them at once.
"""


class VmbusError(Exception):
    """Root of every error raised on purpose by this project."""


class ProtocolError(VmbusError):
    """The peer's fault: bytes, lengths, order or values that the protocol does not allow."""


class UsageError(VmbusError, ValueError):
    """The caller's fault: an argument, a configuration value or a call in the wrong state."""


class ResourceError(VmbusError):
    """The machine's fault: shared memory, descriptors, permissions or a limit that is used up."""


class NoDaemon(ResourceError):
    """Nobody listens where the daemon should: it was not started, or it is being restarted."""


class RingFull(ResourceError):
    """There is no room in the ring, or no transaction id, now; nothing was written. Trying later may do."""


class TimedOut(VmbusError, TimeoutError):
    """The peer did not answer in the time that the caller gave it."""


class RefusedError(VmbusError):
    """The daemon understood and said no; the text is the daemon's own reason.

    `code` is a `link.Code` when a link was refused, a status of the bus when a request was, else 0.
    """

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class LinkClosed(VmbusError):
    """The link to the daemon ended; the text is the reason, as far as it is known."""


class LinkLost(LinkClosed):
    """The link ended without a farewell: the daemon died. Shared memory, so the data path, still works."""


class ChannelGone(VmbusError):
    """The channel was closed or rescinded while, or before, it was used."""


class RingDead(ProtocolError, ChannelGone):
    """The peer broke the ring: its fault, and for this open the end of the channel. The text says how."""


class ObjectDead(VmbusError):
    """A shared object was truncated behind our back; a zero page stands in for it and the link must end."""
