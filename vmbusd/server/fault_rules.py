"""Which kinds of faults there are, what each of them takes, and why a rule is refused.

A field that has no meaning for a kind is refused, because a rule that does less than it says would make a
test pass for the wrong reason. Source: docs/faults.md.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from vmbusd.abi import device_link, faults, layout, wire
from vmbusd.abi.errors import UsageError
from vmbusd.abi.faults import MAX_COUNT, Rule, check_chance, of_kind, one_of, within
from vmbusd.server import limits
from vmbusd.server.fault_requests import FaultSpec
from vmbusd.server.steps import Step

MAX_RULES: Final = 64
"""Faults of one partition: a test uses a few, and each message is held against those of its direction."""
MAX_MESSAGE_DELAY: Final = 10_000_000
"""Microseconds that a message may be kept back: ten seconds is as long as a client waits for an answer."""
MAX_RATE: Final = 10_000
"""Spurious bits per second: far more than a machine makes by mistake, and little of the daemon's time."""
DEFAULT_RATE: Final = 100


class Kind(enum.StrEnum):
    """Faults that the daemon itself makes."""

    DROP_MESSAGE = "drop-message"
    DELAY_MESSAGE = "delay-message"
    DROP_DEVICE_MESSAGE = "drop-device-message"
    DELAY_DEVICE_MESSAGE = "delay-device-message"
    SPURIOUS_BIT = "spurious-bit"
    KILL_DAEMON = "kill-daemon"


CHANNEL_MESSAGES: Final[Mapping[str, int]] = {row.name: row.number for row in wire.MESSAGES}
"""Channel messages by name. The forms of one message are one: its name with and without a digit."""
DEVICE_MESSAGES: Final[Mapping[str, int]] = {kind.name: kind.value for kind in device_link.Kind}
"""Device messages by name."""
RELID_AT: Final = {1: 184} | dict.fromkeys((2, 5, 6, 7, 8, 10, 11, 13, 18, 19, 20, 22, 24), 8)
"""Offset of the relid in the channel messages that name a channel, by number (Linux 6.1 hyperv.h)."""
NO_OFFER: Final = frozenset({"PROVIDE_SOCKETS", "SOCKET_ANSWER", "SOCKETS_PROVIDED", "SOCKET_CONNECT"})
"""Device messages that do not begin with an offer id, so are about no channel."""
_NO_CHANNEL: Final = NO_OFFER | {name for name, number in CHANNEL_MESSAGES.items() if number not in RELID_AT}

DATA_KINDS: Final = tuple(faults.KIND_NAMES)
"""Faults of the data path, which hosts and workers make themselves."""

KILL: Final = "kill"
_STEPS: Final[Mapping[str, Mapping[str, object]]] = {
    KILL: faults.STEPS,
    Kind.KILL_DAEMON: {step.value: step for step in Step},
}
_OF_DATA: Final = frozenset(
    {"relid", "vp", "host", "who", "step", "probability", "every", "after", "times", "delay", "seed"}
)
_COUNTED: Final = frozenset({"probability", "every", "after", "times", "seed"})


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a kind takes: the fields that may be given, those that must be, names of messages, most delay."""

    may: frozenset[str]
    must: frozenset[str] = frozenset()
    names: Mapping[str, int] | None = None
    most_delay: int = 0


_SHAPES: Final[Mapping[str, _Shape]] = {
    Kind.DROP_MESSAGE: _Shape(_COUNTED | {"relid", "messages"}, names=CHANNEL_MESSAGES),
    Kind.DELAY_MESSAGE: _Shape(
        _COUNTED | {"relid", "messages", "delay"}, frozenset({"delay"}), CHANNEL_MESSAGES, MAX_MESSAGE_DELAY
    ),
    Kind.DROP_DEVICE_MESSAGE: _Shape(_COUNTED | {"relid", "host", "messages"}, names=DEVICE_MESSAGES),
    Kind.DELAY_DEVICE_MESSAGE: _Shape(
        _COUNTED | {"relid", "host", "messages", "delay"},
        frozenset({"delay"}),
        DEVICE_MESSAGES,
        MAX_MESSAGE_DELAY,
    ),
    Kind.SPURIOUS_BIT: _Shape(frozenset({"relid", "vp", "host", "times", "rate", "seed"})),
    Kind.KILL_DAEMON: _Shape(_COUNTED | {"step"}, frozenset({"step"})),
}
_DATA: Final = _Shape(_OF_DATA)
"""Of the data path; what of it each kind takes, and what it must have, is the table's matter."""
_DEFAULTS: Final = FaultSpec("")


def check(fault: FaultSpec, *, vps: int) -> FaultSpec:
    """The rule with what its kind has by default, for a partition of `vps` VPs.

    Raises UsageError naming kind, field and value.
    """
    is_of_data = fault.kind in DATA_KINDS
    shape = _DATA if is_of_data else _SHAPES.get(fault.kind)
    if shape is None:
        raise UsageError(f"fault {fault.kind!r}: one of {', '.join((*DATA_KINDS, *_SHAPES))}")
    with of_kind(fault.kind):
        _check_fields(fault, shape)
        within("vp", fault.vp, 0, vps - 1)
        within("times", fault.times, 1, MAX_COUNT)
        _check_step(fault)
        if not is_of_data:
            _check_values(fault, shape)
    if is_of_data:
        of_data(fault, device=False)
    if fault.kind in _STEPS:
        return _once(fault)
    if fault.kind == Kind.SPURIOUS_BIT and fault.rate is None:
        return msgspec.structs.replace(fault, rate=DEFAULT_RATE)
    return fault


def _once(fault: FaultSpec) -> FaultSpec:
    """Who comes back to be killed at the same step again would never come back."""
    return fault if fault.times is not None else msgspec.structs.replace(fault, times=1)


def of_data(fault: FaultSpec, *, device: bool) -> Rule:
    """The rule for the table; `device`: it covers the subchannels of its channel. Raises UsageError."""
    fields = {
        name: value
        for name in _OF_DATA
        if (value := getattr(fault, name)) is not None and value != getattr(_DEFAULTS, name)
    }
    return faults.parse({"kind": fault.kind, "device": device, **fields})


def _check_fields(fault: FaultSpec, shape: _Shape) -> None:
    for name in fault.__struct_fields__[1:]:
        value = getattr(fault, name)
        given = value != getattr(_DEFAULTS, name)
        if given and name not in shape.may:
            text = ", ".join(value) if isinstance(value, tuple) else repr(value)
            raise UsageError(f"{name} {text} means nothing for it")
        if not given and name in shape.must:
            raise UsageError(f"{name} is missing")


def _check_step(fault: FaultSpec) -> None:
    """Hosts and workers have other steps than the daemon."""
    if fault.step is None or fault.kind not in _STEPS:
        return
    for kind, steps in _STEPS.items():
        if kind != fault.kind and fault.step in steps:
            raise UsageError(f"step {fault.step!r} is a step of {kind}")
    one_of("step", fault.step, _STEPS[fault.kind])


def _check_values(fault: FaultSpec, shape: _Shape) -> None:
    within("relid", fault.relid, 1, layout.MAX_RELID)
    within("host", fault.host, 0, limits.MAX_HOST_LINKS - 1)
    within("delay", fault.delay, 1, shape.most_delay, " microseconds")
    within("rate", fault.rate, 1, MAX_RATE, " per second")
    check_chance(fault.probability, fault.every, fault.after, fault.seed)
    if fault.vp is not None and fault.host is not None:
        raise UsageError(f"vp {fault.vp} and host {fault.host}: a bit is on one page")
    if len(set(fault.messages)) < len(fault.messages):
        raise UsageError(f"messages {', '.join(fault.messages[:8])}: each once")
    for name in fault.messages:
        if shape.names is not None:
            one_of("message", name, shape.names)
        if fault.relid is not None and name in _NO_CHANNEL:
            raise UsageError(f"relid {fault.relid}: the message {name} names no channel")
