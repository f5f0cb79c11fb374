"""The administrator's socket, by hand and through `vmbusctl`."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.daemon import PATIENCE, ROOT, Daemon, daemon
from tests.live.peers import device, guest, open_channel
from vmbusd.abi import paths
from vmbusd.ctl.__main__ import main
from vmbusd.server import limits

pytestmark = pytest.mark.live


@pytest.fixture
def running(runtime_dir: Path) -> Iterator[Daemon]:
    """A daemon with partitions a and b."""
    with daemon(runtime_dir, "--partition", "a", "--partition", "b:8") as running:
        yield running


@pytest.fixture
def admin(running: Daemon) -> Iterator[socket.socket]:
    """A raw connection to the admin socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(running.runtime_dir / paths.ADMIN_SOCKET))
        yield sock


def lines(sock: socket.socket, count: int) -> list[dict[str, Any]]:
    """The next answers."""
    data = b""
    while data.count(b"\n") < count:
        chunk = sock.recv(1 << 16)
        assert chunk, data
        data += chunk
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"hello", "JSON is malformed"),
        (b"{", "truncated"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "command"),
        (b'{"command": "reboot"}', "Invalid value 'reboot' - at `$.command`"),
        (b'{"command": "channels"}', "missing required field `partition`"),
        (b'{"command": "channels", "partition": 5}', "Expected `str`, got `int` - at `$.partition`"),
        (b'{"command": "status", "really": true}', "unknown field `really`"),
        (b'{"command": "partition-add", "name": "c", "vps": "4"}', "Expected `int`, got `str` - at `$.vps`"),
        (b'{"command": "partition-add", "name": "c", "doorbell": "bell"}', "$.doorbell"),
        (b"\xff\xfe", "malformed"),
    ],
)
def test_a_line_that_is_no_request_is_answered_with_what_is_wrong(
    admin: socket.socket, line: bytes, text: str
) -> None:
    """Bad JSON, unknown commands, missing and wrong fields: an error that names them; the link goes on."""
    admin.sendall(line + b'\n{"command": "status"}\n')

    bad, good = lines(admin, 2)

    assert bad["ok"] is False
    assert bad["error"]["kind"] == "bad-request"
    assert text in bad["error"]["text"]
    assert good["ok"] is True


@pytest.mark.parametrize(
    ("request_", "kind", "text"),
    [
        ({"command": "channels", "partition": "c"}, "unknown-partition", "there is no partition 'c'"),
        ({"command": "table", "partition": "../a"}, "unknown-partition", "'../a'"),
        ({"command": "partition-remove", "name": "c"}, "unknown-partition", "'c'"),
        ({"command": "partition-add", "name": "a"}, "refused", "partition a exists already"),
        ({"command": "partition-add", "name": "c/d"}, "refused", "'c/d'"),
        ({"command": "partition-add", "name": "c", "vps": 65}, "refused", "vps 65"),
        ({"command": "partition-add", "name": "c", "ram_size": 5000}, "refused", "ram_size 5000"),
        ({"command": "partition-add", "name": "c", "ram_size": "1X"}, "refused", "'1X'"),
        ({"command": "partition-add", "name": "c", "uids": [-1]}, "refused", "-1 is no user id"),
    ],
)
def test_a_request_that_cannot_be_done_says_why(
    admin: socket.socket, request_: dict[str, Any], kind: str, text: str
) -> None:
    """The error's kind says whose fault it is, its text names the thing."""
    admin.sendall(json.dumps(request_).encode() + b"\n")

    (answer,) = lines(admin, 1)

    assert answer["error"]["kind"] == kind
    assert text in answer["error"]["text"]


def test_a_line_without_end_ends_the_link(running: Daemon, admin: socket.socket) -> None:
    """More than 64 KiB without a line break are answered with an error, and nothing more is read."""
    admin.sendall(b"x" * (limits.MAX_ADMIN_REQUEST + 1))

    (answer,) = lines(admin, 1)

    assert answer["error"]["text"] == f"a request line has at most {limits.MAX_ADMIN_REQUEST} bytes"
    assert admin.recv(1) == b""
    assert running.status("a")


def test_requests_may_come_in_any_pieces(admin: socket.socket) -> None:
    """Byte by byte, or many lines at once: one answer per line, in order."""
    for byte in b'{"command":"status"}\n':
        admin.send(bytes([byte]))
    assert lines(admin, 1)[0]["ok"]

    admin.sendall(b'{"command":"status"}\n\n{"command":"channels","partition":"a"}\n' * 20)
    answers = lines(admin, 40)

    assert [list(answer["result"]) for answer in answers] == [["daemon", "partitions"], ["channels"]] * 20


def test_a_client_that_does_not_read_is_not_read_either(running: Daemon, admin: socket.socket) -> None:
    """Its answers are bounded by not taking its requests; others are served, and it gets all in the end."""
    admin.setblocking(False)
    request = b'{"command":"status"}\n' * 1000
    sent = 0
    try:
        while sent < 200 << 20:
            sent += admin.send(request)
    except BlockingIOError:
        assert running.status("a")
    else:
        pytest.fail("the daemon read 200 MiB of requests without having its answers read")


def test_administrators_have_a_limit(running: Daemon) -> None:
    """One more than the limit is refused politely."""
    inside = []
    try:
        for _ in range(limits.MAX_ADMIN_LINKS + 1):
            sock = socket.socket(socket.AF_UNIX)
            inside.append(sock)
            sock.settimeout(PATIENCE)
            sock.connect(str(running.runtime_dir / paths.ADMIN_SOCKET))
        (answer,) = lines(inside[-1], 1)
        assert answer["error"]["text"] == f"{limits.MAX_ADMIN_LINKS} administrators are connected"
        inside[0].sendall(b'{"command":"status"}\n')
        assert lines(inside[0], 1)[0]["ok"]
    finally:
        for sock in inside:
            sock.close()


# -- vmbusctl ------------------------------------------------------------------------------------------------


def ctl(running: Daemon, *words: str) -> int:
    return main([*words, "--runtime-dir", str(running.runtime_dir)])


def test_status_shows_every_partition(running: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON for scripts and as tables for people."""
    assert ctl(running, "status", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert {view["name"]: view["vps"] for view in result["partitions"]} == {"a": 4, "b": 8}
    assert result["daemon"]["pid"] == running.pid

    assert ctl(running, "status") == 0
    text = capsys.readouterr().out
    assert f"pid {running.pid}" in text
    assert "a: running, 64 MiB RAM, 0 channels, no guest" in text


def test_channels_and_table_show_an_open_channel(running: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    """The bus's view and the shared table agree."""
    with guest(running.runtime_dir) as control, device(running.runtime_dir) as host:
        host.offer()
        relid = open_channel(control, host, vp=2).child_relid
        assert ctl(running, "channels", "a", "--json") == 0
        (channel,) = json.loads(capsys.readouterr().out)["channels"]
        assert ctl(running, "table", "a", "--json") == 0
        (slot,) = json.loads(capsys.readouterr().out)["slots"]

        assert (channel["relid"], channel["flag"], channel["target_vp"]) == (relid, relid, 2)
        assert channel["state"].lower() == "open"
        assert (slot["relid"], slot["flag"], slot["target_vp"], slot["open"]) == (relid, relid, 2, True)
        assert slot["instance_id"] == channel["instance"]
        assert slot["slot_generation"] == slot["generation"] == channel["generation"] == 1
        for command in ("channels", "table"):
            assert ctl(running, command, "a") == 0
            assert "1 channels" in (text := capsys.readouterr().out) or "1 slots" in text


def test_partitions_come_and_go(running: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    """`partition add` makes one that can be attached to at once, `partition remove` ends it."""
    assert ctl(running, "partition", "add", "c:2", "--ram-size", "1M", "--doorbell", "eventfd") == 0
    assert capsys.readouterr().out == "partition c: made\n"
    with guest(running.runtime_dir, "c") as control:
        control.connect()
        assert (control.attached.welcome.vps, control.attached.welcome.ram_size) == (2, 1 << 20)
    assert ctl(running, "partition", "remove", "c") == 0
    assert capsys.readouterr().out == "partition c: removed\n"
    assert ctl(running, "partition", "remove", "c") == 1
    assert capsys.readouterr().err == "vmbusctl: there is no partition 'c'\n"


def test_without_a_daemon_the_error_says_so(runtime_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1 and the path that was tried."""
    assert main(["status", "--runtime-dir", str(runtime_dir)]) == 1
    assert f"no vmbusd at {runtime_dir / paths.ADMIN_SOCKET}" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error(running: Daemon) -> None:
    """`vmbusctl status --json | head -1` prints one line and no traceback."""
    command = [
        sys.executable,
        "-m",
        "vmbusd.ctl",
        "status",
        "--json",
        "--runtime-dir",
        str(running.runtime_dir),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE) == 0
