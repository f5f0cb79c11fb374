"""A partition's VPs on real memory, with what the journal, the bus and the guest were told."""

import asyncio
import os
import secrets
import socket
from collections.abc import Callable

import msgspec

from vmbusd.abi import layout
from vmbusd.abi.native import EventFlags, Words
from vmbusd.server import log
from vmbusd.server.inputs import SeatSet, VpOrdered
from vmbusd.server.memory import Memory
from vmbusd.server.objects import ObjectSet
from vmbusd.server.peer import Peer
from vmbusd.server.recovery import Vps
from vmbusd.server.seats import VpState

VPS = 3


class Worker:
    """A worker link that writes down what it is asked."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.asked = 0

    def catch_up(self) -> None:
        """Nothing happens behind our back here."""

    def ask_to_detach(self) -> None:
        self.asked += 1


class Scene:
    """Real memory, VPs on it, and what the bus was told."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.objects = ObjectSet(secrets.token_hex(6), "a", vps=VPS, ram_size=4096, eventfd=False)
        self.memory = Memory(self.objects, partition="a", vps=VPS, ram_size=4096)
        self.told: list[tuple[int, ...]] = []
        self.kept: list[SeatSet | VpOrdered] = []
        self.changed: list[tuple[int, int, int, bytes]] = []
        self.workers: dict[int, Worker] = {}
        self._left: int | None = None
        self._error: type[Exception] = Exception
        self.vps = self.new_vps()
        ours, theirs = socket.socketpair()
        self.peer = Peer(ours)
        ours.close()
        theirs.close()

    def new_vps(self) -> Vps:
        """What a daemon makes on this memory."""
        return Vps(
            self.loop,
            self.memory,
            log.get(),
            offline=lambda vp, live: self._step(lambda: self.told.append((vp, live))),
            online=lambda vp: self._step(lambda: self.told.append((vp,))),
            keep=lambda seat: self._step(lambda: self.kept.append(seat)),
            tell=lambda what: self._step(lambda: self.changed.append(msgspec.structs.astuple(what))),
        )

    def fail_after(self, steps: int | None, error: type[Exception]) -> None:
        """Raise `error` once that many traces were begun or left; never, if None."""
        self._left, self._error = steps, error

    def _step(self, leave_trace: Callable[[], None]) -> None:
        self._count()
        leave_trace()
        self._count()

    def _count(self) -> None:
        if self._left is not None:
            if not self._left:
                raise self._error
            self._left -= 1

    def take(self, vp: int, flag: int) -> None:
        """As a worker that is inside this flag's callback."""
        begin = vp * layout.VPWORK_SIZE + layout.VPWORK_TAKEN_OFFSET
        Words(self.memory.vpwork_pages, begin, 32).exchange(flag // 64, 1 << flag % 64)

    def beat(self, vp: int) -> None:
        """As a worker that makes a pass."""
        Words(self.memory.vpwork_pages, vp * layout.VPWORK_SIZE + 64, 1).store(0, self.memory.passes(vp) + 1)

    def page(self, vp: int) -> EventFlags:
        return EventFlags(self.memory.event_pages, vp * layout.EVENT_PAGE_SIZE)

    def state(self, vp: int) -> VpState:
        """As the table shows it to everybody; the seat must agree."""
        pid, state, start_time, incarnation = self.memory.table.owner(vp)
        seat = self.vps.seats[vp]
        assert (state, incarnation) == (seat.state, seat.incarnation)
        assert (pid, start_time) == ((os.getpid(), self.peer.start_time) if seat.worker else (0, 0))
        return VpState(state)

    def run(self, seconds: float = 0.05) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def close(self) -> None:
        """Leave nothing behind."""
        self.vps.stop()
        self.peer.close()
        self.memory.close()
        self.objects.remove()
        self.loop.close()


def staffed(scene: Scene, *vps: int) -> list[Worker]:
    """Workers for these VPs, all by default."""
    workers = [Worker(scene.peer) for _ in vps or range(VPS)]
    for vp, worker in zip(vps or range(VPS), workers, strict=True):
        scene.vps.admit(vp, worker)
    return workers
