"""What a player needs of the thing it plays against: inputs in, outputs out, and what an observer sees.

`bus_world` is the sans-IO bus, `live_world` a daemon behind its sockets.
"""

import abc
from dataclasses import dataclass

import msgspec

from tests.conformance.script import Attributes, Script


@dataclass(frozen=True)
class Output:
    """One thing that came out: to the guest ("G", bytes), a host link ("H"), the backend ("B").

    `order` counts everything that comes out of one world; a live daemon has no order between its sockets, nor
    any "B".
    """

    order: int
    who: str
    host: int
    body: bytes | msgspec.Struct
    vp: int = 0
    sint: int = 0


class CannotPlay(Exception):
    """This world has no such input or state; the script is not played here."""


class World(abc.ABC):
    """One bus and everything around it. Inputs raise CannotPlay where the world has nothing of the kind."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.outputs: list[Output] = []
        self._count = 0

    def put(self, who: str, host: int, body: bytes | msgspec.Struct, vp: int = 0, sint: int = 0) -> None:
        """Something came out."""
        self._count += 1
        self.outputs.append(Output(self._count, who, host, body, vp, sint))

    @abc.abstractmethod
    def guest(self, data: bytes, attributes: Attributes) -> None:
        """The guest posts a message."""

    @abc.abstractmethod
    def host(self, host: int, message: msgspec.Struct) -> None:
        """A host link says something."""

    @abc.abstractmethod
    def happen(self, name: str, numbers: tuple[int, ...]) -> None:
        """One of the statements that are no messages."""

    @abc.abstractmethod
    def advance(self, milliseconds: int) -> None:
        """Time passes."""

    @abc.abstractmethod
    def settle(self) -> None:
        """Return when everything that the inputs so far lead to is in `outputs`."""

    @abc.abstractmethod
    def wait(self, who: str, host: int) -> bool:
        """Wait for an output to this receiver that is not in `outputs` yet; False when none will come."""

    @abc.abstractmethod
    def state(self, name: str, number: int | None) -> object:
        """What an observer sees: "connection" (state, version), a count, the fields of channel `number`."""

    @abc.abstractmethod
    def close(self) -> None:
        """Leave nothing behind."""

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
