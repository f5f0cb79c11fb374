"""A line of a script as words: plain ones, `field=value` and `@attribute=value`, each with its column."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.conformance.script import Place, Wrong

_WORD: Final = re.compile(r'(?:[^\s"#]|"[^"]*")+')
_ARROW: Final = re.compile(r"([GAB]|H\d*)([<>])(.*)", re.DOTALL)
_FIELD: Final = re.compile(r"(@?[A-Za-z_][\w-]*)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Word:
    """One word. `name` is set for `name=value` and `@name`; `at` is the column of the value."""

    text: str
    place: Place
    name: str = ""
    value: str = ""
    quoted: bool = False
    at: Place | None = None

    @property
    def is_field(self) -> bool:
        """name=value"""
        return bool(self.name) and not self.name.startswith("@")

    @property
    def is_attribute(self) -> bool:
        """@name or @name=value"""
        return self.name.startswith("@")

    @property
    def value_place(self) -> Place:
        """Where the value begins."""
        return self.at or self.place


def _word(text: str, place: Place) -> Word:
    match = _FIELD.fullmatch(text)
    if match is None:
        if text.startswith("@"):
            return Word(text, place, text.lower(), "", at=place)
        if '"' in text:
            return Word(text.strip('"'), place, quoted=True)
        return Word(text, place)
    value = match[2]
    at = Place(place.path, place.line, place.column + match.start(2))
    quoted = value.startswith('"')
    if quoted:
        value = value[1:-1]
    elif not value:
        raise Wrong(at, f"{match[1]}: a value is missing")
    return Word(text, place, match[1].lower() if match[1].startswith("@") else match[1], value, quoted, at)


def words_of(line: str, path: Path, number: int) -> list[Word]:
    """The words of one line, without its comment. An arrow or `T+` or `=` is a word of its own even when no
    space follows it. Raises Wrong."""
    found: list[Word] = []
    at = 0
    while at < len(line):
        if line[at].isspace():
            at += 1
            continue
        if line[at] == "#":
            break
        place = Place(path, number, at + 1)
        match = _WORD.match(line, at)
        ends = match.end() if match else at
        if line[ends : ends + 1] == '"':
            raise Wrong(Place(path, number, ends + 1), "a quote that does not end")
        assert match is not None
        text = match[0]
        if not found:
            head = _head_of(text)
            if head and head != text:
                found.append(Word(head, place))
                at += len(head)
                continue
        found.append(_word(text, place))
        at = match.end()
    return found


def _head_of(text: str) -> str:
    match = _ARROW.fullmatch(text)
    if match is not None:
        return match[1] + match[2]
    if text.startswith("T+"):
        return "T+"
    return "=" if text.startswith("=") else ""
