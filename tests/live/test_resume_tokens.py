"""Resuming by hand, packet by packet, as a client in C would: what is sent again, and who is let in."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from tests.live.daemon import Daemon, as_user, daemon, eventually, seqpacket
from tests.live.peers import CONTACT, device, guest, hello
from vmbusd.abi import device_link, link, messages, paths, wire
from vmbusd.abi.errors import LinkClosed
from vmbusd.abi.link import Code, HelloFlag, Kind, Role
from vmbusd.abi.link_socket import close_all
from vmbusd.server import limits

pytestmark = pytest.mark.live


@pytest.fixture
def running(runtime_dir: Path) -> Iterator[Daemon]:
    """A daemon with partitions a (4 VPs) and b."""
    with daemon(runtime_dir, "--partition", "a", "--partition", "b") as running:
        yield running


class Client:
    """A resumable link without any library.

    Attributes: `sent`, `received`, the last numbers; `token`, of the last welcome.
    """

    def __init__(self, runtime_dir: Path, role: Role = Role.GUEST_CONTROL, **fields: object) -> None:
        self.path = runtime_dir / (paths.HOST_SOCKET if role is Role.HOST else paths.GUEST_SOCKET)
        self.hello = {"role": role, "flags": HelloFlag.RESUMABLE, **fields}
        self.sent = self.received = 0
        self.token = bytes(16)
        self.welcome = self.connect()

    def connect(self, **changes: object) -> link.Welcome:
        """Say hello on a new socket, with our token if we have one."""
        self.sock = seqpacket(self.path)
        self.sock.send(hello(**self.hello, **{"token": self.token, "received": self.received, **changes}))
        body = self.hear()
        assert isinstance(body, link.Welcome), body
        self.token = body.token
        return body

    def hear(self) -> msgspec.Struct | bytes:
        """The next packet's body, or its channel message; numbers are checked."""
        packet, fds, _, _ = socket.recv_fds(self.sock, link.MAX_HOST_PACKET, link.MAX_DESCRIPTORS)
        close_all(fds)
        header = link.decode_header(packet)
        if header.sequence:
            self.received += 1
            assert header.sequence == self.received
        if header.kind == Kind.MESSAGE:
            return packet[link.HEADER.size :]
        if header.kind in device_link._PACKING:
            return device_link.decode(header, packet)
        return link.decode_body(header, packet)

    def say(self, message: msgspec.Struct) -> None:
        """A channel message, or a device message, with its number."""
        self.sent += 1
        if self.hello["role"] is Role.HOST:
            self.sock.send(device_link.encode(message, sequence=self.sent))  # type: ignore[arg-type]
        else:
            self.sock.send(link.encode_message(wire.encode(message), where=1, sequence=self.sent))

    def confirm(self) -> None:
        self.sock.send(link.encode(link.Confirm(self.received)))

    def leave(self) -> None:
        """The orderly end."""
        self.sent += 1
        self.sock.send(link.encode(link.Detached(0), sequence=self.sent))
        self.sock.close()


@contextlib.contextmanager
def client(running: Daemon, role: Role = Role.GUEST_CONTROL, **fields: object) -> Iterator[Client]:
    """A client that has left in the end, if it was there."""
    made = Client(running.runtime_dir, role, **fields)
    try:
        yield made
    finally:
        with contextlib.suppress(OSError):
            made.leave()
        made.sock.close()


def refusal(made: Client, **changes: object) -> link.Refused:
    """What a resume with these changes is refused with."""
    with seqpacket(made.path) as sock:
        sock.send(hello(**{**made.hello, "token": made.token, "received": made.received, **changes}))
        packet, fds, _, _ = socket.recv_fds(sock, link.MAX_GUEST_PACKET, link.MAX_DESCRIPTORS)
        close_all(fds)
        body = link.decode_body(link.decode_header(packet), packet)
        assert isinstance(body, link.Refused), body
        return body


def guest_view(running: Daemon) -> dict[str, object]:
    view: dict[str, object] = running.status("a")["guest"] or {}
    return view


def test_what_was_not_received_is_sent_again(running: Daemon) -> None:
    """The answer that was lost with the socket comes over the next one, and is not made twice."""
    with client(running) as made:
        assert made.welcome.grace == limits.GRACE * 1000
        assert any(made.welcome.token)
        made.say(CONTACT)
        # The answer arrives in a socket that nobody reads any more.
        eventually(lambda: guest_view(running)["packets_out"] == 2, "the answer is out")
        made.sock.close()
        old = made.token

        welcome = made.connect()

        assert (welcome.received, made.token != old) == (1, True)
        heard = made.hear()
        assert isinstance(heard, bytes)
        answer = wire.decode(heard, wire.V5_3, sender=wire.Sender.HOST)
        assert isinstance(answer, messages.VersionResponse)
        made.confirm()
        assert eventually(lambda: guest_view(running)["resumed"], "the resume is counted") == 1


def test_what_was_received_is_not_done_twice(running: Daemon) -> None:
    """A packet that a client sends again, because no confirmation came, is dropped by its number."""
    with client(running, Role.HOST) as made:
        offer = device_link.Offer(1, UUID(int=1), UUID(int=1))
        made.say(offer)
        assert isinstance(made.hear(), device_link.OfferResult)
        made.sock.close()
        assert made.connect().received == 1
        made.sock.send(device_link.encode(offer, sequence=1))
        made.say(device_link.Revoke(1))
        assert made.hear() == device_link.Revoked(1)
        assert running.status("a")["hosts"][0]["refused"] == {}


def test_the_old_token_is_good_until_the_new_one_is_known(running: Daemon) -> None:
    """Welcomes that never arrive do not lock a client out; once it spoke, the older token is wrong."""
    with client(running) as made:
        made.say(CONTACT)
        made.hear()
        first = made.token
        for _ in range(3):
            made.sock.close()
            made.connect(token=first)
        assert made.token != first
        made.confirm()
        eventually(lambda: guest_view(running)["resumed"] == 3, "three resumes")
        assert refusal(made, token=first).code == Code.BAD_TOKEN
        made.sock.close()
        made.connect()
        assert guest_view(running)["resumed"] == 4


def test_a_link_that_seems_alive_can_be_resumed(running: Daemon) -> None:
    """What the old socket still holds is taken first, then it is closed."""
    with client(running) as made:
        old = made.sock
        made.say(CONTACT)
        welcome = made.connect()
        assert welcome.received == 1
        assert isinstance(made.hear(), bytes)
        assert old.recv(link.MAX_GUEST_PACKET)[:4] == bytes([Kind.MESSAGE, 0, 0, 0])
        assert old.recv(1) == b""
        old.close()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"token": b"guess" * 3 + b"!"}, Code.BAD_TOKEN),
        ({"partition": "b"}, Code.BAD_TOKEN),
        ({"role": Role.GUEST_WORKER}, Code.BAD_TOKEN),
        ({"received": 2}, Code.BAD_PACKET),
        ({"received": 2**64 - 1}, Code.BAD_PACKET),
        ({"flags": 2}, Code.BAD_PACKET),
        ({"partition": "c"}, Code.UNKNOWN_PARTITION),
    ],
)
def test_a_resume_that_does_not_fit_is_refused(
    running: Daemon, changes: dict[str, object], code: Code
) -> None:
    """A forged token, one of another partition or role, or an impossible number: refused, and the link that
    it was tried on goes on; no token is ever in the log.
    """
    with client(running) as made:
        made.say(CONTACT)
        made.hear()
        made.sock.close()
        eventually(lambda: guest_view(running)["away"], "the daemon sees the end")
        assert refusal(made, **changes).code == code

        assert made.connect().received == 1
        eventually(lambda: "link resumed" in running.text(), "the resume is logged")
        for token in (made.token, b"guess" * 3 + b"!"):
            assert token.hex() not in running.text()
            assert repr(token)[2:-1] not in running.text()


def test_a_token_is_good_for_its_own_process_only(running: Daemon) -> None:
    """Another process that learned the token is refused, whoever it runs as."""
    with client(running) as made:
        made.say(CONTACT)
        made.hear()
        made.sock.close()
        answer = as_user(None, lambda: refusal(made).text.decode())

        assert answer == "partition a has no link to resume by that token"
        made.connect()


def test_a_used_up_token_is_refused(running: Daemon) -> None:
    """After an orderly end, and after the end of the grace time, the token is wrong."""
    with client(running) as made:
        made.leave()
        eventually(lambda: running.status("a")["guest"] is None, "the guest has left at once")
        assert refusal(made).code == Code.BAD_TOKEN


def test_guesses_are_answered_ever_later(running: Daemon) -> None:
    """After a few wrong tokens of one user each further one waits; a good one does not."""
    with client(running) as made:
        made.sock.close()
        for _ in range(limits.WRONG_TOKENS):
            assert refusal(made, token=os.urandom(16)).code == Code.BAD_TOKEN
        begun = time.monotonic()
        assert refusal(made, token=os.urandom(16)).code == Code.BAD_TOKEN
        # The event loop counts in whole milliseconds.
        assert time.monotonic() - begun >= limits.WRONG_TOKEN_DELAY - 0.01
        made.connect()


@pytest.mark.parametrize(
    ("packets", "text"),
    [
        ([(2, b"")], "packet 2 came after 0"),
        ([(0, b"")], "a packet without a number"),
        ([(1, b""), (1, b""), (3, b"")], "packet 3 came after 1"),
    ],
)
def test_numbers_that_do_not_fit_end_the_link(
    running: Daemon, packets: list[tuple[int, bytes]], text: str
) -> None:
    """A gap, or a packet without a number, is a farewell; the token is wrong from then on."""
    with client(running) as made:
        for number, message in packets:
            made.sock.send(link.encode_message(message, where=1, sequence=number))
        body = made.hear()
        assert isinstance(body, link.Bye)
        assert text in body.text.decode()
        assert refusal(made).code == Code.BAD_TOKEN


def test_a_confirmation_of_nothing_ends_the_link(running: Daemon) -> None:
    """Nobody can have what was never sent."""
    with client(running) as made:
        made.sock.send(link.encode(link.Confirm(7)))
        body = made.hear()
        assert isinstance(body, link.Bye)
        assert body.text == b"packet 7 is confirmed, 0 is the last one sent"


def test_a_process_that_dies_is_not_waited_for(running: Daemon) -> None:
    """Grace is for the living: the end of a process ends its links at once, and another guest may come."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        Client(running.runtime_dir)
        Client(running.runtime_dir, Role.GUEST_WORKER, vp=1)
        os.write(writer, b"x")
        signal.pause()
        os._exit(0)
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    eventually(lambda: running.status("a")["guest"] is None, "the guest is gone", limits.GRACE / 2)
    with guest(running.runtime_dir) as control:
        control.connect()


def test_whoever_stays_away_is_given_up(runtime_dir: Path) -> None:
    """After the grace time a guest is unloaded, a host's offers are rescinded, a VP is its process's."""
    with (
        daemon(runtime_dir, "--partition", "a", "--grace", "0.3") as running,
        client(running, Role.HOST) as host,
        client(running) as control,
        client(running, Role.GUEST_WORKER, vp=2) as worker,
        device(runtime_dir) as other,
    ):
        host.say(device_link.Offer(1, UUID(int=7), UUID(int=7)))
        other.offer()
        for made in (host, worker, control):
            made.sock.close()
        eventually(lambda: running.status("a")["guest"] is None, "the guest is given up")
        eventually(lambda: running.status("a")["channels"] == 1, "one offer is left")
        eventually(lambda: running.status("a")["workers"][2]["state"] == "leaving", "the VP has no link")
        for made in (host, worker, control):
            assert refusal(made).code == Code.BAD_TOKEN
        assert "away for 0.3 s" in running.text()


def test_a_welcome_that_never_arrived_is_no_link(running: Daemon) -> None:
    """The same process may ask again at once for what it never got; others have to wait."""
    lost = Client(running.runtime_dir)
    lost.sock.close()
    with client(running) as made:
        part = Client(running.runtime_dir, Role.GUEST_WORKER, vp=1)
        part.sock.close()
        with client(running, Role.GUEST_WORKER, vp=1) as worker:
            assert worker.welcome.incarnation == 2
            worker.sent += 1
            worker.sock.send(link.encode(link.Detached(1), sequence=worker.sent))
        made.confirm()
        made.say(CONTACT)
        made.hear()


def test_an_away_guest_keeps_its_place(running: Daemon) -> None:
    """While it may come back, no other guest is admitted."""
    with client(running) as made:
        made.say(CONTACT)
        made.hear()
        made.sock.close()
        eventually(lambda: guest_view(running)["away"], "it is away")
        text = as_user(None, lambda: str(_refused_guest(running.runtime_dir)))
        assert text == f"partition a has a guest: pid {os.getpid()}"
        made.connect()


def _refused_guest(runtime_dir: Path) -> str:
    with seqpacket(runtime_dir / paths.GUEST_SOCKET) as sock:
        sock.send(hello())
        packet = sock.recv(link.MAX_GUEST_PACKET)
        body = link.decode_body(link.decode_header(packet), packet)
        if not isinstance(body, link.Refused):
            raise LinkClosed(f"{type(body).__name__} came")
        return body.text.decode()


def test_a_signal_is_not_numbered(running: Daemon) -> None:
    """On a link that lives on a Signal only says "look": it is judged by itself and takes no number."""
    with client(running) as made:
        made.sock.send(link.encode(link.Signal(link.SHARED_EVENT_CONNECTION)))
        made.say(CONTACT)
        made.hear()
        assert running.status("a")["guest"]["refused"] == {"no interrupt page": 1}
