"""Bad input on the links: each gives a clear answer, and the daemon keeps serving everybody else."""

import array
import contextlib
import fcntl
import json
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.live.daemon import PATIENCE, Daemon, daemon, eventually, seqpacket
from tests.live.peers import (
    device,
    farewell,
    guest,
    header,
    hello,
    open_channel,
    receive,
    refused,
    words,
    worker,
)
from vmbusd.abi import device_link, layout, link, messages, paths
from vmbusd.abi.attach import attach
from vmbusd.abi.errors import RefusedError
from vmbusd.abi.link import Code, Kind, Object, Role
from vmbusd.server import limits, ofd

pytestmark = pytest.mark.live


@pytest.fixture
def running(runtime_dir: Path) -> Iterator[Daemon]:
    """A daemon with partitions a (4 VPs) and b."""
    with daemon(runtime_dir, "--partition", "a", "--partition", "b") as running:
        yield running


@pytest.fixture
def bystander(running: Daemon) -> Iterator[None]:
    """A guest and a host of partition b, which must be served as before when the test is over."""
    with guest(running.runtime_dir, "b") as control, device(running.runtime_dir, "b") as host:
        yield
        host.offer()
        open_channel(control, host)


def answer_to(running: Daemon, packet: bytes, name: str = paths.GUEST_SOCKET) -> link.Refused:
    """What a new connection gets that begins with this packet."""
    with seqpacket(running.runtime_dir / name) as sock:
        sock.send(packet)
        return refusal_on(sock)


def refusal_on(sock: socket.socket) -> link.Refused:
    packet = sock.recv(link.MAX_GUEST_PACKET)
    body = link.decode_body(link.decode_header(packet), packet)
    assert isinstance(body, link.Refused)
    assert sock.recv(1) == b"", "the daemon did not close"
    return body


# -- hello -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packet", "code", "text"),
    [
        (hello(partition="nowhere"), Code.UNKNOWN_PARTITION, "there is no partition 'nowhere'"),
        (hello(partition="a/b"), Code.UNKNOWN_PARTITION, "'a/b'"),
        (hello(partition="../a"), Code.UNKNOWN_PARTITION, "'../a'"),
        (hello(partition=""), Code.UNKNOWN_PARTITION, "''"),
        (hello(abi_version=2), Code.ABI_VERSION, "ABI version 2, this vmbusd speaks 1"),
        (hello(role=Role.HOST), Code.NOT_ALLOWED, "role 3"),
        (hello(role=77), Code.NOT_ALLOWED, "role 77"),
        (hello(role=Role.GUEST_WORKER), Code.NO_CONTROL, "partition a has no guest"),
        (hello(role=Role.GUEST_WORKER, vp=4), Code.VP_RANGE, "VP 4: partition a has 0..3"),
        (hello(role=Role.GUEST_WORKER, vp=0xFFFFFFFF), Code.VP_RANGE, "0..3"),
        (hello(flags=2), Code.BAD_PACKET, "0x2"),
        (hello(token=b"x" * 16), Code.BAD_TOKEN, "partition a has no link to resume by that token"),
        (hello(received=5), Code.BAD_PACKET, "has received 5 packets"),
        (hello()[:40], Code.BAD_PACKET, "Hello needs"),
        (hello()[:10], Code.BAD_PACKET, "Header needs 24 bytes, 10 came"),
        (header(Kind.MESSAGE) + words(14, 0), Code.BAD_PACKET, "a hello was expected, packet kind 4 came"),
        (header(Kind.HELLO, zero=1) + bytes(60), Code.BAD_PACKET, "reserved word"),
        (hello().replace(b"a" + bytes(31), b"\xff" + bytes(31)), Code.BAD_PACKET, "not ASCII"),
        (hello() + bytes(link.MAX_GUEST_PACKET), Code.BAD_PACKET, f"longer than {link.MAX_GUEST_PACKET}"),
        (bytes(24), Code.BAD_PACKET, "packet kind 0"),
        (os.urandom(64), Code.BAD_PACKET, ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_hello_is_refused_with_its_reason(
    running: Daemon, bystander: None, packet: bytes, code: Code, text: str
) -> None:
    """Each wrong hello gets a refusal that names the thing, and the link is closed (case 314)."""
    answer = answer_to(running, packet)

    assert answer.code == code
    assert text in answer.text.decode()


def test_a_guest_has_no_place_on_the_host_socket(running: Daemon) -> None:
    """The socket decides which roles may be asked for."""
    assert answer_to(running, hello(), paths.HOST_SOCKET).code == Code.NOT_ALLOWED


def test_a_link_without_hello_is_dropped(running: Daemon) -> None:
    """Silence ends with a reason after the timeout; those who spoke stay."""
    with seqpacket(running.runtime_dir / paths.GUEST_SOCKET) as silent, guest(running.runtime_dir) as control:
        answer = refusal_on(silent)

        assert answer.text.decode() == f"no hello within {limits.HELLO_TIMEOUT:g} s"
        control.connect()


def test_a_guest_that_is_there_keeps_its_place(running: Daemon) -> None:
    """A second control link and a second worker of a VP are refused with the pid of the first."""
    directory = running.runtime_dir
    with guest(directory) as control, worker(directory, vp=1):
        second = refused(Code.CONTROL_TAKEN, lambda: attach(Role.GUEST_CONTROL, "a", runtime_dir=directory))
        taken = refused(Code.VP_TAKEN, lambda: attach(Role.GUEST_WORKER, "a", runtime_dir=directory, vp=1))

        assert f"pid {os.getpid()}" in second
        assert taken == f"VP 1 of partition a has pid {os.getpid()}"
        control.connect()


def test_the_next_guest_is_admitted_at_once(running: Daemon) -> None:
    """A guest that closes its link and one that attaches right after it never meet."""
    for _ in range(50):
        with guest(running.runtime_dir), worker(running.runtime_dir, vp=3):
            pass


def test_host_links_have_a_limit(running: Daemon) -> None:
    """The 65th host link of a partition is refused; a number is free again when its host has left."""
    directory = running.runtime_dir
    hosts = [attach(Role.HOST, "a", runtime_dir=directory) for _ in range(limits.MAX_HOST_LINKS)]
    try:
        text = refused(Code.LIMIT, lambda: attach(Role.HOST, "a", runtime_dir=directory))
        with guest(directory) as control:
            assert sorted(control.attached.host_links) == list(range(limits.MAX_HOST_LINKS))
        hosts[5].send(link.encode(link.Detached(5)))
        hosts[5].close()
        eventually(lambda: len(running.status("a")["hosts"]) == limits.MAX_HOST_LINKS - 1, "host 5 has left")
        hosts[5] = attach(Role.HOST, "a", runtime_dir=directory)

        assert "64 host links" in text
        assert hosts[5].welcome.link == 5
    finally:
        for host in hosts:
            host.close()


# -- grants ------------------------------------------------------------------------------------------------


def test_every_role_is_handed_what_it_may_have_and_nothing_more(running: Daemon) -> None:
    """Guests get their blocks, hosts do not; the table is read-only for all, vpwork for hosts."""
    with device(running.runtime_dir) as host, guest(running.runtime_dir) as control:
        with worker(running.runtime_dir, vp=2) as vp:
            assert vp.objects.keys() == control.attached.objects.keys()
            assert (vp.welcome.vp, vp.welcome.incarnation) == (2, 1)
        bells = {(Object.VP_SEMAPHORE, vp) for vp in range(4)}
        own = {(Object.HOST_PAGE, 0), (Object.HOST_SEMAPHORE, 0)}
        shared = {(what, 0) for what in (Object.EVENTS, Object.TABLE, Object.VPWORK, Object.RAM)}

        assert host.attached.objects.keys() == shared | bells | own
        assert control.attached.objects.keys() == shared | bells | own | {(Object.GUEST, 0)}
        read_only = {key[0] for key, mapped in host.attached.objects.items() if not mapped.writable}
        assert read_only == {Object.TABLE, Object.VPWORK}
        assert [key[0] for key, m in control.attached.objects.items() if not m.writable] == [Object.TABLE]


def test_a_table_descriptor_is_an_open_file_of_its_own(running: Daemon) -> None:
    """No peer shares the daemon's lock: two links hold byte 1 separately and cannot give up byte 0."""
    with seqpacket(running.runtime_dir / paths.HOST_SOCKET) as sock:
        sock.send(hello(role=Role.HOST))
        _, fds, _, _ = socket.recv_fds(sock, link.MAX_GUEST_PACKET, 64)
        try:
            fcntl.fcntl(fds[1], fcntl.F_OFD_SETLK, ofd._FLOCK.pack(fcntl.F_UNLCK, 0, 0, 2, 0))
            with open(f"/proc/self/fd/{fds[1]}", "rb") as other:
                assert not ofd.lock(other.fileno(), fcntl.F_RDLCK, layout.LOCK_BYTE_DAEMON)
                assert ofd.lock(other.fileno(), fcntl.F_RDLCK, layout.LOCK_BYTE_PEER)
        finally:
            for fd in fds:
                os.close(fd)


def test_eventfd_doorbells_are_granted_when_configured(runtime_dir: Path) -> None:
    """A partition with eventfds hands out no semaphore and makes none."""
    config = runtime_dir.with_suffix(".toml")
    config.write_text('[partitions.a]\nvps = 2\ndoorbell = "eventfd"\nram_size = "1M"\n')
    try:
        with daemon(runtime_dir, "--config", str(config)) as running, guest(runtime_dir) as control:
            assert [bell.kind for bell in control.attached.vp_doorbells] == ["eventfd", "eventfd"]
            assert control.attached.welcome.ram_size == 1 << 20
            assert [name for name in running.objects() if name.startswith("sem.")] == []
            with device(runtime_dir) as host:
                assert host.attached.host_links[0].doorbell.kind == "eventfd"
                control.attached.add_host_link(*receive(control.attached))
    finally:
        config.unlink()


# -- packets -----------------------------------------------------------------------------------------------


def test_a_message_before_contact_is_refused_and_nothing_else(running: Daemon) -> None:
    """REQUEST_OFFERS before contact has no answer, is counted, and contact still works (case 314)."""
    with guest(running.runtime_dir) as control:
        control.say(messages.RequestOffers())
        control.say_bytes(b"")
        control.say_bytes(os.urandom(240))
        assert control.connect() == []

        view = running.status("a")
        assert view["counters"]["refused"] == 3
        assert view["guest"]["refused"]["not connected"] == 1


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (header(Kind.MESSAGE) + bytes(241), "channel message of 241 bytes, at most 240"),
        (header(Kind.MESSAGE) + bytes(link.MAX_GUEST_PACKET), "a packet longer than 4120 bytes"),
        (header(Kind.MESSAGE)[:23], "Header needs 24 bytes, 23 came"),
        (header(Kind.MESSAGE, zero=5) + bytes(8), "reserved word is 0x5"),
        (header(Kind.HELLO) + bytes(64), "packet kind 1 has no place on a GUEST_CONTROL link"),
        (header(Kind.CONFIRM) + bytes(8), "packet kind 9 has no place"),
        (header(device_link.Kind.OFFER) + bytes(200), "packet kind 16 has no place"),
        (header(4711), "packet kind 4711 has no place"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_packet_ends_a_guest_link_with_its_reason(
    running: Daemon, bystander: None, packet: bytes, text: str
) -> None:
    """Truncated, oversized, misplaced: a farewell that says so, and the next guest is served."""
    with guest(running.runtime_dir) as control:
        control.attached.send(packet)

        assert text in farewell(control.attached)
    with guest(running.runtime_dir) as control:
        control.connect()


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (header(device_link.Kind.OFFER) + bytes(20), "Offer needs"),
        (header(device_link.Kind.OPEN) + bytes(200), "packet kind 50 has no place on a HOST link"),
        (header(Kind.MESSAGE) + bytes(8), "packet kind 4 has no place on a HOST link"),
        (header(device_link.Kind.OFFER) + bytes(link.MAX_HOST_PACKET), "a packet longer than 131072 bytes"),
        (b"\x10", "Header needs 24 bytes, 1 came"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_packet_ends_a_host_link_with_its_reason(
    running: Daemon, bystander: None, packet: bytes, text: str
) -> None:
    """The same for hosts; the guest is told that the host's channels are gone."""
    with guest(running.runtime_dir) as control, device(running.runtime_dir) as host:
        host.offer()
        control.connect(1)
        host.attached.send(packet)

        assert text in farewell(host.attached)
        control.hear(messages.Rescind)


def test_a_worker_says_nothing_but_farewell(running: Daemon) -> None:
    """A channel message, or a farewell of another VP, on a worker link ends it."""
    with guest(running.runtime_dir):
        for vp, packet in enumerate((header(Kind.MESSAGE) + bytes(8), link.encode(link.Detached(3)))):
            with worker(running.runtime_dir, vp=vp) as link_of_vp:
                link_of_vp.send(packet)
                assert farewell(link_of_vp)
            # Its process, ours, still lives: the VP is not given away.
            assert running.status("a")["workers"][vp]["state"] == "leaving"


def test_descriptors_from_a_peer_are_never_kept(running: Daemon) -> None:
    """A peer that attaches descriptors to its packets fills nobody's table; the link goes on."""
    with guest(running.runtime_dir) as control:
        before = len(os.listdir(f"/proc/{running.pid}/fd"))
        rights = array.array("i", [0] * 200)
        packet = link.encode_message(b"", where=1)
        for _ in range(20):
            control.attached.sock.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        control.connect()

        assert len(os.listdir(f"/proc/{running.pid}/fd")) <= before


def test_a_peer_that_does_not_read_loses_its_link_only(running: Daemon, bystander: None) -> None:
    """What waits for a stopped reader is bounded: its link ends with that reason, and memory comes back."""
    with guest(running.runtime_dir) as control, device(running.runtime_dir) as host:
        offer = device_link.Offer(1, UUID(int=5), UUID(int=5))
        packet = device_link.encode(offer)
        # Each is refused with an OfferResult that nobody reads.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while True:
                with contextlib.suppress(BlockingIOError):
                    host.attached.sock.send(packet)

        assert "does not read" in farewell(host.attached)
        control.connect()


def test_a_flood_of_connections_is_answered_politely(runtime_dir: Path) -> None:
    """At the descriptor limit newcomers are refused with a reason while those inside are served."""
    running = Daemon(runtime_dir, "--partition", "a", descriptors=128)
    flood: list[socket.socket] = []
    try:
        running.wait_ready()
        with guest(runtime_dir) as control:
            flood = [seqpacket(runtime_dir / paths.GUEST_SOCKET) for _ in range(120)]
            texts = {refusal_on(sock).text.decode() for sock in flood[100:]}
            control.connect()

            assert texts == {"vmbusd is at its limit: too many open files"}
            with socket.socket(socket.AF_UNIX) as admin:
                admin.settimeout(PATIENCE)
                admin.connect(str(runtime_dir / paths.ADMIN_SOCKET))
                assert json.loads(admin.recv(4096))["error"]["text"] == "too many open files"
        for sock in flood:
            sock.close()

        def served() -> bool:
            with contextlib.suppress(RefusedError):
                return bool(running.status("a"))
            return False

        eventually(served, "it serves again")
    finally:
        for sock in flood:
            sock.close()
        running.close()


def test_random_packets_never_end_the_daemon(running: Daemon, bystander: None) -> None:
    """Bytes of every length on every socket meet typed errors only (case 314)."""
    dice = random.Random(314)
    for _ in range(300):
        name = dice.choice((paths.GUEST_SOCKET, paths.HOST_SOCKET))
        with seqpacket(running.runtime_dir / name) as sock:
            good = hello(role=Role.HOST if name == paths.HOST_SOCKET else Role.GUEST_CONTROL)
            try:
                sock.send(good if dice.random() < 0.7 else dice.randbytes(dice.randrange(1, 200)))
                for _ in range(dice.randrange(1, 8)):
                    kind = dice.choice((4, 7, 16, 17, 32, 33, 34, 35, 36, dice.randrange(64)))
                    sock.send(header(kind, where=dice.randrange(5)) + dice.randbytes(dice.randrange(241)))
            except (BrokenPipeError, ConnectionResetError):
                continue

    assert "internal error" not in running.text()
