"""Fault rules: which faults can be injected into the data path, and what a rule looks like in the table.

A rule is checked here and nowhere else: what `encode` lets through the C core obeys without another look.
The decision of a rule is a hash of its seed and of how often its subject was at the place before, so a test
that fails can be run again. Source: docs/faults.md; for delays and their limit, Linux 6.1 hv_debugfs.c.
"""

import contextlib
import enum
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec

from vmbusd.abi import layout
from vmbusd.abi.errors import UsageError

MAX_DELAY: Final = 1000
"""Microseconds, of doorbells, dispatches and reads: the limit of Linux's own fuzz testing (case 295)."""
MAX_STUCK: Final = 60_000_000
"""Microseconds a VP may be stuck: long enough for every timeout of this project, and a test still ends."""
MAX_COUNT: Final = 0xFFFFFFFF
"""Occasions and faults are counted in 32 bits."""
MAX_SEED: Final = 0xFFFFFFFF_FFFFFFFF

T = TypeVar("T")
_RULE: Final = struct.Struct("<12I Q 2I")
assert _RULE.size == layout.FAULT_RULE_SIZE


class Kind(enum.IntEnum):
    """What goes wrong."""

    DROP_DOORBELL = 1
    DELAY_DOORBELL = 2
    DUPLICATE_DOORBELL = 3
    REORDER_DOORBELL = 4
    DELAY_DISPATCH = 5
    DELAY_READ = 6
    STUCK_VP = 7
    KILL = 8


class Who(enum.IntFlag):
    """In which processes it goes wrong."""

    HOSTS = 1
    GUESTS = 2
    BOTH = 3


class Step(enum.IntEnum):
    """Where a process ends itself; `STEPS` has their names."""

    SIGNAL_BIT_POST = 1
    SIGNAL_POST_RELOAD = 2
    SIGNAL_HOST_BIT_POST = 3
    DRAIN_TAKEN_CLEAR = 4
    DISPATCH_CLAIM_CALLBACK = 5
    DISPATCH_LET_GO = 6
    DRAIN_DONE = 7
    SLEEP_ANNOUNCE_LOOK = 8
    RING_COPY_PUBLISH = 9
    RING_PUBLISH_SIGNAL = 10
    RING_COPY_COMMIT = 11
    HOST_SLEEP_ANNOUNCE_LOOK = 12
    HOST_TAKE_DISPATCH = 13
    RING_KEEP_PUBLISH = 14
    RING_KEEP_COMMIT = 15


STEPS: Final[dict[str, Step]] = {
    "signal.between-bit-and-post": Step.SIGNAL_BIT_POST,
    "signal.between-post-and-reload": Step.SIGNAL_POST_RELOAD,
    "signal-host.between-bit-and-post": Step.SIGNAL_HOST_BIT_POST,
    "drain.between-taken-and-clear": Step.DRAIN_TAKEN_CLEAR,
    "dispatch.between-claim-and-callback": Step.DISPATCH_CLAIM_CALLBACK,
    "dispatch.before-let-go": Step.DISPATCH_LET_GO,
    "drain.before-done": Step.DRAIN_DONE,
    "sleep.between-announce-and-look": Step.SLEEP_ANNOUNCE_LOOK,
    "ring.between-copy-and-publish": Step.RING_COPY_PUBLISH,
    "ring.between-keep-and-publish": Step.RING_KEEP_PUBLISH,
    "ring.between-publish-and-signal": Step.RING_PUBLISH_SIGNAL,
    "ring.between-copy-and-commit": Step.RING_COPY_COMMIT,
    "ring.between-keep-and-commit": Step.RING_KEEP_COMMIT,
    "host-sleep.between-announce-and-look": Step.HOST_SLEEP_ANNOUNCE_LOOK,
    "host-take.between-take-and-dispatch": Step.HOST_TAKE_DISPATCH,
}
STEP_NAMES: Final = {step: name for name, step in STEPS.items()}


class Place(msgspec.Struct, frozen=True):
    """What a kind or step takes: in which processes it happens, whether for a channel, in which of them for a
    VP, and the longest delay in microseconds, 0 for none."""

    who: Who
    channel: bool = True
    vp: Who = Who(0)
    delay: int = 0


_SENDER: Final = Place(Who.HOSTS, vp=Who.HOSTS)
_WORKER: Final = Place(Who.GUESTS, vp=Who.GUESTS)
_RING: Final = Place(Who.BOTH)
_GUEST: Final = Place(Who.GUESTS)
_WHOLE_VP: Final = Place(Who.GUESTS, channel=False, vp=Who.GUESTS)
KINDS: Final = {
    Kind.DROP_DOORBELL: Place(Who.BOTH, vp=Who.HOSTS),
    Kind.DELAY_DOORBELL: Place(Who.BOTH, vp=Who.HOSTS, delay=MAX_DELAY),
    Kind.DUPLICATE_DOORBELL: Place(Who.BOTH, vp=Who.HOSTS),
    Kind.REORDER_DOORBELL: Place(Who.BOTH, vp=Who.HOSTS, delay=MAX_DELAY),
    Kind.DELAY_DISPATCH: Place(Who.BOTH, vp=Who.GUESTS, delay=MAX_DELAY),
    Kind.DELAY_READ: Place(Who.BOTH, delay=MAX_DELAY),
    Kind.STUCK_VP: Place(Who.GUESTS, channel=False, vp=Who.GUESTS, delay=MAX_STUCK),
}
"""Every kind but a kill, which takes what its step does."""
STEP_PLACES: Final = {
    Step.SIGNAL_BIT_POST: _SENDER,
    Step.SIGNAL_POST_RELOAD: _SENDER,
    Step.SIGNAL_HOST_BIT_POST: _GUEST,
    Step.DRAIN_TAKEN_CLEAR: _WHOLE_VP,
    Step.DISPATCH_CLAIM_CALLBACK: _WORKER,
    Step.DISPATCH_LET_GO: _WORKER,
    Step.DRAIN_DONE: _WHOLE_VP,
    Step.SLEEP_ANNOUNCE_LOOK: _WHOLE_VP,
    Step.RING_COPY_PUBLISH: _RING,
    Step.RING_PUBLISH_SIGNAL: _RING,
    Step.RING_COPY_COMMIT: _RING,
    Step.RING_KEEP_PUBLISH: _GUEST,
    Step.RING_KEEP_COMMIT: _GUEST,
    Step.HOST_SLEEP_ANNOUNCE_LOOK: Place(Who.HOSTS, channel=False),
    Step.HOST_TAKE_DISPATCH: Place(Who.HOSTS),
}


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One injected fault. `delay` in microseconds: of a reordered doorbell the longest that it is held back.

    `relid`: the channel, None for all; with `device` every channel of its device, those offered later too.
    `vp`: target of a doorbell, or the VP of the worker; `host`: host link of the channel; None for all.
    `after`: occasions left alone; then each `every`-th; of those `probability` (0 to 1) are hit, `times` at
    most, 0 for no end. A rule that names no process by `who` means whoever can be at its place.
    """

    kind: Kind
    step: Step | None = None
    relid: int | None = None
    device: bool = False
    vp: int | None = None
    host: int | None = None
    who: Who = Who.BOTH
    probability: float = 1.0
    every: int = 1
    after: int = 0
    times: int = 0
    delay: int = 0
    seed: int = 0


def parse(fields: Mapping[str, Any]) -> Rule:
    """A rule from names: kind and who in lower case with dashes, step as in STEPS; checked.

    Raises UsageError, naming the kind, the field and its value.
    """
    if "kind" not in fields:
        raise UsageError(f"fault: kind is missing: one of {', '.join(KIND_NAMES)}")
    with of_kind(fields["kind"]):
        known = {field.name for field in msgspec.structs.fields(Rule)}
        if unknown := sorted(set(fields) - known):
            raise UsageError(f"unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
        values = dict(fields)
        values["kind"] = kind = one_of("kind", fields["kind"], KIND_NAMES)
        if values.get("step") is not None:
            values["step"] = one_of("step", values["step"], STEPS)
        if "who" in values:
            values["who"] = one_of("who", values["who"], WHO_NAMES)
        if "delay" not in values and kind in KINDS and KINDS[kind].delay:
            raise UsageError(f"delay is missing: 1 to {KINDS[kind].delay} microseconds")
        try:
            rule = msgspec.convert(values, Rule, strict=True)
        except msgspec.ValidationError as error:
            raise UsageError(str(error)) from error
    check(rule)
    return rule


def _name(member: enum.Enum) -> str:
    return str(member.name).lower().replace("_", "-")


KIND_NAMES: Final = {_name(kind): kind for kind in Kind}
WHO_NAMES: Final = {_name(who): who for who in Who.__members__.values()}


# -- what is wrong with a rule: of the data path here, of the daemon in vmbusd.server.fault_rules ----------


@contextlib.contextmanager
def of_kind(kind: object) -> Iterator[None]:
    """A UsageError of the block says which kind of fault it is about."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"fault {kind}: {error}") from error


def one_of(field: str, value: object, names: Mapping[str, T]) -> T:
    """What a name stands for. Raises UsageError for another."""
    if isinstance(value, str) and value in names:
        return names[value]
    raise UsageError(f"{field} {value!r}: one of {', '.join(names)}")


def within(name: str, value: int | None, least: int, most: int, unit: str = "") -> None:
    """Raises UsageError for a number out of range; None is no number."""
    if value is not None and not least <= value <= most:
        raise UsageError(f"{name} {value}: {least} to {most}{unit}")


def check_chance(probability: float, every: int, after: int, seed: int) -> None:
    """Raises UsageError for what does not choose among occasions."""
    if not 0.0 < probability <= 1.0:
        raise UsageError(f"probability {probability:g}: more than 0 and at most 1")
    within("every", every, 1, MAX_COUNT)
    within("after", after, 0, MAX_COUNT)
    within("seed", seed, 0, MAX_SEED)


def check(rule: Rule) -> None:
    """Raises UsageError, naming kind, field and value, for a rule that could never do what it says."""
    with of_kind(_name(rule.kind)):
        if rule.kind is Kind.KILL:
            if rule.step is None:
                raise UsageError(f"step is missing: one of {', '.join(STEPS)}")
            place, what = STEP_PLACES[rule.step], STEP_NAMES[rule.step]
        else:
            place, what = KINDS[rule.kind], "it"
            if rule.step is not None:
                raise UsageError(f"step {STEP_NAMES[rule.step]!r} means nothing for it")
        _check_place(rule, what, place)
        if rule.delay and not place.delay:
            raise UsageError(f"delay {rule.delay} means nothing for it")
        if place.delay:
            within("delay", rule.delay, 1, place.delay, " microseconds")
        check_chance(rule.probability, rule.every, rule.after, rule.seed)
        within("times", rule.times, 0, MAX_COUNT)


def _check_place(rule: Rule, what: str, place: Place) -> None:
    if rule.who not in WHO_NAMES.values():
        raise UsageError(f"who {rule.who:d}: one of {', '.join(WHO_NAMES)}")
    if not rule.who & place.who:
        raise UsageError(f"who {_name(rule.who)}: {what} happens in {_name(place.who)} alone")
    within("relid", rule.relid, 1, layout.MAX_RELID)
    if rule.device and rule.relid is None:
        raise UsageError("device: without a relid there is no device to name")
    within("vp", rule.vp, 0, layout.MAX_VPS - 1)
    within("host", rule.host, 0, layout.FAULT_ANY - 1)
    if not place.channel:
        for name, value in (("relid", rule.relid), ("host", rule.host)):
            if value is not None:
                raise UsageError(f"{name} {value}: {what} knows no channel")
    if rule.vp is not None and not rule.who & place.vp:
        where = f" in {_name(rule.who)}" if place.vp else ""
        raise UsageError(f"vp {rule.vp}: {what} knows no VP{where}")


def encode(rule: Rule) -> bytes:
    """The 64 bytes of a rule, its sequence 0. Raises as `check`; a probability is rounded up to 2^-31."""
    check(rule)
    return _RULE.pack(
        0,
        rule.kind,
        rule.who,
        rule.step or 0,
        rule.relid or 0,
        rule.device,
        layout.FAULT_ANY if rule.vp is None else rule.vp,
        layout.FAULT_ANY if rule.host is None else rule.host,
        max(int(rule.probability * layout.FAULT_ALWAYS), 1),
        rule.every,
        rule.after,
        rule.times,
        rule.seed,
        rule.delay,
        0,
    )


def decode(data: bytes) -> Rule | None:
    """The rule in these 64 bytes of a table; None where there is none. Raises UsageError for other bytes."""
    if len(data) != _RULE.size:
        raise UsageError(f"fault: a rule has {_RULE.size} bytes, not {len(data)}")
    _, kind, who, step, relid, device, vp, host, probability, every, after, times, seed, delay, _ = (
        _RULE.unpack(data)
    )
    if not kind:
        return None
    try:
        rule = Rule(
            kind=Kind(kind),
            step=Step(step) if step else None,
            relid=relid or None,
            device=bool(device),
            vp=None if vp == layout.FAULT_ANY else vp,
            host=None if host == layout.FAULT_ANY else host,
            who=Who(who),
            probability=probability / layout.FAULT_ALWAYS,
            every=every,
            after=after,
            times=times,
            delay=delay,
            seed=seed,
        )
    except ValueError as error:
        raise UsageError(f"fault: {error}") from error
    check(rule)
    return rule


def decision(seed: int, kind: int, step: int, relid: int, occasion: int) -> int:
    """0..2^31 - 1: what a rule of this kind and step (0: none) draws for channel `relid` the `occasion`-th
    time, from 0.

    It hits when this is below its probability. The C core computes the same; docs/faults.md has it in prose.
    """
    mixed = seed
    for number in (kind, step, relid, occasion):
        mixed = _mix(mixed + _GOLDEN * (number + 1) & MAX_SEED)
    return mixed >> 33


_GOLDEN: Final = 0x9E3779B97F4A7C15


def _mix(word: int) -> int:
    """The finalizer of splitmix64 (Steele, Lea, Flood 2014)."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & MAX_SEED
    word = (word ^ word >> 27) * 0x94D049BB133111EB & MAX_SEED
    return word ^ word >> 31
