"""The replay's scheduler: who is held where, and every order of steps."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmbusd.lab import schedule
from vmbusd.lab.schedule import Hold, ReplayError, orders


@contextmanager
def walker(hold: Hold, steps: list[str]) -> Iterator[tuple[list[str], threading.Thread]]:
    """A thread that notes each step after it was let past it."""
    done: list[str] = []

    def walk() -> None:
        for step in steps:
            hold.at_step(step)
            done.append(step)

    thread = threading.Thread(target=walk)
    try:
        yield done, thread
    finally:
        hold.release()
        thread.join()


def test_a_thread_is_held_at_the_step_after_the_one_it_was_let_past() -> None:
    """Until past b: b is done, c is not, however long one waits."""
    hold = Hold("x")
    with walker(hold, ["a", "b", "c", "d"]) as (done, thread):
        hold.hold()
        thread.start()
        hold.until_past("b")

        assert (done, hold.at) == (["a", "b"], "c")

        hold.until_past("c")

        assert (done, hold.at) == (["a", "b", "c"], "d")


def test_a_thread_that_is_held_goes_on_when_it_is_released() -> None:
    """It runs to its end and is held nowhere."""
    hold = Hold("x")
    with walker(hold, ["a", "b", "c"]) as (done, thread):
        hold.hold()
        thread.start()
        hold.until_past("a")
        hold.release()
        thread.join()

        assert (done, hold.at) == (["a", "b", "c"], None)


def test_a_thread_that_nobody_holds_is_not_delayed() -> None:
    """Without `hold` every step is passed at once."""
    hold = Hold("x")
    with walker(hold, ["a", "b"]) as (done, thread):
        thread.start()
        thread.join()

        assert done == ["a", "b"]


def test_a_step_that_does_not_come_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the thread and the step, and nobody stays held."""
    monkeypatch.setattr(schedule, "PATIENCE", 0.05)
    hold = Hold("VP A")
    with walker(hold, ["a", "b"]) as (done, thread):
        thread.start()
        with pytest.raises(ReplayError, match="VP A: did not get past c"):
            hold.until_past("c")
        thread.join()

        assert done == ["a", "b"]


@given(
    st.integers(0, 5).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4))))
    )
)
def test_orders_are_all_permutations_that_keep_the_pairs(drawn: tuple[int, set[tuple[int, int]]]) -> None:
    """None is missing, none comes twice, none breaks a pair."""
    count, pairs = drawn
    steps = list(range(count))
    kept = [(a, b) for a, b in pairs if a != b and a in steps and b in steps]

    expected = [
        order
        for order in itertools.permutations(steps)
        if all(order.index(a) < order.index(b) for a, b in kept)
    ]

    assert sorted(orders(steps, kept)) == sorted(expected)
