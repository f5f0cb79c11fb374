"""A calm point: the storm holds still, and everything has to be exactly right.

Order: stopped processes go on; armed faults are taken back; everybody is back; guest and hosts confirm that
they ask and signal nothing any more; then, with no help from anybody, every callback that is owed must run.
By lot the devices are silenced first, while others may still be down: then what was signalled last has to
survive their coming back, and no later signal can cover a loss. A later recovery can: whoever is recovered
after the loss, a worker or a host, has every VP rung, or its bits put back. So points of both kinds have to
be many. After that shared memory, bus, guest and hosts are compared, hosts trickle one after the other, logs
are read, and what the daemon holds is counted. Every wait has an end, far beyond what a busy machine needs.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tests.storm import leaks
from tests.storm.attack import Attack
from tests.storm.logs import Logs
from tests.storm.memory import Memory
from tests.storm.oracle import Facts, judge, judge_counts
from tests.storm.processes import Child
from tests.storm.sacrifice import Sacrifice
from tests.storm.world import VPS, World
from vmbusd.abi.errors import VmbusError
from vmbusd.server import requests

BACK_SECONDS: Final = 90.0
"""Until every process is there, has its link and its VP, and has answered."""
HUNG_SECONDS: Final = 10.0
"""A callback is owed and none has run for so long: the busiest machine schedules a worker much sooner."""
AGREED_SECONDS: Final = 15.0
"""Until all say the same of every channel: messages are on their way for milliseconds."""
LEAK_SECONDS: Final = 15.0
"""Until what has ended is also forgotten: longer than a hello may be awaited."""
IDLE_SEGMENTS: Final = 2
"""Between calm points, after which something must have been seen."""
TRICKLE_SECONDS: Final = 0.4
"""Of each host: hundreds of sleeps of a worker, and a calm point is not much longer for it."""
LOOK: Final = 0.02


class Calm:
    """Makes calm points. Attributes: `points`; `lost`, `hung`, `leaked`: what was found; `spent`, seconds;
    `signalled`: signals that were none of a calm point's own."""

    def __init__(self, world: World, attack: Attack, sacrifice: Sacrifice) -> None:
        self.world = world
        self.attack = attack
        self.sacrifice = sacrifice
        self.points = 0
        self.lost = 0
        self.hung = 0
        self.leaked = 0
        self.spent = 0.0
        self.signalled = 0
        self._signals = 0
        self._callbacks = 0
        self._idle = 0
        self._behind = 0
        self._logs = Logs(world.directory)
        self._asked: list[Child] = []
        self._missing: list[int] = []
        self._memory: Memory | None = None
        self._first: leaks.Footprint | None = None

    async def point(self, *, silent_first: bool) -> None:
        """One calm point; what is wrong is noted as violations. The storm goes on after it."""
        world, begun = self.world, time.monotonic()
        await self.attack.strike()
        world.trace.note("calm", silent_first=silent_first)
        world.quiet = True
        if silent_first:
            for host in self._children()[1:]:
                host.pause()
        await self.attack.finish()
        if (
            await self._until(self.attack.mishaps.clear, "faults are taken back", BACK_SECONDS)
            and await self._until(self._is_back, "everybody is back", BACK_SECONDS)
            and await self._pause()
        ):
            await self._judge()
        self.points += 1
        world.quiet = False
        for child in self._children():
            child.tell("resume")
        self.spent += time.monotonic() - begun
        world.trace.note("storm", calm_seconds=round(time.monotonic() - begun, 3))

    def _children(self) -> list[Child]:
        return [child for child in (self.world.guest, *self.world.hosts) if child is not None and child.lives]

    async def _until(self, is_so: Callable[[], Awaitable[bool]], what: str, seconds: float) -> bool:
        """Wait; whether it came to pass before somebody did what must not be."""
        deadline = time.monotonic() + seconds
        while not (await is_so()):
            if self.world.trace.violations:
                return False
            if time.monotonic() > deadline:
                self.hung += 1
                self.world.trace.violation(f"not within {seconds:g} s: {what}")
                return False
            await asyncio.sleep(LOOK)
        return True

    async def _is_back(self) -> bool:
        """Every process serves, every link has its socket, every VP its worker."""
        roles = [*self.world.roles()]
        if not self.sacrifice.serving or not all(role is not None and role.is_ready for role in roles):
            return False
        try:
            views = (await self.world.ask(requests.Status()))["partitions"]
        except (VmbusError, OSError):
            return False
        for view in views:
            links = [view["guest"], *view["hosts"]]
            if any(link is None or link["away"] or not link["linked"] for link in links):
                return False
            # A VP that was ordered away stays away: what it left must not be lost either.
            if any(worker["state"] not in ("online", "offline") for worker in view["workers"]):
                return False
            if view["closing"]:
                return False
        pids = {
            worker["pid"]
            for view in views
            for worker in view["workers"]
            if view["name"] == self.world.storm and worker["state"] == "online"
        }
        # Otherwise there is one on its way, or one that leaves.
        return len(views) == 2 and pids == set(self.world.workers())

    async def _pause(self) -> bool:
        """Everybody confirms the pause. Hosts are asked again: those that were silenced first, too."""
        while True:
            guest = self.world.guest
            assert guest is not None
            # Hosts twice: what the guest asks until it confirms changes what they have to report.
            hosts = self._children()[1:]
            for order in (hosts, [guest], hosts):
                for child in order:
                    child.pause()
                self._asked = order
                if not await self._until(self._have_paused, "everybody pauses", BACK_SECONDS):
                    return False
            asked = [guest, *hosts]
            if self._children() == asked and len(asked) == 1 + len(self.world.hosts):
                return True
            # Killed just before the calm, and its end is seen only now: its successor has to be asked.
            if not await self._until(self._is_back, "everybody is back", BACK_SECONDS):
                return False

    async def _have_paused(self) -> bool:
        return all(child.paused.done() or not child.lives for child in self._asked)

    async def _judge(self) -> None:
        world = self.world
        if self._memory is None:
            # One that raises is told as a failure of the storm.
            self._memory = Memory(world.storm, VPS)
        if not self._memory.is_same():
            world.trace.violation("the partition has other objects than at the first calm point")
            return
        deadline = time.monotonic() + AGREED_SECONDS
        found = await self._compare(self._memory)
        while found and time.monotonic() < deadline and not world.trace.violations:
            # A last offer may still be on its way, and with it an open: ask everybody again.
            await asyncio.sleep(LOOK)
            found = await self._compare(self._memory) if await self._pause() else []
        # A packet channel that stands still hangs; what it waits for is lost, for all anybody can tell.
        self.hung += len(self._missing)
        self.lost += self._behind + sum(self._missing)
        found += [*judge_counts(world.ledger.counts()), *await self._armed(), *self.look_at_logs()]
        for text in found:
            world.trace.violation(text)
        self._judge_storminess()
        if not world.trace.violations:
            await self._trickle(self._memory)
            counts = world.ledger.counts()
            self._signals, self._callbacks = counts["signals"], counts["callbacks"]
            for text in judge_counts(counts):
                world.trace.violation(text)
        if not world.trace.violations:
            await self._count()

    def _judge_storminess(self) -> None:
        """Whether something was seen. Not from one point to the next, where everybody may be down or stopped
        on a busy machine, but in two segments: one of them is gentle."""
        counts = self.world.ledger.counts()
        self.signalled += counts["signals"] - self._signals
        seen = counts["callbacks"] > self._callbacks
        self._idle = 0 if seen or not self.points else self._idle + 1
        if self._idle == IDLE_SEGMENTS:
            self.world.trace.violation(f"no callback in {IDLE_SEGMENTS} segments: the storm does not storm")

    def look_at_logs(self) -> list[str]:
        """What has been logged since the last look and must not be there."""
        return self._logs.look(self.attack.kills["worker"] + self.attack.mishaps.worker_kills)

    async def _armed(self) -> list[str]:
        try:
            return await self.attack.mishaps.left()
        except (VmbusError, OSError) as error:
            return [f"the daemon does not answer: {error}"]

    async def _trickle(self, memory: Memory) -> None:
        """Each host by itself signals one channel, whenever it was seen, and everybody else is silent: a
        signal that wakes nobody has no other behind it that would, so it still is not seen at the end."""
        for host in self._children()[1:]:
            host.tell("trickle")
            await asyncio.sleep(TRICKLE_SECONDS)
            host.pause()
            self._asked = [host]
            if not await self._until(self._have_paused, "a host that trickles pauses", BACK_SECONDS):
                return
            await self._settle(memory)

    async def _compare(self, memory: Memory) -> list[str]:
        """What does not agree, once nothing moves."""
        world = self.world
        await self._settle(memory)
        try:
            bus = (await world.ask(requests.Channels(world.storm)))["channels"]
        except (VmbusError, OSError) as error:
            return [f"the daemon does not answer: {error}"]
        guest, *hosts = self._children()
        reports = [host.paused.result() for host in hosts]
        offers = {report["link"]: report["offers"] for report in reports}
        facts = Facts(memory.slots(), memory.cells(), bus, guest.paused.result(), offers, memory.progress())
        self._missing = facts.missing()
        self._behind = sum(max(0, cell.produced - cell.seen) for cell in facts.cells.values())
        return judge(facts)

    async def _settle(self, memory: Memory) -> None:
        """Wait, and only wait, until seen == produced everywhere."""
        before, since = memory.cells(), time.monotonic()
        while behind := {flag: cell for flag, cell in memory.cells().items() if cell.seen != cell.produced}:
            now = memory.cells()
            if now != before:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > HUNG_SECONDS:
                self.hung += len(behind)
                text = f"hung: {behind}, pending {memory.pending()}, claims {memory.claims()}"
                self.world.trace.violation(f"{text}, owners {memory.owners()}")
                return
            await asyncio.sleep(LOOK)

    async def _count(self) -> None:
        """Nothing is leaked: neither against what must be there, nor against the first calm point."""
        deadline = time.monotonic() + LEAK_SECONDS
        while found := await self._leaks():
            if time.monotonic() > deadline:
                self.leaked += len(found)
                for text in found:
                    self.world.trace.violation(f"leaked: {text}")
                return
            await asyncio.sleep(LOOK)

    async def _leaks(self) -> list[str]:
        try:
            status = await self.world.ask(requests.Status())
        except (VmbusError, OSError) as error:
            return [f"the daemon does not say what it has: {error}"]
        # The question itself was a connection.
        await asyncio.sleep(LOOK)
        now = leaks.look(self.world, status)
        first = self._first or now
        known = leaks.expected(self.world, status, inside=first.inside, threads=first.threads)
        found = now.differs(known)
        if now.memory > first.memory + leaks.MEMORY_GROWTH:
            found.append(f"memory of the daemon: {now.memory >> 10} KiB, it was {first.memory >> 10} KiB")
        if not found:
            self._first = first
        return found
