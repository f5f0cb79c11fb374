"""Orders of a worker process: lines over a socket, whole or in pieces, until the other side is gone."""

import json
import socket
from collections.abc import Iterator

import pytest

from guest_client.process import Orders


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, Orders]]:
    ours, theirs = socket.socketpair()
    yield ours, Orders(theirs)
    ours.close()
    theirs.close()


def test_a_line_may_come_in_pieces(pair: tuple[socket.socket, Orders]) -> None:
    """Lines are put together however they arrive, and a rest waits for its end."""
    control, orders = pair
    control.sendall(b'{"vp"')

    control.sendall(b': 1}\n{"lost": [[5, 1]]}\n{"lost"')
    assert orders.first() == [{"vp": 1}, {"lost": [[5, 1]]}]
    control.sendall(b": []}\n")
    assert orders.more() == [{"lost": []}]


def test_the_end_of_the_control_process_is_seen(pair: tuple[socket.socket, Orders]) -> None:
    """After the other end closed there is no first line, nothing more, and nobody to tell."""
    control, orders = pair
    control.close()

    assert orders.first() == []
    assert orders.more() is None
    orders.tell({"attached": 1})


def test_news_is_a_line(pair: tuple[socket.socket, Orders]) -> None:
    """What is told arrives as one JSON object per line."""
    control, orders = pair
    orders.tell({"attached": 3})

    assert json.loads(control.recv(100)) == {"attached": 3}


def test_a_control_process_that_died_with_unread_news_is_gone() -> None:
    """Its socket is reset then, not closed: the worker leaves all the same."""
    ours, theirs = socket.socketpair()
    with ours:
        orders = Orders(ours)
        orders.tell({"attached": 1})
        assert not orders.are_over()
        theirs.sendall(b"{")
        assert not orders.are_over()
        theirs.close()

        assert orders.are_over()
        assert orders.more() is not None
        assert orders.more() is None
