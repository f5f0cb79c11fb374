"""Numbers that the bus gives out."""

import pytest

from vmbusd.abi.errors import UsageError
from vmbusd.abi.layout import GENERATION_MAX, MAX_RELID
from vmbusd.bus.ids import Ids, event_connection_id


def test_the_lowest_free_relid() -> None:
    """Relids start at 1, and one given back is the next one taken (case 124)."""
    ids = Ids()
    assert [ids.take() for _ in range(4)] == [1, 2, 3, 4]

    ids.give_back(3)
    ids.give_back(2)

    assert [ids.take() for _ in range(3)] == [2, 3, 5]
    assert ids.in_use == 5


def test_all_relids() -> None:
    """There are 2047 and no more (case 306)."""
    ids = Ids()
    assert [ids.take() for _ in range(MAX_RELID)] == list(range(1, 2048))

    with pytest.raises(UsageError, match="2047"):
        ids.take()


def test_generations() -> None:
    """They start at 1, are new for flag and channel, survive the flag's reuse, and 0 never comes."""
    ids = Ids()
    assert [ids.new_generation(7, last) for last in range(3)] == [1, 2, 3]
    assert ids.new_generation(8, 0) == 1
    assert ids.new_generation(8, 3) == 4
    ids.give_back(ids.take())
    assert ids.new_generation(7, 0) == 4

    ids.generations[7] = GENERATION_MAX
    assert ids.new_generation(7, 0) == 1


def test_event_connection_ids() -> None:
    """The relid with SINT 2 in bits 12 to 15 (case 036)."""
    assert (event_connection_id(1), event_connection_id(2047)) == (0x2001, 0x27FF)
