"""A daemon made by hand, at the other end of a link that outlives its sockets."""

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from vmbusd.abi import layout, link
from vmbusd.abi.attach import Attached
from vmbusd.abi.lasting import Lasting
from vmbusd.abi.link import Kind, Role

PATIENCE = 10.0
GRACE = 1.0


@dataclass
class Daemon:
    """The other end of each socket of the link, the newest last."""

    ends: list[socket.socket] = field(default_factory=list)
    refuses: int = 0

    def pair(self) -> socket.socket:
        """A new connection, or none."""
        if self.refuses:
            self.refuses -= 1
            raise ConnectionRefusedError
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.settimeout(PATIENCE)
        self.ends.append(theirs)
        ours.setblocking(False)
        return ours

    def hear(self) -> tuple[link.Header, object]:
        packet = self.ends[-1].recv(link.MAX_HOST_PACKET)
        header = link.decode_header(packet)
        if header.kind == Kind.MESSAGE:
            return header, packet[link.HEADER.size :]
        return header, link.decode_body(header, packet)

    def say(self, body: object, **fields: int) -> None:
        self.ends[-1].send(link.encode(body, **fields))  # type: ignore[arg-type]

    def say_message(self, text: bytes, number: int) -> None:
        self.ends[-1].send(link.encode_message(text, where=0, sequence=number))

    def lose(self) -> None:
        """The daemon's end of the newest socket is closed."""
        self.ends[-1].close()

    def close(self) -> None:
        for end in self.ends:
            end.close()


def welcome(token: bytes = b"t" * 16, received: int = 0, grace: float = PATIENCE) -> link.Welcome:
    return link.Welcome(
        layout.ABI_VERSION, 1, layout.PAGE, 1, 0, 0, 1, token, received, int(grace * 1000), 0, b""
    )


def attached(daemon: Daemon, greeting: link.Welcome) -> Lasting:
    bare = Attached(daemon.pair(), Role.GUEST_CONTROL, "demo")
    bare.welcome = greeting
    made = Lasting(bare, connect=daemon.pair)
    if any(greeting.token):
        assert daemon.hear()[1] == link.Confirm(0)
    return made


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    made = Daemon()
    yield made
    made.close()


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Lasting]:
    """A resumable guest control link, which has confirmed its welcome."""
    made = attached(daemon, welcome())
    yield made
    made.attached.close()


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)
