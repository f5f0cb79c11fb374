"""The two dropped interrupts, replayed: the lists lose the packet, the table does not, in whatever order."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.live.daemon import PATIENCE, ROOT, daemon_of, eventually, has_called, objects_of
from vmbusd.abi import paths
from vmbusd.demo.processes import own_daemon
from vmbusd.lab.replay import GUESTS, INTERLEAVINGS, MORE_PACKETS, Group, Step, every_order, play, replay
from vmbusd.lab.replay_scene import PARTITION, VPS, A, B, scene

pytestmark = pytest.mark.live

# Who, what its sentence begins or ends with, the bit of the VP that is interrupted, A's list, B's list.
Line = tuple[str, str, int, str, str]
OLD: dict[int, tuple[int, list[Line]]] = {
    1: (
        A,
        [
            ("guest", "posts MODIFYCHANNEL(R, B)", 0, "R", "-"),
            ("guest", "L1, L2: moves R to B's list", 0, "-", "R"),
            ("host", "writes 1 packet, ring was empty: sets A.flag[R], interrupts A", 1, "-", "R"),
            ("VP A", "test-and-clear: was 1", 0, "-", "R"),
            ("VP A", "walks A's list: R not found; returns", 0, "-", "R"),
            ("host", "processes MODIFYCHANNEL, target = B", 0, "-", "R"),
            ("host", "writes 3 packets, ring was not empty: no signal", 0, "-", "R"),
        ],
    ),
    2: (
        B,
        [
            ("guest", "posts MODIFYCHANNEL(R, B)", 0, "R", "-"),
            ("host", "processes MODIFYCHANNEL, target = B", 0, "R", "-"),
            ("host", "writes 1 packet, ring was empty: sets B.flag[R], interrupts B", 1, "R", "-"),
            ("VP B", "test-and-clear: was 1", 0, "R", "-"),
            ("VP B", "walks B's list: R not found; returns", 0, "R", "-"),
            ("guest", "L1, L2: moves R to B's list", 0, "-", "R"),
            ("host", "writes 3 packets, ring was not empty: no signal", 0, "-", "R"),
        ],
    ),
}


@pytest.mark.parametrize("number", [1, 2])
def test_the_lists_drop_the_interrupt(number: int) -> None:
    """No callback runs, the packets stay, and the ring's rule asks for no signal any more (case 154)."""
    vp, lines = OLD[number]
    with own_daemon(PARTITION, VPS) as runtime_dir, scene(runtime_dir) as stage:
        played = play(stage, INTERLEAVINGS[number], per_cpu=True)

    said = [
        (row.who, row.action, row.state.flags[vp], *("R" if on else "-" for on in row.state.lists))
        for row in played.rows
    ]
    assert said == lines
    assert [row.state.callbacks for row in played.rows] == [0] * len(lines)
    assert played.outcome.hung
    assert (played.outcome.received, played.outcome.sent) == (0, 1 + MORE_PACKETS)
    assert played.outcome.ring_bytes > 0
    assert played.outcome.last_signals == 0


@pytest.mark.parametrize("number", [1, 2])
def test_the_table_drops_nothing(number: int) -> None:
    """The VP that took the interrupt runs the callback, whatever the target is by then (case 154)."""
    vp = OLD[number][0]
    with own_daemon(PARTITION, VPS) as runtime_dir, scene(runtime_dir) as stage:
        played = play(stage, INTERLEAVINGS[number], per_cpu=False)

    looks = [row for row in played.rows if row.action.startswith("looks in the table")]
    assert [row.who for row in looks] == [f"VP {'AB'[vp]}", "VP B"]
    assert [row.state.callbacks for row in looks] == [1, 2]
    assert all(row.state.in_table for row in played.rows)
    assert not played.outcome.hung
    assert played.outcome.received == played.outcome.sent == 1 + MORE_PACKETS
    assert played.outcome.ring_bytes == 0


def loses(order: Sequence[Step]) -> bool:
    """What the old design must do, by thought alone: the VP that looks has R on its list, or R is lost."""
    looks = order.index(Step.LOOK)
    if order.index(Step.WRITE) < order.index(Step.PROCESS):
        return order.index(Step.UNLINK) < looks
    return order.index(Step.LINK) > looks


def alone(order: Sequence[Step]) -> list[Group]:
    return [(step,) for step in order]


@pytest.mark.parametrize("guest", GUESTS)
def test_every_order_of_the_old_design_ends_as_it_must(guest: str) -> None:
    """Whichever step a guest does first, some orders lose the packet: those where the list is wrong."""
    found = list(every_order(guest))
    with own_daemon(PARTITION, VPS) as runtime_dir, scene(runtime_dir) as stage:
        lost = [order for order in found if play(stage, alone(order), per_cpu=True).outcome.hung]

    assert lost == [order for order in found if loses(order)]
    assert 0 < len(lost) < len(found)


def test_no_order_of_the_new_design_loses_the_packet() -> None:
    """Wherever the move of the target comes between the steps of a signal, every packet is received."""
    found = list(every_order(None))
    with own_daemon(PARTITION, VPS) as runtime_dir, scene(runtime_dir) as stage:
        ends = [play(stage, alone(order), per_cpu=False).outcome for order in found]

    assert len(ends) == 10
    assert all(end.callbacks >= 1 and end.received == end.sent for end in ends)


def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vmbusd", "lab", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.mark.parametrize("number", [1, 2])
def test_what_the_page_shows_is_what_the_command_prints(number: int) -> None:
    """docs/why.md has the output as it is; the exit status says that the lists lost and the table did not."""
    page = (ROOT / "docs" / "why.md").read_text()
    shown = re.findall(rf"```\n\$ vmbusd lab --replay {number}\n(.*?)```", page, re.DOTALL)
    done = lab("--replay", str(number))

    assert (done.returncode, done.stderr) == (0, "")
    assert shown == [done.stdout]


def test_all_orders_are_counted_as_json() -> None:
    """`--replay all --json`: how many orders each kind of guest has, and how many of them lose the packet."""
    done = lab("--replay", "all", "--json")
    counted = json.loads(done.stdout)

    assert (done.returncode, done.stderr) == (0, "")
    assert [one["guest"] for one in counted["per_cpu"]] == list(GUESTS)
    for one in counted["per_cpu"]:
        found = list(every_order(one["guest"]))
        assert (one["orders"], one["lost"]) == (len(found), sum(map(loses, found)))
    assert (counted["global"]["orders"], counted["global"]["lost"]) == (10, 0)


def test_nothing_of_a_replay_can_be_chosen() -> None:
    """Options of the storm are refused beside it, not ignored."""
    done = lab("--replay", "1", "--seconds", "3")

    assert done.returncode == 2
    assert "--replay: only --json goes with it" in done.stderr


def test_a_replay_that_loses_nothing_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the old design keeps the packet too, the story is not told: exit status 1."""
    harmless: tuple[Group, ...] = ((Step.WRITE,), (Step.CLEAR,), (Step.LOOK,), (Step.POST,), (Step.PROCESS,))
    monkeypatch.setitem(INTERLEAVINGS, 1, (*harmless, (Step.UNLINK, Step.LINK)))

    assert replay("1", as_json=True) == 1
    played = json.loads(capsys.readouterr().out)
    for design in ("per_cpu", "global"):
        assert played[design]["outcome"]["received"] == 1 + MORE_PACKETS
        assert not played[design]["outcome"]["hung"]


ENDLESS = """
import sys
from vmbusd.__main__ import main
from vmbusd.lab import replay

every_order = replay.every_order

def again(guest):
    while True:
        yield from every_order(guest)

replay.every_order = again
sys.exit(main(["lab", "--replay", "all"]))
"""
"""`vmbusd lab --replay all`, over and over: it is not done before it is ended, however slow we are."""


@pytest.mark.parametrize("between_steps", [False, True])
def test_a_replay_that_is_ended_leaves_nothing(between_steps: bool) -> None:
    """SIGTERM while the scene is set, or between two steps, ends the daemon, the links and every object."""
    process = subprocess.Popen([sys.executable, "-c", ENDLESS], cwd=ROOT)
    try:
        _, runtime_dir = eventually(lambda: daemon_of(process.pid), "its daemon")
        eventually(lambda: has_objects(runtime_dir), "its objects")
        instance = (runtime_dir / paths.INSTANCE_FILE).read_text().strip()
        if between_steps:
            eventually(lambda: has_called(instance, PARTITION, VPS), "a step")
        process.terminate()

        assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
    assert objects_of(instance) == []
    assert not runtime_dir.parent.exists()


def has_objects(runtime_dir: Path) -> bool:
    """Whether a daemon has made all that its partition needs for workers."""
    file = runtime_dir / paths.INSTANCE_FILE
    return file.exists() and any(
        name.endswith("-vpwork") for name in objects_of(file.read_text().strip() or "none")
    )
