"""One process per VP: start, watch, replace and stop them; nothing stays behind, whichever side dies first.

Each process is started by exec and talks with us over one socket pair, its standard input: we write its
orders, a JSON object per line, it writes its news. The end of that socket tells a worker that we are gone, so
that it leaves; a pidfd tells us that it is. A worker that dies is replaced, unless its VP is offline by
order; one that keeps dying fails the guest. Workers have process groups of their own: Ctrl-C is ours to
handle, they are told to stop.
Source: docs/design.md section 3.
"""

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from vmbusd.abi import errors
from vmbusd.abi.errors import ResourceError, VmbusError

log = logging.getLogger(__name__)

COMMAND: Final = (sys.executable, "-P", "-m", "guest_client.process")
STOP_GRACE: Final = 5.0
"""Seconds between SIGTERM and SIGKILL."""
START_TIMEOUT: Final = 30.0
"""Seconds until every worker must have attached: an interpreter each, on however busy a machine."""
RESPAWNS: Final = 5
RESPAWN_WINDOW: Final = 10.0
"""A VP whose worker dies more than RESPAWNS times in this many seconds is not served any more."""
NEWS_LIMIT: Final = 64 << 10
"""Bytes of one line a worker may write to us."""

Orders = dict[str, Any]


def same_imports() -> dict[str, str]:
    """An environment in which `python -P` imports from where this process does, and from nowhere else."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}


class Process:
    """One worker process. `vp` stays, the process behind it may be a successor."""

    def __init__(self, vp: int, command: Sequence[str], orders: Orders) -> None:
        self.vp = vp
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self.popen = subprocess.Popen(
                    command, stdin=theirs.fileno(), env=same_imports(), process_group=0
                )
            except BaseException:
                ours.close()
                raise
        self.socket = ours
        self.pidfd = os.pidfd_open(self.popen.pid)
        self.attached = False
        self.error: VmbusError | None = None
        self._line = b""
        ours.setblocking(False)
        self.tell(orders)

    def tell(self, orders: Orders) -> None:
        """Write one line of orders. A worker that is gone, or does not read, is noticed elsewhere."""
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(orders).encode() + b"\n")

    def news(self) -> list[Any]:
        """What the worker wrote, as far as it came."""
        with contextlib.suppress(OSError):
            self._line += self.socket.recv(NEWS_LIMIT)
        *lines, self._line = self._line.split(b"\n")
        self._line = self._line[-NEWS_LIMIT:]
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                log.warning("VP %d: its worker wrote %r to its standard input", self.vp, line[:80])
        return found

    def close(self) -> None:
        """Reap; the process has ended."""
        self.popen.wait()
        os.close(self.pidfd)
        self.socket.close()


class Supervisor:
    """The worker processes of one guest.

    `orders(vp)` is the first line for a worker; `died(vp)` is called when a process ended that was not asked
    to, before it is replaced, and returns a line for all the others, None if nobody can replace it;
    `left(vp)` when one ended that was, likewise;
    `revived(vp)` once the successor has been admitted, so that all is recovered;
    `failed(error)` is called once a VP cannot be served. All run in the supervisor's thread, `orders` also in
    `start`.
    """

    def __init__(
        self,
        vps: int,
        *,
        orders: Callable[[int], Orders],
        died: Callable[[int], Orders | None],
        left: Callable[[int], Orders],
        revived: Callable[[int], None],
        failed: Callable[[VmbusError], None],
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._vps = vps
        self._orders = orders
        self._died = died
        self._on_left = left
        self._revived = revived
        self._failed = failed
        self._command = command
        self._processes: dict[int, Process] = {}
        self._deaths: defaultdict[int, deque[float]] = defaultdict(deque)
        self._counts = {"started": 0, "died": 0, "killed": 0}
        self._changed = threading.Condition()
        self._error: VmbusError | None = None
        self._stopping = False
        self._calls: deque[Callable[[], None]] = deque()
        self._offline: set[int] = set()
        """VPs that are not to be played."""
        self._left: set[int] = set()
        """VPs whose worker has left because the daemon wanted it, and that have none since."""
        self._again: set[int] = set()
        """VPs whose worker is leaving, and that are to have another afterwards."""
        self._grace = STOP_GRACE
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="vp-supervisor", daemon=True)

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Start every worker and wait until all have attached, but those of VPs that are offline by order.

        Raises what the first worker that failed says, ResourceError when it takes too long. `stop` ends those
        that did start.
        """
        for vp in range(self._vps):
            self._spawn(vp)
        self._thread.start()
        with self._changed:
            ready = self._changed.wait_for(lambda: self._error or self._all_attached(), timeout)
        if self._error is not None:
            raise self._error
        if not ready:
            missing = [str(vp) for vp, process in self._processes.items() if not process.attached]
            raise ResourceError(f"the workers of VP {', '.join(missing)} did not attach within {timeout:g} s")

    def stop(self, grace: float = STOP_GRACE) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds; returns when all are reaped. May be called again."""
        if self._wake < 0:
            return
        self._stopping = True
        self._grace = grace
        self._soon(lambda: None)
        if self._thread.ident is not None:
            self._thread.join()
        else:
            self._end_all()
        self._selector.close()
        with self._changed:
            wake, self._wake = self._wake, -1
        os.close(wake)

    def take_offline(self, vp: int, news: Orders | None = None) -> None:
        """The worker of this VP leaves or has left: it is not to be replaced. All workers are told `news`."""
        self._soon(lambda: self._take_offline(vp, news))

    def bring_online(self, vp: int) -> None:
        """The VP is to have a worker; once that of before has ended, if it is leaving."""
        self._soon(lambda: self._bring_online(vp))

    def _soon(self, call: Callable[[], None]) -> None:
        with self._changed:
            if self._wake >= 0:
                self._calls.append(call)
                os.eventfd_write(self._wake, 1)

    def pids(self) -> dict[int, int]:
        """VP -> process id of its worker now."""
        return {vp: process.popen.pid for vp, process in list(self._processes.items())}

    def statistics(self) -> dict[str, Any]:
        """Processes started, died without being asked to, killed because they did not stop; the pids now."""
        return {**self._counts, "pids": self.pids()}

    # -- the thread ----------------------------------------------------------------------------------------

    def _all_attached(self) -> bool:
        attached = sum(process.attached for process in list(self._processes.values()))
        return attached + len(self._left) >= self._vps

    def _take_offline(self, vp: int, news: Orders | None) -> None:
        self._offline.add(vp)
        self._again.discard(vp)
        if news is not None:
            self._tell_all(news)

    def _bring_online(self, vp: int) -> None:
        was_offline = vp in self._offline
        self._offline.discard(vp)
        if vp not in self._processes:
            self._start_again(vp)
        elif was_offline:
            self._again.add(vp)

    def _tell_all(self, news: Orders) -> None:
        for process in self._processes.values():
            process.tell(news)

    def _start_again(self, vp: int) -> None:
        self._left.discard(vp)
        self._again.discard(vp)
        try:
            self._spawn(vp)
        except OSError as error:
            self._give_up(ResourceError(f"the worker of VP {vp} cannot be started: {error}"))

    def _spawn(self, vp: int) -> None:
        process = Process(vp, self._command, self._orders(vp))
        self._processes[vp] = process
        self._counts["started"] += 1
        self._selector.register(process.socket, selectors.EVENT_READ, ("news", process))
        self._selector.register(process.pidfd, selectors.EVENT_READ, ("end", process))

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._watch()
        finally:
            self._end_all()

    def _watch(self) -> None:
        for key, _ in self._selector.select():
            if key.data is None:
                os.eventfd_read(self._wake)
                while self._calls and not self._stopping:
                    self._calls.popleft()()
                continue
            what, process = key.data
            if what == "end":
                self._on_end(process)
            elif process.pidfd in self._selector.get_map():
                self._on_news(process)

    def _on_news(self, process: Process) -> None:
        for news in process.news():
            if "attached" in news:
                process.attached = True
                if self._deaths[process.vp]:
                    self._revived(process.vp)
            elif "error" in news:
                kind = getattr(errors, str(news.get("kind")), VmbusError)
                process.error = kind(f"the worker of VP {process.vp} cannot serve: {news['error']}")
        with self._changed:
            self._changed.notify_all()

    def _forget(self, process: Process) -> None:
        self._selector.unregister(process.socket)
        self._selector.unregister(process.pidfd)
        del self._processes[process.vp]
        process.close()

    def _on_end(self, process: Process) -> None:
        self._on_news(process)
        self._forget(process)
        vp, code = process.vp, process.popen.returncode
        is_wanted = vp not in self._offline
        if code == 0:
            log.info("VP %d: its worker left because the daemon asked it to", vp)
            # Only now does nothing new become of what its process knew, and before there is a successor.
            self._tell_all(self._on_left(vp))
            self._left.add(vp)
            with self._changed:
                self._changed.notify_all()
            if vp in self._again:
                self._start_again(vp)
            return
        if process.error and is_wanted:
            self._give_up(process.error)
            return
        self._counts["died"] += 1
        log.warning("VP %d: its worker %s", vp, _how(code))
        lost = self._died(vp)
        if lost is None:
            return
        self._tell_all(lost)
        if vp in self._again:
            self._start_again(vp)
            return
        if not is_wanted:
            self._left.add(vp)
            return
        deaths, now = self._deaths[vp], time.monotonic()
        deaths.append(now)
        while deaths[0] < now - RESPAWN_WINDOW:
            deaths.popleft()
        if len(deaths) > RESPAWNS:
            self._give_up(ResourceError(f"the worker of VP {vp} {_how(code)}, {len(deaths)} times in a row"))
            return
        self._start_again(vp)

    def _give_up(self, error: VmbusError) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()
        self._failed(error)

    def _end_all(self) -> None:
        for process in self._processes.values():
            process.popen.terminate()
        deadline = time.monotonic() + self._grace
        for process in list(self._processes.values()):
            try:
                process.popen.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("VP %d: its worker did not stop and is killed", process.vp)
                self._counts["killed"] += 1
                process.popen.kill()
            self._forget(process)


def _how(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
