"""Who plays which VP, and what becomes of a VP whose worker leaves or dies.

Rules, from docs/signal-protocol.md section 5: a worker is dead when its process is known to be gone, never
because its link closed or it is silent. Recovery (claims, then taken bits, then the journal) is complete
before anybody else is admitted. The owner words are written before a worker is told that it is admitted.
A VP that lacks a worker for a while, when another VP has one, goes offline: its channels are retargeted and
its bits are handed over. Every hand-over sets at the new place before it clears at the old.
"""

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from vmbusd.server import limits
from vmbusd.server.memory import Memory
from vmbusd.server.peer import Peer


class VpState(enum.IntEnum):
    """State of a VP, as the owner words of the table show it (enum vmb_vp_state)."""

    VACANT = 0
    """No worker; bits wait for one."""
    ONLINE = 1
    OFFLINE = 2
    """Retired: no channel targets it, its bits were handed over."""
    LEAVING = 3
    """Its worker was asked to leave, or lost its link, and its process still lives."""


class Occupant(Protocol):
    """The worker link of a VP."""

    peer: Peer

    def catch_up(self) -> None:
        """Take in what has happened to the link already and nobody has looked at yet."""

    def ask_to_detach(self) -> None:
        """Send Detach."""


@dataclass(slots=True)
class Seat:
    """One VP."""

    vp: int
    state: VpState = VpState.VACANT
    worker: Occupant | None = None
    incarnation: int = 0
    grace: asyncio.TimerHandle | None = None
    overdue: bool = False
    recoveries: int = 0
    redelivered: int = 0


class Vps:
    """The VPs of one partition.

    Attributes: `seats`, one per VP.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        memory: Memory,
        log: FilteringBoundLogger,
        *,
        offline: Callable[[int, int], None],
        online: Callable[[int], None],
    ) -> None:
        """`offline(vp, live)` must store the new targets before it returns; `online(vp)` lifts that."""
        self.seats = [Seat(vp) for vp in range(memory.vps)]
        self._loop = loop
        self._memory = memory
        self._log = log
        self._offline = offline
        self._online = online

    def live(self, besides: int = -1) -> int | None:
        """A VP that has a worker, other than `besides`."""
        for seat in self.seats:
            if seat.state is VpState.ONLINE and seat.vp != besides:
                return seat.vp
        return None

    def settled(self, vp: int) -> Seat:
        """The seat of a VP, after anything that has happened to its worker already was taken in."""
        seat = self.seats[vp]
        if seat.worker is not None:
            seat.worker.catch_up()
        return seat

    def lingering(self) -> list[Seat]:
        """Seats whose worker belongs to a guest that is gone, or whose link is gone, and still lives."""
        return [seat for seat in map(self.settled, range(len(self.seats))) if seat.state is VpState.LEAVING]

    # -- coming and going ----------------------------------------------------------------------------------

    def admit(self, vp: int, worker: Occupant) -> int:
        """Give a VP without worker to `worker`; returns its incarnation. The welcome follows this."""
        seat = self.seats[vp]
        assert seat.worker is None
        self._end_grace(seat)
        was_offline = seat.state is VpState.OFFLINE
        seat.worker = worker
        seat.incarnation += 1
        self._set_state(seat, VpState.ONLINE)
        if was_offline:
            self._online(vp)
        for other in self.seats:
            if other.state is VpState.OFFLINE:
                self._memory.sweep(other.vp, vp)
            elif other.state is VpState.VACANT and other.overdue:
                self._retire(other, vp)
        return seat.incarnation

    def detached(self, vp: int) -> None:
        """The worker left in order: nothing of it touches the shared words any more."""
        seat = self.seats[vp]
        self._vacate(seat)
        live = self.live(vp)
        if live is not None:
            self._memory.sweep(vp, live)

    def unlinked(self, vp: int) -> None:
        """The worker's link is gone while its process lives: it may still be inside a callback."""
        self._set_state(self.seats[vp], VpState.LEAVING)

    def dead(self, vp: int) -> None:
        """The worker's process is known to be gone."""
        seat = self.seats[vp]
        freed, redelivered = self._memory.recover(vp)
        seat.recoveries += 1
        seat.redelivered += redelivered
        self._vacate(seat)
        self._memory.doorbells[vp].ring()
        self._log.warning("worker died", vp=vp, claims_freed=freed, bits_put_back=redelivered)

    def guest_attached(self) -> None:
        """A new guest begins with every VP waiting for its worker."""
        for seat in self.seats:
            self._end_grace(seat)
            if seat.state is VpState.OFFLINE:
                self._set_state(seat, VpState.VACANT)
                self._online(seat.vp)

    def guest_gone(self) -> None:
        """Ask every worker of the guest to leave."""
        for seat in self.seats:
            self._end_grace(seat)
            if seat.worker is not None:
                self._set_state(seat, VpState.LEAVING)
                seat.worker.ask_to_detach()
                self._memory.doorbells[seat.vp].ring()

    def sweep_and_ring(self) -> None:
        """A host died: a bit it left on an offline page, or a ring it still owed, must not be lost."""
        live = self.live()
        for seat in self.seats:
            if seat.state is VpState.OFFLINE and live is not None:
                self._memory.sweep(seat.vp, live)
        for doorbell in self._memory.doorbells:
            doorbell.ring()

    def stop(self) -> None:
        """No more timers."""
        for seat in self.seats:
            self._end_grace(seat)

    # -- steps ---------------------------------------------------------------------------------------------

    def _set_state(self, seat: Seat, state: VpState) -> None:
        seat.state = state
        peer = seat.worker.peer if seat.worker else None
        self._memory.table.set_owner(
            seat.vp, peer.pid if peer else 0, state, peer.start_time if peer else 0, seat.incarnation
        )

    def _vacate(self, seat: Seat) -> None:
        seat.worker = None
        self._set_state(seat, VpState.VACANT)
        self._end_grace(seat)
        seat.grace = self._loop.call_later(limits.VP_VACANT_GRACE, self._grace_is_over, seat)

    def _end_grace(self, seat: Seat) -> None:
        seat.overdue = False
        if seat.grace is not None:
            seat.grace.cancel()
            seat.grace = None

    def _grace_is_over(self, seat: Seat) -> None:
        seat.grace = None
        live = self.live(seat.vp)
        if live is None:
            # Nobody could take its bits: they wait for the next worker of any VP.
            seat.overdue = True
        else:
            self._retire(seat, live)

    def _retire(self, seat: Seat, live: int) -> None:
        """A VP without worker goes offline: first the word, then the targets, then the bits."""
        self._end_grace(seat)
        self._set_state(seat, VpState.OFFLINE)
        self._offline(seat.vp, live)
        moved = self._memory.sweep(seat.vp, live)
        self._log.warning("VP retired", vp=seat.vp, live=live, bits_moved=moved)
