"""Orders of the administrator through a real daemon: retarget, rescind, reset, by `vmbusctl` and by hand."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.daemon import PATIENCE, Daemon, daemon, eventually
from tests.live.peers import Device, Guest, device, farewell, guest, open_channel, worker
from vmbusd.abi import device_link, messages, paths
from vmbusd.abi.errors import RefusedError
from vmbusd.ctl.__main__ import main
from vmbusd.server import limits, requests

pytestmark = pytest.mark.live

Peers = tuple[Guest, Device, int]


@pytest.fixture
def running(runtime_dir: Path) -> Iterator[Daemon]:
    """A daemon with partition a."""
    with daemon(runtime_dir, "--partition", "a") as running:
        yield running


@pytest.fixture
def peers(running: Daemon) -> Iterator[Peers]:
    """A guest and a host with one channel open on VP 0, and its relid."""
    with guest(running.runtime_dir) as control, device(running.runtime_dir) as host:
        host.offer()
        yield control, host, open_channel(control, host).child_relid


@pytest.fixture
def admin(running: Daemon) -> Iterator[socket.socket]:
    """A raw connection to the admin socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(running.runtime_dir / paths.ADMIN_SOCKET))
        yield sock


def order(admin: socket.socket, **fields: object) -> None:
    admin.sendall(json.dumps({"partition": "a"} | fields).encode() + b"\n")


def answers(admin: socket.socket, count: int = 1) -> list[dict[str, object]]:
    """The next answers."""
    data = b""
    while data.count(b"\n") < count:
        data += admin.recv(1 << 16)
    return [json.loads(line) for line in data.splitlines()]


def ctl(running: Daemon, *words: str) -> int:
    return main([*words, "--runtime-dir", str(running.runtime_dir)])


def test_a_retarget_is_answered_when_the_host_has_acknowledged(
    running: Daemon, peers: Peers, admin: socket.socket
) -> None:
    """The table says the new VP at once; the guest hears nothing; requests behind it wait their turn."""
    _, host, relid = peers
    order(admin, command="retarget", relid=relid, vp=3)
    admin.sendall(b'{"command": "table", "partition": "a"}\n')
    asked = host.hear(device_link.Retarget)
    assert (asked.offer_id, asked.vp) == (1, 3)
    assert running.ask(requests.Table("a"))["slots"][0]["target_vp"] == 3
    admin.setblocking(False)
    with pytest.raises(BlockingIOError):
        admin.recv(1)
    admin.settimeout(PATIENCE)
    host.say(device_link.Retargeted(1, asked.generation, 3, 0))

    done, table = answers(admin, 2)
    assert done == {"ok": True, "result": {"relid": relid, "vp": 3, "before": 0}}
    assert table["ok"] is True
    assert peers[0].attached.receive_nowait() is None


def test_a_retarget_that_the_host_refuses_is_taken_back(
    running: Daemon, peers: Peers, admin: socket.socket
) -> None:
    """The channel stays where it was, and the error says where."""
    _, host, relid = peers
    order(admin, command="retarget", relid=relid, vp=2)
    asked = host.hear(device_link.Retarget)
    host.say(device_link.Retargeted(1, asked.generation, 2, 0x8000FFFF))

    (answer,) = answers(admin)
    assert answer["error"] == {"kind": "refused", "text": f"relid {relid}: is on VP 0 now"}
    assert running.ask(requests.Table("a"))["slots"][0]["target_vp"] == 0


def test_a_channel_that_closes_meanwhile(peers: Peers, admin: socket.socket) -> None:
    """The order ends with the open that it was for."""
    control, host, relid = peers
    order(admin, command="retarget", relid=relid, vp=2)
    host.hear(device_link.Retarget)
    host.say(device_link.Revoke(1))

    assert control.hear(messages.Rescind).child_relid == relid
    control.say(messages.RelidReleased(relid))
    (answer,) = answers(admin)
    assert answer["ok"] is False or answer["result"] == {"relid": relid, "vp": 2, "before": 0}


def test_a_host_that_does_not_answer(running: Daemon, peers: Peers) -> None:
    """The administrator is told after a while; a second order says that the first is under way."""
    _, host, relid = peers
    with pytest.raises(RefusedError, match=rf"acknowledged within {limits.ORDER_PATIENCE:g} s; it goes on"):
        running.ask(requests.Retarget("a", relid, 2))
    host.hear(device_link.Retarget)
    with pytest.raises(RefusedError, match=f"relid {relid} is being moved to VP 2 already"):
        running.ask(requests.Retarget("a", relid, 1))


def test_the_daemon_stops_during_an_order(running: Daemon, peers: Peers, admin: socket.socket) -> None:
    """Whoever waits is told; nothing is left."""
    _, host, relid = peers
    order(admin, command="retarget", relid=relid, vp=2)
    host.hear(device_link.Retarget)

    assert running.stop() == 0
    (answer,) = answers(admin)
    assert answer["error"] == {"kind": "refused", "text": "vmbusd is stopping"}


def test_an_administrator_who_leaves_during_an_order(running: Daemon, peers: Peers) -> None:
    """The order is carried out all the same."""
    _, host, relid = peers
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(running.runtime_dir / paths.ADMIN_SOCKET))
        order(sock, command="retarget", relid=relid, vp=2)
        asked = host.hear(device_link.Retarget)
    host.say(device_link.Retargeted(1, asked.generation, 2, 0))

    assert running.ask(requests.Table("a"))["slots"][0]["target_vp"] == 2
    assert "internal error" not in running.text()


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (requests.Retarget("a", 9, 1), "relid 9: the guest knows no such channel"),
        (requests.Retarget("a", -1, 1), "relid -1: the guest knows no such channel"),
        (requests.Retarget("a", 1 << 70, 1), "the guest knows no such channel"),
        (requests.Retarget("a", 1, 4), "VP 4: the partition has 4"),
        (requests.Retarget("a", 1, -1), "VP -1: the partition has 4"),
        (requests.Rescind("a", 9), "relid 9: the guest knows no such channel"),
        (requests.Reset("b"), "there is no partition 'b'"),
        (requests.Rescind("b", 1), "there is no partition 'b'"),
        (requests.Retarget("b", 1, 1), "there is no partition 'b'"),
    ],
)
def test_an_order_that_cannot_be_says_why(
    running: Daemon, peers: Peers, request_: requests.Request, text: str
) -> None:
    """Unknown partitions, channels and VPs; nothing has changed."""
    assert peers[2] == 1
    with pytest.raises(RefusedError) as error:
        running.ask(request_)

    assert text in str(error.value)
    assert running.ask(requests.Channels("a"))["channels"][0]["state"] == "open"


def test_a_vp_without_worker_is_no_target(running: Daemon, peers: Peers) -> None:
    """Signals would rest where nobody looks."""
    with worker(running.runtime_dir, vp=0):
        with worker(running.runtime_dir, vp=1):
            pass
        eventually(lambda: running.status("a")["workers"][1]["state"] == "offline", "VP 1 is retired")

        with pytest.raises(RefusedError, match="VP 1 is offline"):
            running.ask(requests.Retarget("a", peers[2], 1))


def test_vmbusctl_retarget(running: Daemon, peers: Peers, capsys: pytest.CaptureFixture[str]) -> None:
    """To where it is already: done at once. Numbers that are none: exit status 2."""
    assert ctl(running, "retarget", "a", "1", "0") == 0
    assert capsys.readouterr().out == "partition a: relid 1 moved from VP 0 to VP 0\n"
    assert ctl(running, "retarget", "a", "1", "0", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"relid": 1, "vp": 0, "before": 0}
    assert ctl(running, "retarget", "a", "7", "0") == 1
    assert capsys.readouterr().err == "vmbusctl: relid 7: the guest knows no such channel\n"
    with pytest.raises(SystemExit) as end:
        ctl(running, "retarget", "a", "one", "0")
    assert end.value.code == 2
    assert "argument RELID: invalid int value: 'one'" in capsys.readouterr().err


def test_vmbusctl_rescind(running: Daemon, peers: Peers, capsys: pytest.CaptureFixture[str]) -> None:
    """The guest hears RESCIND, the host Withdraw; a second time says so; the relid is free again."""
    control, host, relid = peers
    assert ctl(running, "rescind", "a", str(relid)) == 0
    assert capsys.readouterr().out == f"partition a: relid {relid} rescinded\n"
    assert control.hear(messages.Rescind).child_relid == relid
    assert host.hear(device_link.Close).offer_id == 1
    assert host.hear(device_link.Withdraw).offer_id == 1
    assert ctl(running, "rescind", "a", str(relid)) == 1
    assert capsys.readouterr().err == f"vmbusctl: relid {relid} is rescinded already\n"
    control.say(messages.RelidReleased(relid))
    host.say(device_link.Revoke(1))
    host.hear(device_link.Revoked)
    host.offer(2)

    assert control.hear(messages.Offer).child_relid == relid


def test_vmbusctl_reset(running: Daemon, peers: Peers, capsys: pytest.CaptureFixture[str]) -> None:
    """The guest's link ends with the reason, the channel closes, the offer waits for the next guest."""
    control, host, relid = peers
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(running.runtime_dir / paths.ADMIN_SOCKET))
        order(sock, command="reset")
        asked = host.hear(device_link.Close)
        assert farewell(control.attached) == "partition a was reset"
        host.say(device_link.Closed(1, asked.generation))
        host.hear(device_link.Teardown)
        host.say(device_link.GpadlTornDown(1, 7))
        assert answers(sock) == [{"ok": True, "result": {"guest": True}}]
    with guest(running.runtime_dir) as other:
        assert other.connect(1)[0].child_relid == relid
        assert ctl(running, "reset", "a") == 0
        assert capsys.readouterr().out == "partition a: reset\n"
        assert farewell(other.attached) == "partition a was reset"
    assert ctl(running, "reset", "a", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"guest": False}


def test_a_device_that_does_not_let_go_delays_the_reset(running: Daemon, peers: Peers) -> None:
    """The administrator is told what is waited for; the guest's link has ended already."""
    control, host, _ = peers
    with pytest.raises(RefusedError, match="a device has not let go of its channel within"):
        running.ask(requests.Reset("a"))
    assert farewell(control.attached) == "partition a was reset"
    host.hear(device_link.Close)
    assert running.status("a")["connection"] == "disconnecting"
