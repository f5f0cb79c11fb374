"""Packets and descriptors over a socket pair, on both event loops."""

import asyncio
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from vmbusd.abi.errors import ResourceError, UsageError
from vmbusd.server import limits
from vmbusd.server.listening import Listener, bind
from vmbusd.server.sockets import PacketLink
from vmbusd.server.turn import Turn

MAX_PACKET = 1000
TURNS = 10
"""Of the event loop: more than anything here takes."""
LAST = b"the last packet"


class Heard:
    """A receiver that writes down what it is told."""

    def __init__(self, wire: PacketLink) -> None:
        self.wire = wire
        self.packets: list[bytes] = []
        self.events: list[str] = []
        self.drains = 0

    def packet(self, data: bytes) -> None:
        self.packets.append(data)

    def broken(self, text: str) -> None:
        self.events.append(f"broken: {text}")
        self.wire.finish(LAST, "broken")

    def overflowed(self, text: str) -> None:
        self.events.append(f"overflowed: {text}")
        self.wire.finish(LAST, "overflowed")

    def drained(self) -> None:
        self.drains += 1

    def ended(self, reason: str) -> None:
        self.events.append(f"ended: {reason}")


class Scene:
    """A link on one end of a socket pair and a raw socket on the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        ours, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.peer.settimeout(10)
        self.wire = PacketLink(loop, ours, MAX_PACKET, Turn(loop))
        self.heard = Heard(self.wire)
        self.wire.start(self.heard)

    def run(self, seconds: float = 0.02) -> None:
        async def pause() -> None:
            await asyncio.sleep(seconds)
            # Whoever was halted for that long has not looked at its sockets yet.
            for _ in range(TURNS):
                await asyncio.sleep(0)

        self.loop.run_until_complete(pause())


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop() if request.param == "asyncio" else uvloop.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def scene(loop: asyncio.AbstractEventLoop) -> Iterator[Scene]:
    made = Scene(loop)
    yield made
    made.wire.close("the test is over")
    made.peer.close()


def test_packets_go_both_ways_whole_and_in_order(scene: Scene) -> None:
    """The longest one that is allowed, too."""
    for size in (1, MAX_PACKET, 24):
        scene.peer.send(bytes(size))
    scene.wire.send(b"one")
    scene.wire.send(b"two")
    scene.run()

    assert [len(packet) for packet in scene.heard.packets] == [1, MAX_PACKET, 24]
    assert [scene.peer.recv(100), scene.peer.recv(100)] == [b"one", b"two"]
    assert (scene.wire.packets_in, scene.wire.packets_out) == (3, 2)


def test_what_a_turn_says_leaves_at_its_end(scene: Scene) -> None:
    """Not before, in order, and a packet with descriptors takes along what was said before it."""
    reader, writer = os.pipe()
    scene.wire.send(b"one")
    early, _, _ = select.select([scene.peer], [], [], 0)
    scene.wire.send(b"two", [writer])
    one = scene.peer.recv(100)
    data, fds, _, _ = socket.recv_fds(scene.peer, 100, 1)
    scene.wire.send(b"three")
    scene.run(0)

    assert (early, one, data) == ([], b"one", b"two")
    assert scene.peer.recv(100) == b"three"
    assert scene.wire.packets_out == 3
    for fd in (reader, writer, *fds):
        os.close(fd)


@pytest.mark.parametrize("end", ["finish", "close"])
def test_the_last_turn_is_heard(scene: Scene, end: str) -> None:
    """A link that ends in the middle of a turn has said what was sent before."""
    scene.wire.send(b"one")
    if end == "finish":
        scene.wire.finish(LAST, "done")
    else:
        scene.wire.close("done")
    got = [scene.peer.recv(100)]
    while got[-1]:
        got.append(scene.peer.recv(100))

    assert got == [b"one", LAST, b""] if end == "finish" else [b"one", b""]
    assert scene.heard.events == ["ended: done"]


def test_one_turn_serves_every_link_although_one_fails(loop: asyncio.AbstractEventLoop) -> None:
    """An error of ours in one flush is reported, and what the other links said leaves all the same."""
    faults: list[object] = []
    flushed: list[str] = []
    loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))

    class Link:
        def __init__(self, name: str) -> None:
            self.name = name

        def flush(self) -> None:
            if self.name == "bad":
                raise ArithmeticError
            flushed.append(self.name)

    turn = Turn(loop)
    for name in ("a", "bad", "b", "c"):
        turn.add(Link(name))
    loop.run_until_complete(asyncio.sleep(0.01))

    assert flushed == ["a", "b", "c"]
    assert [type(fault) for fault in faults] == [ArithmeticError]


def test_packets_wait_while_nobody_listens(scene: Scene) -> None:
    """Also those that were taken from the kernel together with the last one that was heard."""

    def stop_after_two(data: bytes) -> None:
        scene.heard.packets.append(data)
        scene.wire.listen(len(scene.heard.packets) != 2)

    scene.heard.packet = stop_after_two  # type: ignore[method-assign]
    for number in range(5):
        scene.peer.send(b"%d" % number)
    scene.run()
    assert scene.heard.packets == [b"0", b"1"]
    assert not scene.wire.read_one()

    scene.wire.listen(True)
    scene.run()
    assert scene.heard.packets == [b"0", b"1", b"2", b"3", b"4"]
    scene.peer.send(b"5")
    scene.run()
    assert scene.heard.packets[5:] == [b"5"]


def test_packets_before_the_end_are_heard(scene: Scene) -> None:
    """What the peer said before it went counts, taken together with its end."""
    for number in range(8):
        scene.peer.send(b"%d" % number)
    scene.peer.close()
    scene.run()

    assert scene.heard.packets == [b"%d" % number for number in range(8)]
    assert scene.heard.events == ["ended: the peer closed the link"]


def test_packets_of_a_peer_that_read_nothing_are_heard(scene: Scene) -> None:
    """Closing with our packets unread does not cost it its own last ones."""
    scene.wire.send(b"never read")
    scene.run()
    scene.peer.send(b"farewell")
    scene.peer.close()
    scene.run()

    assert scene.heard.packets == [b"farewell"]
    assert scene.heard.events == ["ended: the peer closed the link"]


@pytest.mark.parametrize("how", ["at once", "with descriptors", "queued", "last"])
def test_packets_of_a_peer_that_is_gone_when_we_send_are_heard(scene: Scene, how: str) -> None:
    """A send that reaches nobody ends the link, but not before its last packets have been heard."""
    if how == "queued":
        while not scene.wire.queued:
            scene.wire.send(bytes(MAX_PACKET))
            scene.wire.flush()
    scene.peer.send(b"before")
    scene.peer.send(b"farewell")
    scene.peer.close()
    if how == "with descriptors":
        scene.wire.send(b"take", [0])
    elif how == "last":
        scene.wire.finish(LAST, "enough")
    else:
        scene.wire.send(b"too late")
        scene.wire.flush()
    scene.wire.send(b"after it")
    scene.run()

    if how != "last":
        assert scene.heard.packets == [b"before", b"farewell"]
    assert len(scene.heard.events) == 1
    assert scene.heard.events[0].startswith("ended: ")
    assert not scene.wire.open


def test_a_peer_that_only_talks_is_heard_so_much(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever shut its way in keeps no link alive by talking: it is heard for a while, then it ends."""
    monkeypatch.setattr(limits, "CATCH_UP", 3)
    scene.peer.shutdown(socket.SHUT_RD)
    for number in range(6):
        scene.peer.send(b"%d" % number)
    scene.wire.send(b"nobody reads this")
    scene.wire.flush()
    scene.run()

    assert scene.heard.packets == [b"0", b"1", b"2"]
    assert scene.heard.events == ["ended: nothing reaches the peer (Broken pipe)"]


def test_descriptors_leave_and_stay_ours(scene: Scene) -> None:
    """The peer gets copies; descriptors it sends are never taken."""
    reader, writer = os.pipe()
    scene.wire.send(b"take", [reader, writer])
    data, fds, _, _ = socket.recv_fds(scene.peer, 100, 10)
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(scene.peer, [b"mine"], fds)
    scene.run()

    assert (data, len(fds)) == (b"take", 2)
    assert scene.heard.packets == [b"mine"]
    assert scene.wire.descriptors_refused == 1
    assert len(os.listdir("/proc/self/fd")) == before
    for fd in (reader, writer, *fds):
        os.close(fd)


def test_a_packet_that_is_too_long_is_never_seen(scene: Scene) -> None:
    """The receiver hears of it instead, once, and the peer gets the last packet."""
    scene.peer.send(bytes(MAX_PACKET + 1))
    scene.run()

    assert scene.heard.packets == []
    assert scene.heard.events == [f"broken: a packet longer than {MAX_PACKET} bytes", "ended: broken"]
    assert scene.peer.recv(100) == LAST
    assert scene.peer.recv(100) == b""


def test_the_end_is_heard_once(scene: Scene) -> None:
    """Whoever ends it; sending and closing afterwards do nothing."""
    scene.peer.close()
    scene.run()
    scene.wire.send(b"late")
    scene.wire.finish(LAST, "again")
    scene.wire.close("and again")

    assert len(scene.heard.events) == 1
    assert scene.heard.events[0].startswith("ended: the peer")


def test_what_a_slow_peer_does_not_take_waits_in_order(scene: Scene) -> None:
    """Descriptors wait along as copies: the caller's may be closed at once."""
    reader, writer = os.pipe()
    for number in range(2000):
        scene.wire.send(b"%d" % number + bytes(900))
    scene.wire.send(b"pipe", [writer])
    os.close(writer)
    got: list[bytes] = []
    while len(got) < 2000:
        scene.run(0)
        got.append(scene.peer.recv(MAX_PACKET).rstrip(b"\0"))
    scene.run()
    data, (copy,), _, _ = socket.recv_fds(scene.peer, 100, 1)

    assert got == [b"%d" % number for number in range(2000)]
    assert (scene.heard.drains, scene.wire.queued) == (1, 0)
    assert data == b"pipe"
    os.write(copy, b"x")
    assert os.read(reader, 10) == b"x"
    os.close(copy)
    os.close(reader)


def test_a_peer_that_never_reads_is_cut_off(scene: Scene) -> None:
    """What waits is bounded; the peer's farewell comes after what it had been given, not among it."""
    packet = bytes(MAX_PACKET)
    sent = 0
    while scene.wire.open:
        scene.wire.send(packet)
        sent += 1
    assert sent * (MAX_PACKET + limits.QUEUE_PACKET_COST) < 2 * limits.MAX_QUEUE_BYTES
    assert [event.split(":")[0] for event in scene.heard.events] == ["overflowed", "ended"]

    got = b""
    while got != LAST:
        scene.run(0)
        got = scene.peer.recv(2 * MAX_PACKET)
        assert got in (packet, LAST)
    scene.run()
    assert scene.peer.recv(100) == b""


def test_a_peer_that_never_reads_is_left_after_a_while(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket of ours waits for ever to say goodbye."""
    monkeypatch.setattr(limits, "FAREWELL_TIMEOUT", 0.05)
    while scene.wire.open:
        scene.wire.send(bytes(MAX_PACKET))
    scene.run(0.2)

    with pytest.raises(BrokenPipeError):
        scene.peer.send(b"anybody?")


def test_a_listening_socket_has_its_mode_from_the_start(
    runtime_dir: Path, loop: asyncio.AbstractEventLoop
) -> None:
    """Mode and group are set before anybody can connect; both are checked."""
    path = runtime_dir / "x.sock"
    sock = bind(path, socket.SOCK_SEQPACKET, 0o640, os.getgid())
    accepted: list[socket.socket] = []
    listener = Listener(loop, sock, lambda made, _scarce: accepted.append(made))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(str(path))
        loop.run_until_complete(asyncio.sleep(0.02))

    assert path.stat().st_mode & 0o777 == 0o640
    assert len(accepted) == 1
    assert not accepted[0].get_inheritable()
    accepted[0].close()
    listener.close()
    path.unlink()
    with pytest.raises(UsageError, match="there is no group 'no such group'"):
        bind(path, socket.SOCK_STREAM, 0o600, "no such group")
    with pytest.raises(ResourceError, match="No such file"):
        bind(runtime_dir / "missing" / "x", socket.SOCK_STREAM, 0o600, None)
