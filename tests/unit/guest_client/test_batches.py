"""Pipelined operations: how many are under way, in which order their outcomes come."""

from collections.abc import Callable
from concurrent.futures import Future

import pytest

from guest_client.batches import pipelined
from vmbusd.abi.errors import ChannelGone, UsageError


class Operations:
    """Operations that end when told, in the order of the telling."""

    def __init__(self) -> None:
        self.begun: list[Future[None]] = []
        self.most = 0

    def begin(self) -> "Future[None]":
        future: Future[None] = Future()
        self.begun.append(future)
        under_way = [future for future in self.begun if not future.done()]
        self.most = max(self.most, len(under_way))
        if len(under_way) == 3:
            # The newest ends first; the oldest is what the window waits for.
            for ended in reversed(under_way):
                ended.set_result(None)
        return future


def test_a_window_of_operations_is_under_way() -> None:
    """Never more than the window is under way, and every one has its outcome."""
    operations = Operations()

    assert list(pipelined([operations.begin] * 9, window=3)) == [None] * 9
    assert operations.most == 3


def test_outcomes_come_in_order_with_their_errors() -> None:
    """An operation that cannot begin, or fails, is an error in its own place; the others go on."""

    def done(error: Exception | None) -> "Callable[[], Future[None]]":
        future: Future[None] = Future()
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
        return lambda: future

    def refused() -> "Future[None]":
        raise UsageError("cannot begin")

    gone = ChannelGone("rescinded")
    outcomes = list(pipelined([done(None), refused, done(gone), done(None)], window=2))

    assert outcomes[0] is None
    assert isinstance(outcomes[1], UsageError)
    assert outcomes[2] is gone
    assert outcomes[3] is None


def test_a_window_below_one_is_refused() -> None:
    """Nothing could ever be under way."""
    with pytest.raises(UsageError, match="window 0"):
        list(pipelined([], window=0))
