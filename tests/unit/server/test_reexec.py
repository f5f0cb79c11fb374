"""What a daemon hands over to the next: taken once, and only if it is what it says."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmbusd.abi.errors import UsageError
from vmbusd.server.reexec import VARIABLE, HandedOver, handed_over


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[int]:
    """An open lock file."""
    fd = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def test_nothing_is_handed_over_to_a_first_daemon() -> None:
    """Without the variable there is neither lock nor socket."""
    given = handed_over({})
    assert given == HandedOver()
    assert given.socket("guest.sock", "/x") is None
    assert given.lock_of(os.stat("/")) is None


def test_what_is_handed_over_is_taken_once(lock: int, tmp_path: Path) -> None:
    """The variable is gone for whoever is started by the new daemon, and so are the descriptors."""
    path = str(tmp_path / "guest.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(path)
        os.set_inheritable(lock, True)
        environment = {
            VARIABLE: f'{{"lock": {lock}, "sockets": {{"guest.sock": {os.dup(listening.fileno())}}}}}'
        }

        given = handed_over(environment)

    assert environment == {}
    assert not os.get_inheritable(lock)
    assert given.lock_of(os.stat(tmp_path / "lock")) == lock
    assert given.lock_of(os.stat(tmp_path)) is None
    assert given.socket("host.sock", path) is None
    with given.socket("guest.sock", path) or pytest.fail("it is there") as taken:
        assert taken.getsockname() == path


def test_a_socket_that_listens_elsewhere_is_closed(tmp_path: Path) -> None:
    """The runtime directory of the new daemon is another one: it binds its own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(tmp_path / "guest.sock"))
        fd = os.dup(listening.fileno())
        given = HandedOver(None, {"guest.sock": fd})
        assert given.socket("guest.sock", "/elsewhere/guest.sock") is None
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"lock": "3"}',
        '{"lock": 99999}',
        '{"lock": -1}',
        '{"tables": [99999]}',
        '{"tables": 3}',
        '{"admins": [99999]}',
        '{"lock": 99999999999999}',
        '{"x": 1}',
    ],
)
def test_what_no_daemon_wrote_is_refused(text: str) -> None:
    """The error names the variable; whoever sets it by hand learns what is wrong."""
    with pytest.raises(UsageError, match=VARIABLE):
        handed_over({VARIABLE: text})


def test_a_descriptor_that_is_something_else_is_refused(lock: int) -> None:
    """A lock is a file, a socket a socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(UsageError, match="is no lock file"):
            handed_over({VARIABLE: f'{{"lock": {ours.fileno()}}}'})
        with pytest.raises(UsageError, match="is no table"):
            handed_over({VARIABLE: f'{{"tables": [{lock}, {ours.fileno()}]}}'})
        with pytest.raises(UsageError, match=r"is not the socket guest\.sock"):
            handed_over({VARIABLE: f'{{"sockets": {{"guest.sock": {lock}}}}}'})
        with pytest.raises(UsageError, match="is not the socket of an administrator"):
            handed_over({VARIABLE: f'{{"admins": [{lock}]}}'})
