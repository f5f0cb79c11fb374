"""Who may die by SIGKILL without the runner, while a fault is armed that may kill him.

A daemon dies of a fault once, and the next one knows. A host's counts end with its link, so its successor,
which has the same number, may die of the same rule again.
"""

import time
from collections.abc import Iterable
from typing import Final

LATE_SECONDS: Final = 2.0
"""After a rule was taken back: whoever began a pass before it may still die in it, and be seen to later."""
_ONCE: Final = frozenset({"daemon"})
"""Whose pardons are used up by a death."""


class Pardons:
    """Given when a rule is armed, ended when it is taken back."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}
        self._kinds: dict[int, str] = {}
        self._next = 0

    def give(self, kinds: Iterable[str]) -> list[int]:
        """One for each; for as long as nobody ends it."""
        given = []
        for kind in kinds:
            self._next += 1
            self._kinds[self._next], self._until[self._next] = kind, float("inf")
            given.append(self._next)
        return given

    def end(self, given: Iterable[int] | None = None) -> None:
        """These, or all of them (None), are over soon."""
        soon = time.monotonic() + LATE_SECONDS
        for pardon in list(self._until) if given is None else given:
            if pardon in self._until:
                self._until[pardon] = min(self._until[pardon], soon)

    def use(self, kind: str) -> bool:
        """Whether a process of this kind may have been killed by a fault."""
        now = time.monotonic()
        self._until = {pardon: until for pardon, until in self._until.items() if until >= now}
        for pardon in self._until:
            if self._kinds[pardon] == kind:
                if kind in _ONCE:
                    del self._until[pardon]
                return True
        return False
