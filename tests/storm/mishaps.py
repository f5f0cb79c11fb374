"""The storm's faults: rules of docs/faults.md, armed by lot, left for a moment and taken back.

No rule here loses anything for good, so the judge asks for as much as ever: dropped doorbells and messages
hang what they meet, by design, and are not among them. Who may die of a rule is pardoned while it is armed,
and so soon after that his death was on its way.
"""

import asyncio
import contextlib
import time
from collections import Counter
from typing import Any, Final

import msgspec

from tests.storm.program import Action
from tests.storm.world import VPS, World
from vmbusd.abi.errors import RefusedError, VmbusError
from vmbusd.server import requests
from vmbusd.server.fault_requests import FaultAdd, FaultList, FaultRemove, FaultSpec
from vmbusd.server.steps import Step

LONGEST: Final = 1.0
"""Seconds that a rule is armed at most."""
RETRY: Final = 0.05
ASK_SECONDS: Final = 8.0
"""Until a daemon answers to have a rule taken back; then it is left to the next calm point."""
MOST_DELAY: Final = 1000
"""Microseconds, of doorbells and dispatches."""
MOST_STUCK: Final = 500_000
"""Microseconds that a VP stands still: as long as a stop."""

KILL: Final = "kill"
KILL_DAEMON: Final = "kill-daemon"
WORKER_STEPS: Final = (
    "drain.between-taken-and-clear",
    "dispatch.between-claim-and-callback",
    "dispatch.before-let-go",
    "drain.before-done",
    "sleep.between-announce-and-look",
)
HOST_STEPS: Final = (
    "signal.between-bit-and-post",
    "signal.between-post-and-reload",
    "host-take.between-take-and-dispatch",
)
WORKER_RING_STEPS: Final = ("ring.between-keep-and-publish", "ring.between-keep-and-commit")
"""Only processes that share a ring keep indices, and of those only workers write and read packets."""
HOST_SLEEP: Final = "host-sleep.between-announce-and-look"
"""Knows no host: any of them may be hit, or all."""
EITHER_STEPS: Final = (
    "signal-host.between-bit-and-post",
    "ring.between-copy-and-publish",
    "ring.between-publish-and-signal",
    "ring.between-copy-and-commit",
)
"""Where the guest's processes come too."""


class Mishap(msgspec.Struct, frozen=True):
    """A kind of fault, with what it needs. `dies`: the kinds of processes that it may kill."""

    kind: str
    step: str | None = None
    delay: int | None = None
    vp: bool = False
    host: bool = False
    dies: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Kind and step."""
        return self.kind if self.step is None else f"{self.kind} {self.step}"


GENTLE: Final = (
    *(Mishap(KILL, step, vp=True, dies=("worker",)) for step in WORKER_STEPS),
    *(Mishap(KILL, step, dies=("worker",)) for step in WORKER_RING_STEPS),
    *(Mishap(KILL_DAEMON, str(step), dies=("daemon",)) for step in Step),
    Mishap("spurious-bit", vp=True, host=True),
    Mishap("delay-dispatch", delay=MOST_DELAY, vp=True, host=True),
    Mishap("delay-doorbell", delay=MOST_DELAY, vp=True, host=True),
    Mishap("reorder-doorbell", delay=MOST_DELAY, vp=True, host=True),
    Mishap("duplicate-doorbell", vp=True, host=True),
    Mishap("stuck-vp", delay=MOST_STUCK, vp=True),
)
"""Those that end no open."""
HARSH: Final = (
    *(Mishap(KILL, step, host=True, dies=("host",)) for step in HOST_STEPS),
    Mishap(KILL, HOST_SLEEP, dies=("host",)),
    *(Mishap(KILL, step, host=True, dies=("host", "guest", "worker")) for step in EITHER_STEPS),
)
"""Those that do."""


class Mishaps:
    """Arms faults. Attributes: `fired`, how often each came, by kind and step; `worker_kills`, rules that may
    have killed a worker; `missed`, those that the daemon did not take."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fired: Counter[str] = Counter({mishap.name: 0 for mishap in (*GENTLE, *HARSH)})
        self.worker_kills = 0
        self.missed = 0
        self._counted: Counter[int] = Counter()

    async def arm(self, mishap: Mishap, action: Action) -> None:
        """One fault, for as long as its lot says or until the storm grows calm."""
        world = self.world
        place = await self._place(mishap, action)
        fault = FaultSpec(
            mishap.kind,
            vp=place.get("vp"),
            host=place.get("host"),
            step=mishap.step,
            delay=None if mishap.delay is None else max(1, int(action.lots[2] * mishap.delay)),
            times=1 if mishap.kind in (KILL, KILL_DAEMON) else None,
            seed=action.number,
        )
        world.trace.note("fault", **msgspec.to_builtins(fault))
        self.worker_kills += "worker" in mishap.dies
        pardons = world.pardons.give(mishap.dies)
        try:
            made = int((await world.ask(FaultAdd(world.storm, fault)))["id"])
        except RefusedError as error:
            # There is no such host link any more, say.
            self.missed += 1
            world.trace.note("refused", text=str(error))
            world.pardons.end(pardons)
            return
        except (VmbusError, OSError):
            # Armed or not: a daemon dies of some at once. The next calm point takes it back.
            self.missed += 1
            return
        end = time.monotonic() + action.lots[1] * LONGEST
        while time.monotonic() < end and not world.quiet:
            await asyncio.sleep(RETRY)
        if await self._take_back(made):
            world.pardons.end(pardons)

    async def _place(self, mishap: Mishap, action: Action) -> dict[str, int]:
        """A VP or a host link, by lot; of what takes either, neither in one of three."""
        which = action.number % 3
        if mishap.vp and (which == 0 or not mishap.host):
            return {"vp": int(action.lots[1] * VPS)}
        if mishap.host and (which == 1 or not mishap.vp):
            with contextlib.suppress(VmbusError, OSError):
                for view in (await self.world.ask(requests.Status()))["partitions"]:
                    if view["name"] == self.world.storm and view["hosts"]:
                        return {"host": view["hosts"][int(action.lots[1] * len(view["hosts"]))]["link"]}
        return {}

    async def _take_back(self, made: int) -> bool:
        deadline = time.monotonic() + ASK_SECONDS
        while time.monotonic() < deadline and not self.world.trace.violations:
            try:
                self._count(await self._rules())
                await self.world.ask(FaultRemove(self.world.storm, made))
                return True
            except RefusedError:
                # It is gone: an answer did not reach us.
                return True
            except (VmbusError, OSError):
                await asyncio.sleep(RETRY)
        return False

    async def clear(self) -> bool:
        """Take everything back; whether a daemon has done so."""
        try:
            self._count(await self._rules())
            await self.world.ask(FaultRemove(self.world.storm))
        except (VmbusError, OSError):
            return False
        self.world.pardons.end()
        return True

    async def left(self) -> list[str]:
        """What is armed, as violations: there must be nothing. Raises what `World.ask` raises."""
        return [f"a fault is armed that was taken back: {rule}" for rule in await self._rules()]

    async def _rules(self) -> list[dict[str, Any]]:
        rules: list[dict[str, Any]] = (await self.world.ask(FaultList(self.world.storm)))["rules"]
        return rules

    def _count(self, rules: list[dict[str, Any]]) -> None:
        """Counts grow, and an id means the same rule for ever."""
        for rule in rules:
            name = f"{rule['kind']} {rule['step']}" if "step" in rule else rule["kind"]
            self.fired[name] += max(0, rule["fired"] - self._counted[rule["id"]])
            self._counted[rule["id"]] = max(rule["fired"], self._counted[rule["id"]])


def choose(mishaps: tuple[Mishap, ...], action: Action) -> Mishap:
    """One of these, by lot."""
    return mishaps[action.pick(len(mishaps))]
