"""What the storm's processes have logged since the last look, and what of it must not be there.

Workers are the library's own: the runner does not see them end, but their guest says how. The log is cut at
calm points, when nobody who will live writes any more.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_TRACEBACK: Final = re.compile(r"^.*Traceback \(most recent call last\)")
_DEATH: Final = re.compile(r"VP \d+: its worker (?:was killed by (?P<signal>\w+)|ended with status \d+)")
SHOWN: Final = 40
"""Lines of a traceback in a violation."""


class Log:
    """One log file. Attributes: `killed`, how many workers it says were killed by SIGKILL."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.killed = 0
        self._at = 0

    def look(self) -> Iterator[str]:
        """What is new and wrong: a traceback, or a worker that ended in any other way than by SIGKILL."""
        lines = self._new()
        for number, line in enumerate(lines):
            if _TRACEBACK.match(line):
                yield "\n".join([f"{self.path.name}:", *lines[max(0, number - 1) : number + SHOWN]])
            elif (death := _DEATH.search(line)) is not None:
                if death["signal"] == "SIGKILL":
                    self.killed += 1
                else:
                    yield f"{self.path.name}: {line}"

    def _new(self) -> list[str]:
        """Whole lines only: the last one may still be being written."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return whole.decode(errors="replace").splitlines()


class Logs:
    """The logs of all processes."""

    def __init__(self, directory: Path) -> None:
        self._processes = Log(directory / "processes.log")
        self._daemon = Log(directory / "daemon.log")

    def look(self, kills: int) -> list[str]:
        """What is wrong, given how many workers may have been killed by us."""
        found = [*self._processes.look(), *self._daemon.look()]
        if self._processes.killed > kills:
            found.append(f"{self._processes.killed} workers were killed by SIGKILL, and only {kills} by us")
        return found
