"""Orders of the guest about its own VPs, and what it is told of a VP, also when somebody else gave the order.

An order is answered by a refusal, or when its state is reached; answers to one VP come in the order of the
questions. Source: docs/sockets.md, VpOrder and VpChanged.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Final

from guest_client.calls import Call, begun
from vmbusd.abi import layout, link
from vmbusd.abi.errors import RefusedError, UsageError, VmbusError

VACANT: Final = 0
ONLINE: Final = 1
OFFLINE: Final = 2
LEAVING: Final = 3
STATES: Final = ("vacant", "online", "offline", "leaving")
"""States of a VP by their number in the table and in VpChanged."""


class VpOrders:
    """What was asked of the daemon and is not answered."""

    def __init__(self, post: Callable[[bytes], None]) -> None:
        """`post` sends a packet."""
        self._post = post
        self._lock = threading.Lock()
        self._waiting: defaultdict[int, deque[tuple[int, Call]]] = defaultdict(deque)
        self._lost: VmbusError | None = None

    def begin(self, vp: int, *, online: bool) -> Call:
        """Order a VP offline or online; the future fails with RefusedError, or with why the link ended.

        Raises UsageError for what is no number of a VP.
        """
        if not 0 <= vp < layout.MAX_VPS:
            raise UsageError(f"VP {vp}: 0 to {layout.MAX_VPS - 1}")
        call = begun()
        with self._lock:
            if self._lost is None:
                self._waiting[vp].append((ONLINE if online else OFFLINE, call))
                self._post(link.encode(link.VpOrder(vp, int(online))))
                return call
        call.set_exception(self._lost)
        return call

    def take(self, changed: link.VpChanged) -> None:
        """The daemon said what becomes of a VP."""
        with self._lock:
            done = self._answered(changed, self._waiting[changed.vp])
        for call, error in done:
            if error is None:
                call.set_result(None)
            else:
                call.set_exception(error)

    def _answered(
        self, changed: link.VpChanged, waiting: deque[tuple[int, Call]]
    ) -> list[tuple[Call, VmbusError | None]]:
        done: list[tuple[Call, VmbusError | None]] = []
        if changed.text:
            if waiting:
                done.append((waiting.popleft()[1], RefusedError(changed.text.decode(errors="replace"))))
        elif changed.state == OFFLINE:
            while waiting and waiting[0][0] == OFFLINE:
                done.append((waiting.popleft()[1], None))
        elif changed.state == ONLINE:
            while waiting and waiting[0][0] == OFFLINE:
                error = RefusedError(f"VP {changed.vp} was ordered online before it was offline")
                done.append((waiting.popleft()[1], error))
            if waiting:
                done.append((waiting.popleft()[1], None))
        return done

    def fail(self, reason: VmbusError) -> None:
        """The link is over: nothing will be answered."""
        with self._lock:
            self._lost = reason
            calls = [call for waiting in self._waiting.values() for _, call in waiting]
            self._waiting.clear()
        for call in calls:
            call.set_exception(reason)
