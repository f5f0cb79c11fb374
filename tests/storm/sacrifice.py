"""The partition whose objects are truncated: made, served, cut, seen to die alone, removed, made again."""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Final

from tests.storm.grip import gripped
from tests.storm.processes import Child
from tests.storm.world import World
from vmbusd.abi.errors import RefusedError, VmbusError
from vmbusd.server import requests

RETRY: Final = 0.02
END_SECONDS: Final = 60.0
"""Until guest and host have ended, however busy the machine and however often the daemon dies meanwhile."""
_SHM: Final = Path("/dev/shm")


class Sacrifice:
    """The partition's keeper. Attributes: `deaths`, how often it died; `serving`, whether all is well now."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.deaths = 0
        self.serving = False
        self._wanted: asyncio.Queue[str] = asyncio.Queue(1)

    def truncate(self, what: str) -> None:
        """Truncate this object soon; unless one is under way."""
        if self.serving and self._wanted.empty():
            self.serving = False
            self._wanted.put_nowait(what)

    async def run(self) -> None:
        """Keep it until cancelled; returns when it did what it must not."""
        while True:
            await self._make()
            with gripped(self.world.victim_name):
                if not await self._serve_and_cut():
                    return

    async def _serve_and_cut(self) -> bool:
        """Have a victim, until its memory is wanted; whether it did what it must."""
        victim = self.world.start_victim()
        await victim.one_of(victim.ready)
        self.serving = victim.is_ready
        wanted = asyncio.create_task(self._wanted.get())
        await victim.one_of(wanted)
        wanted.cancel()
        self.serving = False
        if not wanted.done() or not victim.lives:
            if victim.wanted is None:
                text = f"the victim (pid {victim.pid}) ended before its memory was truncated"
                self.world.trace.violation(text)
            return False
        return await self._cut(victim, wanted.result())

    async def _make(self) -> None:
        """A new partition, in place of the one that died, if the daemon still knows it."""
        name = self.world.victim_name
        while True:
            try:
                await self.world.ask(requests.PartitionAdd(name, vps=1, ram_size="4M"))
                return
            except RefusedError as error:
                if "exists" not in str(error):
                    raise
                with contextlib.suppress(VmbusError, OSError):
                    await self.world.ask(requests.PartitionRemove(name))
            except (VmbusError, OSError):
                # No daemon, or none that answers, at this moment.
                await asyncio.sleep(RETRY)

    async def _cut(self, victim: Child, what: str) -> bool:
        """Truncate, and see everybody in it leave; whether they did."""
        trace = self.world.trace
        paths = [path for path in _SHM.iterdir() if path.name.endswith(f"-{self.world.victim_name}-{what}")]
        trace.note("truncate", objects=[path.name for path in paths])
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.truncate(path, 0)
        victim.wanted = 0
        await asyncio.wait([victim.ended], timeout=END_SECONDS)
        if victim.lives:
            trace.violation(
                f"{what} was truncated, and pid {victim.pid} is still there {END_SECONDS:g} s later"
            )
            return False
        if (status := await self.world.status_of(victim)) != 0:
            trace.violation(f"{what} was truncated, and pid {victim.pid} ended with {status}")
        victim.close()
        self.deaths += 1
        return True
