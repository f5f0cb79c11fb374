"""Who plays which VP: order of the words, hand-overs of bits, and when a VP is retired."""

from collections.abc import Iterator

import pytest

from tests.unit.server.vp_scene import VPS, Scene, Worker
from vmbusd.abi import layout
from vmbusd.abi.link import Object
from vmbusd.abi.native import Words
from vmbusd.server import limits
from vmbusd.server.seats import VpState


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(limits, "VP_VACANT_GRACE", 0.01)
    made = Scene()
    yield made
    made.close()


def test_each_admission_counts(scene: Scene) -> None:
    """Owner words stand before anybody is told; the incarnation grows with each worker."""
    assert scene.state(1) is VpState.VACANT

    assert scene.vps.admit(1, Worker(scene.peer)) == 1
    assert scene.state(1) is VpState.ONLINE
    scene.vps.detached(1)
    assert scene.state(1) is VpState.VACANT
    assert scene.vps.admit(1, Worker(scene.peer)) == 2
    assert scene.told == []


def test_a_dead_workers_claims_and_bits_come_back(scene: Scene) -> None:
    """Claims freed, taken bits on its page again, journal empty, doorbell rung."""
    scene.objects.reserve_block(70)
    scene.memory.table.fill(
        70,
        70,
        host_link=0,
        connection_id=1,
        monitor_id=255,
        flags=0,
        interface_id=bytes(16),
        instance_id=bytes(16),
        subchannel_index=0,
    )
    scene.vps.admit(2, Worker(scene.peer))
    taken = Words(scene.memory.vpwork_pages, 2 * layout.VPWORK_SIZE + layout.VPWORK_TAKEN_OFFSET, 32)
    taken.exchange(1, 1 << 6)
    Words(scene.memory.guest_pages, 70 * layout.BLOCK_SIZE, 1).exchange(0, layout.CLAIM_RUN | 2)

    scene.vps.dead(2)

    assert scene.memory.blocks.claim(70) == 0
    assert scene.page(2).pending() == [70]
    assert taken.load(1) == 0
    assert scene.memory.doorbells[2].wait(0)
    assert scene.state(2) is VpState.VACANT
    assert (scene.vps.seats[2].recoveries, scene.vps.seats[2].redelivered) == (1, 1)


def test_a_vp_is_retired_when_another_lives(scene: Scene) -> None:
    """After the grace time: offline, the bus retargets, then the bits move and the live VP is rung."""
    scene.vps.admit(0, Worker(scene.peer))
    scene.vps.admit(2, Worker(scene.peer))
    scene.vps.dead(2)
    scene.page(2).set(9)
    scene.memory.doorbells[0].drain()

    scene.run()

    assert scene.state(2) is VpState.OFFLINE
    assert scene.told == [(2, 0)]
    assert scene.page(2).pending() == []
    assert scene.page(0).pending() == [9]
    assert scene.memory.doorbells[0].wait(0)
    scene.vps.admit(2, Worker(scene.peer))
    assert scene.told == [(2, 0), (2,)]
    assert scene.state(2) is VpState.ONLINE


def test_a_vp_that_never_had_a_worker_waits_for_its_first(scene: Scene) -> None:
    """A guest may start its workers as slowly as it likes."""
    scene.vps.admit(0, Worker(scene.peer))
    scene.run()

    assert scene.state(1) is VpState.VACANT
    assert scene.told == []


def test_the_last_worker_has_nobody_to_hand_over_to(scene: Scene) -> None:
    """Its VP stays vacant with its bits; whichever VP gets a worker next takes them at once."""
    scene.vps.admit(2, Worker(scene.peer))
    scene.page(2).set(9)
    scene.vps.dead(2)
    scene.run()
    assert scene.state(2) is VpState.VACANT
    assert scene.page(2).pending() == [9]

    scene.vps.admit(1, Worker(scene.peer))

    assert scene.state(2) is VpState.OFFLINE
    assert scene.told == [(2, 1)]
    assert scene.page(1).pending() == [9]


def test_a_successor_in_time_ends_the_grace(scene: Scene) -> None:
    """No retirement once the VP has a worker again."""
    scene.vps.admit(0, Worker(scene.peer))
    scene.vps.admit(1, Worker(scene.peer))
    scene.vps.dead(1)
    scene.vps.admit(1, Worker(scene.peer))
    scene.run()

    assert scene.state(1) is VpState.ONLINE
    assert scene.told == []


def test_a_silent_worker_is_neither_dead_nor_live(scene: Scene) -> None:
    """Without its link it keeps its VP, and nobody's bits are handed to it."""
    scene.vps.admit(0, Worker(scene.peer))
    scene.vps.unlinked(0)

    assert scene.state(0) is VpState.LEAVING
    assert scene.vps.live() is None
    assert [seat.vp for seat in scene.vps.lingering()] == [0]
    assert scene.vps.seats[0].worker is not None


def test_a_dead_hosts_last_steps_are_made_up_for(scene: Scene) -> None:
    """What it left on an offline page goes to a live VP, and every VP is rung: it may have owed a ring."""
    scene.vps.admit(0, Worker(scene.peer))
    scene.vps.admit(1, Worker(scene.peer))
    scene.vps.dead(1)
    scene.run()
    assert scene.state(1) is VpState.OFFLINE
    for bell in scene.memory.doorbells:
        bell.drain()
    scene.page(1).set(33)

    scene.vps.sweep_and_ring()

    assert scene.page(0).pending() == [33]
    assert [bell.wait(0) for bell in scene.memory.doorbells] == [True] * VPS


def test_a_new_daemon_rings_every_vp(scene: Scene) -> None:
    """The one before may have died between a hand-over and its ring: a bit would rest on a VP that sleeps."""
    scene.vps.admit(0, Worker(scene.peer))
    for bell in scene.memory.doorbells:
        bell.drain()

    scene.vps.go_on()

    assert [bell.wait(0) for bell in scene.memory.doorbells] == [True] * VPS


def test_a_guest_that_is_gone_takes_its_workers_along(scene: Scene) -> None:
    """Each is asked and rung; the next guest finds every VP waiting, offline ones too."""
    first, second = Worker(scene.peer), Worker(scene.peer)
    scene.vps.admit(0, first)
    scene.vps.admit(1, second)
    scene.vps.dead(1)
    scene.run()
    scene.vps.guest_gone()

    assert (first.asked, second.asked) == (1, 0)
    assert scene.memory.doorbells[0].wait(0)
    assert scene.state(0) is VpState.LEAVING
    scene.vps.detached(0)
    scene.vps.guest_attached()
    assert [scene.state(vp) for vp in range(VPS)] == [VpState.VACANT] * VPS
    assert scene.told == [(1, 0), (1,)]


def test_the_pages_are_those_that_are_granted(scene: Scene) -> None:
    """What the daemon maps is what the descriptors mean."""
    with open(f"/proc/self/fd/{scene.objects[Object.EVENTS, 0].fd}", "rb") as file:
        scene.page(1).set(8)
        assert file.read()[layout.EVENT_PAGE_SIZE + layout.FLAGS_OFFSET + 1] == 1
