"""The service manager hears exactly what the daemon says, on either kind of socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmbusd.abi.errors import ResourceError
from vmbusd.server.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, runtime_dir: Path) -> Iterator[tuple[socket.socket, Notifier]]:
    """A listening service manager and a notifier that was told where it listens."""
    name = str(runtime_dir / "notify") if request.param == "path" else f"@vmbusd-notify-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if name.startswith("@") else name)
        listener.settimeout(5)
        yield listener, Notifier({"NOTIFY_SOCKET": name})
    if not name.startswith("@"):
        os.unlink(name)


def test_a_life_is_told_in_order(manager: tuple[socket.socket, Notifier]) -> None:
    """READY carries the first status; later ones and the stop follow as datagrams of their own."""
    listener, notifier = manager

    notifier.ready("2 partitions")
    notifier.status("3 partitions")
    notifier.stopping()

    assert notifier.present
    assert [listener.recv(4096) for _ in range(3)] == [
        b"READY=1\nSTATUS=2 partitions",
        b"STATUS=3 partitions",
        b"STOPPING=1",
    ]


def test_a_status_cannot_add_an_assignment(manager: tuple[socket.socket, Notifier]) -> None:
    """Line breaks in a status become spaces."""
    listener, notifier = manager

    notifier.status("partition a\nMAINPID=1\r\n gone")

    assert listener.recv(4096) == b"STATUS=partition a MAINPID=1 gone"


def test_undecodable_names_are_sent_all_the_same(manager: tuple[socket.socket, Notifier]) -> None:
    """A path with bytes that are no UTF-8 is shown with question marks, not refused."""
    listener, notifier = manager

    notifier.status(os.fsdecode(b"runtime directory \xff"))

    assert listener.recv(4096) == b"STATUS=runtime directory ?"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}])
def test_without_a_manager_nothing_happens(environment: dict[str, str]) -> None:
    """Started from a shell, the daemon says the same and nobody is disturbed."""
    notifier = Notifier(environment)

    notifier.ready("1 partition")
    notifier.stopping()

    assert not notifier.present


def test_a_manager_that_is_gone_is_named(runtime_dir: Path) -> None:
    """The error says which socket could not be reached and why."""
    notifier = Notifier({"NOTIFY_SOCKET": str(runtime_dir / "gone")})

    with pytest.raises(ResourceError, match=r"gone.*No such file"):
        notifier.ready("")


def test_an_address_of_another_kind_is_refused() -> None:
    """Only what systemd documents for local sockets is understood."""
    with pytest.raises(ResourceError, match="vsock:2:1234"):
        Notifier({"NOTIFY_SOCKET": "vsock:2:1234"})
