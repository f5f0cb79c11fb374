"""What passes between a connection and those who use it: futures of operations, and who hears of channels."""

from concurrent.futures import Future
from typing import Any, Protocol

from guest_client.channel import Channel
from vmbusd.abi import link
from vmbusd.abi.errors import VmbusError

Call = Future[Any]
"""An operation under way."""


def begun() -> Call:
    """The future of an operation that begins now. Nobody can take it back, so it cannot be cancelled."""
    call: Call = Future()
    call.set_running_or_notify_cancel()
    return call


def finished() -> Call:
    """The future of an operation that had nothing to do."""
    call = begun()
    call.set_result(None)
    return call


class Listener(Protocol):
    """Who hears of channels and of the end, in the link's thread: it must not block."""

    def offered(self, channel: Channel, *, answers: bool) -> None:
        """A new channel; `answers`: somebody asked for this socket and waits for it."""

    def offers_delivered(self) -> None: ...

    def gone(self, channel: Channel, *, released: bool) -> None:
        """A channel was taken away; its relid is to be released when its driver has let go, or is already."""

    def resumed(self, channel: Channel, *, was_open: bool) -> None:
        """A channel is there again after a suspension, closed."""

    def vp_changed(self, changed: link.VpChanged) -> None:
        """Somebody ordered a VP offline or online, or an order of ours is answered."""

    def ended(self, reason: VmbusError) -> None: ...
