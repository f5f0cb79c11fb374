"""Attaching: what is mapped and how, what is refused, and that no error leaves a descriptor behind."""

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.unit.host_client.fake_daemon import FakeDaemon
from vmbusd.abi import layout, link, paths
from vmbusd.abi.attach import Attached, attach, attach_socket
from vmbusd.abi.errors import (
    LinkClosed,
    LinkLost,
    ObjectDead,
    ProtocolError,
    RefusedError,
    ResourceError,
    UsageError,
)
from vmbusd.abi.link import Grant, Object, Role
from vmbusd.abi.native import EventFlags, TableWriter


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as daemon:
        yield daemon


def attached_as(daemon: FakeDaemon, role: Role, **fields: int) -> Attached:
    return attach_socket(daemon.socket_for(role, **fields), role, daemon.partition)


def fd_count() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- what is mapped ------------------------------------------------------------------------------------------


def test_a_host_gets_its_objects(daemon: FakeDaemon) -> None:
    """A host maps events, table, vpwork, RAM, the doorbells and its own page, and not the guest's blocks."""
    with attached_as(daemon, Role.HOST, number=3) as attached:
        hello = daemon.peers[0].expect(link.Hello)

        assert hello == link.Hello(layout.ABI_VERSION, Role.HOST, 0, 0, "demo")
        assert (attached.welcome.link, len(attached.vp_doorbells)) == (3, 2)
        assert list(attached.host_links) == [3]
        with pytest.raises(UsageError, match="no guest object in a HOST link"):
            attached[Object.GUEST]


def test_a_guest_gets_its_objects_and_every_host_link(daemon: FakeDaemon) -> None:
    """A guest maps its blocks too, and page and doorbell of each host link that exists."""
    daemon.add_host(0)
    daemon.add_host(5)

    with attached_as(daemon, Role.GUEST_WORKER, vp=1) as attached:
        assert len(attached[Object.GUEST]) == layout.GUEST_SIZE
        assert sorted(attached.host_links) == [0, 5]
        assert attached.welcome.vp == 1


def test_the_memory_is_shared(daemon: FakeDaemon) -> None:
    """What a host stores in a page of guest memory or in an interrupt page is what the other side reads."""
    with attached_as(daemon, Role.HOST) as attached:
        page = attached.page(2)
        page[:4] = b"ring"
        EventFlags(attached[Object.EVENTS], layout.PAGE).set(77)
        attached.vp_doorbells[1].ring()

        assert daemon.maps[Object.RAM, 0][2 * layout.PAGE :][:4] == b"ring"
        assert EventFlags(daemon.maps[Object.EVENTS, 0], layout.PAGE).pending() == [77]
        assert daemon.doorbell(Object.VP_SEMAPHORE, 1).wait(0)
        page.release()


def test_a_page_outside_guest_memory_is_refused(daemon: FakeDaemon) -> None:
    """A page number that the partition does not have is the caller's error."""
    with attached_as(daemon, Role.HOST) as attached, pytest.raises(UsageError, match="page 64 lies outside"):
        attached.page(64)


def test_read_only_grants_are_mapped_read_only(daemon: FakeDaemon) -> None:
    """A store to the table raises in Python; nothing faults."""
    with attached_as(daemon, Role.HOST) as attached:
        with pytest.raises(TypeError):
            attached[Object.TABLE][0] = 1
        with pytest.raises(UsageError, match="read-only"):
            TableWriter(attached[Object.TABLE])
        with pytest.raises(TypeError):
            attached[Object.VPWORK][0] = 1


def test_an_eventfd_is_a_doorbell_too(daemon: FakeDaemon) -> None:
    """Eventfds granted instead of semaphores ring and are closed with the rest."""
    before = fd_count()
    daemon.add_host(0)
    body, fds = daemon.welcome(Role.HOST)
    grants = link.decode_grants(body.grants)
    bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    index = next(i for i, grant in enumerate(grants) if grant.what == Object.VP_SEMAPHORE)
    os.close(fds[index])
    fds[index] = os.dup(bell)
    grants[index] = Grant(Object.VP_EVENTFD, 0, 1, 0)
    body = msgspec.structs.replace(body, grants=link.encode_grants(grants))
    made = fd_count() - len(fds)

    with attach_socket(daemon.socket_with(link.encode(body), fds), Role.HOST, "demo") as attached:
        attached.vp_doorbells[0].ring()
        assert os.eventfd_read(bell) == 1

    assert fd_count() == made + 1  # the daemon's end of the socket
    os.close(bell)
    assert before < fd_count()


def test_attached_means_the_kernel_knows(daemon: FakeDaemon) -> None:
    """While attached, byte 1 of the table is locked against reclaim; at the end the kernel frees it."""
    flock = struct.Struct("hhqqi4x")
    fd = daemon.fds[Object.TABLE, 0]

    def lock(kind: int) -> None:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, flock.pack(kind, 0, layout.LOCK_BYTE_PEER, 1, 0))

    attached = attached_as(daemon, Role.HOST)
    with pytest.raises(BlockingIOError):
        lock(fcntl.F_WRLCK)
    attached.close()

    lock(fcntl.F_WRLCK)


def test_a_set_that_is_being_reclaimed_is_not_attached_to(daemon: FakeDaemon) -> None:
    """If somebody holds byte 1 for writing, the objects are about to go: a clear error, nothing mapped."""
    flock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, layout.LOCK_BYTE_PEER, 1, 0)
    fcntl.fcntl(daemon.fds[Object.TABLE, 0], fcntl.F_OFD_SETLK, flock)

    with pytest.raises(ResourceError, match="demo-table: is being reclaimed"):
        attached_as(daemon, Role.HOST)


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a/b", "Demo", "-x", "a" * 33, "ä", "demo\n"])
def test_a_name_that_no_partition_has_is_refused(runtime_dir: Path, name: str) -> None:
    """A partition name with a slash, capitals or too many characters never reaches a daemon."""
    with pytest.raises(UsageError, match="partition name"):
        attach(Role.HOST, name, runtime_dir=runtime_dir)


def test_without_a_daemon_the_error_names_the_socket(runtime_dir: Path) -> None:
    """No socket, and a socket that a dead daemon left, give the same advice."""
    path = runtime_dir / paths.HOST_SOCKET
    with pytest.raises(ResourceError, match=f"no vmbusd at {path}: is it running"):
        attach(Role.HOST, "demo", runtime_dir=runtime_dir)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
        left.bind(os.fspath(path))
    with pytest.raises(ResourceError, match="is it running"):
        attach(Role.HOST, "demo", runtime_dir=runtime_dir)
    path.unlink()


def test_a_socket_of_another_type_is_named(runtime_dir: Path) -> None:
    """Something else that listens there is an error of the machine with its path in it."""
    path = runtime_dir / paths.GUEST_SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(os.fspath(path))
        other.listen()
        with pytest.raises(ResourceError, match=f"{path}: cannot connect"):
            attach(Role.GUEST_CONTROL, "demo", runtime_dir=runtime_dir)
    path.unlink()


def test_attach_finds_the_socket_of_its_role(daemon: FakeDaemon, runtime_dir: Path) -> None:
    """Guests and workers go to the guest socket, hosts to the host socket."""
    with (
        daemon.listening(runtime_dir, paths.GUEST_SOCKET, Role.GUEST_CONTROL),
        attach(Role.GUEST_CONTROL, "demo", runtime_dir=runtime_dir),
    ):
        assert daemon.peers[0].expect(link.Hello).role == Role.GUEST_CONTROL


def test_a_refusal_is_the_daemons_own_text(daemon: FakeDaemon) -> None:
    """Refused becomes RefusedError with the text, and the socket is closed."""
    refusal = link.encode(link.Refused(link.Code.UNKNOWN_PARTITION, "no partition 'demo' hereß".encode()))
    before = fd_count()

    with pytest.raises(RefusedError, match="no partition 'demo' hereß"):
        attach_socket(daemon.socket_with(refusal), Role.HOST, "demo")
    assert fd_count() == before + 1


def test_a_daemon_that_hangs_up_is_told_from_one_that_says_why(daemon: FakeDaemon) -> None:
    """The end of the link without a farewell is LinkLost; with one it is LinkClosed with its text."""
    silent = daemon.socket_for(Role.HOST)
    silent.recv(1 << 16)
    daemon.peers[0].close()
    with pytest.raises(LinkLost):
        attach_socket(silent, Role.HOST, "demo")

    bye = link.encode(link.Bye(link.Code.STOPPING, b"the daemon stops"))
    with pytest.raises(LinkClosed, match="the daemon stops") as caught:
        attach_socket(daemon.socket_with(bye), Role.HOST, "demo")
    assert not isinstance(caught.value, LinkLost)


def test_no_answer_is_an_error_after_a_while(daemon: FakeDaemon) -> None:
    """A daemon that is stopped does not hang its clients for ever."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, pytest.raises(ResourceError, match=r"did not answer within 0\.01 s"):
        attach_socket(theirs, Role.HOST, "demo", timeout=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"abi_version": 9}, "speaks ABI 9, we 1"),
        ({"vps": 0}, "0 VPs"),
        ({"vps": 65}, "65 VPs"),
        ({"ram_size": 4097}, "4097 bytes of guest memory"),
        ({"ram_size": 8192}, "demo-ram: granted with 262144 bytes, must be 8192"),
        ({"vps": 1}, "demo-events: granted with 8192 bytes, must be 4096"),
        ({"grants": b""}, "0 objects granted, 8 descriptors came"),
        ({"grants": b"x"}, "no multiple"),
    ],
)
def test_a_welcome_that_cannot_be_is_refused(
    daemon: FakeDaemon, change: dict[str, object], message: str
) -> None:
    """Numbers of a welcome that contradict the ABI or its grants are the daemon's error; no fd stays open."""
    daemon.add_host(0)
    body, fds = daemon.welcome(Role.HOST)
    packet = link.encode(msgspec.structs.replace(body, **change))
    before = fd_count() - len(fds)

    with pytest.raises(ProtocolError, match=message):
        attach_socket(daemon.socket_with(packet, fds), Role.HOST, "demo")
    assert fd_count() == before + 1


@pytest.mark.parametrize(
    ("index", "grant", "message"),
    [
        (0, Grant(99, 0, 1, 4096), "unknown object 99"),
        (6, Grant(Object.RAM, 0, 1, 64 * 4096), "-ram was granted twice"),
        (3, Grant(Object.HOST_PAGE, 1, 1, 4096), "without -ram"),
        (5, Grant(Object.VP_SEMAPHORE, 9, 1, 32), "without -vp1 doorbell"),
        (7, Grant(Object.HOST_SEMAPHORE, 9, 1, 32), "without -host0 doorbell"),
    ],
)
def test_a_grant_that_cannot_be_is_refused(
    daemon: FakeDaemon, index: int, grant: Grant, message: str
) -> None:
    """An unknown, doubled or missing object ends the attempt with its name; nothing stays open."""
    daemon.add_host(0)
    body, fds = daemon.welcome(Role.HOST)
    grants = link.decode_grants(body.grants)
    grants[index] = grant
    packet = link.encode(msgspec.structs.replace(body, grants=link.encode_grants(grants)))
    before = fd_count() - len(fds)

    with pytest.raises(ProtocolError, match=message):
        attach_socket(daemon.socket_with(packet, fds), Role.HOST, "demo")
    assert fd_count() == before + 1


def test_an_object_that_is_shorter_than_granted_is_refused(daemon: FakeDaemon) -> None:
    """An object that a peer truncated before we came is named with both sizes."""
    sock = daemon.socket_for(Role.HOST)
    os.ftruncate(daemon.fds[Object.RAM, 0], 4096)

    with pytest.raises(ResourceError, match="demo-ram: the object has 4096 bytes, 262144 are needed"):
        attach_socket(sock, Role.HOST, "demo")


def test_a_descriptor_that_does_not_allow_the_grant_is_refused(daemon: FakeDaemon) -> None:
    """A grant that promises writing over a read-only descriptor is an error that names the object."""
    daemon.add_host(0)
    body, fds = daemon.welcome(Role.HOST)
    grants = link.decode_grants(body.grants)
    grants[1] = msgspec.structs.replace(grants[1], writable=1)
    packet = link.encode(msgspec.structs.replace(body, grants=link.encode_grants(grants)))

    with pytest.raises(ResourceError, match="demo-table: cannot be mapped"):
        attach_socket(daemon.socket_with(packet, fds), Role.HOST, "demo")


# -- host links ----------------------------------------------------------------------------------------------


def test_a_host_link_is_added_and_replaced(daemon: FakeDaemon) -> None:
    """A new host link appears with page and doorbell; its number coming again replaces the old one."""
    with attached_as(daemon, Role.GUEST_CONTROL) as attached:
        assert attached.add_host_link(*daemon.host_link(2)) == 2
        first = attached.host_links[2].page
        count = fd_count()

        assert attached.add_host_link(*daemon.host_link(2)) == 2

        assert first.closed
        assert fd_count() == count
        EventFlags(attached.host_links[2].page).set(9)
        assert EventFlags(daemon.maps[Object.HOST_PAGE, 2]).pending() == [9]


def test_a_replaced_host_page_that_is_in_use_stays(daemon: FakeDaemon) -> None:
    """A sender that still holds the old page neither crashes nor keeps it after its own end."""
    with attached_as(daemon, Role.GUEST_CONTROL) as attached:
        attached.add_host_link(*daemon.host_link(0))
        old = EventFlags(attached.host_links[0].page)
        page = attached.host_links[0].page

        attached.add_host_link(*daemon.host_link(0))
        old.set(3)
        assert not page.closed
        del old

        attached.add_host_link(*daemon.host_link(1))
        assert page.closed


def test_a_host_link_packet_with_something_else_is_refused(daemon: FakeDaemon) -> None:
    """Grants of another object, another number or another packet are errors that leave no descriptor."""
    with attached_as(daemon, Role.GUEST_CONTROL) as attached:
        _, fds = daemon.host_link(1)
        grants = [Grant(Object.RAM, 1, 1, 4096), Grant(Object.HOST_SEMAPHORE, 1, 1, 32)]
        count = fd_count() - len(fds)
        with pytest.raises(ProtocolError, match="grants of something else"):
            attached.add_host_link(link.encode(link.HostLink(1, 0, link.encode_grants(grants))), fds)
        with pytest.raises(ProtocolError, match="a host link was expected, Detach came"):
            attached.add_host_link(link.encode(link.Detach(0)), [os.dup(0)])
        with pytest.raises(ProtocolError, match="its page or its doorbell is missing"):
            attached.add_host_link(link.encode(link.HostLink(1, 0, b"")), [])
        assert fd_count() == count
        assert attached.host_links == {}


# -- the end -------------------------------------------------------------------------------------------------


def test_a_truncated_object_is_found_dead(daemon: FakeDaemon) -> None:
    """A peer that truncates an object under us costs the link, not the process; the object is named."""
    with attached_as(daemon, Role.HOST) as attached:
        attached.check()
        os.ftruncate(daemon.fds[Object.RAM, 0], 0)
        assert attached[Object.RAM][5 * layout.PAGE] == 0

        with pytest.raises(ObjectDead, match="demo-ram"):
            attached.check()


def test_closing_twice_is_fine_and_leaves_nothing(daemon: FakeDaemon) -> None:
    """Close unmaps everything, closes every descriptor and may come again."""
    sock = daemon.socket_for(Role.HOST)
    before = fd_count() - 1
    attached = attach_socket(sock, Role.HOST, "demo")
    ram = attached[Object.RAM]

    attached.close()
    attached.close()

    assert ram.closed
    assert fd_count() == before
    with pytest.raises(LinkClosed):
        attached.receive()


def test_memory_in_use_survives_close_and_stays_guarded(daemon: FakeDaemon) -> None:
    """A view that somebody kept works after close, even when the object is truncated, until it is let go."""
    attached = attached_as(daemon, Role.HOST)
    view = attached.page(1)

    attached.close()
    os.ftruncate(daemon.fds[Object.RAM, 0], 0)
    assert view[0] == 0

    view.release()
    attached.close()
