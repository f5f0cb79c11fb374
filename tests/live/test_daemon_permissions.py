"""What other users can reach: the sockets they were let to, the descriptors they were handed, nothing else.

Started as root, two unprivileged users attach in child processes. Started by anybody else, the same checks
are made as that user, as far as they hold inside one trust domain: a read-only descriptor stays read-only.
"""

import mmap
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.daemon import Daemon, as_user, daemon, open_directory, seqpacket
from tests.live.peers import hello
from vmbusd.abi import link, paths
from vmbusd.abi.attach import attach
from vmbusd.abi.errors import RefusedError, ResourceError
from vmbusd.abi.link import Grant, Object, Role
from vmbusd.ctl.client import AdminClient

pytestmark = [pytest.mark.live, pytest.mark.root]

ROOT = os.geteuid() == 0
ALICE, BOB = (65534, 54321) if ROOT else (os.getuid(), os.getuid())
CONFIG = """
[runtime]
mode = 0o711
[sockets.guest]
mode = 0o666
[sockets.host]
mode = 0o666
[partitions.a]
[partitions.b]
uids = [{alice}]
"""


@pytest.fixture
def running() -> Iterator[Daemon]:
    """A daemon whose guest and host sockets are open to all; partition b is for alice only."""
    with open_directory() as place:
        (place / "config").write_text(CONFIG.format(alice=ALICE))
        directory = place / "run"
        with daemon(directory, "--config", str(place / "config")) as running:
            yield running


def in_child(uid: int, work: Callable[[], str]) -> str:
    """What `work` returns in a process of that user, or of ours if we cannot become anybody."""
    return as_user(uid if ROOT else None, work)


def granted(directory: Path, role: Role) -> tuple[socket.socket, dict[Object, tuple[Grant, int]]]:
    """A link of this role and the first descriptor of each kind that came with it."""
    name = paths.HOST_SOCKET if role is Role.HOST else paths.GUEST_SOCKET
    sock = seqpacket(directory / name)
    sock.send(hello(role=role))
    packet, fds, _, _ = socket.recv_fds(sock, link.MAX_GUEST_PACKET, link.MAX_DESCRIPTORS)
    body = link.decode_body(link.decode_header(packet), packet)
    assert isinstance(body, link.Welcome), body
    got: dict[Object, tuple[Grant, int]] = {}
    for grant, fd in zip(link.decode_grants(body.grants), fds, strict=True):
        got.setdefault(Object(grant.what), (grant, fd))
    return sock, got


def try_to_write(fd: int, size: int) -> str:
    """Which ways lead from a descriptor to writable memory."""
    ways = []
    try:
        mmap.mmap(fd, size).close()
        ways.append("map")
    except PermissionError:
        pass
    try:
        os.ftruncate(fd, size)
        ways.append("truncate")
    except OSError:
        pass
    if ROOT:
        # The same user may reopen what it owns; another may not.
        try:
            os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDWR))
            ways.append("reopen")
        except PermissionError:
            pass
    return " ".join(ways) or "none"


@pytest.mark.parametrize(
    ("role", "what", "ways"),
    [
        (Role.GUEST_CONTROL, Object.TABLE, "none"),
        (Role.HOST, Object.TABLE, "none"),
        (Role.HOST, Object.VPWORK, "none"),
        (Role.GUEST_CONTROL, Object.VPWORK, "map truncate"),
        (Role.GUEST_CONTROL, Object.GUEST, "map truncate"),
        (Role.HOST, Object.RAM, "map truncate"),
    ],
)
def test_a_read_only_descriptor_stays_read_only(running: Daemon, role: Role, what: Object, ways: str) -> None:
    """The table cannot be mapped writable, nor truncated, nor reopened for writing, by guest or host."""

    def work() -> str:
        sock, got = granted(running.runtime_dir, role)
        grant, fd = got[what]
        try:
            return try_to_write(fd, grant.size)
        finally:
            for _, other in got.values():
                os.close(other)
            sock.close()

    found = in_child(ALICE if role is Role.GUEST_CONTROL else BOB, work)

    assert found == ways


def test_no_object_opens_by_its_name(running: Daemon) -> None:
    """Nothing in /dev/shm can be opened by another user; every mode is 0600."""
    names = running.objects()

    def work() -> str:
        opened = []
        for name in names:
            try:
                os.close(os.open(f"/dev/shm/{name}", os.O_RDONLY))
                opened.append(name)
            except PermissionError:
                pass
        return " ".join(opened) or "none"

    assert {os.stat(f"/dev/shm/{name}").st_mode & 0o777 for name in names} == {0o600}
    if ROOT:
        assert as_user(ALICE, work) == "none"
        assert as_user(BOB, work) == "none"


def test_other_users_attach_where_they_may(running: Daemon) -> None:
    """Mode and group of a socket say who connects, `uids` of a partition who attaches; root always may."""

    def attached(role: Role, partition: str) -> str:
        with attach(role, partition, runtime_dir=running.runtime_dir):
            return "attached"

    def refusal(role: Role, partition: str) -> str:
        try:
            return attached(role, partition)
        except RefusedError as error:
            return f"{link.Code(error.code).name}: {error}"

    assert in_child(ALICE, lambda: attached(Role.GUEST_CONTROL, "b")) == "attached"
    assert in_child(BOB, lambda: attached(Role.HOST, "a")) == "attached"
    assert in_child(os.geteuid(), lambda: attached(Role.HOST, "b")) == "attached"
    if ROOT:
        text = in_child(BOB, lambda: refusal(Role.HOST, "b"))
        assert text == f"NOT_ALLOWED: uid {BOB} may not attach to partition b"


def test_a_socket_without_permission_is_named(running: Daemon) -> None:
    """The administrator's socket stays closed to others, and the client's error says which path it was."""

    def work() -> str:
        try:
            AdminClient(running.runtime_dir).close()
        except ResourceError as error:
            return str(error)
        return "connected"

    path = running.runtime_dir / paths.ADMIN_SOCKET
    assert path.stat().st_mode & 0o777 == 0o600
    expected = f"{path}: cannot connect: Permission denied" if ROOT else "connected"
    assert in_child(BOB, work) == expected


def test_a_worker_of_another_user_is_refused(running: Daemon) -> None:
    """A VP is played by a process of the guest's own user, or of root."""

    def worker() -> str:
        try:
            with attach(Role.GUEST_WORKER, "a", runtime_dir=running.runtime_dir):
                return "attached"
        except RefusedError as error:
            return f"{link.Code(error.code).name}: {error}"

    def guest_with_workers() -> str:
        with attach(Role.GUEST_CONTROL, "a", runtime_dir=running.runtime_dir):
            return worker()

    assert in_child(ALICE, guest_with_workers) == "attached"
    with attach(Role.GUEST_CONTROL, "a", runtime_dir=running.runtime_dir):
        expected = f"NOT_ALLOWED: uid {BOB} may not serve a guest of uid 0" if ROOT else "attached"
        assert in_child(BOB, worker) == expected
