"""A client's link against a daemon made by hand: when it comes back, when it gives up, and what it says."""

import contextlib
import math
import os
import socket
import time

import pytest

from tests.unit.abi.lasting_daemon import GRACE, PATIENCE, Daemon, attached, client, daemon, welcome
from vmbusd.abi import link
from vmbusd.abi.attach import Attached
from vmbusd.abi.errors import LinkClosed, LinkLost, ProtocolError, RefusedError, ResourceError
from vmbusd.abi.lasting import Lasting
from vmbusd.abi.link import Code, HelloFlag, Role
from vmbusd.abi.session import WINDOW

__all__ = ["client", "daemon"]


def settle(client: Lasting, seconds: float = PATIENCE) -> None:
    """Let it receive nothing until it is linked again, or that long."""
    deadline = time.monotonic() + seconds
    while client.due() < math.inf and time.monotonic() < deadline:
        assert client.receive() is None
        client.wait(0.01)


def receive_for_ever(client: Lasting) -> None:
    """Only an error ends it."""
    while True:
        assert client.receive() is None
        client.wait(PATIENCE)


def come_back(daemon: Daemon, client: Lasting, token: bytes = b"u" * 16, received: int = 0) -> link.Hello:
    """The socket is lost, the client comes back and is welcomed."""
    daemon.lose()
    while len(daemon.ends) < 2 or client.due() == float("inf"):
        assert client.receive() is None
    _, hello = daemon.hear()
    assert isinstance(hello, link.Hello)
    daemon.say(welcome(token, received))
    settle(client)
    return hello


def test_what_was_lost_is_said_again(daemon: Daemon, client: Lasting) -> None:
    """The new hello has the token and the last number taken; what was unconfirmed follows as it was."""
    for text in (b"one", b"two", b"three"):
        assert client.post(link.encode_message(text, where=1))
    daemon.say_message(b"hello", 1)
    got = client.receive()
    assert got is not None
    assert got[1][link.HEADER.size :] == b"hello"

    hello = come_back(daemon, client, received=1)

    assert (hello.token, hello.received, hello.flags) == (b"t" * 16, 1, HelloFlag.RESUMABLE)
    assert daemon.hear()[1] == link.Confirm(1)
    assert [(header.sequence, text) for header, text in (daemon.hear(), daemon.hear())] == [
        (2, b"two"),
        (3, b"three"),
    ]
    assert (client.resumed, client.waiting) == (1, 0)
    assert come_back(daemon, client, b"v" * 16, 3).token == b"u" * 16


def test_what_is_said_while_away_waits(daemon: Daemon, client: Lasting) -> None:
    """Posting never fails and never waits; it goes out, in order, when the link is back."""
    daemon.lose()
    assert client.receive() is None
    for number in range(3):
        client.post(link.encode_message(b"%d" % number, where=1))
    assert client.waiting == 3
    _, hello = daemon.hear()
    assert isinstance(hello, link.Hello)
    daemon.say(welcome(b"u" * 16))
    settle(client)

    assert daemon.hear()[1] == link.Confirm(0)
    assert [daemon.hear()[1] for _ in range(3)] == [b"0", b"1", b"2"]


def test_more_than_a_window_waits_for_confirmations(daemon: Daemon, client: Lasting) -> None:
    """The rest goes when the daemon confirms."""
    for number in range(WINDOW + 3):
        client.post(link.encode_message(b"%d" % number, where=1))
    assert client.waiting == 3
    for _ in range(WINDOW):
        daemon.hear()
    daemon.say(link.Confirm(2))
    assert client.receive() is None
    assert client.waiting == 1
    assert [daemon.hear()[0].sequence for _ in range(2)] == [WINDOW + 1, WINDOW + 2]


def test_what_comes_is_confirmed(daemon: Daemon, client: Lasting) -> None:
    """Every 32 packets, and when nothing else happens."""
    for number in range(1, 34):
        daemon.say_message(b"x", number)
    count = 0
    while client.receive() is not None:
        count += 1
    assert count == 33
    assert daemon.hear()[1] == link.Confirm(32)
    client.flush(idle=True)
    assert daemon.hear()[1] == link.Confirm(33)


def test_nobody_there_is_asked_again_until_the_grace_is_over(daemon: Daemon) -> None:
    """Connecting is tried ever less often; in the end the link is lost, and says how long that took."""
    client = attached(daemon, welcome(grace=GRACE))
    daemon.refuses = 1000
    daemon.lose()
    begun = time.monotonic()
    with contextlib.closing(client.attached), pytest.raises(LinkLost, match=r"not back within 1 s"):
        receive_for_ever(client)
    assert time.monotonic() - begun >= GRACE
    assert 3 < 1000 - daemon.refuses < 20


def test_a_daemon_that_is_short_of_something_is_asked_again(daemon: Daemon, client: Lasting) -> None:
    """Refusals that may pass are no end; welcomes that get lost neither."""
    daemon.lose()
    assert client.receive() is None
    daemon.say(link.Refused(Code.LIMIT, b"too many open files"))
    daemon.lose()
    while len(daemon.ends) < 3:
        assert client.receive() is None
        client.wait(0.01)
    daemon.lose()
    while len(daemon.ends) < 4:
        assert client.receive() is None
        client.wait(0.01)
    daemon.hear()
    daemon.say(welcome(b"u" * 16))
    settle(client)
    assert client.resumed == 1


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (link.Refused(Code.BAD_TOKEN, b"no such link"), RefusedError, "no such link"),
        (link.Bye(Code.STOPPING, b"stopping"), LinkClosed, "stopping"),
        (welcome(bytes(16)), ProtocolError, "has no token"),
        (welcome(received=1), ProtocolError, "between 0 and 0"),
        (link.Welcome(1, 2, 4096, 1, 0, 0, 1, b"u" * 16, 0, 1, 0, b""), ProtocolError, "vps 2, it was 1"),
        (link.Confirm(0), ProtocolError, "a welcome was expected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_answer_that_is_final_ends_the_link(
    daemon: Daemon, client: Lasting, answer: object, error: type[Exception], text: str
) -> None:
    """A refused token, a farewell, or a welcome that does not fit is told with its reason."""
    daemon.lose()
    assert client.receive() is None
    daemon.say(answer)
    with pytest.raises(error, match=text):
        client.receive()


def test_another_object_is_another_partition(daemon: Daemon) -> None:
    """A resume that grants an object that is not mapped here is the end; its descriptor is closed."""
    client = attached(daemon, welcome())
    daemon.lose()
    assert client.receive() is None
    reader, writer = os.pipe()
    before = len(os.listdir("/proc/self/fd"))
    grant = link.encode_grants([link.Grant(link.Object.RAM, 0, 1, 4096)])
    body = link.Welcome(1, 1, 4096, 1, 0, 0, 1, b"u" * 16, 0, 1, 0, grant)
    socket.send_fds(daemon.ends[-1], [link.encode(body)], [reader])
    with pytest.raises(ProtocolError, match="resume with another -ram"):
        client.receive()
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(reader)
    os.close(writer)
    client.attached.close()


def test_a_plain_link_ends_with_its_socket(daemon: Daemon) -> None:
    """Without a token nothing is numbered, nothing is confirmed, and the first loss is the last."""
    client = attached(daemon, welcome(bytes(16), grace=0))
    client.post(link.encode_message(b"x", where=1))
    assert daemon.hear()[0].sequence == 0
    daemon.say_message(b"y", 0)
    assert client.receive() is not None
    daemon.lose()
    with pytest.raises(LinkLost):
        client.receive()
    client.attached.close()


def test_a_full_socket_waits_for_room(daemon: Daemon) -> None:
    """Nothing blocks: what does not fit waits, asks to be polled for, and leaves in order."""
    client = attached(daemon, welcome(bytes(16), grace=0))
    sent = 0
    while client.post(link.encode_message(sent.to_bytes(4, "little"), where=1)):
        sent += 1
    client.post(link.encode_message((sent + 1).to_bytes(4, "little"), where=1))
    assert client.waiting == 2
    got = []
    while client.waiting:
        got.append(daemon.hear()[1])
        client.wait(0)
    while len(got) < sent + 2:
        got.append(daemon.hear()[1])
    assert got == [number.to_bytes(4, "little") for number in range(sent + 2)]
    client.attached.close()


def test_hooks_follow_the_socket(daemon: Daemon) -> None:
    """An event loop hears of a socket before it is closed and after it came."""
    bare = Attached(daemon.pair(), Role.GUEST_CONTROL, "demo")
    bare.welcome = welcome()
    heard: list[tuple[str, bool]] = []

    def is_open(fd: int) -> bool:
        return os.path.exists(f"/proc/self/fd/{fd}")

    hooks = (lambda fd: heard.append(("goes", is_open(fd))), lambda fd: heard.append(("came", is_open(fd))))
    client = Lasting(bare, connect=daemon.pair, socket_hooks=hooks)
    daemon.hear()
    come_back(daemon, client)
    assert heard == [("goes", True), ("came", True)]
    client.attached.close()


def test_a_link_without_a_path_cannot_come_back() -> None:
    """Somebody else connected it: the loss is the end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bare = Attached(ours, Role.GUEST_CONTROL, "demo")
    bare.welcome = welcome()
    client = Lasting(bare)
    theirs.close()
    with pytest.raises((LinkLost, ResourceError)):
        client.receive()
    bare.close()
