"""Turn: what the links say during one turn of the event loop leaves together at its end.

A peer that waits is woken once for a turn instead of once for each packet, and packets for one link go out in
one system call. Within a link the order is kept. Between links only time is lost: whoever hears a packet can
answer no earlier than the next turn, when everything that was said before it has left. Memory is written at
once, so what a packet promises is true before it leaves. Source: sendmmsg(2).

   turn                                     peers
   table, record, objects written
   say to A, say to B, say to A
   end: A's two packets, then B's packet    A is woken, answers into its socket
   next turn: A's answer is read            B has had its packet since before that
"""

import asyncio
from typing import Protocol

from vmbusd.abi.native import Inbox


class Flushed(Protocol):
    """A link that has something to send."""

    def flush(self) -> None:
        """Hand it over; nothing of it may be left behind silently."""


class Turn:
    """What the links of one event loop share."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._links: list[Flushed] = []
        self._inboxes: dict[int, Inbox] = {}

    def inbox(self, max_packet: int) -> Inbox:
        """Where links that allow packets of this size take them in: one at a time uses it."""
        inbox = self._inboxes.get(max_packet)
        if inbox is None:
            inbox = self._inboxes[max_packet] = Inbox(max_packet)
        return inbox

    def add(self, link: Flushed) -> None:
        """The link has something to send now."""
        if not self._links:
            self._loop.call_soon(self.end)
        self._links.append(link)

    def end(self) -> None:
        """Send everything now; whoever is about to be told of it by another way must not hear it first."""
        links, self._links = self._links, []
        links.reverse()
        try:
            while links:
                links.pop().flush()
        finally:
            # Not empty only after an error of ours: it costs the link that it came from, no other.
            for link in reversed(links):
                self.add(link)
