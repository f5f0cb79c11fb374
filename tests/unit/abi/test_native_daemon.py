"""The daemon's hand-overs: what is recovered from a dead worker, and what a VP without one gives away."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.abi.world import World
from vmbusd.abi import layout, native
from vmbusd.abi.errors import UsageError


def recover(world: World, vp: int) -> tuple[int, int]:
    return native.recover(
        vp, table=world.table, events=world.events, vpwork=world.vpwork, blocks=world.blocks
    )


def test_a_dead_workers_claims_and_bits_come_back(world: World) -> None:
    """Its claims are free, what it held is on its page again, its journal is empty; others keep theirs."""
    for relid in (5, 6, 7, 8):
        world.open(relid)
    world.plant_claim(5, layout.CLAIM_RUN)
    world.plant_claim(6, layout.CLAIM_RUN | layout.CLAIM_AGAIN)
    world.plant_claim(7, layout.CLAIM_RUN | 1)
    world.taken(0).store(0, 1 << 5 | 1 << 6)
    world.taken(0).store(31, 1 << 63)
    world.taken(1).store(0, 1 << 7)
    world.pages[0].set(6)

    assert recover(world, 0) == (2, 3)
    assert [world.memory.claim(flag) for flag in (5, 6, 7, 8)] == [0, 0, layout.CLAIM_RUN | 1, 0]
    assert world.pages[0].pending() == [5, 6, 2047]
    assert world.pages[1].pending() == []
    assert [world.taken(0).load(i) for i in range(32)] == [0] * 32
    assert world.taken(1).load(0) == 1 << 7
    assert recover(world, 0) == (0, 0)
    assert world.pages[0].pending() == [5, 6, 2047]


def test_a_released_flag_is_still_looked_at(world: World) -> None:
    """A dead worker may hold the claim of a channel that is gone by now."""
    world.open(5)
    world.plant_claim(5, layout.CLAIM_RUN)
    world.writer.empty(5, 5)

    assert recover(world, 0) == (1, 0)


def test_recovery_leaves_untouched_blocks_untouched(world: World) -> None:
    """Flags never used are not looked at: looking would give each a page of memory."""
    world.plant_claim(9, layout.CLAIM_RUN)

    assert recover(world, 0) == (0, 0)
    assert world.memory.claim(9) == layout.CLAIM_RUN


def test_what_was_put_back_is_served_again(world: World) -> None:
    """At least once: the next worker calls the channel that its predecessor died in."""
    world.open(5)
    world.plant_claim(5, layout.CLAIM_RUN)
    world.taken(0).store(0, 1 << 5)
    recover(world, 0)
    world.worker(0).dispatch()

    assert world.called == [5]


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(1, 2047)), st.sets(st.integers(1, 2047)))
def test_a_sweep_moves_every_bit_and_rings(mine: set[int], theirs: set[int]) -> None:
    """The live VP has both, the other none; the live one is rung, whatever moved."""
    world = World()
    world.pages[0].set_many(mine)
    world.pages[1].set_many(theirs)

    assert native.pending_count(world.events, 0) == len(mine)
    assert native.sweep(0, 1, events=world.events, doorbell=world.bells[1]) == len(mine)
    assert world.pages[0].pending() == []
    assert world.pages[1].pending() == sorted(mine | theirs)
    assert native.pending_count(world.events, 1) == len(mine | theirs)
    assert world.bells[1].drain() == 1
    assert world.bells[0].drain() == 0


def test_a_vp_cannot_be_swept_to_itself(world: World) -> None:
    """It would set and clear the same bits."""
    world.pages[0].set(5)
    with pytest.raises(UsageError, match="VP 0 cannot take over its own bits"):
        native.sweep(0, 0, events=world.events, doorbell=world.bells[0])
    assert world.pages[0].pending() == [5]


def test_flag_zero_is_not_pending(world: World) -> None:
    """It is no channel (case 221)."""
    world.pages[0].set_many([0, 3])

    assert native.pending_count(world.events, 0) == 1
