"""The diagrams of docs/story.md, drawn from the tables that the code runs on: `./dev diagram [--check]`.

A page has a place for each drawing: what stands between `<!-- diagram NAME: begin -->` and its `end` is
replaced. An edge is an entry of a table; entries between the same two states share one arrow. Mermaid text,
because that is what the forges draw.
"""

import argparse
import enum
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from guest_client import phases
from vmbusd.bus import channels

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "story.md"
_PLACE: Final = re.compile(r"(<!-- diagram ([\w-]+): begin -->\n).*?(<!-- diagram \2: end -->)", re.DOTALL)
_TAKEN_AWAY: Final = frozenset({channels.Event.RESET, channels.Event.REVOKE, channels.Event.REOFFER})
"""The events that end an ordinary life from outside."""
_AFTERWARDS: Final = frozenset(
    {
        channels.State.REVOKED,
        channels.State.REOFFERED,
        channels.State.OPENING_CLIENT_RELEASE,
        channels.State.REVOKED_CLIENT_RELEASE,
        channels.State.REOFFERED_CLIENT_RELEASE,
    }
)
"""The states that only such an event leads to."""

# Any: a Mapping is invariant in its keys, so the two tables have no common type but this.
Table = Mapping[Any, Mapping[Any, Any]]
Edge = tuple[enum.Enum, enum.Enum, enum.Enum]


def edges(table: Table) -> list[Edge]:
    """Every entry of a table: state, event, next state."""
    return [(state, event, to) for state, row in table.items() for event, to in row.items()]


def _label(event: enum.Enum) -> str:
    """An event for people: its text where the table has one."""
    return event.value if isinstance(event.value, str) else event.name.lower()


def draw(drawn: list[Edge], *, first: enum.Enum | None = None, last: enum.Enum | None = None) -> str:
    """The entries as a Mermaid state diagram; `first` and `last`: where a life begins and ends."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for state, event, to in drawn:
        arrows.setdefault((state.name, to.name), []).append(_label(event))
    lines = ["stateDiagram-v2"]
    if first is not None:
        lines.append(f"    [*] --> {first.name}")
    lines += [f"    {state} --> {to}: {', '.join(names)}" for (state, to), names in arrows.items()]
    if last is not None:
        lines.append(f"    {last.name} --> [*]")
    return "\n".join(lines)


def ordinary(edge: Edge) -> bool:
    """Does an entry belong to a life in which nobody takes the channel away?"""
    state, event, _ = edge
    return event not in _TAKEN_AWAY and state not in _AFTERWARDS


def _guest() -> str:
    return draw(edges(phases.PHASES), first=phases.Phase.OFFERED, last=phases.Phase.RELEASED)


def _host() -> str:
    found = [edge for edge in edges(channels.TRANSITIONS) if ordinary(edge)]
    return draw(found, first=channels.State.CLIENT_RELEASED)


def _taken_away() -> str:
    found = [edge for edge in edges(channels.TRANSITIONS) if not ordinary(edge)]
    return draw(found, last=channels.State.REMOVED)


DIAGRAMS: Final[dict[str, Callable[[], str]]] = {"guest": _guest, "host": _host, "taken-away": _taken_away}


def redrawn(text: str) -> str:
    """A page with all its drawings new. Raises KeyError for a place whose drawing does not exist."""
    return _PLACE.sub(lambda place: f"{place[1]}```mermaid\n{DIAGRAMS[place[2]]()}\n```\n{place[3]}", text)


def main() -> int:
    """Returns 1 if --check finds a page that differs from the tables."""
    parser = argparse.ArgumentParser(prog="./dev diagram", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the page is true")
    arguments = parser.parse_args()
    before = PAGE.read_text()
    after = redrawn(before)
    if after == before:
        print(f"{PAGE.name}: {len(DIAGRAMS)} diagrams as the tables have it")
        return 0
    if arguments.check:
        print(f"{PAGE.name}: not what the tables have; run ./dev diagram", file=sys.stderr)
        return 1
    PAGE.write_text(after)
    print(f"{PAGE.name}: drawn again")
    return 0


if __name__ == "__main__":
    sys.exit(main())
