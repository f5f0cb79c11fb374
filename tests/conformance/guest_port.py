"""The port that a guest's client posts to, as a script wants it: ready, out of buffers, closed, refusing.

What HvPostMessage may answer: no buffers now (`port busy`), no such connection (`port closed`), or another
error (`port refuses`). The first is tried again, ever later, as Linux does; so is the second, but for a
contact; the third is final.
"""

from collections import deque
from collections.abc import Callable

from guest_client.posting import Backoff
from vmbusd.abi.errors import ResourceError, VmbusError

CONTACT = 14


class Port:
    """Messages on their way. `deliver` gets what goes out, `failed` what never will, with the reason.

    Attributes: `mode`; `now`, seconds; `tries`, of all messages together.
    """

    def __init__(
        self, deliver: Callable[[int, bytes], None], failed: Callable[[bytes, VmbusError], None]
    ) -> None:
        self.mode = "ready"
        self.now = 0.0
        self.tries = 0
        self._deliver = deliver
        self._failed = failed
        self._queue: deque[tuple[int, bytes]] = deque()
        self._backoff = Backoff()
        self._due = 0.0

    def post(self, connection: int, data: bytes) -> None:
        """A message of the client."""
        self._queue.append((connection, data))
        if len(self._queue) == 1:
            self._due = self.now
            self._try()

    def next_try(self) -> float | None:
        """When the first message that waits is tried again."""
        return self._due if self._queue else None

    def advance(self, now: float) -> None:
        """It is `now`; to be called at every `next_try`."""
        self.now = now
        if self._queue and self._due <= now:
            self._try()

    def _try(self) -> None:
        while self._queue:
            connection, data = self._queue[0]
            self.tries += 1
            if self.mode == "ready":
                self._backoff.succeeded()
                self._queue.popleft()
                self._deliver(connection, data)
                continue
            is_contact = int.from_bytes(data[:4], "little") == CONTACT
            final = self.mode == "refuses" or (self.mode == "closed" and is_contact)
            delay = None if final else self._backoff.failed()
            if delay is not None:
                self._due = self.now + delay
                return
            self._backoff.succeeded()
            self._queue.popleft()
            self._failed(data, ResourceError(f"the port is {self.mode}"))
