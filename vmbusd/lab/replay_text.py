"""What a replay prints: a sentence per step, chosen by what the shared words said, and the tables.

Names as in docs/why.md: R is the channel, A and B are VPs, L1 and L2 the two steps of moving it from
list to list.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from vmbusd.lab.replay_scene import State

if TYPE_CHECKING:
    from vmbusd.lab.replay import Count, Outcome, Play, Row

TITLES: Final = {
    1: "Interleaving 1: the interrupt reaches the old VP after the list has moved",
    2: "Interleaving 2: the interrupt reaches the new VP before the list has moved",
}
OLD: Final = "A list per VP (Linux before 5.8)"
NEW: Final = "One table for all VPs"
_VPS: Final = "AB"


def say(
    steps: Sequence[str], before: State, after: State, served_by: int, *, per_cpu: bool
) -> tuple[str, str]:
    """Who did these steps, and what that was. `served_by`: the VP that the last packet was announced on."""
    vp = _VPS[served_by]
    target = _VPS[after.target]
    match list(steps):
        case ["POST"]:
            return "guest", "posts MODIFYCHANNEL(R, B)"
        case ["PROCESS"]:
            return "host", f"processes MODIFYCHANNEL, target = {target}"
        case ["UNLINK", "LINK"]:
            return "guest", "L1, L2: moves R to B's list"
        case ["UNLINK"]:
            return "guest", "L1: takes R off A's list"
        case ["LINK"]:
            return "guest", "L2: puts R on B's list"
        case ["CLEAR"]:
            return f"VP {vp}", f"test-and-clear: was {before.flags[served_by]}"
        case ["LOOK"]:
            return f"VP {vp}", _looked(
                before, after, f"walks {vp}'s list" if per_cpu else "looks in the table"
            )
    return "host", _wrote(before, after, vp)


def _looked(before: State, after: State, how: str) -> str:
    if after.callbacks == before.callbacks:
        return f"{how}: R not found; returns"
    return f"{how}: R found; callback reads {_packets(after.received - before.received)}"


def _wrote(before: State, after: State, vp: str) -> str:
    was = "not empty" if before.ring_bytes else "empty"
    signals = after.signals - before.signals
    what = f"sets {vp}.flag[R], interrupts {vp}" if signals else "no signal"
    return f"writes {_packets(after.sent - before.sent)}, ring was {was}: {what}"


def _packets(number: int) -> str:
    return "1 packet" if number == 1 else f"{number} packets"


def _grid(columns: Sequence[tuple[str, bool]], lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells under their headings; True: a column of numbers."""
    texts = [[heading for heading, _ in columns], *lines]
    widths = [max(len(line[i]) for line in texts) for i in range(len(columns))]
    grid = []
    for line in texts:
        cells = zip(line, columns, widths, strict=True)
        padded = [cell.rjust(width) if number else cell.ljust(width) for cell, (_, number), width in cells]
        grid.append("  ".join(padded).rstrip())
    return grid


_CELLS: Final[list[tuple[str, bool, Callable[["Row"], str]]]] = [
    ("step", True, lambda row: str(row.step)),
    ("who", False, lambda row: row.who),
    ("action", False, lambda row: row.action),
    ("A.flag", True, lambda row: str(row.state.flags[0])),
    ("B.flag", True, lambda row: str(row.state.flags[1])),
]
_OLD_CELLS: Final[list[tuple[str, bool, Callable[["Row"], str]]]] = [
    ("A list", False, lambda row: "R" if row.state.lists[0] else "-"),
    ("B list", False, lambda row: "R" if row.state.lists[1] else "-"),
]
_NEW_CELLS: Final[list[tuple[str, bool, Callable[["Row"], str]]]] = [
    ("table", False, lambda row: "R" if row.state.in_table else "-"),
]
_LAST_CELLS: Final[list[tuple[str, bool, Callable[["Row"], str]]]] = [
    ("ring", True, lambda row: f"{row.state.ring_bytes} B"),
    ("callbacks", True, lambda row: str(row.state.callbacks)),
]


def _table(title: str, play: "Play", *, per_cpu: bool) -> list[str]:
    cells = [*_CELLS, *(_OLD_CELLS if per_cpu else _NEW_CELLS), *_LAST_CELLS]
    columns = [(heading, number) for heading, number, _ in cells]
    lines = [[cell(row) for _, _, cell in cells] for row in play.rows]
    return [title, *_grid(columns, lines), _ending(play.outcome)]


def _ending(outcome: "Outcome") -> str:
    said = f"{outcome.callbacks} callbacks, {outcome.received} of {outcome.sent} packets read"
    if outcome.hung:
        return f"=> {said}; {outcome.ring_bytes} bytes stay in the ring and the host signals no more: R hangs"
    return f"=> {said}; the ring is {'not ' if outcome.ring_bytes else ''}empty"


def tables(number: int, old: "Play", new: "Play") -> str:
    """One interleaving in both designs."""
    first, second = _table(OLD, old, per_cpu=True), _table(NEW, new, per_cpu=False)
    return "\n".join([TITLES[number], "", *first, "", *second])


def counts(old: Sequence["Count"], new: "Count") -> str:
    """How many of all orders lose the packet."""
    columns = [("design", False), ("guest", False), ("orders", True), ("lose the packet", True)]
    lines = [[OLD, one.guest, str(one.orders), str(one.lost)] for one in old]
    lines.append([NEW, new.guest, str(new.orders), str(new.lost)])
    return "\n".join(_grid(columns, lines))
