"""VPs that go offline and come back under storms: nothing lost, nothing hung, whatever dies meanwhile."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from guest_client import Guest
from guest_client.players import ThreadPlayers
from host_client import Host
from tests.live.daemon import GOES_ON, ROOT, Daemon, daemon, eventually, order
from tests.live.guest_drivers import HELD, Held
from tests.live.guest_support import MODES, Mode, Signaller, begin, callbacks, produce, seen
from tests.live.restart_storm import kill_and_start, restart_storm
from tests.live.storms import judge, let_pass
from vmbusd.abi.attach import attach
from vmbusd.abi.errors import LinkLost, RefusedError, ResourceError
from vmbusd.abi.lasting import FAREWELL_TIMEOUT
from vmbusd.abi.link import Code, Role
from vmbusd.ctl.client import AdminClient
from vmbusd.demo.storm import Storm, storm
from vmbusd.server import requests
from vmbusd.server.requests import VpOffline, VpOnline

pytestmark = pytest.mark.live

VPS = 3
CHANNELS = 64


@contextlib.contextmanager
def stormy(runtime_dir: Path, mode: Mode = "process") -> Iterator[tuple[Daemon, Storm]]:
    """A storm with retargeting, which is judged at the end of the block."""
    with (
        daemon(runtime_dir, "--partition", f"storm:{VPS}") as running,
        storm(
            runtime_dir,
            "storm",
            vps=VPS,
            channels=CHANNELS,
            host_processes=2,
            workers=mode,
            packet_channels=2,
        ) as scene,
    ):
        scene.start()
        let_pass(scene, 2000)
        yield running, scene
        let_pass(scene, 2000)
        scene.stop_retargeting()
        judge(scene)


def states(scene: Storm) -> list[str]:
    """The state of each VP, as the guest sees it."""
    found: list[str] = scene.guest.statistics()["vp_states"]
    return found


def state(running: Daemon, vp: int) -> str:
    """The state of a VP, as the daemon sees it."""
    found: str = running.status("storm")["workers"][vp]["state"]
    return found


@pytest.mark.parametrize("mode", MODES)
def test_every_vp_leaves_and_comes_back_in_a_storm(runtime_dir: Path, mode: Mode) -> None:
    """Down to one VP and back, in turn, with retargeting: nothing is lost; only the order for the last VP is
    refused, and so is a retarget to an offline one (cases 148 and 155)."""
    with stormy(runtime_dir, mode) as (running, scene):
        for last in range(VPS):
            others = [vp for vp in range(VPS) if vp != last]
            for vp in others:
                done = order(running, VpOffline("storm", vp))
                assert done["live"] not in (None, vp)
                let_pass(scene, 500)
            with pytest.raises(RefusedError, match=f"VP {last} is the last that has a worker"):
                running.ask(VpOffline("storm", last))
            assert states(scene)[last] == "online"
            assert [states(scene)[vp] for vp in others] == ["offline"] * len(others)
            slots = running.ask(requests.Table("storm"))["slots"]
            assert {slot["target_vp"] for slot in slots if slot["open"]} == {last}
            with pytest.raises(RefusedError, match="offline"):
                running.ask(requests.Retarget("storm", slots[0]["relid"], others[0]))
            let_pass(scene, 500)
            for vp in others:
                order(running, VpOnline("storm", vp))
                let_pass(scene, 500)
        assert states(scene) == ["online"] * VPS
        assert scene.retargets > 0


def test_vps_that_come_and_go_at_random_lose_nothing(runtime_dir: Path) -> None:
    """Two hundred orders by the guest itself, some refused, some turned round before they are done."""
    dice = random.Random(155)
    with stormy(runtime_dir, "thread") as (_, scene):
        guest = scene.guest
        refused = 0
        for _ in range(200):
            vp = dice.randrange(VPS)
            try:
                if dice.random() < 0.2:
                    calls = [guest._vp_orders.begin(vp, online=online) for online in (False, True)]
                    for call in calls:
                        call.exception(60)
                elif dice.random() < 0.5:
                    guest.vp_online(vp, 60)
                else:
                    guest.vp_offline(vp, 60)
            except RefusedError as error:
                if "is the last that has a worker" not in str(error):
                    raise
                refused += 1
        for vp in range(VPS):
            guest.vp_online(vp, 60)
        assert refused
        assert guest.statistics()["workers"]["threads"] == VPS


def test_a_worker_that_is_stopped_holds_up_its_own_vp_alone(runtime_dir: Path) -> None:
    """SIGSTOP, then offline: its channels are served elsewhere, the order goes on; SIGCONT: it is done."""
    with stormy(runtime_dir) as (running, scene):
        pid = scene.guest.statistics()["workers"]["pids"][1]
        os.kill(pid, signal.SIGSTOP)
        try:
            let_pass(scene, 2000)
            with pytest.raises(RefusedError, match=f"VP 1: its worker has not left within 5 s; {GOES_ON}"):
                running.ask(VpOffline("storm", 1))
            assert state(running, 1) == "leaving"
            let_pass(scene, 2000)
        finally:
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: state(running, 1) == "offline", "VP 1 is offline")
        eventually(lambda: 1 not in scene.guest.statistics()["workers"]["pids"], "its process has ended")
        scene.guest.vp_online(1, 60)


def test_a_worker_that_dies_while_it_leaves_is_recovered(runtime_dir: Path) -> None:
    """SIGSTOP, offline, SIGKILL: what it held is put back and handed over; it is not replaced."""
    with stormy(runtime_dir) as (running, scene):
        pid = scene.guest.statistics()["workers"]["pids"][2]
        os.kill(pid, signal.SIGSTOP)
        let_pass(scene, 2000)
        with pytest.raises(RefusedError, match=GOES_ON):
            running.ask(VpOffline("storm", 2))
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: state(running, 2) == "offline", "VP 2 is offline")
        eventually(lambda: 2 not in scene.guest.statistics()["workers"]["pids"], "its process is forgotten")
        assert running.status("storm")["workers"][2]["recoveries"] == 1
        let_pass(scene, 2000)
        assert scene.guest.statistics()["workers"]["started"] == VPS
        scene.guest.vp_online(2, 60)


def test_a_worker_that_comes_uninvited_is_refused(runtime_dir: Path) -> None:
    """While its VP is offline by order, with the reason; a guest that attaches anew has all its VPs."""
    with daemon(runtime_dir, "--partition", f"storm:{VPS}") as running:
        with storm(runtime_dir, "storm", vps=VPS, channels=4, host_processes=1, workers="thread"):
            order(running, VpOffline("storm", 1))
            with pytest.raises(RefusedError, match="VP 1 of partition storm is offline by order") as caught:
                attach(Role.GUEST_WORKER, "storm", runtime_dir=runtime_dir, vp=1)
            assert caught.value.code == Code.VP_OFFLINE
            assert running.status("storm")["workers"][1]["by_order"]
        with pytest.raises(RefusedError, match="has no guest that could give VP 1 a worker"):
            running.ask(VpOnline("storm", 1))
        with storm(runtime_dir, "storm", vps=VPS, channels=4, host_processes=1, workers="thread") as scene:
            assert states(scene) == ["online"] * VPS


def test_vmbusctl_shows_what_it_ordered(runtime_dir: Path) -> None:
    """vp offline and vp online print what was done, status shows the state (case 155)."""

    def vmbusctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vmbusd.ctl", "--runtime-dir", str(runtime_dir), *arguments]
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )

    with (
        daemon(runtime_dir, "--partition", "storm:2"),
        storm(runtime_dir, "storm", vps=2, channels=4, host_processes=1, workers="thread"),
    ):
        done = vmbusctl("vp", "offline", "storm", "1")
        assert done.stdout == "partition storm: VP 1 is offline, VP 0 has its channels\n", done.stderr
        assert "VP 1 is offline by order" in vmbusctl("status").stdout
        last = vmbusctl("vp", "offline", "storm", "0")
        assert (last.returncode, last.stderr) == (1, "vmbusctl: VP 0 is the last that has a worker\n")
        assert (
            vmbusctl("--json", "vp", "online", "storm", "1").stdout
            == '{\n  "vp": 1,\n  "incarnation": 2\n}\n'
        )
        assert "VP 7: the partition has 2" in vmbusctl("vp", "online", "storm", "7").stderr


def test_a_guest_may_have_more_vps_than_it_began_with(runtime_dir: Path) -> None:
    """Online is for any VP of the partition, also one that never had a worker."""
    with (
        daemon(runtime_dir, "--partition", f"storm:{VPS}") as running,
        storm(runtime_dir, "storm", vps=2, channels=8, host_processes=1) as scene,
    ):
        assert states(scene) == ["online", "online", "vacant"]
        order(running, VpOnline("storm", 2))
        order(running, VpOffline("storm", 0))
        assert states(scene) == ["offline", "online", "online"]


def order_until_done(runtime_dir: Path, request: requests.Request, stop: threading.Event) -> None:
    """Give an order again and again, to whichever daemon is there, until one says that it is done."""
    while not stop.is_set():
        with contextlib.suppress(ResourceError, LinkLost, RefusedError):
            with AdminClient(runtime_dir) as client:
                client.ask(request)
            return
        time.sleep(0.01)


def test_a_daemon_that_dies_in_the_middle_is_gone_on_for(runtime_dir: Path) -> None:
    """kill -9 of the daemon at moments drawn by lot while VPs go and come in a storm: each order that was
    begun is finished by the next daemon, and nothing is lost."""
    dice = random.Random(5)
    with restart_storm(runtime_dir) as scene:
        guest, stop = scene.guest, threading.Event()
        for turn in range(8):
            vp, request = turn // 2 % 3, VpOnline if turn % 2 else VpOffline
            asking = threading.Thread(
                target=order_until_done, args=(runtime_dir, request("storm", vp), stop), daemon=True
            )
            asking.start()
            time.sleep(dice.choice((0.0, 0.005, 0.02, 0.1)))
            kill_and_start(scene)
            wanted = "online" if turn % 2 else "offline"
            eventually(lambda: guest.statistics()["vp_states"][vp] == wanted, f"VP {vp} {wanted}", 60)  # noqa: B023
            asking.join(60)
            stop.set()
            assert not asking.is_alive()
            stop.clear()
            let_pass(scene.storm, 500)
            scene.storm.look()
            scene.check()
        eventually(scene.all_are_back, "every link is back", 60)
        scene.judge(all_retargets=False)


def test_what_a_dead_daemon_had_ordered_is_done_by_the_next(runtime_dir: Path) -> None:
    """The worker is stopped, its VP ordered offline, the daemon killed: the next one knows, and is done when
    the worker leaves. The guest hears of it, and may have it back."""
    with restart_storm(runtime_dir) as scene:
        pid = scene.guest.statistics()["workers"]["pids"][1]
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(RefusedError, match=GOES_ON):
                scene.ask(VpOffline("storm", 1))
            kill_and_start(scene)
            assert state(scene.daemon, 1) == "leaving"
            let_pass(scene.storm, 500)
        finally:
            os.kill(pid, signal.SIGCONT)
        scene.guest.vp_offline(1, 60)
        eventually(lambda: 1 not in scene.guest.statistics()["workers"]["pids"], "its process has ended")
        kill_and_start(scene)
        assert state(scene.daemon, 1) == "offline"
        scene.guest.vp_online(1, 60)
        eventually(scene.all_are_back, "every link is back", 60)
        scene.judge(all_retargets=False)


def test_a_thread_that_leaves_is_heard_by_the_next_daemon(runtime_dir: Path) -> None:
    """The daemon asks it to leave and dies before it reads the answer: the process lives on, so the thread
    says it again until somebody hears it; the VP is offline, and may come back."""
    arguments = ("--partition", "demo:2", "--grace", "60")
    running = Daemon(runtime_dir, *arguments).wait_ready()
    try:
        with Host.connect("demo", runtime_dir=runtime_dir) as host, host.serving():
            held = host.offer(Signaller(HELD))
            with Guest.attach("demo", runtime_dir=runtime_dir) as guest:
                guest.register(Held())
                (channel,) = begin(guest)
                channel.retarget(1)
                produce(held)
                eventually(lambda: callbacks(channel)[0], "VP 1 is in a callback")
                played = cast("ThreadPlayers", guest._players)._played[1]
                offline = guest._vp_orders.begin(1, online=False)
                eventually(lambda: played.worker is not None and played.worker._asked, "it is to leave")
                running.process.send_signal(signal.SIGSTOP)
                stat = Path(f"/proc/{running.pid}/stat")
                eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it has stopped")
                channel.state[-1] = 1
                played.thread.join(2 * FAREWELL_TIMEOUT)
                assert played.thread.is_alive(), "nobody has heard it yet"
                running.kill()
                running.log.unlink()
                running = Daemon(runtime_dir, *arguments).wait_ready()
                offline.result(60)
                assert guest.statistics()["vp_states"] == ["online", "offline"]
                played.thread.join(60)
                guest.vp_online(1, 60)
                channel.retarget(1)
                count = produce(held)
                eventually(lambda: seen(held) == count, "VP 1 serves again")
    finally:
        running.close()
