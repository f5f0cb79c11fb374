"""Peers that flood, do not read, do not speak, come by the thousand or speak nonsense, beside a storm."""

import array
import contextlib
import os
import random
import resource
import select
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread
from uuid import UUID

import pytest

from tests.live.daemon import PATIENCE, Daemon, as_user, daemon, eventually, seqpacket
from tests.live.peers import device, guest, header, hello, open_channel
from tests.live.storms import bystander, let_pass
from vmbusd.abi import device_link, link, messages, paths, wire
from vmbusd.abi.attach import attach
from vmbusd.abi.errors import RefusedError, ResourceError, VmbusError
from vmbusd.abi.link import Code, Role
from vmbusd.demo.storm import Storm
from vmbusd.server import limits, requests

pytestmark = pytest.mark.live

FLOOD = 0.7
"""Seconds of each flood: tens of thousands of packets."""
ANSWER = 1.0
"""Seconds within which the daemon must answer others, whatever a peer does; it takes a few milliseconds."""
ANSWERS = 5
"""Of each flood at the least, so that their median means something."""
CROWD = 1000


@pytest.fixture
def running(runtime_dir: Path) -> Iterator[Daemon]:
    """A daemon with a partition for those who misbehave and one for a bystander."""
    with daemon(runtime_dir, "--partition", "a", "--partition", "b:2") as running:
        # With its first stream the daemon's event loop opens a descriptor that it keeps.
        running.ask(requests.Status())
        yield running
        assert "internal error" not in running.text()


@pytest.fixture
def other(running: Daemon) -> Iterator[Storm]:
    """A storm in partition b that must not notice."""
    with bystander(running.runtime_dir) as scene:
        yield scene
    # The test's arguments are kept until its end has been judged, and with them its mappings would be.
    vars(scene).clear()


def descriptors(running: Daemon) -> int:
    """How many the daemon has open."""
    return len(os.listdir(f"/proc/{running.pid}/fd"))


def lowest_free_descriptor(running: Daemon) -> int:
    """The number that the next one will have."""
    used = {int(name) for name in os.listdir(f"/proc/{running.pid}/fd")}
    return next(number for number in range(len(used) + 1) if number not in used)


def served_while(running: Daemon, other: Storm, act: Callable[[], None]) -> None:
    """Repeat `act` in a thread for a while; administrators and the other partition are served meanwhile."""
    stop = Event()

    def run() -> None:
        with contextlib.suppress(OSError, VmbusError):
            while not stop.is_set():
                act()

    thread = Thread(target=run, name="flood")
    thread.start()
    try:
        end = time.monotonic() + FLOOD
        answers: list[float] = []
        moves: list[float] = []
        while time.monotonic() < end or len(answers) < ANSWERS:
            begun = time.monotonic()
            assert running.status("b")["state"] == "running"
            answered, moved = time.monotonic(), other.retargets
            eventually(lambda moved=moved: other.retargets > moved, "channels are moved")  # type: ignore[misc]
            answers.append(answered - begun)
            moves.append(time.monotonic() - answered)
        # Not the longest: the machine itself may halt one of us for longer.
        assert statistics.median(answers) < ANSWER
        assert statistics.median(moves) < ANSWER
    finally:
        stop.set()
        thread.join()


# -- floods ------------------------------------------------------------------------------------------------


NOWHERE = link.encode_message(wire.encode(messages.ModifyChannel(2000, 0)), where=1)
"""To move a channel that is not there: valid, and answered with a failure."""


def test_a_guest_that_floods_valid_messages_delays_nobody(running: Daemon, other: Storm) -> None:
    """Requests without end on one link: each is answered, others get their turn between them."""
    with guest(running.runtime_dir) as control:
        control.connect()

        def move() -> None:
            for _ in range(64):
                control.attached.send(NOWHERE)
            for _ in range(64):
                assert control.hear(messages.ModifyChannelResponse).status != 0

        served_while(running, other, move)
        assert running.status("a")["guest"]["linked"]


def test_a_guest_that_floods_and_never_reads_is_heard_no_more(running: Daemon, other: Storm) -> None:
    """Requests that each are answered, and answers that nobody reads: it waits until it reads, no other."""
    with guest(running.runtime_dir) as control:
        control.connect()
        sent = 0

        def flood() -> None:
            nonlocal sent
            if select.select([], [control.attached], [], 0.1)[1]:
                control.attached.send(NOWHERE)
                sent += 1

        served_while(running, other, flood)
        while not running.status("a")["limits"]["guest_output"]["hit"]:
            flood()
        assert running.status("a")["guest"]["linked"]
        for _ in range(sent):
            assert control.hear(messages.ModifyChannelResponse).status != 0


def test_a_host_that_floods_offers_delays_nobody(running: Daemon, other: Storm) -> None:
    """Offers and revokes without end from one host, with no guest there to hear of them."""
    with device(running.runtime_dir) as host:

        def offer() -> None:
            for number in range(64):
                host.say(device_link.Offer(number, UUID(int=9), UUID(int=number + 1)))
                host.say(device_link.Revoke(number))
            for _ in range(64):
                assert host.hear(device_link.OfferResult).status == 0
                host.hear(device_link.Revoked)

        served_while(running, other, offer)
        host.offer(1000)


# -- crowds ------------------------------------------------------------------------------------------------


@contextmanager
def room_for_descriptors() -> Iterator[None]:
    """As many open files for this process as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_silent_connections_are_dropped_in_time(running: Daemon, other: Storm) -> None:
    """A crowd that never speaks holds nobody up, and is gone, descriptors too, after the hello timeout."""
    with room_for_descriptors(), ExitStack() as crowd:
        before = descriptors(running)
        begun = time.monotonic()
        names = (paths.GUEST_SOCKET, paths.HOST_SOCKET)
        for number in range(CROWD):
            crowd.enter_context(seqpacket(running.runtime_dir / names[number % 2]))
        assert running.status("b")["state"] == "running"
        with guest(running.runtime_dir) as control:
            control.connect()
        let_pass(other, 500)
        eventually(lambda: descriptors(running) <= before, "all are dropped")
        assert time.monotonic() - begun >= limits.HELLO_TIMEOUT


def test_descriptors_taken_away_from_the_daemon_cost_newcomers_only(running: Daemon, other: Storm) -> None:
    """With its limit of open files lowered in a storm it refuses politely and serves who is there."""
    _, hard = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)
    directory = running.runtime_dir
    with guest(directory) as control, device(directory) as host:
        try:
            # Half of the reserve is left, so that nobody's coming or going a moment ago matters.
            limit = lowest_free_descriptor(running) + limits.RESERVED_DESCRIPTORS // 2
            resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (limit, hard))
            with pytest.raises(RefusedError, match="too many open files") as refused:
                attach(Role.HOST, "a", runtime_dir=directory)
            assert refused.value.code == Code.LIMIT
            with pytest.raises(RefusedError, match="too many open files"):
                running.ask(requests.PartitionAdd("c"))
            # Less than is open already: not even a refusal is possible, until there is room again.
            resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (3, hard))
            with pytest.raises(ResourceError, match="did not answer"):
                attach(Role.HOST, "a", runtime_dir=directory, timeout=0.3)
            moved = other.retargets
            eventually(lambda: other.retargets > moved + 100, "channels are moved")
        finally:
            resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (hard, hard))
        host.offer()
        open_channel(control, host)
        running.ask(requests.PartitionAdd("c"))


# -- nonsense ----------------------------------------------------------------------------------------------


def speak_nonsense(runtime_dir: Path, lengths: range) -> str:
    """Random bytes of these lengths as first and as second packet, and as lines to admin.sock."""
    dice = random.Random(lengths.start)
    hellos = {
        paths.GUEST_SOCKET: hello(role=Role.GUEST_CONTROL),
        paths.HOST_SOCKET: hello(role=Role.HOST),
    }
    for length in lengths:
        for name, good in hellos.items():
            with seqpacket(runtime_dir / name) as first, contextlib.suppress(OSError):
                first.send(dice.randbytes(length))
            with seqpacket(runtime_dir / name) as second, contextlib.suppress(OSError):
                second.send(good)
                second.send(header(dice.choice((4, 16, 17, 32, 33, 34, 35, 36))) + dice.randbytes(length))
                second.send(dice.randbytes(length))
        with socket.socket(socket.AF_UNIX) as admin, contextlib.suppress(OSError):
            admin.connect(str(runtime_dir / paths.ADMIN_SOCKET))
            admin.sendall(dice.randbytes(length) + b"\n")
    return "done"


def test_packets_of_every_length_are_met_with_reasons(running: Daemon, other: Storm) -> None:
    """Random bytes of each length from 0 to 300, to each socket, before and after a hello: nobody notices."""
    before = descriptors(running)
    for begin in range(0, 301, 50):
        # In processes that end: a host's number is free again when its process is gone.
        lengths = range(begin, min(begin + 50, 301))
        assert as_user(None, partial(speak_nonsense, running.runtime_dir, lengths)) == "done"
    eventually(lambda: descriptors(running) <= before, "every link is closed")
    let_pass(other, 100)
    assert '"internal"' not in running.text()


def test_descriptors_sent_to_any_socket_are_closed(running: Daemon) -> None:
    """With the hello, after it, and to admin.sock: nothing that a peer passes stays open in the daemon."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 100))]
    before = descriptors(running)
    socks = []
    with ExitStack() as stack:
        for name, role in ((paths.GUEST_SOCKET, Role.GUEST_CONTROL), (paths.HOST_SOCKET, Role.HOST)):
            socks.append(sock := stack.enter_context(seqpacket(running.runtime_dir / name)))
            sock.sendmsg([hello(role=role)], rights)
            packet, fds, _, _ = socket.recv_fds(sock, link.MAX_GUEST_PACKET, 253)
            for fd in fds:
                os.close(fd)
            assert link.decode_header(packet).kind == link.Kind.WELCOME
        admin = stack.enter_context(socket.socket(socket.AF_UNIX))
        admin.settimeout(PATIENCE)
        admin.connect(str(running.runtime_dir / paths.ADMIN_SOCKET))
        for _ in range(10):
            admin.sendmsg([b'{"command":"status"}\n'], rights)
            assert admin.recv(1 << 16)
        assert descriptors(running) - before < 12
        # The process of a host that leaves without a word would be watched until it ends.
        socks[1].send(link.encode(link.Detached(0)))
    eventually(lambda: descriptors(running) <= before, "every link is closed")


def test_a_second_hello_is_no_way_to_another_vp(running: Daemon) -> None:
    """A worker that says hello again, for a VP that somebody else has, loses its own link only."""
    directory = running.runtime_dir
    with guest(directory) as control, ExitStack() as stack:
        mine, theirs = (
            stack.enter_context(attach(Role.GUEST_WORKER, "a", runtime_dir=directory, vp=vp)) for vp in (0, 1)
        )
        mine.send(hello(role=Role.GUEST_WORKER, vp=1))
        with pytest.raises(VmbusError, match="packet kind 1 has no place on a GUEST_WORKER link"):
            mine.receive()
        assert [seat["state"] for seat in running.status("a")["workers"][:2]] == ["leaving", "online"]
        theirs.send(link.encode(link.Detached(1)))
        control.connect()
