"""`vmbusctl fault add --help` says what the daemon takes."""

import re

import pytest

from vmbusd.abi import faults
from vmbusd.abi.errors import UsageError
from vmbusd.abi.faults import MAX_DELAY, MAX_STUCK, STEPS, Who
from vmbusd.ctl import fault
from vmbusd.ctl.__main__ import _parser, main
from vmbusd.ctl.fault_help import EPILOG
from vmbusd.server.fault_requests import FaultAdd, FaultSpec
from vmbusd.server.fault_rules import DATA_KINDS, MAX_MESSAGE_DELAY, Kind, check
from vmbusd.server.steps import Step

COUNTED = {"probability", "every", "after", "times", "seed"}
SOME = {
    "relid": 1,
    "vp": 0,
    "host": 0,
    "who": "guests",
    "probability": 0.5,
    "every": 2,
    "after": 1,
    "times": 3,
    "seed": 4,
    "rate": 5,
    "delay": 6,
}
"""A value for each field that is good wherever the field has a meaning."""
EXAMPLES = re.findall(r"^  vmbusctl (.*)$", EPILOG, re.MULTILINE)


def told() -> dict[str, tuple[set[str], set[str]]]:
    """By kind, which options the text gives it, and which of them must be given."""
    found = {}
    for kind, options in re.findall(r"^  ([a-z-]+) +((?:--[a-z]+\*? ?)+)", EPILOG, re.MULTILINE):
        names = options.split()
        must = {name.strip("-*") for name in names if name.endswith("*")}
        found[kind] = {name.strip("-*") for name in names}, must
    return found


def takes(kind: str, **fields: object) -> bool:
    """Whether the daemon takes this rule."""
    try:
        check(FaultSpec(kind, **fields), vps=1)  # type: ignore[arg-type]
    except UsageError:
        return False
    return True


def needs(kind: str) -> dict[str, object]:
    """What a rule of this kind must have, with the step that takes most."""
    if kind == "kill":
        return {"step": "ring.between-copy-and-publish"}
    if kind == "kill-daemon":
        return {"step": str(Step.APPENDED)}
    return {"delay": 6} if "delay" in told()[kind][1] else {}


@pytest.mark.parametrize("kind", [*DATA_KINDS, *map(str, Kind)])
def test_each_kind_takes_what_the_text_gives_it(kind: str) -> None:
    """No more and no less, and nothing works without what is marked."""
    options, must = told()[kind]
    counted = {"times", "seed"} if kind == Kind.SPURIOUS_BIT else COUNTED
    base = needs(kind)
    assert set(base) == must
    assert takes(kind, **base)
    for name in must:
        assert not takes(kind, **{key: value for key, value in base.items() if key != name})
    taken = {name for name, value in SOME.items() if takes(kind, **base | {name: value})}
    if kind == "kill":
        # Each step takes some of them; the text has what any takes.
        taken |= {"vp"} if takes(kind, step="drain.before-done", vp=0) else set()
    if kind in DATA_KINDS and kind != "kill" and faults.KINDS[faults.KIND_NAMES[kind]].who is not Who.BOTH:
        # It happens there alone, which need not be said.
        taken.discard("who")
    taken |= {"message"} if takes(kind, **base, messages=("OPENCHANNEL",)) else set()
    taken |= {"message"} if takes(kind, **base, messages=("OPENED",)) else set()
    assert taken | must == options | counted


def test_the_text_has_every_step_with_its_kind() -> None:
    """In two lists, and no other."""
    lists = re.findall(r"^Steps of ([a-z-]+):\n((?:  .*\n)+)", EPILOG, re.MULTILINE)
    assert {kind: names.split() for kind, names in lists} == {
        "kill": list(STEPS),
        "kill-daemon": list(map(str, Step)),
    }


def test_the_text_has_the_longest_delays() -> None:
    """Of doorbells, callbacks and reads, of a VP, of messages."""
    assert f"1 to {MAX_DELAY} us, for stuck-vp {MAX_STUCK}, for messages {MAX_MESSAGE_DELAY}." in EPILOG


@pytest.mark.parametrize("line", EXAMPLES)
def test_the_examples_are_good(line: str) -> None:
    """The client and the daemon take them."""
    request = fault.request(_parser().parse_args(line.split()))
    assert isinstance(request, FaultAdd)
    assert check(request.fault, vps=2).kind == line.split()[3]


def test_help_shows_the_text_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines are not filled."""
    assert len(EXAMPLES) == 2
    with pytest.raises(SystemExit):
        main(["fault", "add", "--help"])
    assert EPILOG.strip() in capsys.readouterr().out
