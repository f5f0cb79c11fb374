"""Programs are drawn from the seed alone, and everything comes up in them."""

from itertools import islice, pairwise, takewhile

from tests.storm.program import ENDS, GENTLE_SECONDS, RATES, Action, program

SECONDS = 600.0
KINDS = ("kill worker", "kill host", "kill guest", "kill daemon")


def test_the_same_seed_is_the_same_program() -> None:
    """What is tried, when and with which lots follows from the seed; another seed is another program."""
    first, again, other = (list(islice(program(seed), 500)) for seed in (7, 7, 8))

    assert first == again
    assert first != other


def test_actions_follow_each_other_in_time() -> None:
    """Moments grow, lots lie in 0 .. 1."""
    actions = list(islice(program(3), 500))

    assert all(before.at < after.at for before, after in pairwise(actions))
    assert all(0 <= lot < 1 for action in actions for lot in action.lots)


def test_ten_minutes_have_everything() -> None:
    """Each action comes up, and each kind of process is to be killed more than twice 120 times."""
    whats = [action.what for action in takewhile(lambda action: action.at < SECONDS, program(1))]

    assert set(whats) == {*RATES, "calm"}
    assert all(whats.count(kind) > 240 for kind in KINDS)


def test_nothing_ends_an_open_before_every_other_calm_point() -> None:
    """Such a segment is long enough for a loss to come and stay; in the others everything is tried."""
    segments: list[list[str]] = [[]]
    calm = [0.0]
    for action in takewhile(lambda action: action.at < SECONDS, program(2)):
        segments[-1].append(action.what)
        if action.what == "calm":
            segments.append([])
            calm.append(action.at)

    assert len(calm) > 80
    assert not ENDS.intersection(what for segment in segments[::2] for what in segment)
    assert set(RATES) <= {what for segment in segments[1::2] for what in segment}
    assert all(end - begin >= GENTLE_SECONDS / 2 for begin, end in pairwise(calm))


def test_a_pick_is_one_of_those_there_are() -> None:
    """Whatever the lot, the index exists."""
    assert [Action(0.0, "", (lot, 0.0, 0.0)).pick(3) for lot in (0.0, 0.34, 0.99999, 1.0)] == [0, 1, 2, 2]
