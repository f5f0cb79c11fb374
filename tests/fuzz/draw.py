"""Bytes as choices: a fuzzer's input read from left to right, zeros when it is used up."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """An input being read. Attribute: `more`, whether there is anything left."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        """The next byte."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def take(self, size: int) -> bytes:
        """The next bytes, at most so many."""
        self._at += size
        return self._data[self._at - size : self._at]

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(len(self._data))

    def choice(self, options: Sequence[T]) -> T:
        """One of these."""
        return options[self.byte() % len(options)]
