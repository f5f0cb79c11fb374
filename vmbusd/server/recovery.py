"""Who plays which VP, and what becomes of a VP whose worker leaves or dies.

Rules, from docs/signal-protocol.md section 5: a worker is dead when its process is known to be gone, never
because its link closed or it is silent. Recovery (claims, then taken bits, then the journal) is complete
before anybody else is admitted. The owner words are written before a worker is told that it is admitted.
A VP that lacks a worker for a while, when another VP has one, is retired: its channels are retargeted and
its bits are handed over. A VP that is unplugged by order is retired at once: first its channels are moved,
then its worker is asked to leave, then, when it has left or is dead, the bits move. Every hand-over sets at
the new place before it clears at the old. A change of a seat is kept before it is shown, and what a death
asks for is done before it is kept: whoever goes on for a daemon that died in the middle finds the seat as it
was, and every step may be done twice.

An order holds until the opposite one, or until a new guest attaches, which begins with all its VPs.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from structlog.typing import FilteringBoundLogger

from vmbusd.abi import link
from vmbusd.server import limits
from vmbusd.server.heartbeats import Heartbeats
from vmbusd.server.inputs import SeatSet, VpOrdered
from vmbusd.server.memory import Memory
from vmbusd.server.seats import Occupant, Seat, VpState, changed_by
from vmbusd.server.steps import Step, Steps


class Vps:
    """The VPs of one partition.

    Attributes: `seats`, one per VP; `heartbeats`, which worker is stuck.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        memory: Memory,
        log: FilteringBoundLogger,
        *,
        offline: Callable[[int, int], None],
        online: Callable[[int], None],
        keep: Callable[[SeatSet | VpOrdered], object],
        tell: Callable[[link.VpChanged], None],
        steps: Steps | None = None,
    ) -> None:
        """`offline(vp, live)` must store the new targets before it returns; `online(vp)` lifts that; `keep`
        puts a change into the journal; `tell` sends to the guest, if there is one; `steps`: where a fault may
        end us."""
        self.seats = [Seat(vp) for vp in range(memory.vps)]
        self._loop = loop
        self._memory = memory
        self._log = log
        self._offline = offline
        self._online = online
        self._keep = keep
        self._tell = tell
        self.heartbeats = Heartbeats(memory, log)
        self._steps = steps or Steps()

    def live(self, besides: int = -1) -> int | None:
        """A VP that has a worker, other than `besides`; if there is one, a VP whose worker is not stuck."""
        found = [seat.vp for seat in self.seats if seat.state is VpState.ONLINE and seat.vp != besides]
        return next((vp for vp in found if not self.heartbeats.is_stuck(vp)), found[0] if found else None)

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
        seat.worker = worker
        seat.incarnation += 1
        seat.asked = False
        self._set_state(seat, VpState.ONLINE)
        self._tell_online(seat)
        for other in self.seats:
            if other.handed_over:
                self._sweep(other.vp, vp)
            elif other.state is VpState.OFFLINE or (other.state is VpState.VACANT and other.overdue):
                self._retire(other, vp)
            elif other.unplugged and other.worker is not None and not other.told_offline:
                self._leave(other)
        return seat.incarnation

    def detached(self, vp: int) -> None:
        """The worker left in order: nothing of it touches the shared words any more."""
        seat = self.seats[vp]
        self._vacate(seat)
        # One that is to be offline is retired by now, and its page swept, if there is a VP that can have it.
        if not seat.unplugged and (live := self.live(vp)) is not None:
            self._sweep(vp, live)

    def unlinked(self, vp: int) -> None:
        """The worker's link is gone while its process lives: it may still be inside a callback."""
        self._set_state(self.seats[vp], VpState.LEAVING)

    def dead(self, vp: int) -> None:
        """The worker's process is known to be gone."""
        seat = self.seats[vp]
        self._steps.reach(Step.DEATH_SEEN)
        freed, redelivered = self._memory.recover(vp)
        self._steps.reach(Step.RECOVERED)
        seat.recoveries += 1
        seat.redelivered += redelivered
        self._vacate(seat)
        self._memory.doorbells[vp].ring()
        self._log.warning("worker died", vp=vp, claims_freed=freed, bits_put_back=redelivered)

    def guest_attached(self) -> None:
        """A new guest begins with every VP waiting for its worker."""
        for seat in self.seats:
            self._end_grace(seat)
            seat.unplugged = False
            if seat.state is VpState.OFFLINE:
                self._set_state(seat, VpState.VACANT)
            self._tell_online(seat)

    def guest_gone(self) -> None:
        """Ask every worker of the guest to leave."""
        for seat in self.seats:
            self._end_grace(seat)
            self._ask_to_leave(seat)

    def sweep_and_ring(self) -> None:
        """A host died: a bit it left on an offline page, or a ring it still owed, must not be lost."""
        live = self.live()
        for seat in self.seats:
            if seat.state is VpState.OFFLINE and live is not None:
                self._sweep(seat.vp, live)
        for doorbell in self._memory.doorbells:
            doorbell.ring()

    # -- orders --------------------------------------------------------------------------------------------

    def objection(self, vp: int) -> str:
        """Why there is no such VP; empty if there is."""
        return "" if 0 <= vp < len(self.seats) else f"VP {vp}: the partition has {len(self.seats)}"

    def objection_to_unplug(self, vp: int) -> str:
        """Why a VP cannot be taken offline; empty if it can."""
        if text := self.objection(vp):
            return text
        for other in range(len(self.seats)):
            self.settled(other)
        seat = self.seats[vp]
        if seat.unplugged or self.live(vp) is not None:
            return ""
        if seat.state is VpState.ONLINE:
            return f"VP {vp} is the last that has a worker"
        return f"no VP besides {vp} has a worker"

    def unplug(self, vp: int, sequence: int = 0, tag: int = 0) -> None:
        """Take a VP offline, to which there is no objection: its state says when that is done."""
        seat = self.seats[vp]
        self._ordered(VpOrdered(vp, False, sequence, tag, ""))
        seat.unplugged = True
        self._log.info("VP ordered offline", vp=vp)
        self._leave(seat)

    def plug(self, vp: int, sequence: int = 0, tag: int = 0) -> None:
        """Let a VP have a worker again; it is online once the guest has brought one."""
        self._ordered(VpOrdered(vp, True, sequence, tag, ""))
        self.seats[vp].unplugged = False
        self._log.info("VP ordered online", vp=vp)

    def ordered_by_guest(self, vp: int, *, online: bool, sequence: int, tag: int) -> None:
        """The guest's own order `tag`, in packet `sequence`: carried out, or refused by an answer."""
        refused = self.objection(vp) if online else self.objection_to_unplug(vp)
        if refused:
            self._ordered(VpOrdered(vp, online, sequence, tag, refused))
        else:
            (self.plug if online else self.unplug)(vp, sequence, tag)

    def _ordered(self, order: VpOrdered) -> None:
        self._keep(order)
        seat = None if self.objection(order.vp) else self.seats[order.vp].record()
        self._tell(changed_by(order, seat))

    def _leave(self, seat: Seat) -> None:
        """The next step of taking an unplugged VP offline. May be done twice."""
        live = self.live(seat.vp)
        if seat.worker is not None:
            if not seat.told_offline:
                if live is None:
                    # Whoever else had a worker has died: this one serves its channels until one comes.
                    return
                seat.told_offline = True
                self._offline(seat.vp, live)
            self._ask_to_leave(seat)
        elif live is None:
            # Nobody could take its bits: they wait for the next worker of any VP.
            seat.overdue = True
        elif not seat.handed_over:
            self._retire(seat, live)

    # -- a daemon starts again -----------------------------------------------------------------------------

    def restore(
        self,
        kept: Sequence[SeatSet],
        offline: Collection[int],
        unplugged: Collection[int],
        workers: Mapping[int, Occupant],
    ) -> None:
        """Take the seats as a daemon before us kept them; nothing is shown or told before `go_on`."""
        for seat, was in zip(self.seats, kept, strict=True):
            seat.state, seat.incarnation, seat.asked = VpState(was.state), was.incarnation, was.asked
            seat.recoveries, seat.redelivered = was.recoveries, was.redelivered
            seat.handed_over = was.handed_over
            seat.worker = workers.get(seat.vp)
            seat.told_offline = seat.vp in offline
            seat.unplugged = seat.vp in unplugged

    def go_on(self) -> None:
        """Finish what that daemon may have left half done, and start the clocks. May be done twice."""
        for seat in self.seats:
            self._show(seat)
            if seat.state is VpState.VACANT and seat.incarnation and not seat.unplugged:
                self._begin_grace(seat)
            # A worker that was asked to leave goes, also when its VP is to come back.
            if seat.state in (VpState.VACANT, VpState.ONLINE) and not seat.unplugged:
                self._tell_online(seat)
        live = self.live()
        for seat in self.seats:
            if seat.state is VpState.OFFLINE:
                if live is not None:
                    self._retire(seat, live)
                elif not seat.told_offline:
                    self._set_state(seat, VpState.VACANT)
                    seat.overdue = True
            elif seat.unplugged:
                self._leave(seat)
        # That daemon may have died between a hand-over and its ring, and nothing says which.
        for doorbell in self._memory.doorbells:
            doorbell.ring()

    def stop(self) -> None:
        """No more timers."""
        for seat in self.seats:
            self._end_grace(seat)

    # -- steps ---------------------------------------------------------------------------------------------

    def _set_state(self, seat: Seat, state: VpState) -> None:
        seat.state = state
        seat.handed_over = seat.handed_over and state is VpState.OFFLINE
        self._keep(seat.record())
        self._show(seat)

    def _show(self, seat: Seat) -> None:
        peer = seat.worker.peer if seat.worker else None
        owner = (peer.pid if peer else 0, seat.state, peer.start_time if peer else 0, seat.incarnation)
        if self._memory.table.owner(seat.vp) != owner:
            pid, state, start_time, incarnation = owner
            self._memory.table.set_owner(seat.vp, pid, state, start_time, incarnation)

    def _sweep(self, vp: int, live: int) -> int:
        if Step.SWEPT in self._steps.armed:
            # What a sweep has done before it clears: if nothing ends us here, it is done once more.
            self._memory.copy_bits(vp, live)
            self._steps.reach(Step.SWEPT)
        return self._memory.sweep(vp, live)

    def _tell_online(self, seat: Seat) -> None:
        if seat.told_offline:
            seat.told_offline = False
            self._online(seat.vp)

    def _ask_to_leave(self, seat: Seat) -> None:
        if seat.worker is not None and not seat.asked:
            seat.asked = True
            self._set_state(seat, VpState.LEAVING)
            seat.worker.ask_to_detach()
            self._memory.doorbells[seat.vp].ring()

    def _vacate(self, seat: Seat) -> None:
        seat.worker = None
        seat.asked = False
        self._set_state(seat, VpState.VACANT)
        if seat.unplugged:
            self._leave(seat)
        else:
            self._begin_grace(seat)

    def _begin_grace(self, seat: Seat) -> None:
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
        """A VP without worker goes offline: the word, the targets, the bits; then the guest is told."""
        self._end_grace(seat)
        self._set_state(seat, VpState.OFFLINE)
        seat.told_offline = True
        self._steps.reach(Step.RETIRE_WORD)
        self._offline(seat.vp, live)
        self._steps.reach(Step.RETIRE_TARGETS)
        moved = self._sweep(seat.vp, live)
        if not seat.handed_over:
            seat.handed_over = True
            self._keep(seat.record())
            if seat.unplugged:
                self._tell(link.VpChanged(seat.vp, VpState.OFFLINE, 0, b""))
        say = self._log.info if seat.unplugged else self._log.warning
        say("VP retired", vp=seat.vp, live=live, bits_moved=moved)
