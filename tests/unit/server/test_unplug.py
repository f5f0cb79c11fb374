"""VPs that are taken offline by order and come back.

The order of the steps, refusals, and a daemon that dies at each of them.
"""

import contextlib
import copy
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.server.vp_scene import VPS, Scene, Worker
from vmbusd.server.inputs import SeatSet, VpOrdered
from vmbusd.server.recovery import Vps
from vmbusd.server.seats import VpState

ONLINE, OFFLINE, LEAVING = int(VpState.ONLINE), int(VpState.OFFLINE), int(VpState.LEAVING)


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.close()


def staffed(scene: Scene, *vps: int) -> list[Worker]:
    """Workers for these VPs, all by default."""
    workers = [Worker(scene.peer) for _ in vps or range(VPS)]
    for vp, worker in zip(vps or range(VPS), workers, strict=True):
        scene.vps.admit(vp, worker)
    return workers


def test_a_vp_goes_offline_by_order(scene: Scene) -> None:
    """A VP with channels is taken offline while the guest is connected: kept, its channels moved, its worker
    asked and rung, and once that has left its bits are at a live VP (case 155)."""
    workers = staffed(scene)
    scene.page(2).set(9)
    scene.kept.clear()

    scene.vps.unplug(2)

    assert scene.kept[0] == VpOrdered(2, False, 0, 0, "")
    assert (scene.told, workers[2].asked) == ([(2, 0)], 1)
    assert scene.memory.doorbells[2].wait(0)
    assert scene.state(2) is VpState.LEAVING
    assert scene.page(2).pending() == [9], "its worker may still take it"
    scene.memory.doorbells[0].drain()
    scene.vps.detached(2)
    assert scene.state(2) is VpState.OFFLINE
    assert (scene.page(2).pending(), scene.page(0).pending()) == ([], [9])
    assert scene.memory.doorbells[0].wait(0)
    assert scene.changed == [(2, LEAVING, 0, b""), (2, OFFLINE, 0, b"")]


def test_a_worker_that_dies_instead_of_leaving_is_recovered_first(scene: Scene) -> None:
    """What it had taken is on its page before that is swept."""
    staffed(scene)
    scene.vps.unplug(1)
    scene.take(1, 70)
    scene.vps.dead(1)

    assert scene.state(1) is VpState.OFFLINE
    assert (scene.page(1).pending(), scene.page(0).pending()) == ([], [70])
    assert scene.vps.seats[1].recoveries == 1


def test_only_the_last_live_vp_is_refused(scene: Scene) -> None:
    """Every VP but one may go, whatever is bound to it or pending there (case 155)."""
    staffed(scene)
    for vp in (0, 1):
        assert scene.vps.objection_to_unplug(vp) == ""
        scene.vps.unplug(vp)

    assert scene.vps.objection_to_unplug(2) == "VP 2 is the last that has a worker"
    assert scene.vps.objection_to_unplug(3) == "VP 3: the partition has 3"
    assert scene.vps.objection_to_unplug(0) == "", "it goes on already"
    scene.vps.detached(0)
    scene.vps.detached(1)
    assert scene.vps.objection_to_unplug(2) == "VP 2 is the last that has a worker"


def test_a_vp_without_worker_is_offline_at_once(scene: Scene) -> None:
    """Nobody has to leave; a VP that was never played cannot be when there is no other."""
    assert scene.vps.objection_to_unplug(1) == "no VP besides 1 has a worker"
    staffed(scene, 0)
    scene.page(1).set(5)
    scene.vps.unplug(1)

    assert scene.state(1) is VpState.OFFLINE
    assert (scene.told, scene.page(0).pending()) == ([(1, 0)], [5])


def test_nobody_to_hand_over_to(scene: Scene) -> None:
    """The last other worker dies while one leaves: its bits wait for whichever VP has a worker next."""
    staffed(scene, 0, 1)
    scene.vps.unplug(1)
    scene.page(1).set(5)
    scene.vps.dead(0)
    scene.vps.detached(1)
    assert scene.state(1) is VpState.VACANT
    assert scene.page(1).pending() == [5]

    scene.vps.admit(0, Worker(scene.peer))

    assert scene.state(1) is VpState.OFFLINE
    assert scene.page(0).pending() == [5]


def test_a_vp_comes_back_empty_but_for_the_bits_left(scene: Scene) -> None:
    """Online: the guest is told; its next worker ends the stand-in, and finds what was set meanwhile."""
    staffed(scene)
    scene.vps.unplug(2)
    scene.vps.detached(2)
    scene.page(2).set(9)
    scene.changed.clear()

    scene.vps.plug(2)
    assert scene.changed == [(2, ONLINE, 0, b"")]
    assert scene.state(2) is VpState.OFFLINE, "the guest has yet to bring a worker"
    scene.vps.admit(2, Worker(scene.peer))

    assert scene.state(2) is VpState.ONLINE
    assert scene.told == [(2, 0), (2, 0), (2,)]
    assert scene.page(2).pending() == [9]


def test_a_worker_that_was_asked_leaves_also_when_its_vp_comes_back(scene: Scene) -> None:
    """Detach is out: the VP is vacant when the worker has left, and waits for the next."""
    staffed(scene)
    scene.vps.unplug(2)
    scene.vps.plug(2)
    scene.vps.detached(2)
    assert scene.state(2) is VpState.VACANT
    scene.vps.admit(2, Worker(scene.peer))

    assert scene.state(2) is VpState.ONLINE
    assert scene.told == [(2, 0), (2,)]


def test_the_guests_own_orders_are_answered(scene: Scene) -> None:
    """By their tags; refused with the reason, kept with the number of its packet; done when it is done."""
    staffed(scene, 0)
    scene.kept.clear()
    scene.vps.ordered_by_guest(0, online=False, sequence=7, tag=70)
    scene.vps.ordered_by_guest(64, online=True, sequence=8, tag=80)
    scene.vps.ordered_by_guest(1, online=False, sequence=9, tag=90)
    scene.vps.ordered_by_guest(1, online=False, sequence=10, tag=100)

    text = "VP 0 is the last that has a worker"
    assert [each for each in scene.kept if isinstance(each, VpOrdered)] == [
        VpOrdered(0, False, 7, 70, text),
        VpOrdered(64, True, 8, 80, "VP 64: the partition has 3"),
        VpOrdered(1, False, 9, 90, ""),
        VpOrdered(1, False, 10, 100, ""),
    ]
    assert scene.changed == [
        (0, ONLINE, 70, text.encode()),
        (64, 0, 80, b"VP 64: the partition has 3"),
        (1, LEAVING, 90, b""),
        (1, OFFLINE, 0, b""),
        (1, OFFLINE, 100, b""),
    ]


def test_a_new_guest_has_all_its_vps(scene: Scene) -> None:
    """An order ends with the guest, as a machine boots with all its processors."""
    staffed(scene)
    scene.vps.unplug(2)
    scene.vps.detached(2)
    scene.vps.guest_gone()
    for vp in (0, 1):
        scene.vps.detached(vp)
    scene.vps.guest_attached()

    assert [scene.state(vp) for vp in range(VPS)] == [VpState.VACANT] * VPS
    assert not any(seat.unplugged or seat.told_offline for seat in scene.vps.seats)


def test_a_stuck_worker_is_the_last_choice(scene: Scene) -> None:
    """Bits go to a worker whose heartbeat moves, if there is one."""
    staffed(scene)
    scene.page(0).set(5)
    for now in (0.0, 1.0):
        scene.vps.heartbeats.look(scene.vps.seats, now)
    assert [scene.vps.heartbeats.is_stuck(vp) for vp in range(VPS)] == [True, False, False]

    scene.vps.unplug(2)
    scene.vps.detached(2)
    assert set(scene.told) == {(2, 1)}
    scene.vps.unplug(1)
    assert scene.told[-1] == (1, 0)


def test_stuck_is_two_looks_without_a_pass_while_work_waits(scene: Scene) -> None:
    """On the page or taken; idle workers are not, nor one that moves; once per episode; cleared at once."""
    staffed(scene, 0, 1)
    beats = scene.vps.heartbeats
    scene.take(0, 70)
    for now in (10.0, 10.1):
        beats.look(scene.vps.seats, now)
    assert not beats.is_stuck(0), "two looks, but in no time"
    beats.look(scene.vps.seats, 11.0)
    assert [beats.stuck_since(vp) for vp in range(VPS)] == [10.0, None, None]
    beats.look(scene.vps.seats, 12.0)
    assert beats.stuck_since(0) == 10.0
    scene.beat(0)
    assert not beats.is_stuck(0)
    beats.look(scene.vps.seats, 13.0)
    assert not beats.is_stuck(0)
    beats.look(scene.vps.seats, 14.0)
    assert beats.stuck_since(0) == 13.0


# -- a daemon that dies at every step ------------------------------------------------------------------------


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
