"""Waiting for what was asked of the host: with a limit, and with words for when that is reached."""

from concurrent.futures import Future, wait
from typing import TypeVar

from vmbusd.abi.errors import TimedOut

Answer = TypeVar("Answer")


def answered(call: "Future[Answer]", timeout: float | None, missing: str) -> Answer:
    """What `call` came to, or the error that it came to.

    Raises TimedOut, saying what is `missing`, after `timeout` seconds (None: never). The operation goes on.
    """
    if not wait([call], timeout).done:
        raise TimedOut(f"{missing} within {timeout or 0:g} s; it goes on")
    return call.result()
