"""What a conformance script is once it is read: a list of statements, each knowing its line and column.

A script is judged twice: reading finds every name, field and value that does not exist, playing finds what
the bus does otherwise. `Wrong` is the first kind of finding, `Failure` the second; both name file and line.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.conformance.vocabulary import Kind

MOST_CASES: Final = 314
"""The catalogue's last number."""


@dataclass(frozen=True)
class Place:
    """Where something stands; line and column count from 1."""

    path: Path
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


class Wrong(Exception):
    """The script itself is wrong: an unknown word, a value that does not fit, a statement out of place."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(f"{place}: {text}")
        self.place = place


class Failure(Exception):
    """The script is right and what was tested did something else."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(f"{place}: {text}")
        self.place = place


class Anything:
    """The value `*`: the field must be there, whatever it holds."""

    def __repr__(self) -> str:
        return "*"


class Failed:
    """The status FAILED: any with bit 31 when expected, -1 when sent."""

    def __repr__(self) -> str:
        return "FAILED"


ANYTHING: Final = Anything()
FAILED: Final = Failed()

Value = object
Fields = dict[str, Value]


@dataclass(frozen=True)
class Attributes:
    """What travels beside a message: `@connection`, `@vp`, `@sint`, `@vtl`, `@size`, `@trusted`."""

    connection: int | None = None
    vp: int | None = None
    sint: int | None = None
    vtl: int | None = None
    size: int | None = None
    trusted: bool | None = None


@dataclass(frozen=True)
class Statement:
    """Base of all statements; `text` is the line as it was written."""

    place: Place
    text: str


@dataclass(frozen=True)
class Message(Statement):
    """`G>` `G<` `H>` `H<`: one message of the guest (`who` is "G") or of host link `host` ("H").

    `into` says whether it goes into what is tested or is expected out of it. `raw` bytes replace the fields.
    """

    who: str
    host: int
    into: bool
    kind: Kind | None
    fields: Fields
    attributes: Attributes = Attributes()
    raw: bytes | None = None


@dataclass(frozen=True)
class Answer(Statement):
    """`H> done(STATUS)`: the answer to the oldest question that a device still owes."""

    host: int
    status: int
    fields: Fields
    question: str = ""


@dataclass(frozen=True)
class Call(Statement):
    """`A>`: the application of a guest calls its client."""

    name: str
    fields: Fields


@dataclass(frozen=True)
class Told(Statement):
    """`A<`: the client tells its application something."""

    name: str
    fields: Fields


@dataclass(frozen=True)
class State(Statement):
    """`=`: what an observer must see now."""

    name: str
    number: int | None
    value: Value
    fields: Fields = field(default_factory=dict)


@dataclass(frozen=True)
class Advance(Statement):
    """`T+`: this much time passes."""

    milliseconds: int


@dataclass(frozen=True)
class Given(Statement):
    """`version`, `offer`, `revoke`, `gpadl`, `open`: brought about quietly, with the usual answers."""

    name: str
    host: int
    kind: Kind | None
    fields: Fields


@dataclass(frozen=True)
class Happening(Statement):
    """Something that is no message: `guest gone`, `host 1 dead`, `vp 2 offline 0`, `claim_free`, `save`..."""

    name: str
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Order(Statement):
    """`order any` / `order exact`: whether what is expected of one receiver must come in that order."""

    any: bool


@dataclass
class Script:
    """One file. `side` is "bus" or "guest"; `only` names the one runner it is meant for, if there is one."""

    path: Path
    side: str = "bus"
    only: str = ""
    cases: list[int] = field(default_factory=list)
    options: dict[str, Value] = field(default_factory=dict)
    option_places: dict[str, Place] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)

    def where(self) -> Place:
        """The place to blame when no statement is to blame."""
        return Place(self.path, 1, 1)
