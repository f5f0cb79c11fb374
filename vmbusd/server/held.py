"""Held: what faults keep back of one link, each way, in order.

What comes behind a packet that is kept back waits behind it. Coming in, none of it is taken yet: a peer whose
link is lost meanwhile sends it again. Going out, a packet of a session has its number already and waits where
it waits to be confirmed, so a delay ends with the daemon and loses nothing. What is kept back when a link
ends has never been said. Source: docs/faults.md.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from vmbusd.abi import link
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.link import Kind
from vmbusd.abi.session import WINDOW
from vmbusd.server import limits

if TYPE_CHECKING:
    from vmbusd.server.attached import Attached


class Held:
    """The packets of one link that wait for their time.

    Attributes: `queued`, what waits to be sent on a plain link, in bytes and the cost of packets.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, attached: "Attached") -> None:
        self.queued = 0
        self._loop = loop
        self._attached = attached
        # Each with the time at which it may be taken; None until it is the first and was judged.
        self._heard: deque[tuple[link.Header, bytes, float | None]] = deque()
        self._numbers: deque[tuple[int, float]] = deque()
        self._said: deque[tuple[bytes, float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._letting_in = False

    # -- in ------------------------------------------------------------------------------------------------

    def hear(self, header: link.Header, data: bytes) -> None:
        """A packet came: it is taken when all before it are, and when its time has come.

        Raises ProtocolError for more than a window of them.
        """
        if self._heard and header.kind == Kind.DETACHED:
            # What it said before, and nobody looked at, does not count any more.
            self._attached.handle(header, data)
            return
        if self._attached.session is not None and len(self._heard) >= WINDOW:
            raise ProtocolError(f"more than {WINDOW} packets that nobody has confirmed")
        self._heard.append((header, data, None))
        self.let_in()

    def let_in(self) -> None:
        """Take what may be taken, as long as the link takes anything."""
        if self._letting_in:
            return
        self._letting_in = True
        try:
            while self._heard and self._attached.takes and self._is_first_due():
                header, data, _ = self._heard.popleft()
                self._attached.in_order(self._attached.take, header, data)
        finally:
            self._letting_in = False
            self._set_timer()
        if self._attached.linked:
            self._attached.read_on(self._attached.takes and not self._heard)

    def _is_first_due(self) -> bool:
        header, data, due = self._heard[0]
        if due is None:
            seconds = self._attached.judge(header, data)
            if seconds < 0:
                self._heard.popleft()
                self._attached.in_order(self._attached.pass_over, header, data)
                return bool(self._heard) and self._is_first_due()
            due = self._loop.time() + seconds
            self._heard[0] = header, data, due
            return not seconds
        return due <= self._loop.time()

    def forget_heard(self) -> None:
        """None of it was taken, and its sender sends it again."""
        self._heard.clear()
        self._set_timer()

    # -- out -----------------------------------------------------------------------------------------------

    @property
    def before(self) -> int | None:
        """The number of the first packet of the session that may not be sent, None if all may."""
        return self._numbers[0][0] if self._numbers else None

    @property
    def says(self) -> bool:
        """Whether something waits to be sent on a plain link."""
        return bool(self._said)

    def hold(self, number: int, seconds: float) -> None:
        """Packet `number` of the session, which is about to be posted, may be sent so much later."""
        self._numbers.append((number, self._loop.time() + seconds))
        self._set_timer()

    def say_later(self, packet: bytes, seconds: float) -> None:
        """Send a packet of a plain link so much later, and behind what waits already."""
        self._said.append((packet, self._loop.time() + seconds))
        self.queued += len(packet) + limits.QUEUE_PACKET_COST
        self._set_timer()

    def _let_out(self) -> None:
        now = self._loop.time()
        while self._numbers and self._numbers[0][1] <= now:
            self._numbers.popleft()
        while self._said and self._said[0][1] <= now:
            packet, _ = self._said.popleft()
            self.queued -= len(packet) + limits.QUEUE_PACKET_COST
            if self._attached.wire is not None:
                self._attached.wire.send(packet)
        self._attached.pump()

    # -- time ----------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        first = self._heard[0][2] if self._heard and self._attached.takes else None
        times = [first, *(queue[0][1] for queue in (self._numbers, self._said) if queue)]
        due = min((time for time in times if time is not None), default=None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = self._loop.call_at(due, self._now)

    def _now(self) -> None:
        self._timer = None
        self._attached.partition.keeper.settle()
        self._let_out()
        self.let_in()

    def stop(self) -> None:
        """The link has ended."""
        self._heard.clear()
        self._numbers.clear()
        self._said.clear()
        self._set_timer()
