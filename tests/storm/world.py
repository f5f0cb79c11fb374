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
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from tests.storm.ledger import Ledger
from tests.storm.nursery import MARK, marked
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
RECLAIM_SECONDS: Final = 10.0
"""A start judges what it finds, and what was too young for that once more, 2 s later."""
ANSWER_LIMIT: Final = 16 << 20
STATUS_FILE: Final = "status.json"


class World:
    """Everything that runs.

    Attributes: `directory`, of the storm; `runtime_dir`; `mark`, in the name of its partitions and in the
    environment of its processes; `storm`, `victim_name`: the partitions; `trace`; `ledger`; `daemon`,
    `guest`, `hosts`, `victim`: the processes of now; `quiet`, whether processes begin paused.
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
        self._statuses: dict[int, int] = {}
        self._victims = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._nursery = Nursery(self.mark, directory, self._statuses.__setitem__)

    # -- starting ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to keep everything running."""
        self._nursery.watch()
        keepers = [self._keep(self._start_daemon, "daemon"), self._keep(self._start_guest, "guest")]
        keepers += [self._keep(self._host_starter(n), f"host {n}") for n in range(HOSTS)]
        self._tasks += [asyncio.create_task(keeper, name="keeper") for keeper in keepers]
        for task in self._tasks:
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
            if not process.expected:
                await asyncio.sleep(0.1)
                status = self._statuses.pop(process.pid, None)
                self.trace.violation(f"{name} (pid {process.pid}) ended by itself, status {status}")
                return
            if not self.ending:
                await asyncio.sleep(self.draw.choice(DELAYS) * self.draw.random())

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

    async def status_of(self, child: Child) -> int | None:
        """The exit status of a child that has ended."""
        for _ in range(100):
            if child.pid in self._statuses:
                break
            await asyncio.sleep(0.01)
        return self._statuses.pop(child.pid, None)

    # -- what they say -------------------------------------------------------------------------------------

    def _heard(self, child: Child, event: str, **more: Any) -> None:
        if event == "ready":
            self._set_ready(child)
        elif event == "paused":
            child.confirmed(more)
        else:
            self.trace.note(event, kind=child.kind, pid=child.pid, **more)
            if event == "failed" and not child.expected:
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

    async def stop(self) -> None:
        """End everything in order: victim, guest, hosts, daemon."""
        self.ending = True
        children = [child for child in (self.victim, self.guest, *self.hosts) if child is not None]
        for child in children:
            child.expected = True
            child.tell("quit")
            await asyncio.wait([child.ended], timeout=ADMIN_SECONDS)
        if self.daemon is not None:
            self.daemon.expected = True
            self.daemon.send(signal.SIGTERM)
            await asyncio.wait([self.daemon.ended], timeout=ADMIN_SECONDS)

    async def start_once(self, done: Callable[[], bool]) -> None:
        """A daemon without partitions, for as long as it takes until `done`; then it is stopped."""
        daemon = await self._start_daemon(with_partition=False)
        daemon.expected = True
        for _ in range(int(RECLAIM_SECONDS / 0.05)):
            if daemon.is_ready and done():
                break
            await asyncio.sleep(0.05)
        daemon.send(signal.SIGTERM)
        await asyncio.wait([daemon.ended], timeout=ADMIN_SECONDS)

    def files(self) -> list[str]:
        """What is in the runtime directory."""
        return sorted(os.listdir(self.runtime_dir)) if self.runtime_dir.exists() else []

    def close(self) -> None:
        """End what still runs, whatever state it is in; removes the runtime directory's objects."""
        self.ending = True
        for task in self._tasks:
            task.cancel()
        self.trace.close()
        self._nursery.close()


def make_directory() -> Path:
    """A place for a storm, named for its mark: short, because sockets have their names in it."""
    path = Path(f"/tmp/vmbusd-storm-{secrets.token_hex(4)}")
    path.mkdir(mode=0o700)
    return path
