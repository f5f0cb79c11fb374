"""Starting and stopping: what a daemon takes, refuses to take, leaves behind and cleans up."""

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.live.daemon import Daemon, as_user, daemon, eventually, open_directory, refused_start
from tests.live.peers import device, farewell, guest, worker
from vmbusd.abi import paths
from vmbusd.abi.attach import attach
from vmbusd.abi.errors import LinkLost
from vmbusd.abi.link import Role
from vmbusd.server import requests

pytestmark = pytest.mark.live


def test_objects_are_those_of_the_design_and_gone_after_an_orderly_stop(runtime_dir: Path) -> None:
    """Table, events, vpwork, guest, ram and a semaphore per VP; SIGTERM removes all, exit status 0."""
    with daemon(runtime_dir, "--partition", "a:2") as running:
        whats = {name.rpartition("-")[2] for name in running.objects()}
        modes = {os.stat(f"/dev/shm/{name}").st_mode & 0o777 for name in running.objects()}
        instance = (runtime_dir / paths.INSTANCE_FILE).read_text().strip()

        status = running.stop()

        assert whats == {"table", "events", "vpwork", "guest", "ram", "vp0", "vp1"}
        assert modes == {0o600}
        assert status == 0
        assert [name for name in os.listdir("/dev/shm") if instance in name] == []
        assert os.listdir(runtime_dir) == []


def test_a_stop_tells_every_link_why(runtime_dir: Path) -> None:
    """Guest, worker and host get a farewell at SIGINT, never just silence."""
    with (
        daemon(runtime_dir, "--partition", "a") as running,
        device(runtime_dir) as host,
        guest(runtime_dir) as control,
        worker(runtime_dir) as vp,
    ):
        running.process.send_signal(signal.SIGINT)

        for attached in (host.attached, control.attached, vp):
            assert farewell(attached) == "vmbusd is stopping"
        assert running.process.wait(10) == 0


def test_two_partitions_are_served_at_once_and_apart(runtime_dir: Path) -> None:
    """Two guests attach to one daemon; a host of one is announced to its own guest only."""
    with (
        daemon(runtime_dir, "--partition", "a", "--partition", "b:8") as running,
        guest(runtime_dir, "a") as first,
        guest(runtime_dir, "b") as second,
        device(runtime_dir, "b") as host,
    ):
        host.offer()

        assert first.connect() == []
        assert len(second.connect(1)) == 1
        assert len(second.attached.vp_doorbells) == 8
        assert first.attached.host_links == {}
        views = running.ask(requests.Status())["partitions"]
        assert {view["name"]: view["vps"] for view in views} == {"a": 4, "b": 8}


def test_a_second_daemon_on_a_directory_is_refused(runtime_dir: Path) -> None:
    """The error names the pid and the directory; the first daemon goes on."""
    with daemon(runtime_dir, "--partition", "a") as running:
        text = refused_start(runtime_dir)

        assert f"pid {running.pid}" in text
        assert str(runtime_dir) in text
        with guest(runtime_dir) as control:
            control.connect()


def test_two_daemons_live_side_by_side(runtime_dir: Path) -> None:
    """Another runtime directory is another instance; neither removes the other's objects."""
    with open_directory() as other, daemon(runtime_dir, "--partition", "a") as first:
        with daemon(other, "--partition", "a") as second:
            assert not set(first.objects()) & set(second.objects())
        assert len(first.objects()) == 9


def test_one_start_after_kill_removes_everything(runtime_dir: Path) -> None:
    """kill -9 of a daemon leaves objects; a start of this user elsewhere removes them (case 178)."""
    with open_directory() as other:
        killed = Daemon(runtime_dir, "--partition", "a").wait_ready()
        left = killed.objects()
        killed.kill()
        assert left == killed.objects()

        with daemon(other, "--partition", "b") as running:
            eventually(lambda: not set(left) & set(os.listdir("/dev/shm")), "the dead set is removed")

            assert running.status("b")["state"] == "running"
        # Here there is a journal and nothing that it tells of any more: a clean start.
        with daemon(runtime_dir, "--partition", "a") as again:
            assert "partition cannot be resumed" in again.text()
            assert again.status("a")["state"] == "running"
        killed.close()


def test_one_start_after_kill_goes_on_with_everything(runtime_dir: Path) -> None:
    """In the directory of a killed daemon its partitions go on, also one that nobody names any more; an
    orderly stop then leaves nothing (case 178)."""
    killed = Daemon(runtime_dir, "--partition", "a").wait_ready()
    killed.ask(requests.PartitionAdd("added", 3, "1M"))
    left = killed.objects()
    killed.kill()

    with daemon(runtime_dir, "--partition", "b") as running:
        assert set(left) < set(running.objects())
        assert running.status("added")["vps"] == 3
        for name in "a", "b", "added":
            assert running.status(name)["state"] == "running"
    assert not set(left) & set(os.listdir("/dev/shm"))
    killed.close()


def test_what_a_living_peer_holds_is_never_reclaimed(runtime_dir: Path) -> None:
    """While a guest of the killed daemon lives and nobody can go on with its set, that stays, and a
    partition of its name gets another; later it goes."""
    killed = Daemon(runtime_dir, "--partition", "a").wait_ready()
    left = killed.objects()
    with attach(Role.GUEST_CONTROL, "a", runtime_dir=runtime_dir) as survivor:
        killed.kill()
        with pytest.raises(LinkLost):
            survivor.receive()
        (runtime_dir / "a.journal").write_bytes(b"damaged")

        with daemon(runtime_dir, "--partition", "a") as second:
            assert set(left) <= set(os.listdir("/dev/shm"))
            assert not set(left) & set(second.objects())
            with guest(runtime_dir) as control:
                control.connect()
    with daemon(runtime_dir):
        eventually(lambda: not set(left) & set(os.listdir("/dev/shm")), "the set is removed")
    killed.close()


def test_a_lock_left_by_a_dead_daemon_holds_nobody(runtime_dir: Path) -> None:
    """Stale sockets, lock and instance files stop no start (case 178)."""
    killed = Daemon(runtime_dir).wait_ready()
    killed.kill()
    assert sorted(os.listdir(runtime_dir)) == ["admin.sock", "guest.sock", "host.sock", "instance", "lock"]

    with daemon(runtime_dir):
        pass
    killed.close()


def test_an_unsafe_directory_is_refused() -> None:
    """Writable by others, a symbolic link, a file: the error names the directory and what is wrong."""
    with open_directory() as path:
        path.chmod(0o777)
        assert f"{path}: others may write to it" in refused_start(path)
        path.chmod(0o755)
        link = path / "link"
        link.symlink_to(path)
        assert f"{link}: is a symbolic link" in refused_start(link)
        file = path / "file"
        file.touch()
        assert f"{file}: is a symbolic link or no directory" in refused_start(file)
        assert f"{path / 'missing' / 'deep'}" in refused_start(path / "missing" / "deep")


@pytest.mark.root
def test_a_directory_without_permission_is_refused() -> None:
    """As another user: a directory that is not ours, or cannot be made, is named in the error."""
    with open_directory() as path:
        mine = path / "mine"
        mine.mkdir(0o700)
        if os.geteuid() == 0:
            os.chown(mine, 65534, 65534)
            text = refused_start(mine)
            assert f"{mine}: belongs to uid 65534" in text
            unmakable = as_user(65534, lambda: _start_error(path / "new"))
        else:
            path.chmod(0o500)
            unmakable = _start_error(path / "new")
            path.chmod(0o711)
        assert unmakable == f"runtime directory {path / 'new'}: cannot be made: Permission denied"


def _start_error(path: Path) -> str:
    from vmbusd.abi.errors import ResourceError
    from vmbusd.server.runtime import Runtime

    try:
        Runtime(path)
    except ResourceError as error:
        return str(error)
    return "it started"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--partition", "a/b"), "'a/b'"),
        (("--partition", "A"), "'A'"),
        (("--partition", "-a"), "expected one argument"),
        (("--partition", "a" * 33), "a" * 33),
        (("--partition", "a:0"), "1 to 64"),
        (("--partition", "a:65"), "1 to 64"),
        (("--partition", "a:many"), "'many'"),
        (("--config", "/no/such/file"), "/no/such/file"),
    ],
)
def test_a_bad_command_line_is_named(
    runtime_dir: Path, arguments: tuple[str, str], expected: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Names, VP counts and files that cannot be are errors before anything is made."""
    from vmbusd.__main__ import main

    try:
        status = main(["run", "--runtime-dir", str(runtime_dir), *arguments])
    except SystemExit as usage:
        status = int(usage.code or 0)

    assert status != 0
    assert expected in capfd.readouterr().err


def test_something_else_in_place_of_a_socket_is_an_error(runtime_dir: Path) -> None:
    """A file named like a socket is not removed; the error names it."""
    (runtime_dir / paths.HOST_SOCKET).write_text("precious")

    text = refused_start(runtime_dir)

    assert f"{runtime_dir / paths.HOST_SOCKET}: is in the way and no socket" in text
    assert os.listdir(runtime_dir) == [paths.HOST_SOCKET]
    (runtime_dir / paths.HOST_SOCKET).unlink()


def test_the_service_manager_hears_ready_and_stopping(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY comes once the sockets listen, STOPPING before the end."""
    with open_directory() as place, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place / "notify"))
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(place / "notify"))
        running = Daemon(runtime_dir, "--partition", "a")
        try:
            assert manager.recv(4096) == b"READY=1\nSTATUS=partitions: a"
            with guest(runtime_dir):
                pass
            running.ask(requests.PartitionAdd("b"))
            assert manager.recv(4096) == b"STATUS=partitions: a, b"
            running.stop()
            assert manager.recv(4096) == b"STOPPING=1"
        finally:
            running.close()
