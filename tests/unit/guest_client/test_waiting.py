"""Waiting for an answer: what it is, the error that it is, and words when there is none."""

from concurrent.futures import Future

import pytest

from guest_client.waiting import answered
from vmbusd.abi.errors import RefusedError, TimedOut


def test_the_answer_comes_as_it_is() -> None:
    """A result is returned, an error raised; both also when they are there already and nobody may wait."""
    call: Future[int] = Future()
    call.set_result(7)
    assert answered(call, 0, "seven was missing") == 7
    refused: Future[int] = Future()
    refused.set_exception(RefusedError("no"))
    with pytest.raises(RefusedError, match="no"):
        answered(refused, None, "never")


def test_no_answer_in_time_says_what_is_missing() -> None:
    """The error is a TimeoutError too, and the operation goes on: asking again waits for the same answer."""
    call: Future[int] = Future()
    with pytest.raises(TimedOut, match=r"relid 3 was not opened within 0\.01 s; it goes on") as caught:
        answered(call, 0.01, "relid 3 was not opened")
    assert isinstance(caught.value, TimeoutError)
    call.set_result(7)
    assert answered(call, 0.01, "") == 7
