"""The lines that a child of the storm and its runner exchange: JSON objects over a stream socket.

A child hears its orders in a thread; the end of the socket means that the runner is gone, and then nobody
needs the child any more.
"""

import os
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

import msgspec

Line = dict[str, Any]
GONE: Final = 3
"""Exit status of a child whose runner has vanished."""


class Pause:
    """Whether a pause is on, and which one was confirmed last; the runner numbers them."""

    def __init__(self, *, on: bool) -> None:
        self.on = on
        self._number = 0
        self._confirmed = 0

    @property
    def number(self) -> int:
        """Of the pause that was asked for last."""
        return self._number

    def obey(self, line: Line) -> None:
        """Take an order to pause or to resume; others are left alone."""
        if line["do"] == "pause":
            self._number = line["number"]
            self.on = True
        elif line["do"] == "resume":
            self.on = False

    def confirm(self) -> int | None:
        """The number of the pause that is to be confirmed now, and is from now on; None if there is none."""
        number = self._number
        if not self.on or number == self._confirmed:
            return None
        self._confirmed = number
        return number


class Lines:
    """A child's end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()

    def tell(self, **line: Any) -> None:
        """Send a line; a runner that is gone does not need it."""
        with self._lock:
            try:
                self._sock.sendall(msgspec.json.encode(line) + b"\n")
            except OSError:
                os._exit(GONE)

    def follow(self, obey: Callable[[Line], None]) -> None:
        """Hear orders in a thread of their own, for ever."""
        threading.Thread(target=self._follow, args=(obey,), name="orders", daemon=True).start()

    def _follow(self, obey: Callable[[Line], None]) -> None:
        with self._sock.makefile("rb") as lines:
            for line in lines:
                obey(msgspec.json.decode(line))
        os._exit(GONE)
