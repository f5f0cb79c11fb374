"""The storm's own book: a file that every process of it maps, so that no death takes away what was seen.

Counters, one in a cache line each; a word that has a worker kill itself; and two words for each event flag:
the newest generation that a device was asked to open, and the newest one whose close is known to be complete.
Nothing of vmbusd reads or writes it.
Every word is stored by an atomic operation: its writers may be killed between any two.
"""

import mmap
from pathlib import Path
from typing import Final

from vmbusd.abi import layout
from vmbusd.abi.native import Words

HAPPENED: Final = (
    "signals",
    "callbacks",
    "opens",
    "closes",
    "retargets",
    "packets_there",
    "packets_back",
    "repeats",
)
"""How much happened; `packets_there`: packets that the guest judged, `packets_back`: that the hosts judged,
`repeats`: of both, those that came again because a worker died, as they may."""
FORBIDDEN: Final = (
    "overlaps",
    "stale",
    "late",
    "ahead",
    "foreign",
    "twice",
    "raised",
    "corrupt",
    "gap",
    "repeated",
    "foreign_packets",
)
"""Each is a violation:

`overlaps`: two living processes in one channel's callback; `stale`: a callback of another generation than the
device writes; `late`: a callback that began, or still ran, when the close of its generation was complete;
`ahead`: more seen than produced; `foreign`: the ring memory of an open channel is another open's; `twice`: a
device was asked to open a generation again or an older one, or to close what was not open; `raised`: a
callback raised an exception; `corrupt`: a packet that is not as it was made; `gap`: packets are missing
before one; `repeated`: a packet came again and nobody had died who could have had it; `foreign_packets`:
packets of another open.
"""
COUNTERS: Final = HAPPENED + FORBIDDEN
_LINE: Final = 8
"""Words of a cache line."""
_DOOM_AT: Final = _LINE * len(COUNTERS)
_FLAGS_AT: Final = _DOOM_AT + _LINE
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

    def doom(self, place: int) -> None:
        """The next worker that comes to this place, counted from 1, has to kill itself."""
        self._words.store(_DOOM_AT, place)

    def is_doomed(self, place: int) -> bool:
        """Whether the caller has to die here: one only."""
        return self._words.load(_DOOM_AT) == place and self._words.compare_exchange(_DOOM_AT, place, 0)

    def pardon(self) -> bool:
        """Nobody has to die any more; whether nobody had come."""
        return self._words.exchange(_DOOM_AT, 0) != 0

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
