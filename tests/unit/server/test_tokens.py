"""Tokens by themselves: which are good when, and who has to wait."""

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from vmbusd.server import limits
from vmbusd.server.attached import Attached
from vmbusd.server.tokens import TOKEN_SIZE, Tokens, WrongTokens


def a_link() -> Any:
    """As much of a link as tokens need."""
    return cast(Attached, SimpleNamespace(tokens=()))


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["resume", "heard", "drop"])), max_size=30))
def test_every_link_has_its_own(script: list[tuple[int, str]]) -> None:
    """Only the newest token of a link, and the one it showed last, are good; those of others never change."""
    tokens = Tokens()
    links = [a_link() for _ in range(3)]
    good: list[list[bytes]] = []
    for each in links:
        tokens.issue(each)
        good.append([each.tokens[-1]])
    used: set[bytes] = set()
    for number, what in script:
        each, mine = links[number], good[number]
        used.update(mine)
        if what == "drop":
            tokens.drop(each)
            good[number] = []
        elif not mine:
            continue
        elif what == "resume":
            tokens.issue(each, mine[0])
            good[number] = [mine[0], each.tokens[-1]]
        else:
            tokens.heard(each)
            good[number] = mine[-1:]
        everything = {token: links[at] for at, kept in enumerate(good) for token in kept}
        assert all(tokens.find(token) is owner for token, owner in everything.items())
        assert all(tokens.find(token) is None for token in used - everything.keys())
        assert len(tokens) == len(everything)
        assert all(len(token) == TOKEN_SIZE for token in everything)


def test_a_few_wrong_ones_cost_nothing() -> None:
    """More of one uid within the window are answered late; other uids and later times are not."""
    wrong = WrongTokens()
    assert [wrong.delay(1, float(at)) for at in range(limits.WRONG_TOKENS)] == [0.0] * limits.WRONG_TOKENS
    assert wrong.delay(1, 8.0) == limits.WRONG_TOKEN_DELAY
    assert wrong.delay(2, 8.0) == 0.0
    assert wrong.delay(1, 8.0 + limits.WRONG_TOKEN_WINDOW) == 0.0


def test_what_is_remembered_is_bounded() -> None:
    """However many users guess, the memory of it does not grow, and the latest ones are remembered."""
    wrong = WrongTokens()
    for _ in range(limits.WRONG_TOKENS + 1):
        for uid in range(limits.WRONG_TOKEN_UIDS + 10):
            wrong.delay(uid, 1.0)
    assert len(wrong._seen) <= limits.WRONG_TOKEN_UIDS
    for _ in range(limits.WRONG_TOKENS):
        wrong.delay(77777, 2.0)
    assert wrong.delay(77777, 2.0) == limits.WRONG_TOKEN_DELAY
