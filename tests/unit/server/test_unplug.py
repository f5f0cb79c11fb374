"""VPs that are taken offline by order and come back: the order of the steps, and refusals."""

from collections.abc import Iterator

import pytest

from tests.unit.server.vp_scene import VPS, Scene, Worker, staffed
from vmbusd.server.inputs import VpOrdered
from vmbusd.server.seats import VpState

ONLINE, OFFLINE, LEAVING = int(VpState.ONLINE), int(VpState.OFFLINE), int(VpState.LEAVING)


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.close()


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
