"""One VP, played by the thread that calls `run`: attach, serve interrupts, leave in order.

A second thread receives on the worker's own link: when the daemon asks the worker to leave, or says that the
link ends, it stops the first; a daemon that dies, back in time or not, stops nobody. Whatever ends `run`, the
VP's loop is over before Detached is sent, which tells the daemon that nothing of ours touches the VP's words
any more and that its bits may be handed to another VP.
Source: docs/design.md section 3; docs/signal-protocol.md section 4 is in the native core.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from guest_client.feed import HERE
from guest_client.link import LinkThread
from guest_client.space import HostEnds
from vmbusd.abi import link
from vmbusd.abi.attach import Attached, attach
from vmbusd.abi.errors import LinkLost, NoDaemon, RefusedError, UsageError, VmbusError
from vmbusd.abi.lasting import FAREWELL_TIMEOUT
from vmbusd.abi.link import Object, Role
from vmbusd.abi.native import Registry, Worker

log = logging.getLogger(__name__)

ADMIT_TIMEOUT: Final = 15.0
"""Least seconds until a VP that is taken, or being recovered, or a daemon that is not back, is a failure."""
FIRST_DELAY: Final = 0.005
LAST_DELAY: Final = 0.25
LATER: Final = (link.Code.VP_TAKEN, link.Code.RECOVERING)
"""What the daemon answers until it has seen the death of the predecessor and has recovered what it held."""


class Service(NamedTuple):
    """How VPs are served: the same for all of a guest. `patience`: seconds to try to attach; a daemon may be
    away for its grace time."""

    partition: str
    runtime_dir: Path
    relook: bool = False
    spin: float = 0.0
    patience: float = ADMIT_TIMEOUT


Make = Callable[..., Worker]
"""Makes what plays a VP, of the `Attached` and the keyword arguments of `native.Worker`."""


def shipped(_attached: Attached, **arguments: Any) -> Worker:
    """The `Make` of everybody who compares nothing."""
    return Worker(**arguments)


def check_cpus(cpus: list[int]) -> None:
    """Raises UsageError for a CPU that this process may not run on."""
    allowed = os.sched_getaffinity(0)
    if wrong := [cpu for cpu in cpus if cpu not in allowed]:
        raise UsageError(f"CPU {wrong[0]} is not one of {', '.join(map(str, sorted(allowed)))}")


def admit(
    service: Service, vp: int, stopping: threading.Event, gone: Callable[[], bool] = lambda: False
) -> Attached | None:
    """Attach as the worker of `vp`, again and again while the last one is recovered; None once `stopping`, or
    once the guest that wants it is `gone`: the next one has workers of its own.

    Raises as `attach`, RefusedError also when the VP stays taken.
    """
    deadline = time.monotonic() + service.patience
    delay = FIRST_DELAY
    while not (stopping.is_set() or gone()):
        try:
            return attach(
                Role.GUEST_WORKER, service.partition, runtime_dir=service.runtime_dir, vp=vp, resumable=True
            )
        except (NoDaemon, LinkLost):
            # The guest has a link already: the daemon is being restarted.
            if time.monotonic() + delay > deadline:
                raise
        except RefusedError as error:
            if error.code not in LATER or time.monotonic() + delay > deadline:
                raise
        # The daemon tells nobody when recovery is over: ask again, ever less often.
        stopping.wait(delay)
        delay = min(2 * delay, LAST_DELAY)
    return None


class VpWorker:
    """The worker of one VP over its link `attached`, which it takes over.

    `hosts` takes the host links that come over this link, None if another link of the process does that;
    `watch` is for `LinkThread`; `lives_on`: whether the process lives on without this worker, so that its
    farewell alone tells the daemon of its end. Attributes: `vp`; `reason`, why the link ended, None if it
    did not.
    """

    def __init__(
        self,
        service: Service,
        attached: Attached,
        registry: Registry,
        *,
        hosts: HostEnds | None = None,
        watch: dict[int, Callable[[], bool]] | None = None,
        lives_on: bool = False,
        make: Make = shipped,
    ) -> None:
        self.vp = attached.welcome.vp
        self.reason: VmbusError | None = None
        self._attached = attached
        self._last: dict[str, int] = {}
        self._leaving = False
        self._asked = False
        self._must_end = False
        self._lives_on = lives_on
        self._native: Worker | None = make(
            attached,
            vp=self.vp,
            table=attached[Object.TABLE],
            events=attached[Object.EVENTS],
            vpwork=attached[Object.VPWORK],
            blocks=attached[Object.GUEST],
            doorbell=attached.vp_doorbells[self.vp],
            registry=registry,
            relook=service.relook,
            spin=service.spin,
            guards=attached.guards,
        )
        self._link = LinkThread(
            attached,
            name=f"vp{self.vp}-link",
            packet=self._on_packet,
            ended=self._on_end,
            hosts=hosts,
            watch=watch,
        )

    def run(self, cpu: int | None = None) -> None:
        """Serve until `stop`, until the daemon asks us to leave or until the link ends; then leave.

        `cpu` pins the calling thread. Raises ObjectDead, or what a signal handler or a callback let through.
        """
        native = self._native
        if native is None:
            raise UsageError(f"VP {self.vp}: this worker has left")
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        self._link.start()
        HERE.vp, HERE.worker, HERE.must_end = self.vp, native, lambda: self._must_end
        try:
            native.run()
        finally:
            HERE.worker = None
            self._last = native.statistics()
            del native
            self.leave()

    def stop(self) -> None:
        """Ask `run` to return once nothing is pending; its farewell gets little time. From any thread, signal
        handler or callback."""
        self._link.hurry()
        self._must_end = True
        self._end_run()

    def _end_run(self) -> None:
        if (native := self._native) is not None:
            native.stop()

    def statistics(self) -> dict[str, int]:
        """The VP's counters, as `native.VpWork.statistics`."""
        native = self._native
        return self._last if native is None else native.statistics()

    def leave(self) -> None:
        """Let go of the VP. `run` does it; to be called for a worker that was never run."""
        self._leaving = True
        # A daemon that asked for it gives the VP to nobody before it has heard it, or whoever goes on for it.
        patient = self._asked and self._lives_on
        farewell = link.encode(link.Detached(self.vp))
        self._link.close(farewell, math.inf if patient else FAREWELL_TIMEOUT)
        # It holds the mappings that are about to go.
        self._native = None
        self._attached.close()

    def _on_packet(self, header: link.Header, _packet: bytes) -> None:
        if header.kind == link.Kind.DETACH:
            log.info("VP %d: the daemon takes the VP offline", self.vp)
            # A callback that waits goes on: its channel has moved, but what it does is not done.
            self._asked = True
            self._end_run()

    def _on_end(self, reason: VmbusError) -> None:
        if self._leaving:
            # The daemon has heard our Detached.
            return
        if isinstance(reason, LinkLost):
            log.warning("VP %d: %s; it serves on without it", self.vp, reason)
        else:
            self.reason = reason
            self._must_end = True
            self._end_run()
