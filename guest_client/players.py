"""Who plays the VPs of a guest: threads of this process, or processes under a supervisor."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from guest_client.calls import Call, begun
from guest_client.connection import Connection
from guest_client.driver import DriverName
from guest_client.supervisor import Orders, Supervisor
from guest_client.vps import LEAVING, ONLINE
from guest_client.worker import LATER, Service, VpWorker, admit
from vmbusd.abi import layout, link
from vmbusd.abi.errors import LinkClosed, RefusedError, UsageError, VmbusError

log = logging.getLogger(__name__)

THREAD_GRACE: Final = 5.0
"""Seconds for a callback to return; a thread cannot be killed, so then it is left behind."""

Fail = Callable[[VmbusError], None]


class Players(Protocol):
    """What a guest asks of them."""

    def start(self) -> None:
        """Every VP that is not offline by order has its worker when this returns; raises why one has none."""

    def changed(self, vp: int, state: int) -> None:
        """The daemon says what becomes of a VP (`vps`): let it go, or play it. Does not block."""

    def stop(self) -> None:
        """End all workers in order and wait for them."""

    def statistics(self) -> dict[str, Any]: ...


class Played:
    """One VP and the thread that plays it; `admission` is done once it does, or need not; `waits`: the one
    `before` it has not let go of the VP."""

    def __init__(self, vp: int, play: "Callable[[Played], None]", before: "Played | None") -> None:
        self.vp = vp
        self.before = before
        self.waits = before is not None
        self.worker: VpWorker | None = None
        self.admission = begun()
        self.thread = threading.Thread(target=play, args=(self,), name=f"vp{vp}", daemon=True)
        self.thread.start()


class ThreadPlayers:
    """One thread per VP; they share the connection's registry and its view of the channels."""

    def __init__(
        self, service: Service, connection: Connection, vps: int, cpus: Sequence[int], fail: Fail
    ) -> None:
        self._service = service
        self._connection = connection
        self._vps = vps
        self._cpus = cpus
        self._fail = fail
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._played: dict[int, Played] = {}
        # All whose thread lives: of one VP several, if it went and came while its worker was in a callback.
        self._living: list[Played] = []
        self._offline: set[int] = set()

    def start(self) -> None:
        """See Players."""
        with self._lock:
            begun_now = [self._begin(vp) for vp in range(self._vps) if vp not in self._played]
        try:
            for played in begun_now:
                played.admission.result()
        except BaseException:
            self.stop()
            raise

    def changed(self, vp: int, state: int) -> None:
        """See Players. The thread leaves because the daemon asks it to."""
        with self._lock:
            if state != ONLINE:
                self._offline.add(vp)
                return
            played = self._played.get(vp)
            if self._stopping.is_set() or (
                vp not in self._offline and played is not None and played.thread.is_alive()
            ):
                return
            self._offline.discard(vp)
            if played is not None and played.waits:
                # It asks for the VP later than this, as whoever is begun now would:
                #
                #   here                                its thread
                #   lock: it waits                      joins the one before it
                #                                       lock: it waits no more; asks
                return
            self._begin(vp).admission.add_done_callback(self._admitted_again)

    def _admitted_again(self, admission: Call) -> None:
        error = admission.exception()
        if isinstance(error, RefusedError) and error.code in LATER:
            # Nobody plays this VP, as before; the others go on, and who wants it may order it again.
            log.error("%s", error)
        elif isinstance(error, VmbusError):
            self._fail(error)

    def _begin(self, vp: int) -> Played:
        self._played[vp] = played = Played(vp, self._play, self._played.get(vp))
        self._living = [each for each in self._living if each.thread.is_alive()]
        self._living.append(played)
        return played

    def stop(self) -> None:
        """See Players."""
        with self._lock:
            self._stopping.set()
            everybody = list(self._living)
        for played in everybody:
            if played.worker is not None:
                played.worker.stop()
        for played in everybody:
            played.thread.join(THREAD_GRACE)
            if played.thread.is_alive():
                log.error("%s is still inside a callback and is left behind", played.thread.name)

    def statistics(self) -> dict[str, Any]:
        """How many threads serve; one that waits for its predecessor does not."""
        with self._lock:
            return {"threads": sum(each.thread.is_alive() and not each.waits for each in self._living)}

    def _play(self, played: Played) -> None:
        before, played.before = played.before, None
        if before is not None:
            # Two workers of one VP would share its words: the first has to let go of them.
            before.thread.join()
            with self._lock:
                played.waits = False
        try:
            played.worker = worker = self._admit(played.vp)
        except VmbusError as error:
            played.admission.set_exception(error)
            return
        except BaseException as error:
            played.admission.set_exception(error)
            raise
        if worker is not None and self._stopping.is_set():
            worker.stop()
        played.admission.set_result(None)
        if worker is not None:
            self._serve(worker)

    def _admit(self, vp: int) -> VpWorker | None:
        try:
            attached = admit(self._service, vp, self._stopping)
        except RefusedError as error:
            if error.code != link.Code.VP_OFFLINE:
                raise
            log.info("%s", error)
            return None
        if attached is None:
            return None
        return VpWorker(self._service, attached, self._connection.registry, lives_on=True)

    def _serve(self, worker: VpWorker) -> None:
        try:
            worker.run(self._cpus[worker.vp % len(self._cpus)] if self._cpus else None)
            if worker.reason is not None:
                self._fail(worker.reason)
        except VmbusError as error:
            self._fail(error)
        except BaseException as error:
            log.exception("VP %d: its worker ends", worker.vp)
            self._fail(LinkClosed(f"the worker of VP {worker.vp} ended: {type(error).__name__}: {error}"))


class ProcessPlayers:
    """One process per VP. Channels of pinned drivers are closed when the process with their state goes."""

    def __init__(
        self,
        service: Service,
        connection: Connection,
        vps: int,
        cpus: Sequence[int],
        fail: Fail,
        drivers: Sequence[DriverName],
        command: Sequence[str],
    ) -> None:
        self._service = service
        self._connection = connection
        self._cpus = cpus
        self._drivers = drivers
        self._lock = threading.Lock()
        self._lost: set[tuple[int, int]] = set()
        # From the first open on: the control process must not write a ring without its lock.
        connection.space.feed.shared = True
        self._supervisor = Supervisor(
            vps,
            orders=self._orders,
            died=self._died,
            left=self._left,
            revived=self._revived,
            failed=fail,
            command=command,
        )

    def start(self) -> None:
        """See Players."""
        try:
            self._supervisor.start()
        except BaseException:
            self._supervisor.stop()
            raise

    def changed(self, vp: int, state: int) -> None:
        """See Players."""
        if state == ONLINE:
            self._supervisor.bring_online(vp)
        elif state == LEAVING:
            # What can be closed is closed early. Its process serves on: `_left` looks again.
            self._supervisor.take_offline(vp, self._left(vp))
        else:
            self._supervisor.take_offline(vp)
            # Recovery is over, should its worker have died.
            self._revived(vp)

    def stop(self) -> None:
        """See Players."""
        self._supervisor.stop()

    def statistics(self) -> dict[str, Any]:
        """As Supervisor.statistics."""
        return self._supervisor.statistics()

    def _orders(self, vp: int) -> Orders:
        return {
            "partition": self._service.partition,
            "runtime_dir": str(self._service.runtime_dir),
            "vp": vp,
            "relook": self._service.relook,
            "spin": self._service.spin,
            "patience": self._service.patience,
            "cpu": self._cpus[vp % len(self._cpus)] if self._cpus else None,
            "drivers": self._drivers,
            "lost": self._known_lost(),
        }

    def _known_lost(self) -> list[list[int]]:
        with self._lock:
            return [list(key) for key in self._lost]

    def _died(self, vp: int) -> Orders | None:
        """What the process of `vp` knew about pinned channels died with it: nobody may call them any more."""
        if self._connection.lost is not None:
            log.error("VP %d has no worker until the daemon is back", vp)
            return None
        return self._give_up_pinned(vp, f"the process of VP {vp}, which held its state, died")

    def _left(self, vp: int) -> Orders:
        """The process of `vp` leaves, or has left."""
        # It may be called until it is gone, and gain state by that:
        #
        #   process of VP v                            here
        #                                              VpChanged(LEAVING): looks, finds no home
        #   serves what is pending: the first
        #   callback of a channel, whose home is v
        #   ends                                       its pidfd: looks again, finds the channel
        #                                              only then is there another process of VP v
        return self._give_up_pinned(vp, f"VP {vp}, whose process held its state, goes offline")

    def _give_up_pinned(self, vp: int, why: str) -> Orders:
        """Close the pinned channels whose state the process of `vp` has; what all the others are to know."""
        space = self._connection.space
        lost: list[tuple[int, int]] = []
        for channel in self._connection.callable_channels():
            flag = channel.event_flag
            if channel.driver is None or not channel.driver.pinned or space.blocks.home(flag) != vp:
                continue
            key = (flag, layout.slot_generation(space.table.slot(flag)))
            if key in self._lost:
                continue
            lost.append(key)
            log.warning("%r: its driver is pinned: it is closed: %s", channel, why)
            try:
                self._connection.end_soon(channel.primary or channel, why)
            except (UsageError, LinkClosed) as error:
                log.info("%r: closed meanwhile: %s", channel, error)
        with self._lock:
            # A close that has completed is over for good: its generation never comes back.
            self._lost = {key for key in self._lost if _is_open(space.table.slot(key[0]), key[1])}
            self._lost.update(lost)
        return {"lost": [list(key) for key in lost]}

    def _revived(self, _vp: int) -> None:
        """What the dead process wrote or gave back last, it may not have told the host."""
        self._connection.unstick(self._connection.open_channels())


def _is_open(slot: int, generation: int) -> bool:
    return bool(slot & layout.SLOT_OPEN) and layout.slot_generation(slot) == generation
