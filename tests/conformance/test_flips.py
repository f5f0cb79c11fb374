"""The broken rules of `flips`: each fits the source, and what judges them can say yes and no."""

import ast

import pytest

from tests.conformance import coverage, flips
from tests.conformance.flips import FLIPS, Flip


@pytest.mark.parametrize("flip", FLIPS, ids=lambda flip: flip.name)
def test_a_flip_breaks_one_place(flip: Flip) -> None:
    """Its piece is in the source once, what comes out is Python, and it says which case it is about."""
    text = flips.broken(flip)

    ast.parse(text)
    assert text != (flips.ROOT / "vmbusd" / "bus" / flip.source).read_text()
    assert coverage.cited_numbers(flip.rule) <= set(coverage.catalogue())
    assert coverage.cited_numbers(flip.rule)


def test_names_are_unique() -> None:
    """A name on the command line means one flip."""
    assert len({flip.name for flip in FLIPS}) == len(FLIPS)


def test_a_broken_rule_is_noticed_and_a_sound_one_is_not() -> None:
    """The first script that fails is named; a change that changes nothing is missed."""
    cap = next(flip for flip in FLIPS if flip.name == "version-cap")
    same = cap._replace(name="same", new=" or newest < version:")

    assert flips.noticed(cap) == "01-negotiation/004-cap.vmb"
    assert flips.noticed(same) == ""


def test_a_copy_that_cannot_be_played_is_no_catch() -> None:
    """A flip that breaks Python and not a rule is an error."""
    with pytest.raises(ValueError, match="version-cap: cannot be played"):
        flips.noticed(FLIPS[0]._replace(new=" or nothing("))


def test_a_piece_that_is_gone_is_an_error() -> None:
    """The flip is named, with the file where it looked."""
    with pytest.raises(ValueError, match=r"version-cap: vmbusd/bus/negotiation\.py has its piece 0 times"):
        flips.broken(FLIPS[0]._replace(old="no such line"))
