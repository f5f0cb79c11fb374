"""Who plays the VPs of a guest: threads of this process, or processes under a supervisor."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from guest_client.connection import Connection
from guest_client.driver import DriverName
from guest_client.supervisor import Orders, Supervisor
from guest_client.worker import Service, VpWorker, admit
from vmbusd.abi import layout
from vmbusd.abi.errors import LinkClosed, UsageError, VmbusError

log = logging.getLogger(__name__)

THREAD_GRACE: Final = 5.0
"""Seconds for a callback to return; a thread cannot be killed, so then it is left behind."""

Fail = Callable[[VmbusError], None]


class Players(Protocol):
    """What a guest asks of them."""

    def start(self) -> None:
        """Every VP has its worker when this returns; raises why one has none."""

    def stop(self) -> None:
        """End all workers in order and wait for them."""

    def statistics(self) -> dict[str, Any]: ...


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
        self._workers: list[VpWorker] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """See Players."""
        never = threading.Event()
        try:
            for vp in range(self._vps):
                attached = admit(self._service, vp, never)
                assert attached is not None
                self._workers.append(VpWorker(self._service, attached, self._connection.registry))
        except BaseException:
            for worker in self._workers:
                worker.leave()
            raise
        for worker in self._workers:
            thread = threading.Thread(target=self._play, args=(worker,), name=f"vp{worker.vp}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """See Players."""
        for worker in self._workers:
            worker.stop()
        for thread in self._threads:
            thread.join(THREAD_GRACE)
            if thread.is_alive():
                log.error("%s is still inside a callback and is left behind", thread.name)

    def statistics(self) -> dict[str, Any]:
        """How many threads serve."""
        return {"threads": sum(thread.is_alive() for thread in self._threads)}

    def _play(self, worker: VpWorker) -> None:
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
    """One process per VP. Channels of pinned drivers are closed when the process of their VP dies."""

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
        self._lost: dict[tuple[int, int], int] = {}
        # From the first open on: the control process must not write a ring without its lock.
        connection.space.feed.shared = True
        self._supervisor = Supervisor(
            vps,
            orders=self._orders,
            died=self._died,
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
            "cpu": self._cpus[vp % len(self._cpus)] if self._cpus else None,
            "drivers": self._drivers,
            "lost": [list(key) for key in self._lost],
        }

    def _died(self, vp: int) -> Orders | None:
        """What the process of `vp` knew about pinned channels died with it: nobody may call them any more."""
        if self._connection.lost is not None:
            log.error("VP %d has no worker until the daemon is back", vp)
            return None
        lost: list[list[int]] = []
        table = self._connection.space.table
        # A close that has completed is over for good: its generation never comes back.
        self._lost = {key: vp for key, vp in self._lost.items() if _is_open(table.slot(key[0]), key[1])}
        for channel in self._connection.open_channels():
            if channel.target_vp != vp or channel.driver is None or not channel.driver.pinned:
                continue
            generation = layout.slot_generation(table.slot(channel.event_flag))
            self._lost[channel.event_flag, generation] = vp
            lost.append([channel.event_flag, generation])
            log.warning("%r: its driver is pinned and its process died: it is closed", channel)
            try:
                (channel.primary or channel).begin_close(
                    f"the process of VP {vp}, which held its state, died"
                )
            except (UsageError, LinkClosed) as error:
                log.info("%r: closed meanwhile: %s", channel, error)
        return {"lost": lost}

    def _revived(self, _vp: int) -> None:
        """What the dead process wrote or gave back last, it may not have told the host."""
        self._connection.unstick(self._connection.open_channels())


def _is_open(slot: int, generation: int) -> bool:
    return bool(slot & layout.SLOT_OPEN) and layout.slot_generation(slot) == generation
