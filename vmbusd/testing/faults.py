"""Faults for the tests of drivers and devices: armed by a running vmbusd, taken back at the end.

    with Faults("demo", runtime_dir=directory) as faults:
        faults.add(Kind.DROP_DOORBELL, relid=3, probability=0.1, seed=7)
        ...
        assert faults.fired() > 0

What each kind does, and to whom, stands in docs/faults.md.
"""

import enum
import os
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from vmbusd.abi.errors import UsageError
from vmbusd.ctl.client import AdminClient
from vmbusd.server.fault_requests import FaultAdd, FaultList, FaultRemove, FaultSpec, to_add


class Kind(enum.StrEnum):
    """What goes wrong: on the data path, in the daemon's messages, or with the daemon itself."""

    DROP_DOORBELL = "drop-doorbell"
    DELAY_DOORBELL = "delay-doorbell"
    DUPLICATE_DOORBELL = "duplicate-doorbell"
    REORDER_DOORBELL = "reorder-doorbell"
    DELAY_DISPATCH = "delay-dispatch"
    DELAY_READ = "delay-read"
    STUCK_VP = "stuck-vp"
    KILL = "kill"
    DROP_MESSAGE = "drop-message"
    DELAY_MESSAGE = "delay-message"
    DROP_DEVICE_MESSAGE = "drop-device-message"
    DELAY_DEVICE_MESSAGE = "delay-device-message"
    SPURIOUS_BIT = "spurious-bit"
    KILL_DAEMON = "kill-daemon"


class Faults:
    """The faults that a test arms in one partition. A context manager: at its end they are taken back.

    Needs the administrator's socket. Every call asks the daemon, each over a connection of its own, so a
    daemon that was killed and started again meanwhile is no trouble: the faults are still armed. How often
    they came can be asked for after the end too.
    """

    def __init__(self, partition: str, *, runtime_dir: str | os.PathLike[str] | None = None) -> None:
        self._partition = partition
        self._runtime_dir = runtime_dir
        self._armed: set[int] = set()
        self._counts: dict[int, int] = {}  # of each fault that ever was ours, when it was last seen

    def add(
        self,
        kind: Kind | str,
        *,
        relid: int | None = None,
        vp: int | None = None,
        host: int | None = None,
        who: str | None = None,
        step: str | None = None,
        messages: str | Iterable[str] = (),
        probability: float = 1.0,
        every: int = 1,
        after: int = 0,
        times: int | None = None,
        delay: int | None = None,
        rate: int | None = None,
        seed: int = 0,
    ) -> int:
        """Arm a fault; returns its id. It holds when this returns.

        `relid`: a channel, and of a primary its subchannels, those offered later too; `host`: the number of a
        host link; `who`: "hosts" or "guests"; `messages`: a name, or several; `delay` in microseconds; `rate`
        in bits per second. Of the occasions that match, the first `after` pass, then the first and each
        `every`-th behind it has the fault with `probability`, `times` times at most.

        Raises RefusedError, with the daemon's text, for a rule that it does not take: what is named in it is
        wrong, means nothing for this kind, or is not there. UsageError for a probability that is no number,
        ResourceError without a daemon.
        """
        fault = FaultSpec(
            str(kind),
            relid,
            vp,
            host,
            who,
            step,
            (messages,) if isinstance(messages, str) else tuple(messages),
            probability,
            every,
            after,
            times,
            delay,
            rate,
            seed,
        )
        made = int(self._ask(to_add(self._partition, fault))["id"])
        self._armed.add(made)
        self._counts[made] = 0
        return made

    def remove(self, fault: int) -> None:
        """Take one back before the end. What is delayed already still comes.

        Raises RefusedError when there is no such fault.
        """
        self._ours(self._ask(FaultRemove(self._partition, fault))["rules"])
        self._armed.discard(fault)

    def rules(self) -> list[dict[str, Any]]:
        """Every fault that this object armed and that is still there, as `vmbusctl fault list --json` shows
        it."""
        return self._ours(self._ask(FaultList(self._partition))["rules"])

    def _ours(self, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of them that this object armed, their counts noted."""
        ours = [rule for rule in rules if rule["id"] in self._armed]
        self._counts |= {rule["id"]: rule["fired"] for rule in ours}
        return ours

    def fired(self, fault: int | None = None) -> int:
        """How often a fault came, or all of ours together, with those that are taken back already.

        Raises UsageError for a fault that this object never armed.
        """
        if fault is not None and fault not in self._counts:
            raise UsageError(f"fault {fault}: armed by somebody else, or by nobody")
        if self._armed if fault is None else fault in self._armed:
            self.rules()
        return sum(self._counts.values()) if fault is None else self._counts[fault]

    def close(self) -> None:
        """Take back what is left of ours. May be called again. Raises ResourceError without a daemon."""
        for rule in self.rules() if self._armed else ():
            self.remove(rule["id"])
        self._armed.clear()

    def _ask(self, request: FaultAdd | FaultList | FaultRemove) -> dict[str, Any]:
        with AdminClient(self._runtime_dir) as client:
            return client.ask(request)

    def __enter__(self) -> "Faults":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
