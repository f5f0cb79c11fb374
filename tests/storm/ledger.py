"""The storm's own book: a file that every process of it maps, so that no death takes away what was seen.

Counters, one in a cache line each, and two words for each event flag: the newest generation that a device was
asked to open, and the newest one whose close is known to be complete. Nothing of vmbusd reads or writes it.
Every word is stored by an atomic operation: its writers may be killed between any two.
"""

import mmap
from pathlib import Path
from typing import Final

from vmbusd.abi import layout
from vmbusd.abi.native import Words

COUNTERS: Final = (
    "signals",
    "callbacks",
    "opens",
    "closes",
    "retargets",
    "overlaps",
    "stale",
    "late",
    "ahead",
    "foreign",
    "twice",
    "raised",
)
"""The first five say how much happened; each of the others is a violation:

`overlaps`: two living processes in one channel's callback; `stale`: a callback of another generation than the
device writes; `late`: a callback that began, or still ran, when the close of its generation was complete;
`ahead`: more seen than produced; `foreign`: the ring memory of an open channel is another open's; `twice`: a
device was asked to open a generation again or an older one, or to close what was not open; `raised`: a
callback raised an exception.
"""
FORBIDDEN: Final = COUNTERS[5:]
_LINE: Final = 8
"""Words of a cache line."""
_FLAGS_AT: Final = 128
_WORDS_PER_FLAG: Final = 2
_SIZE: Final = 8 * (_FLAGS_AT + _WORDS_PER_FLAG * layout.FLAGS)


class Ledger:
    """A mapping of the file, which `make` has made."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._words = Words(mmap.mmap(file.fileno(), _SIZE))
        self._at = {name: index * _LINE for index, name in enumerate(COUNTERS)}

    @staticmethod
    def make(path: Path) -> "Ledger":
        """A new one, all zero."""
        path.write_bytes(bytes(_SIZE))
        return Ledger(path)

    def add(self, name: str, count: int = 1) -> None:
        """Count something."""
        self._words.add(self._at[name], count)

    def counts(self) -> dict[str, int]:
        """Every counter by its name."""
        return {name: self._words.load(at) for name, at in self._at.items()}

    def opened(self, flag: int) -> int:
        """The newest generation that a device was asked to open on this event flag."""
        return self._words.load(_FLAGS_AT + _WORDS_PER_FLAG * flag)

    def note_open(self, flag: int, generation: int) -> bool:
        """A device is asked to open; whether that is a new generation, as it must be."""
        newest = self._words.exchange(_FLAGS_AT + _WORDS_PER_FLAG * flag, generation)
        return newest < generation

    def closed(self, flag: int) -> int:
        """The newest generation of this event flag whose close is complete."""
        return self._words.load(_FLAGS_AT + _WORDS_PER_FLAG * flag + 1)

    def note_close(self, flag: int, generation: int) -> None:
        """No callback of this generation runs or will run."""
        at = _FLAGS_AT + _WORDS_PER_FLAG * flag + 1
        while (newest := self._words.load(at)) < generation:
            self._words.compare_exchange(at, newest, generation)
