"""The lab's scene: the demo's storm, with lists in guest memory and workers that can play either design.

Everything is real and shared by both designs: daemon, host processes, worker processes, interrupt pages,
doorbells. Only at rest does the scene change the design: every VP asleep, no bit pending, hosts stopped.
"""

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from guest_client import Guest
from guest_client.waiting import answered
from vmbusd.abi import layout
from vmbusd.abi.link import Object
from vmbusd.abi.native import EventFlags, VpWork
from vmbusd.demo import cell
from vmbusd.demo.cell import DemoError
from vmbusd.demo.retarget import Move, Retargeter
from vmbusd.demo.storm import REST_LOOK_SECONDS, Storm, storm
from vmbusd.lab.driver import LabDriver
from vmbusd.lab.percpu import GLOBAL, PER_CPU, SIZE, Lists, Mover
from vmbusd.lab.worker import command, lists_at

ORDER_SECONDS: Final = 10.0
"""A worker carries out an order at the end of a pass; passes take milliseconds, a starved process seconds."""
MOVES_AT_ONCE: Final = 16
"""Under way together, in either design. The more there are the longer each waits in the daemon, the
channel on the new list and the target still the old VP: with 64 most drops would be that queue's."""
REST_SECONDS: Final = 30.0
"""What is pending when the hosts stop is served in milliseconds; a dead worker has a successor by then."""


class Scene:
    """A running scene: `storm`, `lists`; `retargeter`, of the design that is played. Made by `scene()`."""

    def __init__(self, storm: Storm, lists: Lists, rate: float | None) -> None:
        attached = storm.guest.attached
        vps = storm.guest.vps
        self.storm = storm
        self.lists = lists
        self.relids = [channel.relid for channel in storm.channels]
        self._mover = Mover(
            lists,
            attached[Object.EVENTS],
            attached[Object.VPWORK],
            [attached.objects[Object.VP_SEMAPHORE, vp].map for vp in range(vps)],
        )
        self._pages = [EventFlags(attached[Object.EVENTS], layout.PAGE * vp) for vp in range(vps)]
        self._work = VpWork(attached[Object.VPWORK], vps)
        self._died, self._pids = self._workers()
        # One for each design: what one of them is owed at the end of a slice is moved in its own next one.
        self._retargeters = {
            design: Retargeter(storm.channels, vps, self._move_many, rate, at_once=MOVES_AT_ONCE)
            for design in (GLOBAL, PER_CPU)
        }
        self.retargeter = self._retargeters[GLOBAL]

    def begin(self, design: int) -> None:
        """At rest: play `design` from now on, from a clean state.

        A channel that hangs catches up: at rest nobody else writes its `seen`. The old design's lists are
        made to agree with the targets, on the VPs that own them; moves of a slice that played the other
        design have left them behind.
        """
        self._died, self._pids = self._workers()
        for _, words in self.storm.oracle.cells:
            words.store(cell.SEEN, words.load(cell.PRODUCED))
        if design == PER_CPU:
            self._home()
            # Its orders have woken the workers, whose counters are about to begin at zero.
            self.rest()
        self.lists.begin(design)
        self.retargeter = self._retargeters[design]

    def check(self) -> None:
        """Raises what has ended since `begin` and should not have: the moves, a host, a worker.

        What a worker that died had taken is not in its counters, so the slice has no result.
        """
        self.retargeter.check()
        for host in self.storm.hosts:
            if host.process.poll() is not None:
                raise DemoError(f"host process {host.process.pid} ended in the middle of a slice")
        died, pids = self._workers()
        if died != self._died:
            gone = ", ".join(str(vp) for vp, pid in self._pids.items() if pids.get(vp) != pid)
            raise DemoError(f"the worker of VP {gone} died in the middle of a slice")

    def _workers(self) -> tuple[int, dict[int, int]]:
        """How many workers have died so far, then the process of each VP."""
        workers = self.storm.guest.statistics()["workers"]
        return workers["died"], workers["pids"]

    def _home(self) -> None:
        for channel in self.storm.channels:
            self._mover.begin(channel.relid, channel.target_vp)
        self._mover.finish(ORDER_SECONDS)

    def _move_many(self, moves: Sequence[Move]) -> Iterable[Exception | None]:
        """Move channels in the present design, many under way at once, as the guest of that design has to.

        Old design: MODIFYCHANNEL is posted, and while the host makes up its mind (H) the channel leaves the
        old VP's list (L1) and then joins the new one's (L2), each on its VP, whatever other channels do.
        Which of H and L1 comes first is left to the machine.
        """
        moves_lists = self.lists.design == PER_CPU
        posted = []
        for channel, vp in moves:
            posted.append((channel.relid, channel.begin_retarget(vp)))
            if moves_lists:
                self._mover.begin(channel.relid, vp)
        if moves_lists:
            self._mover.finish(ORDER_SECONDS)
        for relid, answer in posted:
            answered(answer, ORDER_SECONDS, f"the move of relid {relid} was not answered")
        return itertools.repeat(None, len(moves))

    def rest(self) -> None:
        """Wait until every VP sleeps over an empty page, at two looks without a pass between them.

        The hosts have stopped, so from then on nothing moves. Raises DemoError when it does not come to that.
        """
        until = time.monotonic() + REST_SECONDS
        before: list[int] | None = None
        while (passes := self._resting()) is None or passes != before:
            before = passes
            if time.monotonic() > until:
                raise DemoError(f"the workers did not come to rest within {REST_SECONDS:g} s")
            time.sleep(REST_LOOK_SECONDS)

    def _resting(self) -> list[int] | None:
        """The passes of all VPs if each sleeps over an empty page."""
        vps = range(self.storm.guest.vps)
        passes = [self._work.statistics(vp)["passes"] for vp in vps]
        asleep = all(self._work.is_idle(vp) and not self._pages[vp].any() for vp in vps)
        return passes if asleep else None

    def close(self) -> None:
        """Let go of guest memory, whatever state the scene is in."""
        for retargeter in self._retargeters.values():
            retargeter.close()
        del self.lists, self._mover, self._pages, self._work


@contextmanager
def scene(
    runtime_dir: Path, partition: str, *, vps: int, channels: int, hosts: int, rate: float | None
) -> Iterator[Scene]:
    """A scene with all channels open and nothing signalled yet. Everything is gone when it is left."""
    page: list[int] = []

    def prepare(guest: Guest) -> None:
        page.append(guest.reserve_pages(SIZE // layout.PAGE))
        lists_at(guest.attached, page[0]).init(GLOBAL)
        guest.worker_command = command(page[0])

    with storm(
        runtime_dir,
        partition,
        vps=vps,
        channels=channels,
        host_processes=hosts,
        prepare=prepare,
        driver=LabDriver,
    ) as running:
        made = Scene(running, lists_at(running.guest.attached, page[0]), rate)
        try:
            yield made
        finally:
            made.close()
