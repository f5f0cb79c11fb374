"""A close is completed once its claim was seen free, exactly once, and nobody waits for it."""

import asyncio
import mmap
from collections.abc import Iterator

import pytest

from vmbusd.abi import layout
from vmbusd.abi.native import Blocks, Words
from vmbusd.server import limits
from vmbusd.server.closing import Closing


class Scene:
    """Claims in plain memory, and what was completed."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, layout.GUEST_SIZE)
        self.blocks = Blocks(self.memory)
        self.completed: list[tuple[int, int]] = []
        self.loop = asyncio.new_event_loop()
        self.closing = Closing(self.loop, self.settle, lambda *done: self.completed.append(done))

    def settle(self, flag: int) -> bool:
        if not self.blocks.is_free(flag):
            return False
        self.blocks.clear(flag)
        return True

    def claim(self, flag: int, value: int) -> None:
        words = Words(self.memory, flag * layout.BLOCK_SIZE, 1)
        words.exchange(0, value)

    def run(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.closing.stop()
    made.loop.close()


def test_a_free_claim_completes_at_once(scene: Scene) -> None:
    """No timer, no turn of the loop; the block is clean and the ring's place in it stays."""
    scene.blocks.state(5)[:] = b"x" * 256
    scene.blocks.set_ring(5, 16, 4, 2, 7)

    scene.closing.add(5, 3)

    assert scene.completed == [(5, 3)]
    assert len(scene.closing) == 0
    assert bytes(scene.blocks.state(5)) == bytes(256)
    assert scene.blocks.ring(5) == (16, 4, 2, 7)


def test_a_held_claim_is_waited_for(scene: Scene) -> None:
    """Its block stays as it is until then; the others are completed meanwhile."""
    scene.claim(5, layout.CLAIM_RUN | layout.CLAIM_AGAIN | 1)
    scene.blocks.state(5)[0] = 9
    scene.closing.add(5, 3)
    scene.closing.add(6, 1)
    scene.run(5 * limits.CLAIM_POLL_MAX)
    assert scene.completed == [(6, 1)]
    assert len(scene.closing) == 1
    assert scene.blocks.state(5)[0] == 9

    scene.claim(5, 0)
    scene.run(5 * limits.CLAIM_POLL_MAX)

    assert scene.completed == [(6, 1), (5, 3)]
    assert scene.blocks.state(5)[0] == 0


def test_nothing_to_wait_for_is_no_timer(scene: Scene) -> None:
    """An idle daemon does not poll."""
    scene.claim(5, layout.CLAIM_RUN)
    scene.closing.add(5, 3)
    scene.claim(5, 0)
    scene.run(5 * limits.CLAIM_POLL_MAX)
    assert scene.completed == [(5, 3)]

    scene.claim(6, layout.CLAIM_RUN)
    scene.closing.add(6, 1)
    scene.closing.stop()
    scene.claim(6, 0)
    scene.run(5 * limits.CLAIM_POLL_MAX)

    assert scene.completed == [(5, 3)]
    assert len(scene.closing) == 0
