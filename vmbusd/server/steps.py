"""Named steps of the daemon at which a fault may kill it, for those who test what a restart makes of it.

A step stands where two things that belong together are half done: whoever starts next must finish the other
half. Without a fault armed, a step is one look at an attribute. The steps of hosts and workers, on the data
path, are others. Source: docs/faults.md, docs/restart.md.
"""

import enum
from collections.abc import Callable


class Step(enum.StrEnum):
    """Where the daemon may be killed."""

    APPENDED = "journal.between-append-and-effect"
    """An input is in the journal, and nothing has come of it."""
    CARRYING = "effects.between-two"
    """Some effects of an input are carried out, some are not."""
    SNAPSHOT_WRITTEN = "snapshot.between-write-and-rename"
    """The new snapshot and journal are written, the old ones are in force."""
    SNAPSHOT_RENAMED = "snapshot.between-renames"
    """The new snapshot is in force, the old journal is not replaced."""
    DEATH_SEEN = "recover.before-claims"
    """A worker is known to be dead, and still holds its claims."""
    RECOVERED = "recover.between-bits-and-journal"
    """A dead worker's claims are free and its bits put back; nobody has written that down."""
    RETIRE_WORD = "retire.between-word-and-targets"
    """A VP is offline, and channels still target it."""
    RETIRE_TARGETS = "retire.between-targets-and-sweep"
    """No channel targets the VP any more, its bits are still on its page."""
    SWEPT = "sweep.between-set-and-clear"
    """Bits of a VP without worker are set at their new place and not cleared at the old one."""
    RESUMED = "resume.before-table"
    """A start has replayed the journal, and the table is as the death before left it."""
    RECONCILED = "resume.between-table-and-links"
    """The table is as it must be, and the dead are not dealt with."""


class Steps:
    """The steps of one partition.

    Attributes: `armed`, those at which something happens, and what.
    """

    __slots__ = ("armed",)

    def __init__(self) -> None:
        self.armed: dict[Step, Callable[[], object]] = {}

    def reach(self, step: Step) -> None:
        """The daemon is at this step; it may not come back."""
        if self.armed and (happens := self.armed.get(step)) is not None:
            happens()
