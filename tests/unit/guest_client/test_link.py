"""The link's thread over a socket pair: nothing blocks, nothing leaks, every end is told once."""

import errno
import math
import os
import socket
import threading
from collections.abc import Iterator

import msgspec
import pytest

from guest_client import link as guest_link
from guest_client import posting
from guest_client.link import LinkThread
from vmbusd.abi import link
from vmbusd.abi.errors import LinkClosed, LinkLost, ObjectDead, ProtocolError, ResourceError, VmbusError
from vmbusd.abi.link_socket import LinkSocket

PATIENCE = 10.0
MESSAGE = link.encode_message(b"message", where=1)


class Attached(LinkSocket):
    """A link without shared objects; `dead` makes it look truncated."""

    dead = False
    role = link.Role.GUEST_WORKER
    partition = "demo"
    path = None
    welcome = link.Welcome(1, 1, 4096, 1, 0, 0, 1, bytes(16), 0, 0, 0, b"")

    def check(self) -> None:
        if self.dead:
            raise ObjectDead("demo-ram was truncated")


class Ends:
    """Both ends of a link, ours served by a thread that writes down what it hears."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.theirs.settimeout(PATIENCE)
        self.attached = Attached(ours, link.MAX_GUEST_PACKET)
        self.packets: list[bytes] = []
        self.reasons: list[VmbusError] = []
        self.unsent: list[tuple[bytes, VmbusError]] = []
        self.heard = threading.Semaphore(0)
        self.idles = threading.Semaphore(0)
        self.thread = self.make({})

    def make(self, watch: dict[int, object]) -> LinkThread:
        return LinkThread(
            self.attached,  # type: ignore[arg-type]
            name="test-link",
            packet=self.on_packet,
            ended=self.on_end,
            idle=self.on_idle,
            unsent=self.on_unsent,
            watch=watch,  # type: ignore[arg-type]
        )

    def on_unsent(self, packet: bytes, error: VmbusError) -> None:
        self.unsent.append((packet, error))
        self.heard.release()

    def on_packet(self, header: link.Header, packet: bytes) -> None:
        if packet == MESSAGE[:-1] + b"!":
            raise RuntimeError("the handler fails")
        self.packets.append(packet)
        self.heard.release()

    def on_end(self, reason: VmbusError) -> None:
        self.reasons.append(reason)
        self.heard.release()

    def on_idle(self) -> float:
        self.idles.release()
        return 60.0

    def wait(self) -> None:
        assert self.heard.acquire(timeout=PATIENCE)


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    made.thread.start()
    yield made
    made.thread.close()
    made.attached.sock.close()
    made.theirs.close()


def test_packets_go_both_ways(ends: Ends) -> None:
    """What is posted arrives in order, what is sent is handed on, and both are counted."""
    for number in range(3):
        ends.thread.post(link.encode_message(bytes([number]), where=1))
        ends.theirs.send(MESSAGE)
        ends.wait()

    assert [ends.theirs.recv(4096)[-1] for _ in range(3)] == [0, 1, 2]
    assert ends.packets == [MESSAGE] * 3
    assert ends.thread.statistics() == {"received": 3, "sent": 3, "queued": 0, "resumed": 0}


def test_a_peer_that_does_not_read_holds_nobody_up(ends: Ends) -> None:
    """With the socket full, posting returns, receiving goes on, and all is sent in order later (case 311)."""
    count = 3000
    for number in range(count):
        ends.thread.post(link.encode_message(number.to_bytes(4, "little"), where=1))
    ends.theirs.send(MESSAGE)
    ends.wait()

    assert ends.packets == [MESSAGE]
    assert ends.thread.statistics()["queued"] > 0
    sent = [int.from_bytes(ends.theirs.recv(4096)[-4:], "little") for _ in range(count)]
    assert sent == list(range(count))


def test_waking_runs_idle(ends: Ends) -> None:
    """`wake` makes the thread look around at once."""
    assert ends.idles.acquire(timeout=PATIENCE)
    ends.thread.wake()
    assert ends.idles.acquire(timeout=PATIENCE)


def test_descriptors_nobody_wants_are_closed(ends: Ends) -> None:
    """A host link that another link of the process takes over leaves no descriptor here."""
    before = sorted(os.listdir("/proc/self/fd"))
    reading, writing = os.pipe()
    body = link.encode(
        link.HostLink(0, 0, link.encode_grants([link.Grant(link.Object.HOST_PAGE, 0, 1, 4096)]))
    )
    socket.send_fds(ends.theirs, [body], [reading, writing])
    os.close(reading)
    os.close(writing)
    ends.wait()

    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_farewell_ends_the_link_with_its_reason(ends: Ends) -> None:
    """Bye is told as LinkClosed with the daemon's own words."""
    ends.theirs.send(link.encode(link.Bye(link.Code.REMOVED, b"the partition is removed")))
    ends.wait()

    assert [type(reason) for reason in ends.reasons] == [LinkClosed]
    assert str(ends.reasons[0]) == "the partition is removed"


def test_the_death_of_the_daemon_is_told_and_the_rest_goes_on(ends: Ends) -> None:
    """Without a farewell the reason is LinkLost, idle and wake go on, and posts go nowhere quietly."""
    ends.theirs.close()
    ends.wait()

    assert [type(reason) for reason in ends.reasons] == [LinkLost]
    ends.thread.post(MESSAGE)
    while ends.idles.acquire(blocking=False):
        pass
    ends.thread.wake()
    assert ends.idles.acquire(timeout=PATIENCE)
    assert len(ends.reasons) == 1


@pytest.mark.parametrize(
    ("packet", "kind"),
    [(b"short", ProtocolError), (MESSAGE[:-1] + b"!", LinkClosed), (bytes(5000), ProtocolError)],
)
def test_what_cannot_be_handled_ends_the_link(ends: Ends, packet: bytes, kind: type[VmbusError]) -> None:
    """A packet that is none, one too long, or a handler that fails: told once, and nothing hangs."""
    ends.theirs.send(packet)
    ends.wait()

    assert [type(reason) for reason in ends.reasons] == [kind]


def test_a_truncated_object_ends_the_link(ends: Ends) -> None:
    """The mappings are looked at between packets; a dead one is told by name."""
    ends.attached.dead = True
    ends.thread.wake()
    ends.wait()

    assert str(ends.reasons[0]) == "demo-ram was truncated"


def test_a_watched_descriptor_is_left_when_it_says_so() -> None:
    """A descriptor is watched until its callback returns False, however readable it stays."""
    ends = Ends()
    reading, writing = os.pipe()
    calls: list[bytes] = []

    def heard() -> bool:
        calls.append(os.read(reading, 1))
        ends.heard.release()
        return len(calls) < 2

    thread = ends.make({reading: heard})
    thread.start()
    os.write(writing, b"abc")
    ends.wait()
    ends.wait()
    ends.theirs.send(MESSAGE)
    ends.wait()
    thread.close()
    ends.thread.close()

    assert calls == [b"a", b"b"]
    assert ends.reasons == []
    for end in (ends.attached.sock, ends.theirs):
        end.close()
    os.close(reading)
    os.close(writing)


def test_closing_twice_is_fine(ends: Ends) -> None:
    """A link may be closed again, and woken after it."""
    ends.thread.close()
    ends.thread.close()
    ends.thread.wake()
    assert ends.reasons == []


def test_a_farewell_that_somebody_waits_for_is_waited_for_until_it_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long that takes, over whichever socket; a hurry ends the waiting."""
    monkeypatch.setattr(guest_link, "FAREWELL_TIMEOUT", 0.05)
    monkeypatch.setattr(guest_link, "SLICE", 0.05)
    monkeypatch.setattr(
        Attached, "welcome", msgspec.structs.replace(Attached.welcome, token=b"t" * 16, grace=60000)
    )
    for hurries in (False, True):
        ends = Ends()
        ends.thread.start()
        closing = threading.Thread(target=ends.thread.close, args=(link.encode(link.Detached(1)), math.inf))
        closing.start()
        kinds = [link.decode_header(ends.theirs.recv(4096)).kind for _ in range(2)]
        assert kinds == [link.Kind.CONFIRM, link.Kind.DETACHED]
        closing.join(0.3)
        assert closing.is_alive()
        if hurries:
            ends.thread.hurry()
        else:
            ends.theirs.send(link.encode(link.Confirm(1)))
        closing.join(PATIENCE)
        assert not closing.is_alive()
        ends.attached.sock.close()
        ends.theirs.close()


class NoBuffers:
    """A socket that fails with ENOBUFS `times` times, then works."""

    def __init__(self, sock: socket.socket, times: int) -> None:
        self.sock = sock
        self.left = times

    def send(self, data: bytes, flags: int) -> int:
        if self.left:
            self.left -= 1
            raise OSError(errno.ENOBUFS, "no buffers")
        return self.sock.send(data, flags)

    def __getattr__(self, name: str) -> object:
        return getattr(self.sock, name)


def test_a_machine_out_of_buffers_is_tried_again(ends: Ends) -> None:
    """What could not be sent goes out in its order when there are buffers again (case 294)."""
    ends.attached.sock = NoBuffers(ends.attached.sock, 8)  # type: ignore[assignment]
    for number in range(3):
        ends.thread.post(link.encode_message(b"message%d" % number, where=1))

    for number in range(3):
        assert ends.theirs.recv(4096).endswith(b"message%d" % number)
    assert ends.unsent == []


def test_a_packet_that_never_gets_buffers_is_told(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last try it is given up with an error, and what comes behind it goes out (case 294)."""
    monkeypatch.setattr(posting, "TRIES", 5)
    ends.attached.sock = NoBuffers(ends.attached.sock, 5)  # type: ignore[assignment]
    ends.thread.post(MESSAGE)
    ends.thread.post(link.encode_message(b"the next", where=1))
    ends.wait()

    assert [packet for packet, _ in ends.unsent] == [MESSAGE]
    assert isinstance(ends.unsent[0][1], ResourceError)
    assert ends.theirs.recv(4096).endswith(b"the next")
