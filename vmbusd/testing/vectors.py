"""Golden vectors: bytes that real drivers made, checked against our codec both ways: `./dev vectors [DIR]`.

Every `*.json` file below the folder is an array of entries; the entry's `message` says which checker it has.
An entry is broken or disagrees: one line naming file, line, entry and field, and the run goes on. A kind that
no checker knows is a failure. The closing line counts entries; a file that cannot be read counts as one.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from vmbusd.abi.errors import VmbusError
from vmbusd.testing import vectors_control, vectors_devices, vectors_ic, vectors_memory, vectors_ring
from vmbusd.testing.vector_fields import Fields, VectorError, kind_of

KINDS: Final = (
    vectors_control.KINDS
    | vectors_memory.KINDS
    | vectors_ring.KINDS
    | vectors_ic.KINDS
    | vectors_devices.KINDS
)
_SPACE: Final = " \t\r\n"


class Entry(msgspec.Struct, frozen=True):
    """One vector and where it begins."""

    file: Path
    line: int
    values: Any

    @property
    def name(self) -> str:
        """Its name, or which one it is when it has none."""
        name = self.values.get("name") if isinstance(self.values, dict) else None
        return name if isinstance(name, str) and name else "(no name)"

    @property
    def message(self) -> str:
        """Its kind."""
        return Fields(self.values).text("message")


class Failure(msgspec.Struct, frozen=True):
    """What is wrong, and where."""

    file: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


class Report(msgspec.Struct):
    """The outcome of a run."""

    passed: int = 0
    files: int = 0
    failures: list[Failure] = msgspec.field(default_factory=list)


def entries(file: Path) -> Iterator[Entry]:
    """The entries of a file one by one, with their lines. Raises VectorError naming the line."""
    text = file.read_text(encoding="utf-8")
    decoder = json.JSONDecoder()
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        raise _misplaced(text, at, "a vector file is one JSON array")
    at = _skip(text, at + 1)
    while text[at : at + 1] != "]":
        try:
            values, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise _misplaced(text, error.pos, error.msg) from None
        yield Entry(file, _line(text, at), values)
        at = _skip(text, end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            raise _misplaced(text, at, "Expecting ',' or ']'")
    at = _skip(text, at + 1)
    if at != len(text):
        raise _misplaced(text, at, "Extra data after the array")


def check(entry: Entry) -> None:
    """Encode and decode one entry. Raises VectorError when it is wrong or we are."""
    vector = Fields(entry.values)
    vector.text("name")
    message = vector.text("message")
    if message not in KINDS:
        raise VectorError("message", f"unknown kind of vector {message!r}")
    for name in ("protocol_version", "direction", "source"):
        if vector.has(name):
            vector.text(name)
    if vector.has("hex"):
        size, data = vector.number("size"), vector.hex("hex")
        if size != len(data):
            raise VectorError("size", f"{size}, but there are {len(data)} bytes")
    fields = Fields(vector.raw("fields"), "fields.")
    try:
        KINDS[message](message, vector, fields)
    except VmbusError as error:
        raise VectorError("hex" if vector.has("hex") else "fields", f"refused: {error}") from error
    fields.finish()
    vector.finish()


def run(folder: Path) -> Report:
    """Check every vector below a folder, or in a file. Raises VectorError when there is no such place."""
    if not folder.exists():
        raise VectorError(str(folder), "no such file or folder")
    report = Report()
    for file in [folder] if folder.is_file() else sorted(folder.rglob("*.json")):
        report.files += 1
        _run_file(file, report)
    return report


def _run_file(file: Path, report: Report) -> None:
    seen: dict[str, Entry] = {}
    try:
        for entry in entries(file):
            try:
                if entry.name in seen:
                    raise VectorError("name", f"{entry.name!r} is also at line {seen[entry.name].line}")
                seen[entry.name] = entry
                check(entry)
                _check_pair(entry, seen)
                report.passed += 1
            except VectorError as error:
                report.failures.append(Failure(file, entry.line, f"{entry.name}: {error}"))
    except VectorError as error:
        report.failures.append(Failure(file, int(error.field), str(error).partition(": ")[2]))
    except (OSError, UnicodeDecodeError) as error:
        report.failures.append(Failure(file, 1, str(error)))


def _check_pair(entry: Entry, seen: dict[str, Entry]) -> None:
    """A guest's answer to a negotiation is also made from the host's request, if that stands before it."""
    request = seen.get(f"{entry.name.removesuffix('-response')}-request")
    if entry.message != "IC_NEGOTIATE" or not entry.name.endswith("-response") or request is None:
        return
    try:
        vectors_ic.answers(Fields(request.values), Fields(entry.values))
    except VmbusError as error:
        raise VectorError("hex", f"the request it answers is refused: {error}") from error


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _misplaced(text: str, at: int, what: str) -> VectorError:
    """What is no vector file; the field of this error is its line."""
    what = f"{what}, not {kind_of(_first(text))}" if what.startswith("a vector file") else what
    column = at - text.rfind("\n", 0, at)
    return VectorError(str(_line(text, at)), f"{what} (column {column})")


def _first(text: str) -> object:
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError:
        return "text"
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 when a vector failed, 2 when there is none."""
    parser = argparse.ArgumentParser(prog="./dev vectors", description="Check golden vectors, both ways.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder, or one file")
    try:
        report = run(parser.parse_args(arguments).folder)
    except VectorError as error:
        print(f"vectors: {error}", file=sys.stderr)
        return 2
    for failure in report.failures:
        print(failure)
    failed = len(report.failures)
    print(f"{report.passed} passed, {failed} failed")
    if failed:
        return 1
    return 0 if report.passed else 2


if __name__ == "__main__":
    sys.exit(main())
