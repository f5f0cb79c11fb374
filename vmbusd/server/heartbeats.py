"""Which worker is stuck: work waits for it, and its heartbeat has not moved between two looks.

The heartbeat is the count of its passes, which it bumps itself at each look at its page; no timer does. What
waits are bits on its page, and those that it took and has not finished: a worker that is stopped, or whose
callback does not return, leaves one or the other. Stuck is not dead: nothing is done about it here, it may go
on at any moment (docs/signal-protocol.md section 5).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from vmbusd.server import limits
from vmbusd.server.memory import Memory
from vmbusd.server.seats import Seat


@dataclass(slots=True)
class Pulse:
    """A worker for which work waits: its passes at the first look, when that was, whether a second one found
    them unchanged."""

    incarnation: int
    passes: int
    since: float
    stuck: bool = False


class Heartbeats:
    """The workers of one partition."""

    def __init__(self, memory: Memory, log: FilteringBoundLogger) -> None:
        self._memory = memory
        self._log = log
        self._pulses: dict[int, Pulse] = {}
        self._due = 0.0

    def look(self, seats: Iterable[Seat], now: float) -> None:
        """Look at every worker, at most once in HEARTBEAT_INTERVAL; `now` is any clock, in seconds."""
        if now < self._due:
            return
        self._due = now + limits.HEARTBEAT_INTERVAL
        for seat in seats:
            waits = seat.worker is not None and self._memory.is_work_waiting(seat.vp)
            pulse = self._pulses.get(seat.vp)
            if pulse is not None and waits and self._is_still(seat, pulse):
                if not pulse.stuck:
                    pulse.stuck = True
                    peer = seat.worker.peer if seat.worker else None
                    self._log.warning("worker stuck", vp=seat.vp, pid=peer.pid if peer else None)
                continue
            if pulse is not None:
                del self._pulses[seat.vp]
                if pulse.stuck:
                    self._log.info("worker moves again", vp=seat.vp, seconds=round(now - pulse.since, 1))
            if waits:
                self._pulses[seat.vp] = Pulse(seat.incarnation, self._memory.passes(seat.vp), now)

    def _is_still(self, seat: Seat, pulse: Pulse) -> bool:
        return (seat.incarnation, self._memory.passes(seat.vp)) == (pulse.incarnation, pulse.passes)

    def is_stuck(self, vp: int) -> bool:
        """Whether two looks found work waiting for it and its heartbeat still, as it is now."""
        return self.stuck_since(vp) is not None

    def stuck_since(self, vp: int) -> float | None:
        """When its heartbeat was first seen still, None if it is not stuck."""
        pulse = self._pulses.get(vp)
        if pulse is None or not pulse.stuck or self._memory.passes(vp) != pulse.passes:
            return None
        return pulse.since
