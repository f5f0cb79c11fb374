"""Faults as a user arms them, with vmbusctl and from Python: daemon, host and guest are real."""

import json
import math
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.live.daemon import daemon, eventually
from tests.live.guest_drivers import Counter
from tests.live.guest_support import World, begin, produce, relid_of, seen
from tests.live.storms import judge, let_pass
from vmbusd.abi.errors import RefusedError, ResourceError, UsageError
from vmbusd.ctl.__main__ import main
from vmbusd.demo.storm import storm
from vmbusd.server.fault_rules import DATA_KINDS
from vmbusd.server.fault_rules import Kind as DaemonKind
from vmbusd.testing.faults import Faults, Kind

pytestmark = pytest.mark.live


def ctl(directory: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit status, output and errors of `vmbusctl fault ...`."""
    capsys.readouterr()
    status = main(["fault", *arguments, "--runtime-dir", str(directory)])
    out, err = capsys.readouterr()
    return status, out, err


def test_every_kind_has_a_name_in_python() -> None:
    """Those of the data path and those of the daemon, and no other."""
    assert {str(kind) for kind in Kind} == {*DATA_KINDS, *map(str, DaemonKind)}


def test_vmbusctl_arms_lists_and_takes_back(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option reaches the daemon; list and status show the rule and its count."""

    def ask(*arguments: str) -> dict[str, Any]:
        status, out, err = ctl(world.directory, *arguments, "--json", capsys=capsys)
        assert (status, err) == (0, "")
        answer: dict[str, Any] = json.loads(out)
        return answer

    offer, other = world.offer(2)
    with world.guest(Counter()) as guest:
        begin(guest)
        relid = relid_of(offer)
        options = [
            "--message",
            "MODIFYCHANNEL",
            "--message",
            "MODIFYCHANNEL_RESPONSE",
            "--probability",
            "0.5",
        ]
        numbers = ["--relid", str(relid), "--every", "2", "--after", "1", "--times", "9", "--seed", "3"]
        made = ask("add", "demo", "delay-message", "--delay", "1500", *options, *numbers)["id"]
        (rule,) = ask("list", "demo")["rules"]
        assert rule == {
            "id": made,
            "kind": "delay-message",
            "relid": relid,
            "messages": ["MODIFYCHANNEL", "MODIFYCHANNEL_RESPONSE"],
            "probability": 0.5,
            "every": 2,
            "after": 1,
            "times": 9,
            "delay": 1500,
            "seed": 3,
            "seen": 0,
            "fired": 0,
        }
        assert world.daemon.status("demo")["faults"] == {"armed": True, "rules": [rule]}
        status, out, _ = ctl(world.directory, "list", "demo", capsys=capsys)
        assert status == 0
        assert "delay-message" in out
        assert ask("remove", "demo", str(made)) == {"removed": [made], "rules": [rule]}
        ask("add", "demo", "spurious-bit", "--vp", "1", "--rate", "1")
        ask("add", "demo", "drop-doorbell", "--who", "hosts")
        assert len(ask("remove", "demo", "all")["removed"]) == 2
        assert ask("list", "demo") == {"armed": False, "rules": []}
        assert produce(other) == 1
        eventually(lambda: seen(other) == 1, "signals arrive")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("add", "nowhere", "drop-message"), "there is no partition 'nowhere'"),
        (("add", "demo", "delay-dispatch", "--delay", "1001"), "delay 1001: 1 to 1000 microseconds"),
        (("add", "demo", "drop-message", "--relid", "9"), "relid 9: the guest knows no such channel"),
        (("add", "demo", "drop-message", "--seed", str(1 << 70)), "seed"),
        (
            ("add", "demo", "drop-message", "--probability", "nan"),
            "fault drop-message: probability nan: more",
        ),
        (
            ("add", "demo", "drop-doorbell", "--probability", "inf"),
            "drop-doorbell: probability inf: more than",
        ),
        (("remove", "demo", "7"), "fault 7: partition demo has no such fault"),
        (("remove", "demo", "x"), "fault 'x': an id as"),
        (("list", "nowhere"), "there is no partition 'nowhere'"),
    ],
)
def test_vmbusctl_says_what_is_wrong(
    world: World, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], text: str
) -> None:
    """Exit status 1, one line that names what and where; a delay above 1000 us is refused (case 295)."""
    status, out, err = ctl(world.directory, *arguments, capsys=capsys)
    assert (status, out) == (1, "")
    assert err.startswith("vmbusctl: ")
    assert text in err


@pytest.mark.parametrize(
    "line",
    [
        b'{"command":"fault-add","partition":"demo"}',
        b'{"command":"fault-add","partition":"demo","fault":{}}',
        b'{"command":"fault-add","partition":"demo","fault":{"kind":"drop-message","relid":"1"}}',
        b'{"command":"fault-add","partition":"demo","fault":{"kind":"drop-message","more":1}}',
        b'{"command":"fault-add","partition":"demo","fault":{"kind":"drop-message","times":1e30}}',
        b'{"command":"fault-remove","partition":"demo","id":-1}',
        b'{"command":"fault-remove","partition":"demo","id":1.5}',
        b'{"command":"fault-add","partition":"demo","fault":{"kind":"' + b"x" * 5000 + b'"}}',
    ],
)
def test_nonsense_on_the_admin_socket_is_answered(world: World, line: bytes) -> None:
    """Whatever the line is, there is an error, nothing is armed, and the link goes on."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(world.directory / "admin.sock"))
        sock.sendall(line + b'\n{"command":"fault-list","partition":"demo"}\n')
        stream = sock.makefile("rb")
        first, second = json.loads(stream.readline()), json.loads(stream.readline())
        stream.close()
    assert first["error"]["kind"] in ("bad-request", "refused")
    assert second == {"ok": True, "result": {"armed": False, "rules": []}}


def test_python_takes_back_what_it_armed(world: World) -> None:
    """Only its own, at the end of the block, or before it on request."""
    world.offer()
    with world.guest(Counter()) as guest:
        begin(guest)
        with Faults("demo", runtime_dir=world.directory) as others:
            others.add(Kind.DROP_MESSAGE, messages=["UNLOAD"])
            with Faults("demo", runtime_dir=world.directory) as faults:
                first = faults.add(Kind.DELAY_MESSAGE, delay=1)
                faults.add(Kind.DROP_DOORBELL, probability=0.5)
                assert [rule["id"] for rule in faults.rules()] == [first, first + 1]
                faults.remove(first)
                assert len(faults.rules()) == 1
                with pytest.raises(RefusedError, match="delay 1001: 1 to 1000"):
                    faults.add(Kind.DELAY_READ, delay=1001)
            assert [rule["kind"] for rule in others.rules()] == ["drop-message"]
        assert world.daemon.status("demo")["faults"]["rules"] == []


def test_counts_can_be_asked_for_after_the_block(world: World) -> None:
    """Of a fault that was taken back and of those that ended with the block; an id of nobody is an error."""
    (offer,) = world.offer()

    def signal_once() -> None:
        produced = produce(offer)
        eventually(lambda: seen(offer) == produced, "it arrives")

    with world.guest(Counter()) as guest:
        begin(guest)
        with Faults("demo", runtime_dir=world.directory) as faults:
            first = faults.add(Kind.DELAY_DISPATCH, who="guests", relid=relid_of(offer), delay=1, times=1)
            second = faults.add(Kind.DELAY_MESSAGE, messages="UNLOAD", delay=1)
            assert faults.rules()[1]["messages"] == ["UNLOAD"]
            signal_once()
            faults.remove(first)
            assert (faults.fired(first), faults.fired(second), faults.fired()) == (1, 0, 1)
            third = faults.add(Kind.DELAY_DISPATCH, who="guests", relid=relid_of(offer), delay=1, times=2)
            for _ in range(3):
                signal_once()
        assert [faults.fired(each) for each in (first, second, third)] == [1, 0, 2]
        assert faults.fired() == 3
        assert faults.rules() == []
        with pytest.raises(UsageError, match=f"fault {third + 1}: "):
            faults.fired(third + 1)


@pytest.mark.parametrize("probability", [math.nan, math.inf, -math.inf])
def test_a_probability_that_is_no_number_is_refused_by_name(runtime_dir: Path, probability: float) -> None:
    """JSON has no word for it, so it is refused before anybody is asked."""
    faults = Faults("demo", runtime_dir=runtime_dir)
    with pytest.raises(UsageError, match=f"fault drop-doorbell: probability {probability}: more than 0"):
        faults.add(Kind.DROP_DOORBELL, probability=probability)


def test_without_a_daemon_the_block_ends_with_a_word(runtime_dir: Path) -> None:
    """Nobody takes the faults back then, which is an error and no silence."""
    with pytest.raises(ResourceError, match="no vmbusd at"):
        Faults("demo", runtime_dir=runtime_dir).add(Kind.DROP_DOORBELL)


@pytest.mark.parametrize("where", [{}, {"vp": 1}, {"relid": 1}, {"host": 0}])
def test_spurious_bits_harm_nobody(runtime_dir: Path, where: dict[str, Any]) -> None:
    """Bits of open and closed channels and of flag 0, rung or not, in the middle of a storm: nothing is lost,
    nothing overlaps, nothing is stale."""
    with (
        daemon(runtime_dir, "--partition", "storm:2") as running,
        storm(runtime_dir, "storm", vps=2, channels=16, host_processes=1) as scene,
        Faults("storm", runtime_dir=runtime_dir) as faults,
    ):
        scene.start()
        faults.add(Kind.SPURIOUS_BIT, rate=5000, seed=1, **where)
        eventually(lambda: faults.fired() > 2000, "bits were set")
        let_pass(scene, 1000)
        if not where:
            eventually(
                lambda: all(each["statistics"]["spurious"] for each in running.status("storm")["workers"]),
                "every VP has some",
            )
        faults.close()
        scene.stop_retargeting()
        judge(scene)
