"""What the storm does to its world: one function per action of the program, at any time, without waiting.

An action that needs a process which is just being started waits a little for it, or takes it as it is, by
lot; one whose victim cannot be had is counted as missed. Nothing here judges: what an action may lead to, and
what it must not, is for the oracle.
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from tests.storm import mishaps, packets
from tests.storm.nursery import MARK
from tests.storm.processes import Process
from tests.storm.program import LONGEST_STOP, Action
from tests.storm.world import VPS, World
from vmbusd.abi import link, paths
from vmbusd.abi.errors import VmbusError
from vmbusd.server import requests

EARLY: Final = 0.25
"""Share of kills that do not wait until their victim serves."""
DOOMED: Final = 0.6
"""Share of kills of workers that they carry out themselves, where a batch of packets is half done."""
DOOM_SECONDS: Final = 0.3
"""Until one has come to such a place; else any worker is killed wherever it is."""
WAIT_SECONDS: Final = 8.0
"""Longest wait for a victim; then the action is missed."""
HITS: Final = 5
HIT_WINDOW: Final = 10.5
"""A VP whose worker dies more than 5 times in 10 s is given up by design: so many kills of workers of one
guest in so many seconds at most, whichever VP they hit."""
GARBAGE: Final = 600
"""Most bytes of a packet of garbage."""
TRUNCATED: Final = ("events", "table", "vpwork", "guest", "ram", "vp0", "host0")


class Attack:
    """Carries out actions. Attributes: `kills`, by kind; `missed`, actions without a victim; `mishaps`."""

    def __init__(self, world: World, victims: Callable[[str], None]) -> None:
        self.world = world
        self.kills = dict.fromkeys(("worker", "host", "guest", "daemon"), 0)
        self.missed = 0
        self.mishaps = mishaps.Mishaps(world)
        self._truncate = victims
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: set[str] = set()
        self._hits: deque[float] = deque()
        self._hit: Process | None = None
        self._acts: dict[str, Callable[[Action], Coroutine[Any, Any, None]]] = {
            "reexec": lambda _: self._admin(requests.Reexec()),
            "close": self._close,
            "rescind": self._rescind,
            "revoke": self._revoke,
            "retarget": self._retarget,
            "offline": lambda action: self._admin(requests.VpOffline(world.storm, action.pick(VPS))),
            "online": lambda action: self._admin(requests.VpOnline(world.storm, action.pick(VPS))),
            "truncate": self._truncation,
            "bad bytes": self._bad_bytes,
            "fault": lambda action: self._fault(mishaps.choose(mishaps.GENTLE, action), action),
            "fault host": lambda action: self._fault(mishaps.choose(mishaps.HARSH, action), action),
        }

    def begin(self, action: Action) -> None:
        """Begin an action; the storm goes on meanwhile."""
        verb, _, kind = action.what.partition(" ")
        if verb == "kill":
            work = self._kill(kind, action)
        elif verb == "stop":
            work = self._stop(kind, action)
        else:
            work = self._acts[action.what](action)
        task = asyncio.create_task(work, name=action.what)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.world.trace.violation(f"the storm itself failed in {task.get_name()}: {error!r}")

    async def strike(self) -> None:
        """Wait until no kill waits for its victim: on a busy machine most would be missed otherwise."""
        while self._waiting and not self.world.trace.violations:
            await asyncio.sleep(0.01)

    async def finish(self) -> None:
        """Wait for the actions under way; those that only wait for a victim are missed."""
        while self._tasks:
            await asyncio.wait(self._tasks, timeout=0.05)

    # -- processes -----------------------------------------------------------------------------------------

    def _victim(self, kind: str, action: Action) -> Process | None:
        if kind == "host":
            return self.world.hosts[action.pick(len(self.world.hosts))]
        return self.world.guest if kind == "guest" else self.world.daemon

    async def _ready(self, kind: str, action: Action) -> Process | None:
        """The victim, once it serves, or as it is."""
        deadline = time.monotonic() + WAIT_SECONDS
        early = action.lots[1] < EARLY
        waited = False
        while time.monotonic() < deadline and not self.world.quiet:
            process = self._victim(kind, action)
            if process is not None and process.lives and (early or process.is_ready):
                if waited and not early:
                    await asyncio.sleep(action.lots[2] * 0.3)
                return process
            waited = True
            await asyncio.sleep(0.01)
        return None

    async def _kill(self, kind: str, action: Action) -> None:
        if kind in self._waiting:
            self.missed += 1
            return
        self._waiting.add(kind)
        try:
            done = await (self._kill_worker(action) if kind == "worker" else self._kill_role(kind, action))
        finally:
            self._waiting.discard(kind)
        if done:
            self.kills[kind] += 1
        else:
            self.missed += 1

    async def _kill_role(self, kind: str, action: Action) -> bool:
        process = await self._ready(kind, action)
        if process is None or not process.lives:
            return False
        self.world.trace.note("kill", kind=kind, pid=process.pid, ready=process.is_ready)
        process.kill()
        return True

    def _some_worker(self, action: Action) -> int | None:
        workers = self.world.workers()
        return workers[action.pick(len(workers))] if workers else None

    def _may_hit(self) -> bool:
        """Whether one more worker of this guest may die now."""
        while self._hits and self._hits[0] < time.monotonic() - HIT_WINDOW:
            self._hits.popleft()
        if self.world.guest is not self._hit:
            # What a guest puts up with is counted by itself.
            self._hit = self.world.guest
            self._hits.clear()
        return len(self._hits) < HITS

    async def _kill_worker(self, action: Action) -> bool:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline and not self.world.quiet:
            guest = self.world.guest
            ready = guest is not None and (guest.is_ready or action.lots[1] < EARLY)
            if ready and action.lots[2] < DOOMED and self._may_hit():
                self._hits.append(time.monotonic())
                if await self._doom(action):
                    return True
                self._hits.pop()
            if ready and self._may_hit() and (pid := self._some_worker(action)) is not None:
                self._hits.append(time.monotonic())
                self.world.trace.note("kill", kind="worker", pid=pid)
                return _signal(pid, self.world.mark, signal.SIGKILL)
            await asyncio.sleep(0.01)
        return False

    async def _doom(self, action: Action) -> bool:
        """Have a worker kill itself in a callback with packets; whether one has."""
        place = 1 + action.pick(packets.PLACES)
        self.world.ledger.doom(place)
        await asyncio.sleep(DOOM_SECONDS)
        if self.world.ledger.pardon():
            return False
        self.world.trace.note("kill", kind="worker", place=place)
        return True

    async def _stop(self, kind: str, action: Action) -> None:
        seconds = round(action.lots[1] ** 2 * LONGEST_STOP, 3)
        if kind == "worker":
            pid = self._some_worker(action)
        else:
            process = self._victim(kind, action)
            pid = process.pid if process is not None and process.lives else None
        if pid is None or not _signal(pid, self.world.mark, signal.SIGSTOP):
            self.missed += 1
            return
        self.world.trace.note("stop", kind=kind, pid=pid, seconds=seconds)
        try:
            await asyncio.sleep(seconds)
        finally:
            _signal(pid, self.world.mark, signal.SIGCONT)

    async def _fault(self, mishap: mishaps.Mishap, action: Action) -> None:
        if "worker" in mishap.dies:
            if not self._may_hit():
                self.missed += 1
                return
            self._hits.append(time.monotonic() + mishaps.LONGEST)
        await self.mishaps.arm(mishap, action)

    # -- channels ------------------------------------------------------------------------------------------

    async def _close(self, action: Action) -> None:
        if self.world.guest is not None:
            self.world.guest.tell("close", number=action.number)

    async def _revoke(self, action: Action) -> None:
        host = self.world.hosts[action.pick(len(self.world.hosts))]
        if host is not None:
            self.world.trace.note("revoke", pid=host.pid)
            host.tell("revoke", number=int(action.lots[1] * 1000))

    async def _some_relid(self, action: Action) -> int | None:
        channels = (await self.world.ask(requests.Channels(self.world.storm)))["channels"]
        relids = sorted(channel["relid"] for channel in channels if channel["state"] == "open")
        return relids[action.pick(len(relids))] if relids else None

    async def _rescind(self, action: Action) -> None:
        with contextlib.suppress(VmbusError, OSError):
            if (relid := await self._some_relid(action)) is not None:
                self.world.trace.note("rescind", relid=relid)
                await self.world.ask(requests.Rescind(self.world.storm, relid))

    async def _retarget(self, action: Action) -> None:
        with contextlib.suppress(VmbusError, OSError):
            if (relid := await self._some_relid(action)) is not None:
                await self.world.ask(requests.Retarget(self.world.storm, relid, int(action.lots[1] * VPS)))

    async def _admin(self, request: requests.Request) -> None:
        """A daemon that dies, or is not there, may leave us without an answer."""
        with contextlib.suppress(VmbusError, OSError):
            await self.world.ask(request)
            self.world.trace.note(type(request).__name__.lower())

    async def _truncation(self, action: Action) -> None:
        self._truncate(TRUNCATED[action.pick(len(TRUNCATED))])

    async def _bad_bytes(self, action: Action) -> None:
        """Garbage, whole or after a good header, over any of the sockets; then we hang up."""
        draw = random.Random(action.lots[1])
        name = (paths.GUEST_SOCKET, paths.HOST_SOCKET, paths.ADMIN_SOCKET)[action.pick(3)]
        kind = socket.SOCK_STREAM if name == paths.ADMIN_SOCKET else socket.SOCK_SEQPACKET
        with socket.socket(socket.AF_UNIX, kind) as sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            sock.connect(os.fspath(self.world.runtime_dir / name))
            for _ in range(draw.randrange(1, 5)):
                sock.send(_garbage(draw))
            await asyncio.sleep(action.lots[2] * 0.1)


def _garbage(draw: random.Random) -> bytes:
    noise = draw.randbytes(draw.randrange(GARBAGE))
    if draw.random() < 0.5:
        return noise
    hello = link.Hello(1, draw.randrange(5), draw.randrange(70), 0, "storm", bytes(16), 0)
    return link.encode(hello)[: draw.randrange(1, 200)] + noise[:8]


def _signal(pid: int, mark: str, number: signal.Signals) -> bool:
    """Signal a process that bears our mark; another one that has its pid by now is left alone."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if f"{MARK}={mark}".encode() not in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return False
        signal.pidfd_send_signal(pidfd, number)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True
