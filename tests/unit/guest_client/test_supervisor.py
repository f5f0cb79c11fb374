"""The supervisor of worker processes, with stand-ins for workers: start, replace, give up, stop."""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from guest_client.supervisor import RESPAWNS, Orders, Supervisor
from vmbusd.abi.errors import ResourceError, UsageError, VmbusError

# A worker that attaches at once and serves until its orders end or SIGTERM comes.
GOOD = """
import json, socket, sys
orders = socket.socket(fileno=0)
lines = orders.makefile("r")
first = json.loads(lines.readline())
orders.sendall(b'{"attached": 1}\\n')
for line in lines:
    if json.loads(line)["lost"] == ["die"]:
        sys.exit(3)
"""
DEAF = GOOD.replace("import json", "import signal, json").replace(
    "orders = ", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\norders = "
)
BAD = """
import socket
socket.socket(fileno=0).sendall(b'noise\\n{"error": "no such driver", "kind": "UsageError"}\\n')
raise SystemExit(1)
"""
FRAIL = "raise SystemExit(7)"
SILENT = "import sys\nsys.stdin.read()"


class Watcher:
    """What the supervisor told."""

    def __init__(self) -> None:
        self.died: list[int] = []
        self.left: list[int] = []
        self.failures: list[VmbusError] = []
        self.look: Callable[[], object] = lambda: None
        self.changed = threading.Condition()

    def on_death(self, vp: int) -> Orders:
        with self.changed:
            self.died.append(vp)
            self.changed.notify_all()
        return {"lost": []}

    def on_left(self, vp: int) -> Orders:
        self.look()
        self.left.append(vp)
        return {"lost": ["left"]}

    def on_failure(self, error: VmbusError) -> None:
        with self.changed:
            self.failures.append(error)
            self.changed.notify_all()


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def running(watcher: Watcher) -> Iterator[list[Supervisor]]:
    """Supervisors put here are stopped at the end."""
    made: list[Supervisor] = []
    yield made
    for supervisor in made:
        supervisor.stop(grace=1.0)


def supervise(running: list[Supervisor], watcher: Watcher, code: str, vps: int = 2) -> Supervisor:
    supervisor = Supervisor(
        vps,
        orders=lambda vp: {"vp": vp},
        died=watcher.on_death,
        left=watcher.on_left,
        revived=lambda _: None,
        failed=watcher.on_failure,
        command=(sys.executable, "-c", code),
    )
    running.append(supervisor)
    return supervisor


def wait_for_successor(supervisor: Supervisor, vp: int, old: int) -> int:
    deadline = threading.Event()
    for _ in range(500):
        if (pid := supervisor.pids().get(vp, old)) != old:
            return pid
        deadline.wait(0.01)
    raise AssertionError(f"VP {vp} has no new worker")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_vp_has_a_process_and_none_after_stop(watcher: Watcher, running: list[Supervisor]) -> None:
    """`start` returns when all have attached; after `stop` none of them exists."""
    supervisor = supervise(running, watcher, GOOD, vps=3)
    supervisor.start()
    pids = supervisor.pids()
    running.remove(supervisor)
    supervisor.stop()

    assert sorted(pids) == [0, 1, 2]
    assert not any(is_alive(pid) for pid in pids.values())
    assert supervisor.statistics() == {"started": 3, "died": 0, "killed": 0, "pids": {}}
    assert watcher.died == []


def test_a_killed_worker_is_replaced(watcher: Watcher, running: list[Supervisor]) -> None:
    """After SIGKILL of a worker its VP has another process, and the death was told before."""
    supervisor = supervise(running, watcher, GOOD)
    supervisor.start()
    old = supervisor.pids()
    os.kill(old[1], signal.SIGKILL)
    new = wait_for_successor(supervisor, 1, old[1])

    assert is_alive(new)
    assert supervisor.pids()[0] == old[0]
    assert watcher.died == [1]
    assert not is_alive(old[1])


def test_a_worker_that_will_not_stop_is_killed(watcher: Watcher, running: list[Supervisor]) -> None:
    """SIGKILL follows SIGTERM after the grace time, and the process is reaped."""
    supervisor = supervise(running, watcher, DEAF)
    supervisor.start()
    pids = supervisor.pids()
    running.remove(supervisor)
    supervisor.stop(grace=0.3)

    assert supervisor.statistics()["killed"] == 2
    assert not any(is_alive(pid) for pid in pids.values())


def test_a_worker_that_cannot_serve_fails_the_start(watcher: Watcher, running: list[Supervisor]) -> None:
    """What a worker says is wrong is raised by `start` with its own kind, and nothing is tried again."""
    with pytest.raises(UsageError, match="VP 0 cannot serve: no such driver"):
        supervise(running, watcher, BAD, vps=1).start()
    assert watcher.died == []


def test_a_worker_that_keeps_dying_fails_the_guest(watcher: Watcher, running: list[Supervisor]) -> None:
    """Deaths in quick succession end in an error instead of an endless loop."""
    supervisor = supervise(running, watcher, FRAIL, vps=1)
    with pytest.raises(ResourceError, match="ended with status 7"):
        supervisor.start()

    assert supervisor.statistics()["died"] == RESPAWNS + 1


def test_a_worker_that_never_attaches_is_named(watcher: Watcher, running: list[Supervisor]) -> None:
    """`start` gives up after its timeout and names the VPs that have no worker."""
    with pytest.raises(ResourceError, match=r"VP 0, 1 did not attach within 0\.3 s"):
        supervise(running, watcher, SILENT).start(timeout=0.3)


def test_workers_end_with_the_process_that_started_them(watcher: Watcher) -> None:
    """When the control process is killed the end of their orders tells its workers, and they go."""
    script = f"""
import sys
from guest_client.supervisor import Supervisor
supervisor = Supervisor(2, orders=lambda vp: {{}}, died=lambda vp: {{}}, left=lambda vp: {{}},
                        revived=print, failed=print, command=(sys.executable, "-c", {GOOD!r}))
supervisor.start()
print(*supervisor.pids().values(), flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pidfds = [os.pidfd_open(int(pid)) for pid in process.stdout.readline().split()]
        process.kill()
    for pidfd in pidfds:
        # A pidfd can be read once its process has ended.
        with os.fdopen(pidfd, "rb", buffering=0) as file:
            assert select.select([file], [], [], 10.0)[0]


LEAVES = GOOD.replace('["die"]', '["leave"]').replace("sys.exit(3)", "sys.exit(0)")


# One that leaves by itself, and dies of what the others are told then.
LEAVES_ALONE = GOOD.replace('["die"]', '["left"]').replace(
    "    if json", "    if json.loads(line)['lost'] == [first['vp']]:\n        sys.exit(0)\n    if json"
)


def test_a_worker_that_leaves_is_not_replaced_until_its_vp_is_wanted(
    watcher: Watcher, running: list[Supervisor]
) -> None:
    """Offline: no successor, nobody's death. Online: one. Both at once: one, when the first has ended."""
    supervisor = supervise(running, watcher, LEAVES)
    supervisor.start()
    old = supervisor.pids()[1]
    supervisor.take_offline(1, {"lost": ["leave"]})
    supervisor.bring_online(1)
    second = wait_for_successor(supervisor, 1, old)
    supervisor.take_offline(1, {"lost": ["leave"]})
    wait_until(lambda: not supervisor.pids())
    supervisor.bring_online(1)
    wait_for_successor(supervisor, 1, second)

    assert set(supervisor.pids()) == {1}
    assert supervisor.statistics()["died"] == 0
    assert watcher.died == []


def test_what_a_worker_left_behind_is_looked_at_when_it_is_gone(
    watcher: Watcher, running: list[Supervisor]
) -> None:
    """When its process has ended and none other plays its VP yet; what is found the others are told."""
    supervisor = supervise(running, watcher, LEAVES_ALONE)
    supervisor.start()
    old = supervisor.pids()
    found: list[tuple[bool, list[int]]] = []
    watcher.look = lambda: found.append((is_alive(old[1]), sorted(supervisor.pids())))
    supervisor.take_offline(1, {"lost": [1]})
    supervisor.bring_online(1)
    wait_for_successor(supervisor, 1, old[1])
    wait_for_successor(supervisor, 0, old[0])

    assert found == [(False, [0])]
    assert (watcher.left, watcher.died) == ([1], [0])


def test_a_worker_that_dies_while_its_vp_goes_offline_is_not_replaced(
    watcher: Watcher, running: list[Supervisor]
) -> None:
    """It died, which is told, but nobody is to play its VP."""
    supervisor = supervise(running, watcher, GOOD)
    supervisor.start()
    supervisor.take_offline(1, {"lost": []})
    os.kill(supervisor.pids()[1], signal.SIGKILL)
    wait_until(lambda: set(supervisor.pids()) == {0})

    assert watcher.died == [1]
    supervisor.bring_online(1)
    wait_until(lambda: set(supervisor.pids()) == {0, 1})
    assert supervisor.statistics()["started"] == 3


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come to that")
