"""Fault rules: what is accepted, what it looks like in the table, and what a reader of the table sees."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.abi.world import World
from vmbusd.abi import faults, layout, native
from vmbusd.abi.errors import UsageError
from vmbusd.abi.faults import Kind, Rule, Step, Who

HEADER = Path(__file__).resolve().parents[3] / "vmbusd/abi/vmbus_abi.h"
DELAYED = {Kind.DELAY_DOORBELL, Kind.REORDER_DOORBELL, Kind.DELAY_DISPATCH, Kind.DELAY_READ, Kind.STUCK_VP}


DOORBELLS = (Kind.DROP_DOORBELL, Kind.DELAY_DOORBELL, Kind.DUPLICATE_DOORBELL, Kind.REORDER_DOORBELL)
RING_STEPS = (Step.RING_COPY_PUBLISH, Step.RING_PUBLISH_SIGNAL, Step.RING_COPY_COMMIT)
KEEP_STEPS = (Step.RING_KEEP_PUBLISH, Step.RING_KEEP_COMMIT)
SIGNAL_STEPS = (Step.SIGNAL_BIT_POST, Step.SIGNAL_POST_RELOAD)
DISPATCH_STEPS = (Step.DISPATCH_CLAIM_CALLBACK, Step.DISPATCH_LET_GO)
PASS_STEPS = (Step.DRAIN_TAKEN_CLEAR, Step.DRAIN_DONE, Step.SLEEP_ANNOUNCE_LOOK)
HOOKS = {
    # Where the C core asks for a fault: in whose process, whether it knows a channel, whether a VP.
    **dict.fromkeys(DOORBELLS, ((Who.HOSTS, True, True), (Who.GUESTS, True, False))),
    Kind.DELAY_DISPATCH: ((Who.GUESTS, True, True), (Who.HOSTS, True, False)),
    Kind.DELAY_READ: ((Who.GUESTS, True, False), (Who.HOSTS, True, False)),
    Kind.STUCK_VP: ((Who.GUESTS, False, True),),
}
STEP_HOOKS = {
    **dict.fromkeys(RING_STEPS, ((Who.GUESTS, True, False), (Who.HOSTS, True, False))),
    **dict.fromkeys(KEEP_STEPS, ((Who.GUESTS, True, False),)),
    **dict.fromkeys(SIGNAL_STEPS, ((Who.HOSTS, True, True),)),
    **dict.fromkeys(DISPATCH_STEPS, ((Who.GUESTS, True, True),)),
    **dict.fromkeys(PASS_STEPS, ((Who.GUESTS, False, True),)),
    Step.SIGNAL_HOST_BIT_POST: ((Who.GUESTS, True, False),),
    Step.HOST_SLEEP_ANNOUNCE_LOOK: ((Who.HOSTS, False, False),),
    Step.HOST_TAKE_DISPATCH: ((Who.HOSTS, True, False),),
}


def can_fire(rule: Rule) -> bool:
    """Whether some process asks, at some place, for a fault that this rule selects."""
    hooks = HOOKS[rule.kind] if rule.step is None else STEP_HOOKS[rule.step]
    return any(
        rule.who & who and (channel or (rule.relid is None and rule.host is None)) and (vp or rule.vp is None)
        for who, channel, vp in hooks
    )


@st.composite
def any_rules(draw: st.DrawFn) -> Rule:
    """Rules whose every field is in its range, whether or not they can come together."""
    kind = draw(st.sampled_from(Kind))
    relid = draw(st.none() | st.integers(1, layout.MAX_RELID))
    return Rule(
        kind=kind,
        step=draw(st.sampled_from(Step)) if kind is Kind.KILL else None,
        relid=relid,
        device=relid is not None and draw(st.booleans()),
        vp=draw(st.none() | st.integers(0, layout.MAX_VPS - 1)),
        host=draw(st.none() | st.integers(0, 1 << 20)),
        who=draw(st.sampled_from([Who.HOSTS, Who.GUESTS, Who.BOTH])),
        probability=draw(st.integers(1, layout.FAULT_ALWAYS)) / layout.FAULT_ALWAYS,
        every=draw(st.integers(1, faults.MAX_COUNT)),
        after=draw(st.integers(0, faults.MAX_COUNT)),
        times=draw(st.integers(0, faults.MAX_COUNT)),
        delay=draw(st.integers(1, faults.MAX_DELAY)) if kind in DELAYED else 0,
        seed=draw(st.integers(0, faults.MAX_SEED)),
    )


@given(any_rules())
def test_a_rule_is_accepted_if_it_can_ever_come(rule: Rule) -> None:
    """Whatever is selected together: refused is what no place of the C core could meet, and nothing else."""
    if can_fire(rule):
        faults.check(rule)
    else:
        with pytest.raises(UsageError, match="fault"):
            faults.check(rule)


@given(any_rules().filter(can_fire))
def test_a_rule_comes_back_from_its_bytes(rule: Rule) -> None:
    """encode and decode: each undoes the other."""
    assert faults.decode(faults.encode(rule)) == rule


@given(st.binary(min_size=64, max_size=64))
def test_other_bytes_are_a_rule_nothing_or_an_error(data: bytes) -> None:
    """Whatever stands in a table, decoding it gives a checked rule, None, or a UsageError."""
    try:
        rule = faults.decode(data)
    except UsageError:
        return
    if rule is not None:
        faults.check(rule)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "kind is missing: one of drop-doorbell, "),
        ({"kind": "explode"}, "fault explode: kind 'explode': one of drop-doorbell"),
        ({"kind": "kill"}, "fault kill: step is missing: one of signal.between-bit-and-post"),
        (
            {"kind": "kill", "step": "nowhere"},
            "fault kill: step 'nowhere': one of signal.between-bit-and-post, ",
        ),
        (
            {"kind": "drop-doorbell", "step": "drain.before-done"},
            "fault drop-doorbell: step 'drain.before-done' means nothing for it",
        ),
        ({"kind": "drop-doorbell", "rate": 3}, "unknown field 'rate'"),
        ({"kind": "drop-doorbell", "delay": 3}, "fault drop-doorbell: delay 3 means nothing for it"),
        ({"kind": "drop-doorbell", "relid": 0}, "relid 0: 1 to 2047"),
        ({"kind": "drop-doorbell", "relid": 2048}, "relid 2048"),
        ({"kind": "drop-doorbell", "relid": "3"}, "relid"),
        ({"kind": "drop-doorbell", "vp": 64}, "vp 64: 0 to 63"),
        ({"kind": "drop-doorbell", "host": -1}, "host -1"),
        ({"kind": "drop-doorbell", "device": True}, "without a relid"),
        ({"kind": "drop-doorbell", "who": "nobody"}, "who 'nobody': one of hosts, guests, both"),
        ({"kind": "drop-doorbell", "probability": 0}, "probability 0"),
        ({"kind": "drop-doorbell", "probability": 1.5}, "probability 1.5"),
        ({"kind": "drop-doorbell", "probability": float("nan")}, "probability nan"),
        ({"kind": "drop-doorbell", "every": 0}, "every 0"),
        ({"kind": "drop-doorbell", "times": 1 << 32}, "times 4294967296"),
        ({"kind": "drop-doorbell", "seed": -1}, "seed -1"),
        ({"kind": "delay-read", "delay": 9, "vp": 1}, "fault delay-read: vp 1: it knows no VP"),
        ({"kind": "drop-doorbell", "vp": 1, "who": "guests"}, "vp 1: it knows no VP in guests"),
        (
            {"kind": "delay-dispatch", "delay": 9, "vp": 0, "who": "hosts"},
            "vp 0: it knows no VP in hosts",
        ),
        ({"kind": "delay-doorbell"}, "fault delay-doorbell: delay is missing: 1 to 1000 microseconds"),
        ({"kind": "stuck-vp"}, "fault stuck-vp: delay is missing: 1 to 60000000 microseconds"),
        ({"kind": "drop-doorbell", "probability": float("inf")}, "probability inf: more than 0"),
        (
            {"kind": "kill", "step": "drain.before-done", "who": "hosts"},
            "drain.before-done happens in guests",
        ),
        ({"kind": "kill", "step": "ring.between-copy-and-commit", "vp": 1}, "copy-and-commit knows no VP"),
        ({"kind": "stuck-vp", "delay": 9, "relid": 1}, "fault stuck-vp: relid 1: it knows no channel"),
        (
            {"kind": "stuck-vp", "delay": 9, "who": "hosts"},
            "fault stuck-vp: who hosts: it happens in guests alone",
        ),
        ({"kind": "stuck-vp", "delay": 60_000_001}, "delay 60000001: 1 to 60000000 microseconds"),
    ],
)
def test_a_bad_rule_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    """Each bad field is named with its value."""
    with pytest.raises(UsageError, match=re.escape(said)):
        faults.parse(fields)


@pytest.mark.parametrize("kind", ["delay-doorbell", "delay-dispatch", "delay-read", "reorder-doorbell"])
def test_a_delay_lies_between_1_and_1000_microseconds(kind: str) -> None:
    """Above 1000 us a delay is refused, and so is none (case 295)."""
    for delay in (1, 1000):
        assert faults.parse({"kind": kind, "delay": delay}).delay == delay
    for delay in (0, 1001, -1):
        with pytest.raises(UsageError, match=f"delay {delay}: 1 to 1000 microseconds"):
            faults.parse({"kind": kind, "delay": delay})


def test_the_header_and_python_number_kinds_and_steps_alike() -> None:
    """Each enumerator of the header is a member here, and the other way round."""
    text = HEADER.read_text()
    numbers = {name: int(value) for name, value in re.findall(r"(VMB_(?:FAULT|STEP)_\w+) = (\d+)", text)}
    expected = {"VMB_FAULT_NONE": 0, "VMB_FAULT_HOSTS": 1, "VMB_FAULT_GUESTS": 2}
    expected |= {f"VMB_FAULT_{kind.name}": kind.value for kind in Kind}
    expected |= {f"VMB_STEP_{step.name}": step.value for step in Step}
    assert numbers == expected
    assert set(faults.STEPS.values()) == set(Step)
    assert set(faults.KINDS) == set(Kind) - {Kind.KILL}
    assert set(faults.STEP_PLACES) == set(Step)
    assert Who.BOTH == Who.HOSTS | Who.GUESTS


def test_a_rule_is_written_and_switched_off(world: World) -> None:
    """What the daemon writes stands in the table with an even sequence; None leaves no rule."""
    rule = Rule(kind=Kind.DROP_DOORBELL, relid=3, seed=7)
    world.writer.set_fault(5, faults.encode(rule))
    world.writer.set_fault(6, faults.encode(Rule(kind=Kind.DUPLICATE_DOORBELL)))
    assert faults.decode(world.writer.fault(5)) == rule
    assert world.writer.fault(5)[:4] == (2).to_bytes(4, "little")

    world.writer.set_fault(5, None)
    assert faults.decode(world.writer.fault(5)) is None
    assert world.writer.fault(5)[:4] == (4).to_bytes(4, "little")
    assert faults.decode(world.writer.fault(6)) is not None
    for index, data in ((16, None), (-1, None), (0, b"x"), (0, "rule")):
        with pytest.raises(UsageError, match="fault rule"):
            world.writer.set_fault(index, data)  # type: ignore[arg-type]


def test_counts_are_read_and_begun(world: World) -> None:
    """The daemon reads sixteen counts of a VP and can have one of them begin again, at 0 or elsewhere."""
    offset = layout.VPWORK_SIZE + layout.VPWORK_FIRED_OFFSET
    native.Words(world.vpwork, offset, 8).store(1, 5 | 9 << 32)
    counts = native.FaultCounts(world.vpwork, offset, writable=True)
    assert counts.fired() == [0, 0, 5, 9, *[0] * 12]
    assert counts.begin(3) == 9
    assert counts.fired() == [0, 0, 5, 0, *[0] * 12]
    assert counts.begin(4, 0xFFFFFFFF) == 0
    assert counts.fired() == [0, 0, 5, 0, 0xFFFFFFFF, *[0] * 11]
    with pytest.raises(UsageError, match="made to be read"):
        native.FaultCounts(world.vpwork, offset).begin(2)


def test_the_decision_is_a_hash_of_seed_kind_step_channel_and_occasion() -> None:
    """Five numbers in, 31 bits out: the same for ever, spread evenly, different in each of the five."""
    drawn = [faults.decision(7, 8, 3, 12, occasion) for occasion in range(4000)]
    # The C core draws the same: tests/native/faults.c.
    assert drawn[:4] == [1971796362, 275497251, 1714312879, 981368052]
    share = sum(one < layout.FAULT_ALWAYS // 4 for one in drawn) / len(drawn)
    assert 0.22 < share < 0.28
    ones = [tuple(int(at == place) for at in range(5)) for place in range(5)]
    assert len({faults.decision(*one) for one in ones}) == 5
