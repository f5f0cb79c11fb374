"""Orders of the guest about its own VPs, and what it is told of a VP, also when somebody else gave the order.

Each order has a tag, which comes back in its answer: the administrator orders the same VPs, and what answers
him answers nobody here. Source: docs/sockets.md, VpOrder and VpChanged.
"""

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
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


_LAST_TAG: Final = 0xFFFFFFFF

_Outcome = tuple[Call, VmbusError | None]


@dataclass(slots=True)
class _Order:
    """One that is not answered. `heard`: of an offline, the daemon has begun to carry it out."""

    online: bool
    call: Call
    heard: bool = False


class VpOrders:
    """What was asked of the daemon and is not answered."""

    def __init__(self, post: Callable[[bytes], None]) -> None:
        """`post` sends a packet."""
        self._post = post
        self._lock = threading.Lock()
        self._waiting: defaultdict[int, dict[int, _Order]] = defaultdict(dict)
        self._unwanted: set[int] = set()
        self._tag = 0
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
                self._tag = self._tag % _LAST_TAG + 1
                self._waiting[vp][self._tag] = _Order(online, call)
                self._post(link.encode(link.VpOrder(vp, int(online), self._tag)))
                return call
        call.set_exception(self._lost)
        return call

    def is_unwanted(self, vp: int) -> bool:
        """Whether the last order to this VP that we heard of, whoever gave it, was to go offline."""
        return vp in self._unwanted

    def take(self, changed: link.VpChanged) -> None:
        """The daemon said what becomes of a VP."""
        with self._lock:
            if not changed.text:
                (self._unwanted.discard if changed.state == ONLINE else self._unwanted.add)(changed.vp)
            done = self._answered(changed, self._waiting[changed.vp])
        for call, error in done:
            if error is None:
                call.set_result(None)
            else:
                call.set_exception(error)

    def _answered(self, changed: link.VpChanged, waiting: dict[int, _Order]) -> list[_Outcome]:
        own = waiting.get(changed.tag)
        if changed.text:
            refusal = RefusedError(changed.text.decode(errors="replace"))
            return [(waiting.pop(changed.tag).call, refusal)] if own is not None else []
        done: list[_Outcome] = []
        if own is not None:
            own.heard = True
            if own.online:
                done.append((waiting.pop(changed.tag).call, None))
        if changed.state in (OFFLINE, ONLINE):
            # Orders that the daemon has not seen yet are behind this: they have answers of their own to come.
            overtaken = RefusedError(f"VP {changed.vp} was ordered online before it was offline")
            error = overtaken if changed.state == ONLINE else None
            over = [tag for tag, order in waiting.items() if order.heard]
            done += [(waiting.pop(tag).call, error) for tag in over]
        return done

    def fail(self, reason: VmbusError) -> None:
        """The link is over: nothing will be answered."""
        with self._lock:
            self._lost = reason
            calls = [order.call for waiting in self._waiting.values() for order in waiting.values()]
            self._waiting.clear()
        for call in calls:
            call.set_exception(reason)
