"""The channel table, the guest's blocks and the workers' words, through their Python faces."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.abi.world import FILL, GUID, World
from vmbusd.abi import layout, native
from vmbusd.abi.errors import UsageError


def test_a_record_says_what_was_filled_in(world: World) -> None:
    """Every field comes back, the slot is there but not open, and nobody is to be interrupted yet."""
    world.fill(9, 5)

    assert world.writer.record(5) == {
        "state": 0,
        "target_vp": layout.NO_TARGET,
        "relid": 5,
        "event_flag": 9,
        "host_link": 3,
        "connection_id": 0x2009,
        "monitor_id": 0xFF,
        "flags": 5,
        "generation": 0,
        "interface_id": GUID,
        "instance_id": GUID[::-1],
        "subchannel_index": 1,
    }
    assert world.writer.slots() == [(9, layout.slot_value(0, 5, is_open=False))]


def test_a_slot_follows_the_channel(world: World) -> None:
    """Filled, open with a generation, closed, open with the next, empty (case 236)."""
    world.fill(9, 5)
    world.writer.open(9, 5, 1)
    assert world.writer.slot(9) == layout.slot_value(1, 5, is_open=True)
    world.writer.close(9)
    assert world.writer.slot(9) == layout.slot_value(1, 5, is_open=False)
    world.writer.open(9, 5, layout.GENERATION_MAX)
    assert layout.slot_generation(world.writer.slot(9)) == layout.GENERATION_MAX
    world.writer.set_state(5, 4)
    world.writer.set_target(5, 1)
    assert world.writer.targets(1) == [5]
    assert (world.writer.record(5)["state"], world.writer.target(5)) == (4, 1)
    world.writer.empty(9, 5)

    assert world.writer.slot(9) == 0
    assert world.writer.targets(1) == []
    assert world.writer.target(5) == layout.NO_TARGET
    assert set(world.writer.record(5).values()) == {0, layout.NO_TARGET, bytes(16)}


def test_emptying_one_record_leaves_the_others(world: World) -> None:
    """Neighbours keep every byte, and the place can be filled again."""
    for relid in (4, 5, 6):
        world.fill(relid)
        world.writer.open(relid, relid, relid)
    before = {relid: world.writer.record(relid) for relid in (4, 6)}
    world.writer.empty(5, 5)

    assert {relid: world.writer.record(relid) for relid in (4, 6)} == before
    assert [flag for flag, _ in world.writer.slots()] == [4, 6]
    world.fill(5)
    assert world.writer.record(5)["interface_id"] == GUID
    assert world.writer.slot(5) == layout.slot_value(0, 5, is_open=False)


@pytest.mark.parametrize("generation", [0, -1, layout.GENERATION_MAX + 1, 1 << 64, 1.0, None])
def test_a_generation_has_31_bits_and_is_never_zero(generation: Any, world: World) -> None:
    """Anything else is refused by the table and by the registry."""
    world.fill(5)
    calls: list[Callable[[], None]] = [
        lambda: world.writer.open(5, 5, generation),
        lambda: world.registry.bind(5, generation, print, None),
        lambda: world.registry.unbind(5, generation),
    ]
    for call in calls:
        with pytest.raises(UsageError, match=r"generation .* is not in 1\.\.2147483647"):
            call()
    assert world.writer.slot(5) == layout.slot_value(0, 5, is_open=False)


@pytest.mark.parametrize("value", [-1, 1 << 32, 1 << 80, 2.0])
@pytest.mark.parametrize("field", ["host_link", "connection_id", "monitor_id", "flags", "subchannel_index"])
def test_a_field_is_never_cut_off(field: str, value: Any, world: World) -> None:
    """A number that does not fit is refused before anything is written."""
    with pytest.raises(UsageError, match=f"is not in 0..{(1 << 32) - 1}"):
        world.writer.fill(5, 5, **(FILL | {field: value}))
    assert world.writer.slots() == []
    assert world.writer.record(5)["target_vp"] == 0


@pytest.mark.parametrize("field", ["interface_id", "instance_id"])
def test_a_guid_has_sixteen_bytes(field: str, world: World) -> None:
    """One more or less is refused."""
    for size in (0, 15, 17):
        with pytest.raises(UsageError, match="a GUID has 16 bytes"):
            world.writer.fill(5, 5, **(FILL | {field: bytes(size)}))


def test_a_callable_is_bound(world: World) -> None:
    """What cannot be called is refused when it is bound, not when it is due."""
    with pytest.raises(UsageError, match="event flag 5: 7 cannot be called"):
        world.registry.bind(5, 1, 7, None)  # type: ignore[arg-type]


def test_the_header_says_what_the_table_is(world: World) -> None:
    """Format writes page 0; wrong values are refused."""
    world.writer.format(vps=64, epoch=7, ram_size=1 << 40, partition="p" * 32)
    world.writer.set_fault_armed(True)

    assert world.writer.header() == {
        "magic": layout.TABLE_MAGIC,
        "abi_version": layout.ABI_VERSION,
        "vps": 64,
        "epoch": 7,
        "ram_size": 1 << 40,
        "partition": "p" * 32,
        "fault_armed": True,
        "interrupt_page": 0,
        "monitor_page": 0,
    }
    right: dict[str, Any] = {"vps": 1, "epoch": 1, "ram_size": 0, "partition": "x"}
    wrong: list[dict[str, Any]] = [
        {"vps": 0},
        {"vps": 65},
        {"vps": -1},
        {"epoch": -1},
        {"epoch": 1 << 64},
        {"ram_size": -1},
        {"partition": "p" * 33},
        {"partition": "ä"},
    ]
    for change in wrong:
        with pytest.raises(UsageError):
            world.writer.format(**(right | change))
    assert world.writer.header()["vps"] == 64


def test_an_owner_is_a_process(world: World) -> None:
    """Process, state, start time and incarnation come back; neighbours stay vacant."""
    world.writer.set_owner(63, (1 << 32) - 1, 1, (1 << 64) - 1, 9)

    assert world.writer.owner(63) == ((1 << 32) - 1, 1, (1 << 64) - 1, 9)
    assert world.writer.owner(62) == (0, 0, 0, 0)


def test_a_completed_close_leaves_claim_and_ring(world: World) -> None:
    """`clear` zeroes counters, driver state and requests of one block, and nothing else."""
    for flag in (4, 5, 6):
        world.memory.set_ring(flag, flag, 2, 1, 0xE1E10)
        world.memory.state(flag)[:] = b"s" * 256
    world.plant_claim(5, layout.CLAIM_RUN | 1)
    start = 5 * layout.BLOCK_SIZE
    world.blocks[start + layout.BLOCK_REQUESTS_OFFSET : start + layout.BLOCK_SIZE] = b"r" * (4096 - 512)
    world.memory.clear(5)

    assert world.memory.claim(5) == layout.CLAIM_RUN | 1
    assert not world.memory.is_free(5)
    assert world.memory.ring(5) == (5, 2, 1, 0xE1E10)
    assert world.blocks[start + layout.BLOCK_CLEARED_FROM : start + 4096] == bytes(4096 - 128)
    assert bytes(world.memory.state(4)) == bytes(world.memory.state(6)) == b"s" * 256


def test_driver_state_is_a_view(world: World) -> None:
    """256 writable bytes at their place, whatever kind of buffer is behind them."""
    blocks = native.Blocks(memoryview(world.blocks).cast("Q"))
    state = blocks.state(7)
    state[0] = 255

    assert len(state) == layout.BLOCK_STATE_SIZE
    assert world.blocks[7 * layout.BLOCK_SIZE + layout.BLOCK_STATE_OFFSET] == 255
    with pytest.raises(ValueError, match="memoryview assignment"):
        state[:] = bytes(257)
