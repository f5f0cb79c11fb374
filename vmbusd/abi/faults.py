"""Fault rules: which faults can be injected into the data path, and what a rule looks like in the table.

A rule is checked here and nowhere else: what `encode` lets through the C core obeys without another look.
The decision of a rule is a hash of its seed and of how often its subject was at the place before, so a test
that fails can be run again. Source: docs/faults.md; for delays and their limit, Linux 6.1 hv_debugfs.c.
"""

import enum
import struct
from collections.abc import Mapping
from typing import Any, Final

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


class _Place(msgspec.Struct, frozen=True):
    """What can be said of the place where a kind or step happens: who is there, whether for a channel, and
    which of them for a VP."""

    who: Who
    channel: bool = True
    vp: Who = Who(0)


_SENDER: Final = _Place(Who.HOSTS, vp=Who.HOSTS)
_WORKER: Final = _Place(Who.GUESTS, vp=Who.GUESTS)
_DOORBELL: Final = _Place(Who.BOTH, vp=Who.HOSTS)
_DISPATCH: Final = _Place(Who.BOTH, vp=Who.GUESTS)
_RING: Final = _Place(Who.BOTH)
_GUEST: Final = _Place(Who.GUESTS)
_WHOLE_VP: Final = _Place(Who.GUESTS, channel=False, vp=Who.GUESTS)
_KINDS: Final = {
    Kind.DROP_DOORBELL: _DOORBELL,
    Kind.DELAY_DOORBELL: _DOORBELL,
    Kind.DUPLICATE_DOORBELL: _DOORBELL,
    Kind.REORDER_DOORBELL: _DOORBELL,
    Kind.DELAY_DISPATCH: _DISPATCH,
    Kind.DELAY_READ: _RING,
    Kind.STUCK_VP: _WHOLE_VP,
}
_STEPS: Final = {
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
    Step.HOST_SLEEP_ANNOUNCE_LOOK: _Place(Who.HOSTS, channel=False),
    Step.HOST_TAKE_DISPATCH: _Place(Who.HOSTS),
}
_DELAYS: Final = {
    Kind.DELAY_DOORBELL: MAX_DELAY,
    Kind.REORDER_DOORBELL: MAX_DELAY,
    Kind.DELAY_DISPATCH: MAX_DELAY,
    Kind.DELAY_READ: MAX_DELAY,
    Kind.STUCK_VP: MAX_STUCK,
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

    Raises UsageError, naming the field and its value.
    """
    known = {field.name for field in msgspec.structs.fields(Rule)}
    if unknown := sorted(set(fields) - known):
        raise UsageError(f"fault: unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
    if "kind" not in fields:
        raise UsageError(f"fault: no kind; one of {', '.join(_names(Kind))}")
    values = dict(fields)
    values["kind"] = _named("kind", values["kind"], {_name(kind): kind for kind in Kind})
    if values.get("step") is not None:
        values["step"] = _named("step", values["step"], STEPS)
    if "who" in values:
        values["who"] = _named("who", values["who"], {_name(who): who for who in Who.__members__.values()})
    try:
        rule = msgspec.convert(values, Rule, strict=True)
    except msgspec.ValidationError as error:
        raise UsageError(f"fault: {error}") from error
    check(rule)
    return rule


def describe(rule: Rule) -> dict[str, Any]:
    """What `parse` makes this rule of, for JSON: names instead of numbers, plain fields left out."""
    fields: dict[str, Any] = {
        name: value
        for name in rule.__struct_fields__
        if (value := getattr(rule, name)) != getattr(_PLAIN, name)
    }
    fields["kind"] = _name(rule.kind)
    if rule.step is not None:
        fields["step"] = STEP_NAMES[rule.step]
    if "who" in fields:
        fields["who"] = _name(rule.who)
    return fields


def _name(member: enum.Enum) -> str:
    return str(member.name).lower().replace("_", "-")


def _names(members: type[enum.Enum]) -> list[str]:
    return [_name(member) for member in members]


def _named(field: str, value: object, names: Mapping[str, Any]) -> Any:
    if isinstance(value, str) and value in names:
        return names[value]
    raise UsageError(f"fault: {field} {value!r}; one of {', '.join(names)}")


def check(rule: Rule) -> None:
    """Raises UsageError, naming the field and its value, for a rule that could never do what it says."""
    what = _name(rule.kind)
    if (rule.kind is Kind.KILL) != (rule.step is not None):
        wanted = f"a kill needs a step: {', '.join(STEPS)}" if rule.step is None else f"{what} has no step"
        raise UsageError(f"fault: {wanted}")
    if rule.step is not None:
        what = f"kill at {STEP_NAMES[rule.step]}"
    place = _KINDS[rule.kind] if rule.step is None else _STEPS[rule.step]
    _check_place(rule, what, place)
    _check_delay(rule, what)
    if not 0.0 < rule.probability <= 1.0:
        raise UsageError(f"fault: probability {rule.probability} is not above 0 and at most 1")
    for name, value, least, most in (
        ("every", rule.every, 1, MAX_COUNT),
        ("after", rule.after, 0, MAX_COUNT),
        ("times", rule.times, 0, MAX_COUNT),
        ("seed", rule.seed, 0, MAX_SEED),
    ):
        if not least <= value <= most:
            raise UsageError(f"fault: {name} {value} is not in {least}..{most}")


def _check_place(rule: Rule, what: str, place: _Place) -> None:
    if not rule.who & place.who or rule.who & ~Who.BOTH:
        raise UsageError(f"fault: who {rule.who!r}: {what} happens in {_name(place.who)}")
    if rule.relid is not None and not 1 <= rule.relid <= layout.MAX_RELID:
        raise UsageError(f"fault: relid {rule.relid} is not in 1..{layout.MAX_RELID}")
    if rule.device and rule.relid is None:
        raise UsageError("fault: device: without a relid there is no device to name")
    if rule.vp is not None and not 0 <= rule.vp < layout.MAX_VPS:
        raise UsageError(f"fault: vp {rule.vp} is not in 0..{layout.MAX_VPS - 1}")
    if rule.host is not None and not 0 <= rule.host < layout.FAULT_ANY:
        raise UsageError(f"fault: host {rule.host} is not in 0..{layout.FAULT_ANY - 1}")
    if not place.channel:
        for name, value in (("relid", rule.relid), ("host", rule.host)):
            if value is not None:
                raise UsageError(f"fault: {name} {value}: {what} knows no channel")
    if rule.vp is not None and not rule.who & place.vp:
        where = f" in {_name(rule.who)}" if place.vp else ""
        raise UsageError(f"fault: vp {rule.vp}: {what}{where} knows no VP")


def _check_delay(rule: Rule, what: str) -> None:
    most = _DELAYS.get(rule.kind)
    if most is None:
        if rule.delay:
            raise UsageError(f"fault: delay {rule.delay}: {what} has none")
    elif not 1 <= rule.delay <= most:
        raise UsageError(f"fault: delay {rule.delay} us is not in 1..{most}, the limits of {what}")


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


_PLAIN: Final = Rule(kind=Kind.DROP_DOORBELL)


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
