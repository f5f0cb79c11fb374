"""The retargeter: what it moves, how often, and how it ends."""

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, cast

import pytest

from guest_client import Channel
from vmbusd.abi.errors import ChannelGone, LinkClosed
from vmbusd.demo.retarget import Move, Retargeter


class Target:
    """What a retargeter asks of a channel."""

    def __init__(self) -> None:
        self.target_vp = 0


def make_channels(count: int) -> list[Channel]:
    return [cast(Channel, Target()) for _ in range(count)]


def test_every_move_goes_to_another_vp() -> None:
    """A batch holds a channel once, and nothing moves to where it is."""
    seen = threading.Event()
    batches: list[Sequence[Move]] = []

    def move(moves: Sequence[Move]) -> Iterable[Exception | None]:
        batches.append(moves)
        for channel, vp in moves:
            assert vp != channel.target_vp
            cast(Any, channel).target_vp = vp
        if len(batches) == 100:
            seen.set()
        return [None] * len(moves)

    retargeter = Retargeter(make_channels(3), 3, move)
    retargeter.start()
    assert seen.wait(30)
    retargeter.stop()
    retargeter.close()

    assert all(len({id(channel) for channel, _ in moves}) == len(moves) == 3 for moves in batches)
    assert retargeter.moved == 3 * len(batches)


def test_no_more_are_moved_at_once_than_was_said() -> None:
    """Whoever moves them has so many under way."""
    seen = threading.Event()
    sizes: set[int] = set()

    def move(moves: Sequence[Move]) -> Iterable[Exception | None]:
        sizes.add(len(moves))
        seen.set()
        return [None] * len(moves)

    retargeter = Retargeter(make_channels(64), 4, move, at_once=16)
    retargeter.start()
    assert seen.wait(30)
    retargeter.stop()
    retargeter.close()

    assert sizes == {16}


@pytest.mark.parametrize(("vps", "rate"), [(1, None), (4, 0.0)])
def test_nothing_is_moved_with_one_vp_or_a_rate_of_nothing(vps: int, rate: float | None) -> None:
    """Starting and stopping is fine all the same."""
    retargeter = Retargeter(make_channels(3), vps, lambda _: pytest.fail("moved"), rate)
    retargeter.start()
    retargeter.stop()
    retargeter.close()

    assert retargeter.moved == 0


def test_a_rate_holds_over_all_starts_together() -> None:
    """However fast the moves themselves are: never more than the time it has run is good for."""
    retargeter = Retargeter(make_channels(64), 4, lambda moves: [None] * len(moves), rate=200.0)
    took = 0.0
    for _ in range(20):
        begun = time.monotonic()
        retargeter.start()
        time.sleep(0.05)
        retargeter.stop()
        took += time.monotonic() - begun
        assert retargeter.moved <= 200 * took
    retargeter.close()

    assert retargeter.moved > 0


def test_a_move_that_is_not_due_yet_waits_for_the_next_start() -> None:
    """Many starts, none of which is as long as the time between two moves, move once in that time."""
    moved = threading.Event()

    def move(moves: Sequence[Move]) -> Iterable[Exception | None]:
        moved.set()
        return [None] * len(moves)

    retargeter = Retargeter(make_channels(64), 4, move, rate=5.0)
    took = 0.0
    while not moved.is_set():
        begun = time.monotonic()
        retargeter.start()
        moved.wait(0.02)
        retargeter.stop()
        took += time.monotonic() - begun
    retargeter.close()

    assert 1 <= retargeter.moved <= 5 * took


@pytest.mark.parametrize("rate", [1e-12, 5e-324])
def test_a_rate_of_next_to_nothing_is_a_long_wait(rate: float) -> None:
    """Longer than the system can wait in one go."""
    retargeter = Retargeter(make_channels(3), 4, lambda _: pytest.fail("moved"), rate)
    retargeter.start()
    time.sleep(0.05)
    retargeter.check()
    retargeter.stop()
    retargeter.close()

    assert retargeter.moved == 0


def test_what_a_batch_made_late_is_caught_up_with() -> None:
    """Moves that came due while others were under way go together, as many as may be at once."""
    sizes: list[int] = []
    done = threading.Event()

    def move(moves: Sequence[Move]) -> Iterable[Exception | None]:
        sizes.append(len(moves))
        if len(sizes) == 2:
            done.set()
        time.sleep(0.05)
        return [None] * len(moves)

    retargeter = Retargeter(make_channels(64), 4, move, rate=1000.0, at_once=16)
    retargeter.start()
    assert done.wait(30)
    retargeter.stop()
    retargeter.close()

    assert sizes[1] == 16


def test_a_channel_that_went_away_is_counted_and_an_end_is_told() -> None:
    """ChannelGone is part of life; what ends the link comes out of `stop`."""
    answers: list[Exception] = [ChannelGone("gone"), LinkClosed("over")]
    ended = threading.Event()

    def move(_: Sequence[Move]) -> Iterable[Exception | None]:
        answer = answers.pop(0)
        if not answers:
            ended.set()
        return [answer]

    retargeter = Retargeter(make_channels(1), 2, move)
    retargeter.start()
    assert ended.wait(30)
    with pytest.raises(LinkClosed, match="over"):
        retargeter.stop()
    retargeter.close()

    assert (retargeter.moved, retargeter.refused) == (0, 1)
