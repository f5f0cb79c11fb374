"""Which of the catalogue's cases the tree covers: by a script, or by a test that cites the number.

`cases.txt` names every case in a line of its own: number, tier, title, and for those that are the business of
another part of the project, whose.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.conformance.script import Script

CASES: Final = Path(__file__).resolve().parent / "cases.txt"
TESTS: Final = Path(__file__).resolve().parent.parent
_LINE: Final = re.compile(r"(\d{3}) ([CXP]) (.+?)(?: \[(\w[\w ]*)\])?")
_CITED: Final = re.compile(r"\bcases? (\d{3}(?:-\d{3})?(?:(?:, | and )\d{3}(?:-\d{3})?)*)")
_NUMBERS: Final = re.compile(r"(\d{3})(?:-(\d{3}))?")


@dataclass(frozen=True)
class Case:
    """One case. `owner` is empty when it is this part's own."""

    number: int
    tier: str
    title: str
    owner: str


def catalogue() -> dict[int, Case]:
    """Every case by its number."""
    cases = {}
    for line in CASES.read_text(encoding="utf-8").splitlines():
        match = _LINE.fullmatch(line)
        if match:
            cases[int(match[1])] = Case(int(match[1]), match[2], match[3], match[4] or "")
    return cases


def cited_numbers(text: str) -> set[int]:
    """The case numbers that a text cites, as "case 054" or "cases 145-150, 153"."""
    found: set[int] = set()
    for match in _CITED.finditer(text):
        for low, high in _NUMBERS.findall(match[1]):
            found |= set(range(int(low), int(high or low) + 1))
    return found


def by_tests() -> set[int]:
    """The cases that tests cite; the runner's own files do not count."""
    own = CASES.parent
    files = (
        path for path in TESTS.rglob("*.py") if own not in path.parents and path.name.startswith("test_")
    )
    return set().union(*(cited_numbers(path.read_text(encoding="utf-8")) for path in files))


def report(scripts: Iterable[Script]) -> str:
    """What is covered and what is not, as the run prints it."""
    cases = catalogue()
    scripted = {number for one in scripts for number in one.cases}
    tested = by_tests() - scripted
    missing = [case for case in cases.values() if case.number not in scripted | tested]
    lines = [
        f"cases: {len(cases)}; {len(scripted)} by a script, {len(tested)} more by a test citing the number"
    ]
    owners = sorted({case.owner for case in missing if case.owner})
    for owner in owners:
        numbers = [case.number for case in missing if case.owner == owner]
        lines.append(f"not covered, owned by {owner} ({len(numbers)}): {runs(numbers)}")
    ours = [case for case in missing if not case.owner]
    lines.append(f"not covered ({len(ours)}): {runs([case.number for case in ours]) or 'none'}")
    lines += [f"  {case.number:03} {case.tier} {case.title}" for case in ours]
    return "\n".join(lines)


def runs(numbers: list[int]) -> str:
    """Numbers as people write them: 001, 003-007."""
    parts: list[str] = []
    for number in numbers:
        if parts and int(parts[-1][-3:]) == number - 1:
            parts[-1] = f"{parts[-1][:3]}-{number:03}"
        else:
            parts.append(f"{number:03}")
    return ", ".join(parts)
