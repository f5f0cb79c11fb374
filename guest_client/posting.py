"""Posting to a port that is out of buffers: when to try again, and when to give up (case 294).

Linux tries HvPostMessage 100 times, after 1 microsecond, 2, 4 and so on up to 2 seconds, which makes about
three minutes; our port is a socket, and running out of buffers is ENOBUFS. A full socket is something else:
it says by itself when it has room. Source: Linux 6.1 connection.c vmbus_post_msg.
"""

from typing import Final

TRIES: Final = 100
FIRST_DELAY: Final = 1e-6
DOUBLINGS: Final = 21


class Backoff:
    """The tries of the message at the head of a queue."""

    __slots__ = ("failures",)

    def __init__(self) -> None:
        self.failures = 0

    def failed(self) -> float | None:
        """The port had no buffers: seconds until the next try, None when it is time to give up."""
        self.failures += 1
        if self.failures >= TRIES:
            self.failures = 0
            return None
        return FIRST_DELAY * (1 << min(self.failures - 1, DOUBLINGS))

    def succeeded(self) -> None:
        """The message is out, the next one begins anew."""
        self.failures = 0
