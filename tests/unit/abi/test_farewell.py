"""A client that leaves for good: its farewell is heard, or given up soon."""

import contextlib
import gc
import threading
import time
import weakref

import pytest

from tests.unit.abi.lasting_daemon import (
    PATIENCE,
    Daemon,
    attached,
    client,
    daemon,
    eventually,
    welcome,
)
from vmbusd.abi import away, link
from vmbusd.abi.errors import LinkLost
from vmbusd.abi.lasting import Lasting
from vmbusd.abi.link import Code

__all__ = ["client", "daemon"]


def say_farewell(client: Lasting) -> threading.Thread:
    """It waits for whoever plays the daemon."""
    thread = threading.Thread(target=client.farewell, args=(link.encode(link.Detached(0)), PATIENCE))
    thread.start()
    return thread


def test_a_farewell_is_not_followed_by_a_resume(daemon: Daemon, client: Lasting) -> None:
    """Detached is numbered; once it is confirmed nobody waits, and the end after it is the end."""
    leaving = say_farewell(client)
    header, body = daemon.hear()
    assert (header.sequence, body) == (1, link.Detached(0))
    daemon.say(link.Confirm(1))
    leaving.join()
    daemon.lose()
    with pytest.raises(LinkLost):
        client.receive()
    assert len(daemon.ends) == 1


def test_a_farewell_finds_its_way_over_a_new_socket(daemon: Daemon, client: Lasting) -> None:
    """Somebody who leaves while the link is away waits a moment for it."""
    daemon.lose()
    assert client.receive() is None
    daemon.hear()
    daemon.say(welcome(b"u" * 16))
    leaving = say_farewell(client)
    assert daemon.hear()[1] == link.Confirm(0)
    assert daemon.hear()[1] == link.Detached(0)
    daemon.say(link.Confirm(1))
    leaving.join()


def test_a_farewell_that_was_lost_with_its_socket_is_said_again(daemon: Daemon, client: Lasting) -> None:
    """A socket that took it is no proof that anybody heard it."""
    leaving = say_farewell(client)
    assert daemon.hear()[1] == link.Detached(0)
    daemon.lose()
    eventually(lambda: len(daemon.ends) == 2)
    assert isinstance(daemon.hear()[1], link.Hello)
    daemon.say(welcome(b"u" * 16))
    assert daemon.hear()[1] == link.Confirm(0)
    assert daemon.hear()[1] == link.Detached(0)
    daemon.say(link.Confirm(1))
    leaving.join()


def test_a_token_that_is_refused_ends_a_farewell(daemon: Daemon, client: Lasting) -> None:
    """The daemon heard it, and its confirmation was lost: it knows nobody by that token any more."""
    leaving = say_farewell(client)
    assert daemon.hear()[1] == link.Detached(0)
    daemon.lose()
    eventually(lambda: len(daemon.ends) == 2)
    daemon.hear()
    daemon.say(link.Refused(Code.BAD_TOKEN, b"unknown"))
    leaving.join()
    assert len(daemon.ends) == 2


def test_the_end_keeps_nothing_of_who_hears_of_it(daemon: Daemon, client: Lasting) -> None:
    """Once the error is handled no frame of a caller lives on, and what it had mapped can be let go of."""

    def hear_of_it() -> "weakref.ref[Daemon]":
        mine = Daemon()
        with contextlib.suppress(LinkLost):
            client.receive()
        return weakref.ref(mine)

    client.finish()
    daemon.lose()
    gc.disable()
    try:
        assert hear_of_it()() is None
    finally:
        gc.enable()


def test_the_time_of_a_farewell_is_limited(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody hangs at the end because no daemon is there."""
    monkeypatch.setattr(away, "LAST_RETRY", 0.01)
    client = attached(daemon, welcome(grace=60))
    daemon.refuses = 10**6
    daemon.lose()
    begun = time.monotonic()
    client.farewell(link.encode(link.Detached(0)), timeout=0.1)
    assert 0.1 <= time.monotonic() - begun < PATIENCE
    client.attached.close()
