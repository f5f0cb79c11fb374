"""`vmbusd lab --replay`: how an interrupt was dropped, step by step, in the old design and in the new.

Two orders of the same few steps are the reason for the global table (docs/why.md). Each is played on the
running code, under a scheduler that lets one actor do one step at a time (`replay_scene`, `schedule`); what
is printed after a step is what the shared words said then, and its words are chosen by them. `all` plays
every order there is and counts those that lose the packet. Exit status: 0 when the lists lose and the table
does not, 1 otherwise; others are `ending`'s.
"""

import enum
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from vmbusd.demo.processes import own_daemon
from vmbusd.lab import replay_text
from vmbusd.lab.replay_scene import PARTITION, VPS, A, B, Scene, State, scene
from vmbusd.lab.schedule import orders

MORE_PACKETS: Final = 3
"""Written at the end of every order: would the host ever signal again?"""


class Step(enum.Enum):
    """What can be done, by one actor, while all others are held."""

    POST = enum.auto()
    UNLINK = enum.auto()
    LINK = enum.auto()
    PROCESS = enum.auto()
    WRITE = enum.auto()
    CLEAR = enum.auto()
    LOOK = enum.auto()
    MORE = enum.auto()


Group = tuple[Step, ...]
"""Steps that one row of a table shows together."""
MOVE: Final = (Step.UNLINK, Step.LINK)
DO: Final[dict[Step, Callable[[Scene], None]]] = {
    Step.POST: Scene.post,
    Step.UNLINK: Scene.unlink,
    Step.LINK: Scene.link,
    Step.PROCESS: Scene.process,
    Step.WRITE: Scene.write,
    Step.CLEAR: Scene.clear,
    Step.LOOK: Scene.look,
    Step.MORE: lambda stage: stage.write(MORE_PACKETS),
}
_VP_ALONE: Final[tuple[Group, ...]] = ((Step.WRITE,), (Step.CLEAR,), (Step.LOOK,))
INTERLEAVINGS: Final[dict[int, tuple[Group, ...]]] = {
    1: ((Step.POST,), MOVE, *_VP_ALONE, (Step.PROCESS,)),
    2: ((Step.POST,), (Step.PROCESS,), *_VP_ALONE, MOVE),
}
"""The list moves first; the host moves first."""
PLAYED: Final = [step for step in Step if step is not Step.MORE]
"""All but the ending, which every order has."""
ALWAYS: Final = ((Step.POST, Step.PROCESS), (Step.WRITE, Step.CLEAR), (Step.CLEAR, Step.LOOK))
GUESTS: Final = {
    "posts, then moves the list": (MOVE, (Step.POST, Step.UNLINK)),
    "moves the list, then posts": (MOVE, (Step.LINK, Step.POST)),
    "moves the list when answered": (MOVE, (Step.PROCESS, Step.UNLINK)),
}
"""In which orders a guest of the old design can do its own steps."""


class Row(msgspec.Struct, frozen=True):
    """One line of a table: who did what, and what the shared words said after it."""

    step: int
    who: str
    action: str
    state: State


class Outcome(msgspec.Struct, frozen=True):
    """How it ended, everybody at rest: packets `sent`, `received` by `callbacks`; bytes that lie in the ring;
    `last_signals`, for the packets that were written last; `hung`, when packets lie there and the ring's rule
    asks for no signal any more."""

    callbacks: int
    sent: int
    received: int
    ring_bytes: int
    last_signals: int
    hung: bool


class Play(msgspec.Struct, frozen=True):
    """One order, played in one design."""

    rows: list[Row]
    outcome: Outcome


class Count(msgspec.Struct, frozen=True):
    """Every order of one kind of guest: how many there are, how many of them lost the packet."""

    guest: str
    orders: int
    lost: int


def play(stage: Scene, groups: Sequence[Group], *, per_cpu: bool) -> Play:
    """Play `groups` in that order; then the host writes more packets, and what it signals is served.

    The global design has no lists to move: it leaves these steps out.
    """
    stage.reset(per_cpu=per_cpu)
    rows: list[Row] = []

    def do(group: Group) -> None:
        before = stage.state()
        for step in group:
            DO[step](stage)
        after = stage.state()
        names = [step.name for step in group]
        who, action = replay_text.say(names, before, after, stage.interrupted, per_cpu=per_cpu)
        rows.append(Row(len(rows) + 1, who, action, after))

    for group in groups:
        if per_cpu or not set(group) <= set(MOVE):
            do(group)
    before = stage.state()
    do((Step.MORE,))
    last_signals = stage.state().signals - before.signals
    if stage.state().flags[stage.interrupted]:
        do((Step.CLEAR,))
        do((Step.LOOK,))
    end = stage.state()
    hung = end.ring_bytes > 0 and not last_signals
    return Play(rows, Outcome(end.callbacks, end.sent, end.received, end.ring_bytes, last_signals, hung))


def possible(order: Sequence[Step]) -> bool:
    """Whether VPs can do it: a list is changed by the VP that owns it, never in the middle of its own pass.

    The packet is announced on the VP that is the target when it is written.
    """
    served_by = A if order.index(Step.WRITE) < order.index(Step.PROCESS) else B
    own = MOVE[served_by]
    return own not in order or not (order.index(Step.CLEAR) < order.index(own) < order.index(Step.LOOK))


def every_order(guest: str | None) -> Iterator[tuple[Step, ...]]:
    """Every order of the steps for a guest of GUESTS, or for one without lists."""
    if guest is None:
        return filter(possible, orders([step for step in PLAYED if step not in MOVE], ALWAYS))
    return filter(possible, orders(PLAYED, (*ALWAYS, *GUESTS[guest])))


def count(stage: Scene, guest: str | None) -> Count:
    """Play every order of a guest: of GUESTS in the old design, None: in the new one."""
    played = lost = 0
    for order in every_order(guest):
        outcome = play(stage, [(step,) for step in order], per_cpu=guest is not None).outcome
        played += 1
        lost += outcome.received < outcome.sent
    return Count(guest or "has no list to move", played, lost)


def _one(stage: Scene, number: int) -> tuple[dict[str, Any], str, bool]:
    old, new = (play(stage, INTERLEAVINGS[number], per_cpu=per_cpu) for per_cpu in (True, False))
    told = old.outcome.hung and not old.outcome.callbacks
    told = told and new.outcome.callbacks > 0 and new.outcome.received == new.outcome.sent
    result = {"replay": number, "per_cpu": msgspec.to_builtins(old), "global": msgspec.to_builtins(new)}
    return result, replay_text.tables(number, old, new), told


def _all(stage: Scene) -> tuple[dict[str, Any], str, bool]:
    old, new = [count(stage, guest) for guest in GUESTS], count(stage, None)
    told = all(one.lost for one in old) and not new.lost
    result = {"replay": "all", "per_cpu": msgspec.to_builtins(old), "global": msgspec.to_builtins(new)}
    return result, replay_text.counts(old, new), told


def replay(which: str, *, as_json: bool) -> int:
    """Replay interleaving "1" or "2", or "all" orders; print it; return the exit status.

    Raises what setting the scene raises.
    """
    with own_daemon(PARTITION, VPS) as runtime_dir, scene(runtime_dir) as stage:
        result, text, told = _all(stage) if which == "all" else _one(stage, int(which))
    print(json.dumps(result, indent=2) if as_json else text)
    return 0 if told else 1
