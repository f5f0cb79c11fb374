"""Who in this process waits for the completion of which request.

The table of outstanding requests holds a word of the sender's for each id; here the word leads to a future.
The word, not the id, because an id is used again while a late answer may still come.
"""

from concurrent.futures import Future
from itertools import count

from vmbusd.abi.errors import ChannelGone


class Answers:
    """Futures by word; safe to use from any thread. `late`: answers that nobody waited for any more."""

    def __init__(self, first_word: int = 1) -> None:
        """Words count from `first_word`, at least 1: a request without a word has 0."""
        self.late = 0
        self._words = count(first_word)
        self._futures: dict[int, Future[bytes]] = {}

    def begin(self) -> "tuple[int, Future[bytes]]":
        """A word for a request, and the future of its answer."""
        word, future = next(self._words), Future[bytes]()
        self._futures[word] = future
        return word, future

    def give(self, word: int, payload: bytes) -> None:
        """The answer to the request with this word has come."""
        future = self._futures.pop(word, None)
        if future is None:
            self.late += 1
        elif future.set_running_or_notify_cancel():
            future.set_result(payload)

    def forget(self, future: "Future[bytes]") -> None:
        """Nobody waits for this one any more."""
        for word, other in list(self._futures.items()):
            if other is future:
                self._futures.pop(word, None)

    def fail(self, reason: str) -> None:
        """Nothing will be answered any more: whoever waits gets ChannelGone with this reason."""
        futures, self._futures = self._futures, {}
        for future in futures.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(ChannelGone(reason))
