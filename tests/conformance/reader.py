"""Reads a script: every word is looked up and every value fitted here, so that a mistake is found unplayed.

`read` gives a `Script` or raises `Wrong` with file, line and column. README.md describes the language.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.conformance import script, values
from tests.conformance.lexer import Word, words_of
from tests.conformance.message_words import (
    NUMBERED,
    as_attribute,
    attributes_of,
    fields_of,
    kind_of,
    number_of,
)
from tests.conformance.script import ANYTHING, MOST_CASES, Fields, Place, Script, Value, Wrong
from tests.conformance.vocabulary import BACKEND, CHANNEL, FROM_HOST, TO_HOST, plain
from tests.conformance.words import (
    CALLS,
    DIRECTIVES,
    HAPPENINGS,
    OPTIONS,
    QUESTIONS,
    SAME_CALLS,
    STATES,
    TOLD,
    VIEW_FIELDS,
    near,
)

_TEXT: Final = {"op", "kind", "text", "state", "phase"}
_GUIDS: Final = {"interface", "instance", "endpoint", "service", "silo"}


def read(path: Path) -> Script:
    """The script in a file. Raises Wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Wrong(Place(path, 1, 1), f"not UTF-8: {error.reason} at byte {error.start}") from None
    return Reader(path).read(text)


class Reader:
    """One file being read."""

    def __init__(self, path: Path) -> None:
        self._script = Script(path)
        self._text = ""
        self._begun = False

    def read(self, text: str) -> Script:
        """Take every line."""
        pending: list[Word] = []
        for number, line in enumerate(text.splitlines(), 1):
            words = words_of(line, self._script.path, number)
            if not pending:
                self._text = line.strip().removesuffix("\\").strip()
            pending += words
            if pending and pending[-1].text == "\\":
                pending.pop()
                continue
            if pending and pending[0].text.lower() == "given":
                del pending[0]
            if pending:
                self._line(pending[0], pending[1:])
            pending = []
        if not self._script.statements:
            raise Wrong(self._script.where(), "a script without a statement")
        return self._script

    def _line(self, first: Word, rest: list[Word]) -> None:
        verb = first.text.removesuffix(":")
        if re.fullmatch(r"([GAB]|H\d*)[<>]", verb):
            self._begun = True
            if not rest:
                raise Wrong(first.place, f"{verb} what?")
            if verb == "B>":
                raise Wrong(
                    first.place, "the backend is not told anything by a message: `pages ok`, `claim_free`"
                )
            if verb[0] == "A":
                self._application(first, rest)
            else:
                self._arrow(first, rest)
        elif verb == "T+":
            self._begun = True
            self._add(script.Advance(first.place, self._text, self._value(values.milliseconds, first, rest)))
        elif verb == "=":
            self._state(first, rest)
        elif verb.lower() in ("case", "cases"):
            self._cases(first, rest)
        elif verb.lower() in ("side", "only", "order"):
            self._choice(first, rest)
        elif verb.lower() in ("option", "options"):
            self._options(first, rest)
        elif verb.lower() == "offers":
            self._offers(first, rest)
        elif verb.lower() in ("version", "connected", "offer", "revoke", "gpadl", "open"):
            self._given(first, rest)
        else:
            self._happening(first, rest)

    def _add(self, statement: script.Statement) -> None:
        self._script.statements.append(statement)

    # -- messages --------------------------------------------------------------------------------------------

    def _arrow(self, first: Word, rest: list[Word]) -> None:
        who, into = first.text[0], first.text[-1] == ">"
        host = int(first.text[1:-1] or 0)
        guest_side = self._script.side == "guest"
        if guest_side and who != "G":
            raise Wrong(first.place, "a script of the guest's side knows no hosts and no backend")
        name, *others = rest
        if name.text.lower() in ("nothing", "silence"):
            self._add(script.Happening(first.place, self._text, "silence"))
            return
        if who == "H" and into:
            question = plain(name.text.split("(")[0])
            if question in QUESTIONS:
                # `H> open done(0)` and `H> open status=0` say which question is answered.
                if others and plain(others[0].text.split("(")[0]) == "DONE":
                    name, others = others[0], others[1:]
                self._answer(first, name, others, host, QUESTIONS[question])
                return
        # In a script of the guest's side the client under test speaks where else the guest does.
        into = into != guest_side
        if name.text.lower() == "hex":
            data = " ".join(word.text for word in others if not word.is_attribute)
            try:
                raw = values.raw(data)
            except ValueError as error:
                raise Wrong((others or [name])[0].place, str(error)) from None
            attributes = attributes_of(word for word in others if word.is_attribute)
            self._add(script.Message(first.place, self._text, who, host, into, None, {}, attributes, raw))
            return
        tables = BACKEND if who == "B" else CHANNEL if who == "G" else FROM_HOST if into else TO_HOST
        kind = kind_of(name, tables, f"{first.text} message")
        others = [as_attribute(word, kind) for word in others]
        fields = fields_of(kind, [word for word in others if not word.is_attribute])
        if kind.name == "retarget" and (match := NUMBERED.fullmatch(name.text)):
            fields.setdefault("vp", values.number(match[2], 32))
        if into and ANYTHING in fields.values():
            raise Wrong(name.place, "* can be expected, not sent")
        attributes = attributes_of(word for word in others if word.is_attribute)
        if not into and kind.name == "GPADL" and who == "G":
            raise Wrong(name.place, "GPADL stands for several messages: expect GPADL_HEADER and GPADL_BODY")
        self._add(script.Message(first.place, self._text, who, host, into, kind, fields, attributes))

    def _answer(self, first: Word, name: Word, others: list[Word], host: int, question: str) -> None:
        match = NUMBERED.fullmatch(name.text)
        status = match[2] if match else ""
        fields: Fields = {}
        for word in others:
            if not word.is_field or word.name.lower() not in ("status", "relid", "id", "gpadl"):
                raise Wrong(word.place, f"{word.text!r}: done knows status, relid, id and gpadl")
            if word.name.lower() == "status":
                status = word.value
            else:
                fields[word.name.lower()] = number_of(word, 32)
        try:
            number = (
                0xFFFFFFFF if status.upper() in ("FAILED", "FAILURE") else values.number(status or "0", 32)
            )
        except ValueError as error:
            raise Wrong(name.place, str(error)) from None
        self._add(script.Answer(first.place, self._text, host, number, fields, question))

    # -- everything else -------------------------------------------------------------------------------------

    def _offers(self, first: Word, rest: list[Word]) -> None:
        """`offers 3`: that many plain offers."""
        for number in range(1, self._value(lambda text: values.number(text, 11), first, rest) + 1):
            kind = CHANNEL["OFFERCHANNEL"] if self._script.side == "guest" else FROM_HOST["OFFER"]
            fields: Fields = {"child_relid": number} if self._script.side == "guest" else {}
            self._add(script.Given(first.place, self._text, "offer", 0, kind, fields))

    def _given(self, first: Word, rest: list[Word]) -> None:
        name, host = first.text.lower().removesuffix(":"), 0
        if name in ("version", "connected"):
            if self._begun:
                raise Wrong(first.place, "version is a given: it stands before the first message")
            if not rest or rest[0].is_field:
                raise Wrong(first.place, "version which?")
            fields: Fields = {"version": self._value(lambda text: values.number(text, 32), first, rest[:1])}
            for word in rest[1:]:
                if not word.is_field or word.name.lower() != "features":
                    raise Wrong(word.place, f"{word.text!r}: version knows features=")
                fields["features"] = number_of(word, 32)
            self._add(script.Given(first.place, self._text, "version", 0, None, fields))
            return
        words = [word for word in rest if not (word.is_field and word.name.lower() == "host")]
        for word in rest:
            if word not in words:
                host = number_of(word, 16)
        guest_side = self._script.side == "guest"
        kinds = {
            "offer": CHANNEL["OFFERCHANNEL"] if guest_side else FROM_HOST["OFFER"],
            "revoke": CHANNEL["RESCINDOFFER"] if guest_side else FROM_HOST["REVOKE"],
            "gpadl": CHANNEL["GPADL"],
            "open": CHANNEL["OPENCHANNEL"],
        }
        self._add(
            script.Given(first.place, self._text, name, host, kinds[name], fields_of(kinds[name], words))
        )

    def _application(self, first: Word, rest: list[Word]) -> None:
        into = first.text[-1] == ">"
        if self._script.side != "guest":
            raise Wrong(first.place, f"{first.text} belongs into a script with `side guest`")
        table: dict[str, tuple[str, ...]] = dict(CALLS if into else TOLD)
        name = rest[0].text.lower().replace("-", "_")
        name = SAME_CALLS.get(name, name) if into else name
        if name not in table:
            raise Wrong(
                rest[0].place, f"unknown word {rest[0].text!r} after {first.text}: {', '.join(table)}"
            )
        fields = self._named(rest[1:], table[name], name)
        statement = script.Call if into else script.Told
        self._add(statement(first.place, self._text, name, fields))

    def _named(self, words: list[Word], known: tuple[str, ...], what: str) -> Fields:
        fields: Fields = {}
        for word in words:
            name = word.name.lower()
            if not word.is_field or name not in known:
                listed = ", ".join(known) or "none"
                raise Wrong(
                    word.place, f"unknown field {word.name or word.text!r} of {what}, which has {listed}"
                )
            try:
                fields[name] = self._plain_value(name, word)
            except ValueError as error:
                raise Wrong(word.value_place, f"{word.name}: {error}") from None
        return fields

    def _plain_value(self, name: str, word: Word) -> Value:
        if word.value == "*" and not word.quoted:
            return ANYTHING
        if name in _TEXT:
            return word.value
        if name in _GUIDS:
            return values.guid(word.value)
        if name == "user":
            return word.value.encode() if word.quoted else values.raw(word.value)
        return values.number(word.value)

    def _state(self, first: Word, rest: list[Word]) -> None:
        if not rest:
            raise Wrong(first.place, "= what?")
        name = rest[0].text.lower()
        if name not in STATES:
            raise Wrong(rest[0].place, f"unknown state {rest[0].text!r}{near(name, STATES)}")
        self._begun = True
        if name == "silence":
            self._add(script.Happening(first.place, self._text, "silence"))
            return
        needs, number = STATES[name], None
        value: Value = None
        fields: Fields = {}
        words = rest[1:]
        if needs == "fields":
            if words and not words[0].is_field:
                number = self._value(lambda text: values.number(text, 32), rest[0], words[:1])
                words = words[1:]
            elif words and words[0].name.lower() in ("relid", "id"):
                number, words = number_of(words[0], 32), words[1:]
            if words and not words[0].is_field:
                fields["state"], words = words[0].text.lower(), words[1:]
            fields |= self._named(words, VIEW_FIELDS, "channel")
            if number is None:
                raise Wrong(rest[0].place, "channel which?")
            words = []
        elif needs == "guid" and words:
            value, words = self._read(values.guid, rest[0], words[:1]), words[1:]
        elif needs and words:
            value = self._value(lambda text: values.number(text, 32), rest[0], words[:1])
            words = words[1:]
        elif needs in ("number", "guid"):
            raise Wrong(rest[0].place, f"{name} what?")
        if words:
            raise Wrong(words[0].place, f"{words[0].text!r} has no place after {name}")
        self._add(script.State(first.place, self._text, name, number, value, fields))

    def _cases(self, first: Word, rest: list[Word]) -> None:
        if not rest:
            raise Wrong(first.place, "case which?")
        for word in rest:
            for part in filter(None, word.text.strip("`()").split(",")):
                low, dash, high = part.partition("-")
                if not low.isdigit() or (dash and not high.isdigit()):
                    raise Wrong(word.place, f"{part!r} is no case number")
                numbers = range(int(low), int(high or low) + 1)
                if not numbers or not 1 <= numbers[0] <= numbers[-1] <= MOST_CASES:
                    raise Wrong(word.place, f"case {part}: 1 to {MOST_CASES}")
                self._script.cases += numbers

    def _choice(self, first: Word, rest: list[Word]) -> None:
        verb = first.text.lower().removesuffix(":")
        choices = {"side": ("bus", "host", "guest"), "only": ("bus", "live"), "order": ("any", "exact")}[verb]
        if len(rest) != 1 or rest[0].text.lower() not in choices:
            raise Wrong((rest or [first])[-1].place, f"{verb}: {' or '.join(choices)}")
        value = rest[0].text.lower()
        if verb == "side":
            if self._script.statements:
                raise Wrong(first.place, "side stands before the first statement")
            self._script.side = "guest" if value == "guest" else "bus"
        elif verb == "only":
            self._script.only = value
        else:
            self._add(script.Order(first.place, self._text, value == "any"))

    def _options(self, first: Word, rest: list[Word]) -> None:
        if self._begun or not rest:
            raise Wrong(first.place, "option NAME[=VALUE] stands before the first message")
        for word in rest:
            name = (word.name or word.text).lower().replace("_", "-")
            if name not in OPTIONS:
                raise Wrong(word.place, f"unknown option {name!r}{near(name, OPTIONS)}")
            try:
                self._script.options[name] = OPTIONS[name](word.value or "1")
            except ValueError as error:
                raise Wrong(word.value_place, f"{name}: {error}") from None
            self._script.option_places[name] = word.place

    def _happening(self, first: Word, rest: list[Word]) -> None:
        words = [first.text.lower(), *(word.value if word.name == "relid" else word.text for word in rest)]
        line = " ".join(word.lower() for word in words)
        for pattern, name in HAPPENINGS.items():
            match = re.fullmatch(pattern, line)
            if match:
                if name != "silence":
                    self._begun = True
                numbers = tuple(int(group) for group in match.groups() if group is not None)
                self._add(script.Happening(first.place, self._text, name, numbers))
                return
        verbs = [pattern.split("(")[0].split()[0] for pattern in HAPPENINGS]
        raise Wrong(first.place, f"unknown statement {line!r}{near(words[0], [*verbs, *DIRECTIVES])}")

    # -- small change ----------------------------------------------------------------------------------------

    def _value(self, convert: Callable[[str], int], first: Word, rest: list[Word]) -> int:
        number = self._read(convert, first, rest)
        assert isinstance(number, int)
        return number

    def _read(self, convert: Callable[[str], Value], first: Word, rest: list[Word]) -> Value:
        if not rest:
            raise Wrong(first.place, f"{first.text} what?")
        try:
            return convert(" ".join(word.text for word in rest))
        except ValueError as error:
            raise Wrong(rest[0].place, str(error)) from None
