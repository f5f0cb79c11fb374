"""The words behind a message's name: its kind, its fields, and what travels beside it."""

import re
from collections.abc import Iterable
from typing import Final

from tests.conformance import values
from tests.conformance.lexer import Word
from tests.conformance.script import Attributes, Fields, Value, Wrong
from tests.conformance.vocabulary import Kind, plain
from tests.conformance.words import near

ATTRIBUTES: Final = "@connection, @vp, @sint, @vtl, @size, @trusted, @untrusted"
NUMBERED: Final = re.compile(r"([\w-]+)\((-?\w*)\)")
"""A name with something in brackets behind it."""
_ATTRIBUTE_NAMES: Final = {
    "CONNECTION": "@connection",
    "CONNECTIONID": "@connection",
    "CONN": "@connection",
    "VP": "@vp",
    "SINT": "@sint",
    "VTL": "@vtl",
    "SIZE": "@size",
    "TRUSTED": "@trusted",
    "UNTRUSTED": "@untrusted",
}


def as_attribute(word: Word, kind: Kind) -> Word:
    """A field that the message does not have and that is the name of an attribute is the attribute."""
    name = plain(word.name.removeprefix("@") or word.text)
    bare = not word.name and name in ("TRUSTED", "UNTRUSTED")
    if name not in _ATTRIBUTE_NAMES or not (bare or word.is_attribute or name not in kind.fields):
        return word
    if not (bare or word.name):
        return word
    return Word(word.text, word.place, _ATTRIBUTE_NAMES[name], word.value, word.quoted, word.at)


def kind_of(name: Word, table: dict[str, Kind], what: str) -> Kind:
    text, place = name.text, name.place
    match = NUMBERED.fullmatch(text)
    kind = table.get(plain(match[1] if match else text))
    if kind is None:
        raise Wrong(place, f"unknown {what} {text!r}{near(text, (each.name for each in table.values()))}")
    if match and match[2] != str(kind.number) and kind.name != "retarget":
        raise Wrong(place, f"{kind.name} has number {kind.number}, not {match[2]}")
    return kind


def fields_of(kind: Kind, words: list[Word]) -> Fields:
    fields: Fields = {}
    for word in words:
        if not word.is_field:
            raise Wrong(word.place, f"{word.text!r}: a field=value of {kind.name} was expected")
        target = kind.fields.get(plain(word.name))
        if target is None:
            known = sorted({name.lower() for name in kind.fields})
            raise Wrong(
                word.place, f"unknown field {word.name!r} of {kind.name}, which has {', '.join(known)}"
            )
        if target in fields:
            raise Wrong(word.place, f"field {word.name!r} of {kind.name} stands there twice")
        fields[target] = _value(kind, target, word)
    return fields


def _value(kind: Kind, target: str, word: Word) -> Value:
    try:
        if target in ("pfns", "words"):
            return values.numbers(word.value)
        if target in ("page_count", "byte_count", "byte_offset"):
            return values.number(word.value, 32)
        if target == "text" and word.quoted:
            return word.value.encode()
        return values.value(word.value, word.quoted, *kind.types[target])
    except ValueError as error:
        raise Wrong(word.value_place, f"{word.name}: {error}") from None


def attributes_of(words: Iterable[Word]) -> Attributes:
    found: dict[str, int | bool] = {}
    for word in words:
        name = word.name[1:]
        if name in ("trusted", "untrusted"):
            found["trusted"] = (name == "trusted") == bool(values.number(word.value or "1"))
        elif name in ("connection", "vp", "sint", "vtl", "size"):
            found[name] = number_of(word, 32)
        else:
            raise Wrong(
                word.place,
                f"unknown attribute {word.name!r}, not one of {ATTRIBUTES}",
            )
    return Attributes(**found)  # type: ignore[arg-type]


def number_of(word: Word, width: int) -> int:
    """The number that a field names. Raises Wrong."""
    try:
        return values.number(word.value, width)
    except ValueError as error:
        raise Wrong(word.value_place, f"{word.name}: {error}") from None
