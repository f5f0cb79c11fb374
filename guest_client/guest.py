"""The public guest: attach to a partition, register drivers, serve its VPs with threads or with processes.

    with Guest.attach("demo") as guest:
        guest.register(EchoDriver())
        guest.run(vps=4)

The thread that calls `run` only waits, so that Ctrl-C works; probes and removals run in a thread of their own
(`probing`).
The death of the daemon ends nothing: open channels go on, what needs it waits until it is back, and raises
LinkLost only when it stays away for longer than its grace time. `statistics` counts under `resumed`.
An orderly end is UNLOAD first, so that no callback begins any more, then the workers, then `removed`.
"""

import asyncio
import logging
import os
import queue
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal
from uuid import UUID

from guest_client.channel import Channel, mistake
from guest_client.connection import Connection
from guest_client.driver import Driver, checked, name_of
from guest_client.players import Players, ProcessPlayers, ThreadPlayers
from guest_client.probing import Probing
from guest_client.session import Session
from guest_client.supervisor import COMMAND
from guest_client.versions import options
from guest_client.vps import STATES, VpOrders
from guest_client.waiting import answered
from guest_client.worker import ADMIT_TIMEOUT, Service, check_cpus
from vmbusd.abi import link, paths
from vmbusd.abi.attach import attach
from vmbusd.abi.errors import LinkLost, TimedOut, UsageError, VmbusError
from vmbusd.abi.link import Object, Role
from vmbusd.abi.native import VpWork

log = logging.getLogger(__name__)

CONTACT_TIMEOUT: Final = 10.0
UNLOAD_TIMEOUT: Final = 10.0
"""Seconds until we leave without the host's answer: a device or a callback hangs."""
Workers = Literal["thread", "process"]


class Guest(Session):
    """One guest of one partition. Runs once. A context manager; leaving it ends everything.

    Attributes: `partition`; `vps`; `worker_command`, what plays a VP with `workers="process"`.
    """

    def __init__(
        self, connection: "Callable[[Guest], Connection]", partition: str, runtime_dir: Path
    ) -> None:
        self.partition = partition
        self._runtime_dir = runtime_dir
        self._drivers: dict[UUID, Driver] = {}
        self._ending: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._error: VmbusError | None = None
        self._probing = Probing(lambda channel: self._connection.give_up(channel))
        self._delivered = False
        self._players: Players | None = None
        self.worker_command: Sequence[str] = COMMAND
        self._started = False
        self._vp_orders = VpOrders(lambda packet: self._connection.post(packet))
        self._connection = connection(self)
        welcome = self._connection.attached.welcome
        self.vps = welcome.vps
        self._left: dict[str, Any] = {}
        self._vpwork: VpWork | None = VpWork(self._connection.attached[Object.VPWORK], welcome.vps)

    @classmethod
    def attach(
        cls,
        partition: str,
        *,
        runtime_dir: str | os.PathLike[str] | None = None,
        versions: Iterable[str | int] | None = None,
        minimum_version: str | int | None = None,
        interfaces: Iterable[UUID] | None = None,
        features: int = 0,
        client_id: UUID | None = None,
    ) -> "Guest":
        """Attach to the daemon of `runtime_dir` as the guest of `partition`, and negotiate a version.

        `versions` are asked newest first, those of Linux by default ("5.3", ... "2.4"); `minimum_version` is
        the oldest to put up with; `interfaces` are the only ones whose offers are taken, all by default;
        `features` (messages.Feature) and `client_id` are asked at 6.0. Raises UsageError, ResourceError
        without a daemon, RefusedError with the daemon's reason or without a common version, TimedOut when the
        daemon dies before it answers and does not come back in time.
        """
        wanted = options(versions, minimum_version, interfaces, features, client_id)
        attached = attach(Role.GUEST_CONTROL, partition, runtime_dir=runtime_dir, resumable=True)
        directory = paths.runtime_dir(runtime_dir)
        try:
            guest = cls(
                lambda guest: Connection(attached, guest, guest._drivers, wanted), partition, directory
            )
        except BaseException:
            attached.close()
            raise
        try:
            answered(
                guest._connection.contact(), CONTACT_TIMEOUT, f"{partition}: no answer to the first contact"
            )
        except BaseException:
            guest.close()
            raise
        return guest

    def __enter__(self) -> "Guest":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def register(self, driver: Driver) -> None:
        """Take the offers of `driver.interface`. Raises UsageError for a second driver of it, or too late."""
        checked(driver)
        if self._started:
            raise UsageError("drivers are registered before the guest starts")
        if driver.interface in self._drivers:
            raise UsageError(f"interface {driver.interface} has a driver already")
        self._drivers[driver.interface] = driver

    # -- running -------------------------------------------------------------------------------------------

    def run(
        self,
        vps: int | None = None,
        workers: Workers = "thread",
        cpus: Sequence[int] | None = None,
        relook: bool = False,
        spin: float = 0.0,
    ) -> None:
        """Serve until `stop`, Ctrl-C or the end of the link; then end everything in order.

        `vps`: how many VPs, all by default; `cpus`: pin VP i to cpus[i % len(cpus)]; `relook`: look at the
        bits every second, though the protocol does not need it, and count what that rescued; `spin`: seconds
        to look at the page before sleeping. Raises UsageError, ResourceError, RefusedError, LinkClosed or
        ObjectDead with the reason.
        """
        try:
            self.start(vps, workers, cpus, relook, spin)
            self.wait()
        finally:
            self.finish()

    async def serve(
        self,
        vps: int | None = None,
        workers: Workers = "thread",
        cpus: Sequence[int] | None = None,
        relook: bool = False,
        spin: float = 0.0,
    ) -> None:
        """As `run`, for asyncio: cancelling it ends everything in order."""
        try:
            await asyncio.to_thread(self.start, vps, workers, cpus, relook, spin)
            await asyncio.to_thread(self.wait)
        finally:
            self.stop()
            await asyncio.shield(asyncio.to_thread(self.finish))

    def start(
        self,
        vps: int | None = None,
        workers: Workers = "thread",
        cpus: Sequence[int] | None = None,
        relook: bool = False,
        spin: float = 0.0,
    ) -> None:
        """Begin to serve and return: every VP has its worker, and the offers are requested."""
        count = self.vps if vps is None else vps
        if not 1 <= count <= self.vps:
            raise UsageError(f"{count} VPs: partition {self.partition} has {self.vps}")
        if not 0 <= spin <= 1:
            raise UsageError(f"spin {spin}: seconds between 0 and 1")
        if workers not in ("thread", "process"):
            raise UsageError(f'workers {workers!r}: "thread" or "process"')
        if self._started:
            raise UsageError("a guest runs once")
        pinning = list(cpus or ())
        check_cpus(pinning)
        grace = self._connection.attached.welcome.grace / 1000
        patience = max(ADMIT_TIMEOUT, grace)
        service = Service(self.partition, self._runtime_dir, relook, spin, patience)
        if workers == "thread":
            self._players = ThreadPlayers(service, self._connection, count, pinning, self._fail)
        else:
            names = [name_of(driver) for driver in self._drivers.values()]
            self._players = ProcessPlayers(
                service, self._connection, count, pinning, self._fail, names, self.worker_command
            )
        self._started = True
        self._probing.start()
        self._players.start()
        self._connection.request_offers(count)

    def wait(self) -> None:
        """Wait until somebody calls `stop` or the guest fails; raises then what it failed with."""
        self._ending.get()
        # For others that wait.
        self._ending.put(None)
        if self._error is not None:
            raise self._error

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until the first list of offers is probed and every open begun by a probe has ended."""
        with self._probing.changed:
            return self._probing.changed.wait_for(self._is_ready, timeout)

    def _is_ready(self) -> bool:
        return (self._delivered and not self._probing.under_way) or self._connection.lost is not None

    def stop(self) -> None:
        """Let `run` return. From any thread, callback or signal handler."""
        self._ending.put(None)

    def finish(self) -> None:
        """End what `start` began: unload, workers, `removed` of every driver. May be called again."""
        if not self._started or self._players is None:
            return
        players, self._players = self._players, None
        self._probing.stop()
        try:
            if not self._connection.tells_of_its_end:
                for closing in self._connection.close_devices():
                    answered(closing, UNLOAD_TIMEOUT, "a channel was not closed")
            answered(self._connection.unload(), UNLOAD_TIMEOUT, "no answer to the unload")
        except TimedOut as error:
            log.warning("%s: a host or a callback did not let go: %s", self.partition, str(error))
        except VmbusError as error:
            log.debug("%s: left without an answer: %s", self.partition, str(error))
        finally:
            players.stop()
        self._probing.join()
        for channel in self._connection.everything:
            self._removed(channel)

    def crash(self) -> bool:
        """Leave as a crashing kernel does: no driver is asked, no callback waited for, only the host is told
        and given 100 s to let go (case 172). Returns whether it answered. The guest is over then.
        """
        players, self._players = self._players, None
        if players is not None:
            self._probing.stop()
        answered = bool(self._connection.crash().result())
        if not answered:
            log.error("%s: going on although the host did not let go", self.partition)
        if players is not None:
            players.stop()
        self.stop()
        self.close()
        return answered

    def close(self) -> None:
        """End everything and leave the daemon. May be called again."""
        try:
            self.finish()
        finally:
            self._left = self.statistics()
            self._vpwork = None
            self._connection.close()

    # -- what it knows --------------------------------------------------------------------------------------

    def statistics(self) -> dict[str, Any]:
        """The connection's numbers, `vps`: a list of counters per VP, `vp_states`: "vacant", "online",
        "offline" or "leaving" of each, `workers`: what plays them.

        After `close` they are those of that moment.
        """
        players, vpwork = self._players, self._vpwork
        if vpwork is None:
            return self._left
        return {
            "partition": self.partition,
            **self._connection.statistics(),
            "vps": [vpwork.statistics(vp) for vp in range(self.vps)],
            "vp_states": [STATES[self._vp_state(vp)] for vp in range(self.vps)],
            "workers": players.statistics() if players is not None else {},
        }

    # -- what the connection tells (connection.Listener) ---------------------------------------------------

    def offered(self, channel: Channel, *, answers: bool) -> None:
        driver, primary = channel.driver, channel.primary
        if driver is None or answers:
            return
        if primary is not None:
            self._probing.probe(channel, lambda: driver.on_subchannel(primary, channel), "on_subchannel")
        else:
            self._probing.probe(channel, lambda: driver.probe(channel))

    def offers_delivered(self) -> None:
        with self._probing.changed:
            self._delivered = True
            self._probing.changed.notify_all()

    def gone(self, channel: Channel, *, released: bool) -> None:
        def remove() -> None:
            self._removed(channel)
            if not released:
                self._connection.release(channel)

        self._probing.do(remove)

    def resumed(self, channel: Channel, *, was_open: bool) -> None:
        driver = channel.driver
        if driver is not None and was_open:
            self._probing.probe(channel, lambda: driver.resumed(channel), "resumed")

    def vp_changed(self, changed: link.VpChanged) -> None:
        players = self._players
        if players is not None and not changed.text:
            players.changed(changed.vp, changed.state)
        self._vp_orders.take(changed)

    def ended(self, reason: VmbusError) -> None:
        self._vp_orders.fail(reason)
        if not isinstance(reason, LinkLost):
            self._fail(reason)
            return
        # As text: an error in a kept log record would keep its frames, and by them our mappings.
        log.warning("%s: %s; open channels go on without it", self.partition, str(reason))
        with self._probing.changed:
            self._probing.changed.notify_all()

    # -- small change --------------------------------------------------------------------------------------

    def _removed(self, channel: Channel) -> None:
        if channel.driver is None:
            return
        try:
            channel.driver.removed(channel)
        except Exception as error:
            log.error("%r: its driver's removed failed: %s", channel, error, exc_info=mistake(error))

    def _fail(self, error: VmbusError) -> None:
        with self._probing.changed:
            self._error = self._error or error
            self._probing.changed.notify_all()
        self._ending.put(None)
