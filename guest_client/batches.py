"""Many operations with a bounded number under way: what each came to, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future

from guest_client.channel import OPEN_TIMEOUT
from guest_client.waiting import answered
from vmbusd.abi.errors import UsageError, VmbusError

Outcome = Exception | None


def pipelined(operations: Iterable[Callable[[], "Future[None]"]], window: int) -> Iterator[Outcome]:
    """Begin operations in order, wait for the oldest when `window` are under way.

    Yields None or the error of each, TimedOut too. Raises UsageError for a window below 1.
    """
    if window < 1:
        raise UsageError(f"window {window} must be at least 1")
    under_way: deque[Future[None] | VmbusError] = deque()
    for operation in operations:
        if len(under_way) >= window:
            yield _outcome(under_way.popleft())
        try:
            under_way.append(operation())
        except VmbusError as error:
            under_way.append(error)
    yield from map(_outcome, under_way)


def _outcome(begun: "Future[None] | VmbusError") -> Outcome:
    if isinstance(begun, VmbusError):
        return begun
    try:
        answered(begun, OPEN_TIMEOUT, "one of several was not answered")
    except VmbusError as error:
        return error
    return None
