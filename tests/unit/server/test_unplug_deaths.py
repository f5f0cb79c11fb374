"""VPs that are taken offline by order while daemons and workers die: whoever goes on finishes the order."""

import contextlib
import copy

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.server.vp_scene import VPS, Scene, Worker, staffed
from vmbusd.server.inputs import SeatSet, VpOrdered
from vmbusd.server.recovery import Vps
from vmbusd.server.seats import VpState

ONLINE, OFFLINE = int(VpState.ONLINE), int(VpState.OFFLINE)


class Died(Exception):
    """The daemon ended here."""


def successor(scene: Scene, kept: list[SeatSet | VpOrdered], told: list[tuple[int, ...]]) -> Vps:
    """The VPs as a new daemon makes them of what is kept: it sees the same memory and the same workers."""
    seats = [SeatSet(vp, 0, 0, False, False, 0, 0, False) for vp in range(VPS)]
    unplugged: set[int] = set()
    for each in kept:
        if isinstance(each, SeatSet):
            seats[each.vp] = each
        elif not each.refused:
            (unplugged.discard if each.online else unplugged.add)(each.vp)
    offline: set[int] = set()
    for vp, *live in told:
        (offline.add if live else offline.discard)(vp)
    workers = {seat.vp: scene.workers[seat.vp] for seat in seats if seat.occupied}
    vps = scene.new_vps()
    vps.restore(seats, offline, unplugged, workers)
    return vps


@pytest.mark.parametrize("dies", [False, True])
def test_a_daemon_that_dies_at_any_step_is_gone_on_for(dies: bool) -> None:
    """Cut at every step that leaves a trace, before and in the middle of each: the next daemon finishes the
    order, the worker is asked, no bit is lost, and the guest is told that it is done."""
    steps = 0
    while True:
        scene = Scene()
        try:
            scene.workers = dict(enumerate(staffed(scene)))
            scene.page(2).set(9)
            finished = _cut(scene, steps, dies=dies)
        finally:
            scene.close()
        steps += 1
        if finished:
            break
    assert steps > 5


def _cut(scene: Scene, steps: int, *, dies: bool) -> bool:
    """The order, cut after `steps` steps; whether it was finished before."""
    scene.fail_after(steps, Died)
    first = scene.vps
    try:
        first.unplug(2)
        (first.dead if dies else first.detached)(2)
        finished = True
    except Died:
        finished = False
    scene.fail_after(None, Died)
    first.stop()
    kept, asked = copy.copy(scene.kept), any(isinstance(each, VpOrdered) for each in scene.kept)
    scene.vps = second = successor(scene, kept, scene.told)
    second.go_on()
    second.go_on()
    if asked:
        seat = second.seats[2]
        if seat.worker is not None:
            assert seat.state is VpState.LEAVING
            assert seat.asked
            (second.dead if dies else second.detached)(2)
        assert scene.state(2) is VpState.OFFLINE
        assert scene.page(2).pending() == []
        assert scene.page(0).pending() == [9]
        assert (2, 0) in scene.told
        assert second.seats[2].told_offline
        # Once: by this daemon, by the first, or by a replay of what that had kept and not said.
        last = kept[-1]
        to_be_said = isinstance(last, SeatSet) and last.handed_over and not finished
        told = scene.changed.count((2, OFFLINE, 0, b""))
        assert told == 1 or (told == 0 and to_be_said)
        assert second.seats[2].handed_over
    else:
        assert scene.state(2) is VpState.ONLINE
        assert scene.page(2).pending() == [9]
    return finished


def test_who_has_nobody_to_hand_over_to_stays_until_somebody_comes() -> None:
    """The daemon dies when the order is kept, and the only other worker with it: the next asks nobody to
    leave before it could move the channels, and does both when another VP has a worker."""
    scene = Scene()
    try:
        scene.workers = dict(zip((0, 1), staffed(scene, 0, 1), strict=True))
        scene.fail_after(2, Died)
        with pytest.raises(Died):
            scene.vps.unplug(1)
        scene.fail_after(None, Died)
        assert scene.kept[-1] == VpOrdered(1, False, 0, 0, "")
        scene.vps.stop()
        scene.vps = successor(scene, scene.kept, scene.told)
        scene.vps.dead(0)
        scene.vps.go_on()
        assert (scene.told, scene.workers[1].asked) == ([], 0)

        scene.vps.admit(0, Worker(scene.peer))

        assert (scene.told, scene.workers[1].asked) == ([(1, 0)], 1)
        assert scene.state(1) is VpState.LEAVING
        scene.vps.detached(1)
        assert scene.state(1) is VpState.OFFLINE
    finally:
        scene.close()


class Comings(RuleBasedStateMachine):
    """Orders, comings, leavings, deaths and new daemons in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene()
        self.set = 0

    def teardown(self) -> None:
        self.scene.close()

    def _seats(self, *states: VpState) -> list[int]:
        return [seat.vp for seat in self.scene.vps.seats if seat.state in states]

    @initialize(vps=st.sets(st.integers(0, VPS - 1), min_size=2))
    def begins(self, vps: set[int]) -> None:
        self.scene.workers = dict(zip(sorted(vps), staffed(self.scene, *sorted(vps)), strict=True))

    @precondition(lambda self: any(s.worker is None and not s.unplugged for s in self.scene.vps.seats))
    @rule(data=st.data())
    def comes(self, data: st.DataObject) -> None:
        free = [seat.vp for seat in self.scene.vps.seats if seat.worker is None and not seat.unplugged]
        vp = data.draw(st.sampled_from(free))
        self.scene.workers[vp] = worker = Worker(self.scene.peer)
        self.scene.vps.admit(vp, worker)

    @precondition(lambda self: any(s.worker is not None for s in self.scene.vps.seats))
    @rule(data=st.data(), dies=st.booleans())
    def goes(self, data: st.DataObject, dies: bool) -> None:
        vp = data.draw(st.sampled_from([s.vp for s in self.scene.vps.seats if s.worker is not None]))
        (self.scene.vps.dead if dies else self.scene.vps.detached)(vp)

    @rule(vp=st.integers(0, VPS - 1), online=st.booleans())
    def ordered(self, vp: int, online: bool) -> None:
        self.scene.vps.ordered_by_guest(vp, online=online, sequence=1, tag=10)

    @rule(vp=st.integers(0, VPS - 1))
    def signal(self, vp: int) -> None:
        self.set += 1
        self.scene.page(vp).set(self.set)

    @rule(survivors=st.sets(st.integers(0, VPS - 1)))
    def another_daemon(self, survivors: set[int]) -> None:
        """One that finds the workers of other VPs dead."""
        self.scene.fail_after(None, Died)
        self.scene.vps.stop()
        self.scene.vps = vps = successor(self.scene, self.scene.kept, self.scene.told)
        for seat in vps.seats:
            if seat.worker is not None and seat.vp not in survivors:
                vps.dead(seat.vp)
        vps.go_on()

    @rule(vp=st.integers(0, VPS - 1), online=st.booleans(), steps=st.integers(1, 6), others=st.booleans())
    def ordered_of_a_daemon_that_dies(self, vp: int, online: bool, steps: int, others: bool) -> None:
        self.scene.fail_after(steps, Died)
        with contextlib.suppress(Died):
            self.ordered(vp, online)
        self.another_daemon(set(range(VPS)) if others else {vp})

    @invariant()
    def no_bit_is_lost(self) -> None:
        """Every bit is on some page."""
        pages = [set(self.scene.page(vp).pending()) for vp in range(VPS)]
        assert set().union(*pages) == set(range(1, self.set + 1))

    @invariant()
    def words_and_orders_agree(self) -> None:
        for vp in range(VPS):
            state, seat = self.scene.state(vp), self.scene.vps.seats[vp]
            if seat.unplugged and any(
                other.state is VpState.ONLINE for other in self.scene.vps.seats if other is not seat
            ):
                assert state is not VpState.ONLINE
                assert seat.told_offline
            assert (state is VpState.OFFLINE) <= seat.told_offline
            assert seat.handed_over <= (state is VpState.OFFLINE)
            assert (state is VpState.ONLINE) <= (not seat.told_offline)


TestComings = Comings.TestCase
TestComings.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
