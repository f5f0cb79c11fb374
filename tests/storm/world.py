"""The world of a storm: a daemon, hosts, a guest and a victim, each kept running whatever becomes of it.

Each role has a keeper: a task that starts its process, waits for its end, and starts the next one. An end
that nobody asked for is a violation. The runner has one thread, and waits for nothing in it.
"""

import asyncio
import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from tests.storm.ledger import Ledger
from tests.storm.nursery import MARK, marked
from tests.storm.pardons import Pardons
from tests.storm.processes import ROOT, Child, Nursery, Process
from tests.storm.trace import Trace
from vmbusd.abi import paths
from vmbusd.abi.errors import LinkLost, RefusedError
from vmbusd.server import requests

VPS: Final = 3
HOSTS: Final = 3
DEVICES: Final = 8
"""Channels of each host: enough that each VP always has several, few enough to be offered again at once."""
VICTIM_DEVICES: Final = 4
GRACE: Final = 30.0
"""The daemon's: longer than a busy machine takes from a daemon's end to the next one's service; a link whose
welcome never arrived is forgotten after it, so a calm point waits longer than that."""
DELAYS: Final = (0.0, 0.0, 0.05, 0.3)
"""Seconds, one of which by lot bounds the time until a killed process is started again."""
ADMIN_SECONDS: Final = 30.0
END_SECONDS: Final = 30.0
"""Until a process has ended in order: many times its slowest step on a busy machine."""
STATUS_SECONDS: Final = 10.0
"""Between a process's end and its status, which the nursery tells."""
RECLAIM_SECONDS: Final = 10.0
"""A start judges what it finds, and what was too young for that once more, 2 s later."""
ANSWER_LIMIT: Final = 16 << 20


class World:
    """Everything that runs.

    Attributes: `directory`, of the storm; `runtime_dir`; `mark`, in the name of its partitions and in the
    environment of its processes; `storm`, `victim_name`: the partitions; `trace`; `ledger`; `daemon`,
    `guest`, `hosts`, `victim`: the processes of now; `quiet`, whether processes begin paused; `judges`,
    whether an end that is not as it should be counts; `pardons`, for processes that faults may kill.
    """

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.runtime_dir = directory / "run"
        self.mark = directory.name.removeprefix("vmbusd-")
        self.storm, self.victim_name = self.mark, f"{self.mark}-v"
        self.trace = Trace(directory / "trace.jsonl")
        self.ledger = Ledger.make(directory / "ledger")
        self.draw = random.Random(f"world {seed}")
        self.daemon: Process | None = None
        self.guest: Child | None = None
        self.hosts: list[Child | None] = [None] * HOSTS
        self.victim: Child | None = None
        self.quiet = False
        self.ending = False
        self.judges = True
        self.pardons = Pardons()
        self._statuses: dict[int, int] = {}
        self._victims = 0
        self._keepers: list[asyncio.Task[None]] = []
        self._nursery = Nursery(self.mark, directory, self._statuses.__setitem__)

    # -- starting ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to keep everything running."""
        self._nursery.watch()
        keepers = [self._keep(self._start_daemon, "daemon"), self._keep(self._start_guest, "guest")]
        keepers += [self._keep(self._host_starter(n), f"host {n}") for n in range(HOSTS)]
        self._keepers = [asyncio.create_task(keeper, name="keeper") for keeper in keepers]
        for task in self._keepers:
            self.watch(task)

    def watch(self, task: "asyncio.Task[None]") -> None:
        """An error in a task of ours ends the storm too."""
        task.add_done_callback(self._task_done)

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.trace.violation(f"the storm itself failed in {task.get_name()}: {error!r}")

    async def _keep(self, start: Callable[[], Coroutine[Any, Any, Process]], name: str) -> None:
        while not self.ending:
            process = await start()
            await process.ended
            if isinstance(process, Child):
                process.close()
            if not await self._is_well_ended(process, name):
                return
            if not self.ending:
                await asyncio.sleep(self.draw.choice(DELAYS) * self.draw.random())

    async def _is_well_ended(self, process: Process, name: str) -> bool:
        """Whether it ended as it was to end, or by a fault that may kill it. A process that was killed and
        ends in another way was ending by itself."""
        status = await self.status_of(process)
        wanted = process.wanted
        if status == wanted is not None:
            return True
        if status == -signal.SIGKILL and self.pardons.use(process.kind):
            self.trace.note("killed by a fault", kind=process.kind, pid=process.pid)
            return True
        if self.judges:
            how = "ended by itself" if wanted is None else f"was to end with status {wanted}"
            self.trace.violation(f"{name} (pid {process.pid}) {how}: status {status}")
        return False

    async def _start_daemon(self, *, with_partition: bool = True) -> Process:
        command = [sys.executable, "-m", "vmbusd", "run", "--runtime-dir", str(self.runtime_dir)]
        command += ["--partition", f"{self.storm}:{VPS}"] if with_partition else []
        command += ["--grace", str(GRACE)]
        with (self.directory / "daemon.log").open("ab") as log:
            popen = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self.daemon = process = Process("daemon", popen.pid)
        self.trace.note("start", kind="daemon", pid=popen.pid)
        process.ended.add_done_callback(lambda _: self._statuses.__setitem__(popen.pid, popen.wait()))
        self.watch(asyncio.create_task(self._await_daemon(process), name="await daemon"))
        return process

    async def _await_daemon(self, process: Process) -> None:
        while process.lives:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_unix_connection(self.runtime_dir / paths.ADMIN_SOCKET)
                writer.close()
                self._set_ready(process)
                return
            await asyncio.sleep(0.01)

    def _set_ready(self, process: Process) -> None:
        process.set_ready()
        self.trace.note(
            "ready",
            kind=process.kind,
            pid=process.pid,
            seconds=round(process.ready.result() - process.begun, 3),
        )

    def _fork(self, kind: str, **spec: Any) -> Child:
        spec |= {"runtime_dir": str(self.runtime_dir), "seed": self.draw.getrandbits(32)}
        pid, sock = self._nursery.fork(kind, spec)
        self.trace.note("start", kind=kind, pid=pid)
        return Child(kind, pid, sock, self._heard)

    async def _start_guest(self) -> Process:
        self.guest = self._fork(
            "guest", partition=self.storm, vps=VPS, ledger=str(self.directory / "ledger"), paused=self.quiet
        )
        return self.guest

    def _host_starter(self, number: int) -> Callable[[], Coroutine[Any, Any, Process]]:
        async def start() -> Process:
            self.hosts[number] = child = self._fork(
                "host",
                partition=self.storm,
                number=number,
                devices=DEVICES,
                ledger=str(self.directory / "ledger"),
                paused=self.quiet,
            )
            return child

        return start

    def start_victim(self) -> Child:
        """New guest and host of the victim partition, with a ledger of their own: generations begin anew, and
        what is counted on memory that was cut means nothing."""
        self._victims += 1
        path = self.directory / f"victim-{self._victims}.ledger"
        Ledger.make(path)
        self.victim = self._fork(
            "victim", partition=self.victim_name, devices=VICTIM_DEVICES, ledger=str(path)
        )
        return self.victim

    async def status_of(self, process: Process) -> int | None:
        """The exit status of a process that has ended; None if nobody has told us."""
        deadline = time.monotonic() + STATUS_SECONDS
        while process.pid not in self._statuses and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return self._statuses.pop(process.pid, None)

    # -- what they say -------------------------------------------------------------------------------------

    def _heard(self, child: Child, event: str, **more: Any) -> None:
        if event == "ready":
            self._set_ready(child)
        elif event == "paused":
            child.confirmed(more)
        else:
            self.trace.note(event, kind=child.kind, pid=child.pid, **more)
            if event == "failed" and self.judges:
                self.trace.violation(f"{child.kind} (pid {child.pid}) failed: {more['text']}")

    async def ask(self, request: requests.Request) -> dict[str, Any]:
        """The daemon's result. Raises RefusedError, OSError or LinkLost when there is no answer."""
        reader, writer = await asyncio.open_unix_connection(
            self.runtime_dir / paths.ADMIN_SOCKET, limit=ANSWER_LIMIT
        )
        try:
            writer.write(requests.encode(request))
            line = await asyncio.wait_for(reader.readline(), ADMIN_SECONDS)
        except TimeoutError as error:
            raise LinkLost(f"no answer of the daemon within {ADMIN_SECONDS:g} s") from error
        finally:
            writer.close()
        if not line.endswith(b"\n"):
            raise LinkLost("the daemon has ended")
        answer = requests.decode_answer(line)
        if answer.error is not None:
            raise RefusedError(answer.error.text)
        return answer.result

    # -- who is there --------------------------------------------------------------------------------------

    def workers(self) -> list[int]:
        """Living children of the guest control process: its workers, attached or not."""
        guest = self.guest
        if guest is None or not guest.lives:
            return []
        found = []
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{guest.pid}/task").iterdir():
                found += [int(pid) for pid in (thread / "children").read_text().split()]
        return sorted(found)

    def living(self) -> list[int]:
        """Every process of the storm but the runner and the nursery."""
        return [pid for pid in marked(self.mark) if pid != self._nursery.process.pid]

    def roles(self) -> list[Process | None]:
        """Daemon, guest and hosts of now."""
        return [self.daemon, self.guest, *self.hosts]

    # -- the end -------------------------------------------------------------------------------------------

    async def stop(self, *, judges: bool) -> None:
        """End everything in order: victim, guest, hosts, daemon. Where it `judges`, whoever does not end, or
        with another status than 0, is a violation."""
        self.ending, self.judges = True, judges
        victim = self.victim if self.victim is not None and self.victim.lives else None
        children = [child for child in (victim, self.guest, *self.hosts) if child is not None]
        for child in children:
            child.wanted = 0
            child.tell("quit")
            await self._has_ended(child)
        if victim is not None and not victim.lives:
            await self._is_well_ended(victim, "victim")
        if self.daemon is not None:
            await self._end_daemon(self.daemon)
        # They judge how theirs have ended.
        for keeper in self._keepers:
            await asyncio.wait([keeper], timeout=2 * STATUS_SECONDS)

    async def _has_ended(self, process: Process) -> None:
        await asyncio.wait([process.ended], timeout=END_SECONDS)
        if process.lives and self.judges:
            self.trace.violation(f"{process.kind} (pid {process.pid}) did not end within {END_SECONDS:g} s")

    async def _end_daemon(self, daemon: Process) -> None:
        daemon.wanted = 0
        daemon.send(signal.SIGTERM)
        await self._has_ended(daemon)

    async def start_once(self, done: Callable[[], bool]) -> None:
        """A daemon without partitions, for as long as it takes until `done`; then it is stopped."""
        daemon = await self._start_daemon(with_partition=False)
        for _ in range(int(RECLAIM_SECONDS / 0.05)):
            if daemon.is_ready and done():
                break
            await asyncio.sleep(0.05)
        await self._end_daemon(daemon)
        if not daemon.lives:
            await self._is_well_ended(daemon, "the daemon that clears up")

    def files(self) -> list[str]:
        """What is in the runtime directory."""
        return sorted(os.listdir(self.runtime_dir)) if self.runtime_dir.exists() else []

    def close(self) -> None:
        """End what still runs, whatever state it is in; removes the runtime directory's objects."""
        self.ending = True
        for task in self._keepers:
            task.cancel()
        self.trace.close()
        self._nursery.close()


def make_directory() -> Path:
    """A place for a storm, named for its mark: short, because sockets have their names in it."""
    path = Path(f"/tmp/vmbusd-storm-{secrets.token_hex(4)}")
    path.mkdir(mode=0o700)
    return path
