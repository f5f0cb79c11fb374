"""The daemon: a runtime directory, three sockets, partitions, and an orderly end.

Start: descriptor limit, directory, reclaim of dead sets, partitions, and only then the sockets, so whoever
can connect finds everything there. Stop: every link is told, every object and file of ours is removed.
Source: docs/design.md section 4; docs/daemon.md.
"""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from vmbusd import __version__
from vmbusd.abi import link, paths
from vmbusd.abi.attach import check_name
from vmbusd.abi.errors import RefusedError, ResourceError, UsageError
from vmbusd.abi.link import Code, Role
from vmbusd.abi.link_socket import close_all
from vmbusd.server import faults, journal, limits, log, orders, reexec, requests, starting, status
from vmbusd.server.admin import AdminLink, Result, UnknownPartition
from vmbusd.server.config import Config, PartitionSpec, SocketSpec
from vmbusd.server.door import GUEST_ROLES, HOST_ROLES, Door
from vmbusd.server.listening import Listener, bind
from vmbusd.server.notify import Notifier
from vmbusd.server.partition import Partition
from vmbusd.server.reclaim import Reclaimed, reclaim
from vmbusd.server.reexec import HandedOver
from vmbusd.server.requests import Answer, Error, Request
from vmbusd.server.runtime import Runtime
from vmbusd.server.sockets import close_politely
from vmbusd.server.starting import CannotResumeError

STOPPING: Final = "vmbusd is stopping"
NOTHING: Final = HandedOver()


class Daemon:
    """A daemon in a running event loop, from construction to `stop`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        runtime: Runtime,
        notifier: Notifier | None = None,
        handed_over: HandedOver = NOTHING,
        again: Callable[[], None] = lambda: None,
    ) -> None:
        """Go on where a daemon before us stopped, make the rest, and begin to listen; `again` is called when
        this process is to become a new daemon.

        Raises ResourceError or UsageError; what we made is removed then, what another began stays as it was.
        """
        self.notifier = notifier
        self.loop = loop
        self.config = config
        self.runtime = runtime
        self.log = log.get()
        self.partitions: dict[str, Partition] = {}
        self.door = Door(loop, self.partitions, self.log, config.runtime.grace)
        self._resumed: list[str] = []
        self._admins: dict[AdminLink, socket.socket] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._orders: set[asyncio.Task[Any]] = set()
        self._listeners: list[tuple[str, Listener]] = []
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._started = time.monotonic()
        self._acts: dict[type[Any], Callable[[Any], Result]] = {
            requests.Status: lambda _: self._status(),
            requests.Channels: lambda r: {"channels": status.channels_view(self._partition(r.partition))},
            requests.Table: lambda r: {"slots": status.table_view(self._partition(r.partition))},
            requests.PartitionAdd: self._add_requested,
            requests.PartitionRemove: self._remove_requested,
            requests.Reexec: self._reexec_requested,
            requests.Retarget: lambda r: self._order(
                orders.retarget(self._partition(r.partition), r.relid, r.vp)
            ),
            requests.Rescind: lambda r: self._order(orders.rescind(self._partition(r.partition), r.relid)),
            requests.Reset: lambda r: self._order(orders.reset(self._partition(r.partition))),
            requests.VpOffline: lambda r: self._order(orders.vp_offline(self._partition(r.partition), r.vp)),
            requests.VpOnline: lambda r: self._order(orders.vp_online(self._partition(r.partition), r.vp)),
            **faults.acts(self._partition),
        }
        self._again = again
        self._handed_over = handed_over
        try:
            anew = self._resume()
            self._reclaim()
            for name, spec in {**anew, **config.partitions}.items():
                if name not in self.partitions:
                    self.add_partition(name, spec)
                elif self.partitions[name].spec != spec:
                    text = "it goes on as it was; what the configuration says now counts after a stop"
                    self.partitions[name].warnings.append(text)
                    self.log.warning("configuration changed", partition=name, reason=text)
            self._listen()
        except BaseException:
            for name in self._resumed:
                self.partitions.pop(name).leave()
            self.stop()
            raise
        self._every(limits.OBJECT_CHECK_INTERVAL, "objects", self._check_objects)
        self._notify(lambda manager: manager.ready(self._summary()))

    # -- start ---------------------------------------------------------------------------------------------

    def _resume(self) -> dict[str, PartitionSpec]:
        """Every partition that a daemon before us kept, before its objects could look abandoned. Returns what
        is to be made anew."""
        directory = self.runtime.fd
        anew = {}
        try:
            for name in journal.partitions(directory):
                try:
                    made = starting.resume(self.loop, name, directory=directory, door=self.door, log=self.log)
                except CannotResumeError as error:
                    self.log.error("partition cannot be resumed", partition=name, reason=str(error))
                    journal.remove(directory, name)
                    if error.anew is not None:
                        anew[name] = error.anew
                else:
                    self.partitions[name] = made
                    self._resumed.append(name)
        finally:
            # What was resumed is locked by us now; what was not is to look as abandoned as it is.
            close_all(self._handed_over.tables)
        return anew

    def _reclaim(self) -> None:
        report = reclaim(self.runtime.instance)
        if any(
            instance == self.runtime.instance and name not in self.partitions
            for instance, name in report.living
        ):
            old = self.runtime.instance
            self.log.warning(
                "peers of the last daemon still live", left=old, instance=self.runtime.renew_instance()
            )
        self._log_reclaimed(report)
        if report.young:
            # Somebody died, or begins, in these very seconds: judge once more when that is decided.
            again = self.loop.call_later(limits.YOUNG_SET, self._reclaim_again)
            self._timers["reclaim"] = again

    def _reclaim_again(self) -> None:
        self._log_reclaimed(reclaim(self.runtime.instance))

    def _log_reclaimed(self, report: Reclaimed) -> None:
        if report.removed:
            self.log.info("reclaimed", objects=len(report.removed))

    def _listen(self) -> None:
        sockets = self.config.sockets

        def at_door(roles: frozenset[Role], max_packet: int) -> Callable[[socket.socket, bool], None]:
            return lambda sock, scarce: self.door.accepted(sock, scarce, roles, max_packet)

        guests, hosts = at_door(GUEST_ROLES, link.MAX_GUEST_PACKET), at_door(HOST_ROLES, link.MAX_HOST_PACKET)
        self._socket(paths.GUEST_SOCKET, socket.SOCK_SEQPACKET, sockets.guest, guests)
        self._socket(paths.HOST_SOCKET, socket.SOCK_SEQPACKET, sockets.host, hosts)
        # Last, so that whoever sees it answer finds the others.
        self._socket(paths.ADMIN_SOCKET, socket.SOCK_STREAM, sockets.admin, self._admin_accepted)
        for fd in self._handed_over.admins:
            self._admin_accepted(socket.socket(fileno=fd), scarce=False)

    def _socket(
        self,
        name: str,
        kind: socket.SocketKind,
        spec: SocketSpec,
        accepted: Callable[[socket.socket, bool], None],
    ) -> None:
        path = self.runtime.path / name
        sock = self._handed_over.socket(name, str(path))
        if sock is None:
            self.runtime.remove_socket(name)
            sock = bind(path, kind, spec.mode, spec.group)
        self._listeners.append((name, Listener(self.loop, sock, accepted)))

    def _every(self, seconds: float, name: str, call: Callable[[], None]) -> None:
        def again() -> None:
            self._timers[name] = self.loop.call_later(seconds, again)
            call()

        self._timers[name] = self.loop.call_later(seconds, again)

    def _check_objects(self) -> None:
        for partition in list(self.partitions.values()):
            partition.check_objects()
            partition.keeper.settle()

    # -- partitions ----------------------------------------------------------------------------------------

    def add_partition(self, name: str, spec: PartitionSpec) -> Partition:
        """Make a partition. Raises UsageError or ResourceError."""
        check_name(name)
        spec.check()
        if name in self.partitions:
            raise UsageError(f"partition {name} exists already")
        if len(self.partitions) >= limits.MAX_PARTITIONS:
            self.door.hits["partitions"] += 1
            raise UsageError(f"{limits.MAX_PARTITIONS} partitions are the most")
        partition = starting.make(
            self.loop,
            name,
            spec,
            instance=self.runtime.instance,
            directory=self.runtime.fd,
            log=self.log,
        )
        self.partitions[name] = partition
        self.log.info("partition added", partition=name, vps=spec.vps, ram_size=spec.ram_bytes())
        return partition

    def _partition(self, name: str) -> Partition:
        if name not in self.partitions:
            raise UnknownPartition(f"there is no partition {name!r}")
        return self.partitions[name]

    def _add_requested(self, request: requests.PartitionAdd) -> dict[str, object]:
        spec = PartitionSpec(**{name: getattr(request, name) for name in PartitionSpec.__struct_fields__})
        made = self.add_partition(request.name, spec)
        self._notify(lambda manager: manager.status(self._summary()))
        return status.partition_view(made)

    def _remove_requested(self, request: requests.PartitionRemove) -> dict[str, object]:
        self._partition(request.name).close(Code.REMOVED, f"partition {request.name} was removed")
        del self.partitions[request.name]
        self.log.info("partition removed", partition=request.name)
        self._notify(lambda manager: manager.status(self._summary()))
        return {}

    # -- administration ------------------------------------------------------------------------------------

    def _admin_accepted(self, sock: socket.socket, scarce: bool) -> None:
        if scarce or len(self._admins) >= limits.MAX_ADMIN_LINKS:
            self.door.hits["descriptors" if scarce else "admin_links"] += 1
            text = (
                "too many open files" if scarce else f"{limits.MAX_ADMIN_LINKS} administrators are connected"
            )
            try:
                sock.send(requests.encode(Answer(ok=False, error=Error("resource", text))))
            except OSError:
                text += ", and it did not wait for the answer"
            self.log.warning("refused", code="LIMIT", reason=text)
            close_politely(sock)
            return
        admin = AdminLink(self._act, self._admin_closed, self.log)
        self._admins[admin] = sock
        self._connecting(admin, sock)

    def _admin_closed(self, admin: AdminLink) -> None:
        del self._admins[admin]

    def _connecting(self, admin: AdminLink, sock: socket.socket) -> None:
        """Turn an accepted socket into the stream that `admin` speaks."""

        def connected(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and task.exception() is not None:
                self._admins.pop(admin, None)
                sock.close()

        task = self.loop.create_task(self.loop.connect_accepted_socket(lambda: admin, sock))
        self._tasks.add(task)
        task.add_done_callback(connected)

    def _reexec_requested(self, _request: requests.Reexec) -> dict[str, object]:
        for name, partition in self.partitions.items():
            if partition.objects.eventfd:
                raise RefusedError(f"partition {name} has eventfd doorbells, which cannot be handed over")
        # The answer leaves with this turn, and so does what this turn has to say to the links.
        self.loop.call_soon(self.loop.call_soon, self._again)
        return {"pid": os.getpid()}

    def become(self) -> None:
        """Become a new daemon that goes on with everything. Raises ResourceError when that cannot be, and
        this one goes on."""
        sockets = {name: each.fileno() for name, each in self._listeners}
        admins = tuple(sock.fileno() for admin, sock in self._admins.items() if admin.is_idle)
        tables: list[int] = []
        try:
            for partition in self.partitions.values():
                partition.keeper.settle(now=True)
                if partition.dead is None:
                    tables.append(partition.objects.hold())
            reexec.become(HandedOver(self.runtime.lock, sockets, tuple(tables), admins))
        except OSError as error:
            raise ResourceError(f"cannot run {sys.executable} again: {error.strerror}") from error
        finally:
            close_all(tables)

    def _act(self, request: Request) -> Result:
        # What the answer counts as done has left, so whoever reads it finds what it led to.
        self.door.turn.end()
        return self._acts[type(request)](request)

    def _order(self, order: Coroutine[Any, Any, dict[str, object]]) -> Result:
        """Begin to carry it out; the answer comes when it is done."""
        task = self.loop.create_task(order)
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)
        return task

    def _status(self) -> dict[str, object]:
        return {
            "daemon": {
                "version": __version__,
                "pid": os.getpid(),
                "instance": self.runtime.instance,
                "runtime_dir": str(self.runtime.path),
                "uptime": time.monotonic() - self._started,
                "links": self.door.links,
                "limits": status.daemon_limits(
                    self.door, partitions=len(self.partitions), admin_links=len(self._admins)
                ),
            },
            "partitions": [status.partition_view(each) for each in self.partitions.values()],
        }

    def _notify(self, say: Callable[[Notifier], None]) -> None:
        """Tell the service manager, if there is one; what it does not hear is no reason to fail."""
        if self.notifier is not None:
            try:
                say(self.notifier)
            except ResourceError as error:
                self.log.warning("service manager", reason=str(error))

    def _summary(self) -> str:
        names = ", ".join(self.partitions) or "none yet"
        return f"partitions: {names}"

    # -- stop ----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Tell everybody, remove everything."""
        self._notify(Notifier.stopping)
        for timer in self._timers.values():
            timer.cancel()
        for name, listener in self._listeners:
            listener.close()
            self.runtime.remove_socket(name)
        self.door.close(Code.STOPPING, STOPPING)
        for partition in self.partitions.values():
            partition.close(Code.STOPPING, STOPPING)
        self.partitions.clear()
        for order in self._orders:
            order.cancel()
        for admin in list(self._admins):
            admin.end(Answer(ok=False, error=Error("refused", STOPPING)))
        self.runtime.close()
