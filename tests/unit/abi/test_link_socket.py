"""Packets and descriptors over a link: whole, bounded, interruptible, and nothing leaks."""

import os
import resource
import select
import signal
import struct
from collections.abc import Iterator

import pytest

from tests.unit.host_client.fake_daemon import FakeDaemon
from vmbusd.abi import link
from vmbusd.abi.attach import Attached, attach_socket
from vmbusd.abi.errors import (
    LinkLost,
    ProtocolError,
    ResourceError,
)
from vmbusd.abi.link import Role


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as daemon:
        yield daemon


def attached_as(daemon: FakeDaemon, role: Role, **fields: int) -> Attached:
    return attach_socket(daemon.socket_for(role, **fields), role, daemon.partition)


def fd_count() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_packets_and_descriptors_arrive_whole(daemon: FakeDaemon) -> None:
    """One send is one receive, with its descriptors, which are close-on-exec."""
    with attached_as(daemon, Role.GUEST_CONTROL) as attached:
        assert attached.receive_nowait() is None
        packet, fds = daemon.host_link(0)
        daemon.peers[0].send(packet, fds)

        received, passed = attached.receive()

        assert received == packet
        assert [os.get_inheritable(fd) for fd in passed] == [False, False]
        for fd in fds + passed:
            os.close(fd)


def test_a_packet_that_is_too_long_is_refused(daemon: FakeDaemon) -> None:
    """A packet longer than the socket allows is the daemon's error, never a truncated message."""
    with attached_as(daemon, Role.GUEST_CONTROL) as attached:
        daemon.peers[0].send(bytes(link.MAX_GUEST_PACKET + 1))
        with pytest.raises(ProtocolError, match="longer than 4120 bytes"):
            attached.receive()


def test_sending_waits_for_a_slow_daemon(daemon: FakeDaemon) -> None:
    """A full socket delays the sender until the daemon reads; a closed one is LinkLost."""
    with attached_as(daemon, Role.HOST) as attached:
        sent = 0
        poll = select.poll()
        poll.register(attached.fileno(), select.POLLOUT)
        while poll.poll(0):
            attached.send(bytes(8000))
            sent += 1
        assert daemon.peers[0].receive()[:4] == struct.pack("<I", link.Kind.HELLO)
        for _ in range(sent):
            assert len(daemon.peers[0].receive()) == 8000
        attached.send(b"there is room again")
        daemon.peers[0].close()
        with pytest.raises(LinkLost):
            attached.send(b"nobody hears this")


def test_a_signal_handler_may_raise_through_receive(daemon: FakeDaemon) -> None:
    """Ctrl-C ends a blocking receive."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with attached_as(daemon, Role.HOST) as attached:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                attached.receive()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_descriptors_that_do_not_fit_are_reported(daemon: FakeDaemon) -> None:
    """When the limit of open files swallows descriptors the error says so, and those that came are closed."""
    sock = daemon.socket_for(Role.HOST)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = fd_count()
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 1, hard))
    try:
        with pytest.raises(ResourceError, match="limit of open files"):
            attach_socket(sock, Role.HOST, "demo")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert fd_count() == before - 1
