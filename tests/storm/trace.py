"""What happened in a storm: the last events in memory, all of them in a file of JSON lines."""

import time
from collections import Counter, deque
from pathlib import Path
from typing import Any, Final

import msgspec

SHOWN: Final = 200
"""Events shown when a storm fails; the file has all."""


class Trace:
    """Attributes: `path`; `counts`, events by kind; `violations`, texts, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self._begun = time.monotonic()
        self._last: deque[bytes] = deque(maxlen=SHOWN)
        self._file = path.open("wb")

    @property
    def elapsed(self) -> float:
        """Seconds since the begin."""
        return time.monotonic() - self._begun

    def note(self, what: str, **more: Any) -> None:
        """An event, with its time in seconds."""
        self.counts[what] += 1
        line = msgspec.json.encode({"t": round(self.elapsed, 4), "what": what, **more})
        self._last.append(line)
        self._file.write(line + b"\n")
        self._file.flush()

    def violation(self, text: str) -> None:
        """What must not be; the storm ends with it."""
        self.violations.append(text)
        self.note("violation", text=text)

    def last(self) -> list[str]:
        """The last events, as lines."""
        return [line.decode() for line in self._last]

    def close(self) -> None:
        """The file is complete."""
        self._file.close()
