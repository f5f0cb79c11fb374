"""What the storm says of one packet after another, at either end."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.storm import packets
from tests.storm.ledger import FORBIDDEN, Ledger
from tests.storm.packets import Numbered, Position

OPEN = 7
HERE = os.getpid()


@pytest.fixture(scope="module")
def dead() -> int:
    """The pid of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def wrong(tmp_path: Path, at: Position, payloads: Sequence[bytes]) -> tuple[dict[str, int], Position]:
    """What is booked for these packets after `at`, and where we are then."""
    ledger = Ledger.make(tmp_path / "ledger")
    for payload in payloads:
        seen = packets.follow(at, payload, OPEN, ledger)
        at = Position(seen.number + 1, seen.begun, seen.sender)
    found = {name: count for name, count in ledger.counts().items() if count}
    return found, at


def made(*numbers: int, begun: int = 0, sender: int = HERE) -> list[bytes]:
    return [packets.make(Numbered(OPEN, number, begun, sender)) for number in numbers]


def test_one_after_another_is_right(tmp_path: Path) -> None:
    """Every number once, in order, whoever sent it: nothing is said."""
    found, at = wrong(tmp_path, Position(), made(*range(100)))

    assert (found, at.next) == ({}, 100)


def test_the_batch_of_a_dead_worker_comes_again(tmp_path: Path, dead: int) -> None:
    """It begins where that worker had begun, goes on without a hole, and is counted; twice, if two die."""
    first = made(4, 5, 6, begun=4, sender=dead)
    found, at = wrong(tmp_path, Position(4), [*first, *first, *made(4, 5, 6, 7, begun=4)])

    assert (found, at) == ({"repeats": 6}, Position(8, 4, HERE))


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        pytest.param([1, 2, 4], "gap", id="one is missing"),
        pytest.param([1, 2, 2], "repeated", id="one comes twice"),
        pytest.param([2, 1], "gap", id="one overtakes another"),
    ],
)
def test_what_nobody_died_for_is_wrong(tmp_path: Path, numbers: list[int], said: str) -> None:
    """Without a death packets come in order, each once."""
    found, _ = wrong(tmp_path, Position(1), made(*numbers, begun=1))

    assert said in found
    assert set(found) <= set(FORBIDDEN)


@pytest.mark.parametrize("number", [3, 5, 6])
def test_a_dead_worker_excuses_its_own_batch_alone(tmp_path: Path, dead: int, number: int) -> None:
    """What comes again begins with the batch that it had begun: not before, not in the middle."""
    found, _ = wrong(tmp_path, Position(7, 4, dead), made(number))

    assert found == {"repeated": 1}


def test_a_batch_that_comes_again_has_no_holes(tmp_path: Path, dead: int) -> None:
    """It does not end before what had been there."""
    found, _ = wrong(tmp_path, Position(7, 4, dead), made(4, 5, 7))

    assert found == {"repeats": 3, "gap": 1}


def test_packets_of_another_open_are_told(tmp_path: Path) -> None:
    """However well they are made."""
    other = packets.make(Numbered(OPEN + 1, 0))

    assert wrong(tmp_path, Position(), [other]) == ({"foreign_packets": 1}, Position(1, 0, 0))


def test_every_changed_byte_is_found(tmp_path: Path) -> None:
    """Of the head and of what follows it; and whatever is missing."""
    whole = packets.make(Numbered(OPEN, 2, 1, HERE))
    for at in range(len(whole)):
        bad = whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]
        assert wrong(tmp_path, Position(2), [bad])[0] == {"corrupt": 1}, at
        assert wrong(tmp_path, Position(2), [whole[:at]])[0] == {"corrupt": 1}, at


def test_parts_of_two_packets_are_no_packet(tmp_path: Path) -> None:
    """The head of one before the rest of another."""
    one, other = (packets.make(Numbered(OPEN, number)) for number in (3, 34))
    mixed = one[: len(one) // 2] + other[len(one) // 2 :]

    assert wrong(tmp_path, Position(3), [mixed])[0] == {"corrupt": 1}


def test_a_ring_holds_two_windows() -> None:
    """Of the largest packets: what is under way, and what came back and was not given back yet."""
    data = (min(packets.RING_PAGES) - 1) * 4096
    # A descriptor before each, a trailer behind it.
    assert 2 * packets.WINDOW * (16 + packets.largest() + 8) < data
