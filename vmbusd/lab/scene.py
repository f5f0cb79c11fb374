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
from vmbusd.abi import layout
from vmbusd.abi.link import Object
from vmbusd.abi.native import EventFlags, VpWork
from vmbusd.demo import cell
from vmbusd.demo.cell import DemoError
from vmbusd.demo.retarget import IN_FLIGHT, Move, Retargeter
from vmbusd.demo.storm import REST_LOOK_SECONDS, Storm, storm
from vmbusd.lab.driver import LabDriver
from vmbusd.lab.percpu import GLOBAL, PER_CPU, SIZE, Asker, Lists
from vmbusd.lab.worker import command, lists_at

ORDER_SECONDS: Final = 10.0
"""A worker carries out an order at the end of a pass; passes take milliseconds, a starved process seconds."""
REST_SECONDS: Final = 30.0
"""What is pending when the hosts stop is served in milliseconds; a dead worker has a successor by then."""


class Scene:
    """A running scene: `storm`, `lists`, `retargeter`. Made by `scene()`."""

    def __init__(self, storm: Storm, lists: Lists, rate: float | None) -> None:
        attached = storm.guest.attached
        vps = storm.guest.vps
        self.storm = storm
        self.lists = lists
        self.relids = [channel.relid for channel in storm.channels]
        self._asker = Asker(
            lists,
            attached[Object.EVENTS],
            attached[Object.VPWORK],
            [attached.objects[Object.VP_SEMAPHORE, vp].map for vp in range(vps)],
        )
        self._pages = [EventFlags(attached[Object.EVENTS], layout.PAGE * vp) for vp in range(vps)]
        self._work = VpWork(attached[Object.VPWORK], vps)
        self.retargeter = Retargeter(storm.channels, vps, self._move_many, rate)

    def begin(self, design: int) -> None:
        """At rest: play `design` from now on, from a clean state.

        A channel that hangs catches up: at rest nobody else writes its `seen`. The old design's lists are
        made to agree with the targets, on the VPs that own them; moves of a slice that played the other
        design have left them behind.
        """
        for _, words in self.storm.oracle.cells:
            words.store(cell.SEEN, words.load(cell.PRODUCED))
        if design == PER_CPU:
            self._home()
        self.lists.begin(design)

    def _home(self) -> None:
        wanted = {channel.relid: channel.target_vp for channel in self.storm.channels}
        now = {relid: self.lists.vp_of(relid) for relid in wanted}
        away = {relid: vp for relid, vp in now.items() if vp is not None and vp != wanted[relid]}
        self._asker.unlink([(vp, relid) for relid, vp in away.items()], ORDER_SECONDS)
        missing = [(vp, relid) for relid, vp in wanted.items() if now[relid] is None or relid in away]
        self._asker.link(missing, ORDER_SECONDS)

    def _move_many(self, moves: Sequence[Move]) -> Iterable[Exception | None]:
        """Move channels in the present design, many at once, as the guest of that design has to.

        Old design: MODIFYCHANNEL is posted, and while the host makes up its mind (H) the channel leaves the
        old VP's list (L1) and joins the new one's (L2), each on its VP. Which of H and L1 comes first is left
        to the machine.
        """
        guest = self.storm.guest
        if self.lists.design == GLOBAL:
            return guest.retarget_many(moves, window=IN_FLIGHT)
        under_way = [channel.begin_retarget(vp) for channel, vp in moves]
        self._asker.unlink(
            [(self._list_of(channel.relid), channel.relid) for channel, _ in moves], ORDER_SECONDS
        )
        self._asker.link([(vp, channel.relid) for channel, vp in moves], ORDER_SECONDS)
        for answer in under_way:
            answer.result(ORDER_SECONDS)
        return itertools.repeat(None, len(moves))

    def _list_of(self, relid: int) -> int:
        vp = self.lists.vp_of(relid)
        if vp is None:
            raise DemoError(f"relid {relid} is on no VP's list")
        return vp

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
        self.retargeter.close()
        del self.lists, self._asker, self._pages, self._work


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
