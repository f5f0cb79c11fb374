"""What an administrator says about faults: a rule as plain data, and the requests that carry it.

The fields of a rule mean something for some kinds only; `fault_rules` says which, and refuses the rest.
Nothing here imports the daemon, so that a client starts fast. Source: docs/faults.md.
"""

import math

import msgspec

from vmbusd.abi.errors import UsageError


class FaultSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One fault that a partition is to have; None and 0 where it says nothing.

    Where: `relid`, a channel, and of a primary its subchannels too; `vp`; `host`, the number of a host link;
    `who`, "hosts" or "guests"; `step`, a named step; `messages`, their names (none: all). When, of the
    occasions that match: the first `after` pass, then the first and each `every`-th behind it has the fault
    with `probability`, at most `times` times. `delay` in microseconds, `rate` per second. `seed` decides what
    chance decides, the same way each time.
    """

    kind: str
    relid: int | None = None
    vp: int | None = None
    host: int | None = None
    who: str | None = None
    step: str | None = None
    messages: tuple[str, ...] = ()
    probability: float = 1.0
    every: int = 1
    after: int = 0
    times: int | None = None
    delay: int | None = None
    rate: int | None = None
    seed: int = 0


class FaultAdd(msgspec.Struct, frozen=True, tag="fault-add", tag_field="command", forbid_unknown_fields=True):
    """Arm a fault; the result is its id in the partition."""

    partition: str
    fault: FaultSpec


def to_add(partition: str, fault: FaultSpec) -> FaultAdd:
    """The request for a fault. Raises UsageError for a probability that JSON has no word for: all else is the
    daemon's to judge."""
    if not math.isfinite(fault.probability):
        raise UsageError(f"fault {fault.kind}: probability {fault.probability}: more than 0 and at most 1")
    return FaultAdd(partition, fault)


class FaultList(
    msgspec.Struct, frozen=True, tag="fault-list", tag_field="command", forbid_unknown_fields=True
):
    """The faults of a partition, and how often each came."""

    partition: str


class FaultRemove(
    msgspec.Struct, frozen=True, tag="fault-remove", tag_field="command", forbid_unknown_fields=True
):
    """Take a fault back, or all of them (None)."""

    partition: str
    id: int | None = None


FaultRequest = FaultAdd | FaultList | FaultRemove
