"""The journal of one partition: each input in a file before its first effect, and the state they follow.

Two files in the runtime directory, mode 0600. `<partition>.snapshot` is a whole state and the number of the
last input in it; `<partition>.journal` holds the inputs since, numbered without a gap. The journal is
preallocated, so that a full disk is an error when it is made, and written through a shared mapping: an append
is a copy in memory, which the kernel keeps whatever becomes of this process. No fsync: when the machine dies
the guests die too. What the bytes must be to be believed stands in `journal_file`.

Order of a new snapshot n, and what a kill after each step leaves:
    1. `.snapshot.new` is written whole       old snapshot, old journal: the same inputs are replayed
    2. `.journal.new` is made, follows n      the same
    3. `.snapshot.new` becomes `.snapshot`    new snapshot, old journal: its inputs up to n are passed over
    4. `.journal.new` becomes `.journal`      new snapshot, new journal
Nothing is appended between 1 and 4, so the journal that ends at n is complete while it is the current one.
"""

import contextlib
import mmap
import os
from dataclasses import dataclass
from typing import Final

from vmbusd.abi import native
from vmbusd.abi.errors import ResourceError
from vmbusd.server import journal_file
from vmbusd.server.journal_file import DamagedJournal, Identity
from vmbusd.server.steps import Step, Steps

JOURNAL: Final = ".journal"
SNAPSHOT: Final = ".snapshot"
NEW: Final = ".new"
JOURNAL_SIZE: Final = 768 << 10
"""Bytes of a journal file: about 4096 channel messages with their headers, and `journal_file.MARGIN`."""
RECORDS: Final = 4096
"""Inputs between two snapshots: some milliseconds to replay, and a snapshot of 2047 channels costs each of
them a few microseconds."""

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW

# The seam at which tests let the disk be full.
_allocate = os.posix_fallocate


@dataclass(frozen=True, slots=True)
class Saved:
    """What the files tell: whose state, the number of the last input in it, and the inputs after it."""

    identity: Identity
    number: int
    state: bytes
    bodies: list[bytes]


class Journal:
    """The two files of a living partition, open for appending. Made by `begin`.

    Attributes: `number`, of the last input; `follows`, the number of the snapshot's; `appended_bytes`;
    `steps`, of its partition, where a fault may end us.
    """

    def __init__(self, directory: int, identity: Identity) -> None:
        """`directory`: descriptor of the runtime directory. Nothing is written before `begin`."""
        self.identity = identity
        self.steps = Steps()
        self.number = 0
        self.follows = 0
        self.appended_bytes = 0
        self._directory = directory
        self._name = identity.partition
        self._at = 0
        self._end = 0
        self._map: mmap.mmap | None = None
        self._words: memoryview | None = None
        self._guard: native.Guard | None = None

    # -- append --------------------------------------------------------------------------------------------

    @property
    def due(self) -> bool:
        """Whether it is time for a snapshot: many inputs, or no room for the largest that may come."""
        many = self.number - self.follows >= RECORDS
        return many or self._end - self._at < journal_file.MARGIN or self._is_dead()

    def _is_dead(self) -> bool:
        """Whether somebody truncated the file under us: what was appended may be nowhere."""
        return self._guard is not None and self._guard.dead

    def append(self, body: bytes) -> bool:
        """Keep one input; False when there is no room (or no file): then only a new snapshot saves it.

        One store of 8 bytes, the last one, makes the record be there: a process that is killed anywhere
        before leaves a record that never was.
        """
        at, size = self._at, journal_file.RECORD.size + len(body)
        words = self._words
        if words is None or self._is_dead() or at + size + journal_file.WORD > self._end:
            return False
        assert self._map is not None
        number = self.number = self.number + 1
        self._map[at + journal_file.WORD : at + size] = number.to_bytes(8, "little") + body
        words[at >> 3] = journal_file.first_word(number, body)
        self._at = at + (size + 7 & ~7)
        self.appended_bytes += size
        return True

    # -- snapshots -----------------------------------------------------------------------------------------

    def begin(self, number: int, state: bytes) -> None:
        """Write `state`, which has every input up to `number` in it, and begin a new journal after it.

        Raises ResourceError naming the file when there is no room; the files of before are as they were.
        """
        snapshot, journal = self._name + SNAPSHOT, self._name + JOURNAL
        try:
            self._write_snapshot(snapshot + NEW, number, state)
            fresh, at = self._make_journal(journal + NEW, number)
        except OSError as error:
            self._unlink(snapshot + NEW, journal + NEW)
            raise ResourceError(f"{journal}: cannot be written: {error.strerror or error}") from error
        self.steps.reach(Step.SNAPSHOT_WRITTEN)
        try:
            self._rename(snapshot + NEW, snapshot)
            self.steps.reach(Step.SNAPSHOT_RENAMED)
            self._rename(journal + NEW, journal)
        except OSError as error:
            fresh.close()
            raise ResourceError(f"{journal}: cannot be renamed: {error.strerror or error}") from error
        self._let_go()
        self._map, self._words = fresh, memoryview(fresh).cast("Q")
        self._guard = native.Guard(fresh, journal)
        self._at, self._end = at, len(fresh)
        self.number = self.follows = number

    def _write_snapshot(self, name: str, number: int, state: bytes) -> None:
        with os.fdopen(self._open(name), "wb") as file:
            file.write(journal_file.encode_snapshot(self.identity, number, state))

    def _make_journal(self, name: str, number: int) -> tuple[mmap.mmap, int]:
        fd = self._open(name)
        try:
            _allocate(fd, 0, JOURNAL_SIZE)
            made = mmap.mmap(fd, JOURNAL_SIZE)
        finally:
            os.close(fd)
        header = journal_file.encode_journal_header(self.identity, number, JOURNAL_SIZE)
        made[: len(header)] = header
        return made, len(header)

    def _open(self, name: str) -> int:
        return os.open(name, _FLAGS, 0o600, dir_fd=self._directory)

    def _rename(self, old: str, new: str) -> None:
        os.replace(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    # -- end -----------------------------------------------------------------------------------------------

    def _let_go(self) -> None:
        if self._guard is not None:
            self._guard.release()
            self._guard = None
        if self._words is not None:
            self._words.release()
            self._words = None
        if self._map is not None:
            self._map.close()
            self._map = None

    def _unlink(self, *names: str) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._directory)

    def close(self) -> None:
        """Append no more; the files stay for the next daemon. May be called again."""
        self._let_go()

    def remove(self) -> None:
        """Append no more and remove the files: what they tell of is over, or not the whole truth any more."""
        self._let_go()
        remove(self._directory, self._name)


def remove(directory: int, partition: str) -> None:
    """Remove the files of a partition, whatever there is of them."""
    # The journal first: a snapshot alone tells of a partition that has lost something, and is refused.
    for name in (JOURNAL, SNAPSHOT, JOURNAL + NEW, SNAPSHOT + NEW):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partition + name, dir_fd=directory)


def partitions(directory: int) -> list[str]:
    """The names of the partitions that have a file here, in order."""
    found = {
        name.removesuffix(NEW).removesuffix(ending)
        for name in os.listdir(directory)
        for ending in (JOURNAL, SNAPSHOT)
        if name.removesuffix(NEW).endswith(ending)
    }
    return sorted(found)


def read(directory: int, partition: str) -> Saved:
    """What a daemon before us kept of a partition.

    Raises DamagedJournal saying what is wrong and what is lost; FileNotFoundError when there is nothing but
    the beginning of both.
    """
    snapshot = _content(directory, partition + SNAPSHOT)
    journal = _content(directory, partition + JOURNAL)
    if snapshot is None:
        if journal is None:
            raise FileNotFoundError(partition + SNAPSHOT)
        raise DamagedJournal(f"{partition}{JOURNAL}: its snapshot is missing: everything is lost")
    identity, number, state = journal_file.decode_snapshot(partition + SNAPSHOT, snapshot)
    if journal is None:
        raise DamagedJournal(f"{partition}{JOURNAL}: is missing: everything since input {number} is lost")
    of, follows, bodies = journal_file.decode_journal(partition + JOURNAL, journal)
    if of != identity:
        other = of.differs(identity)
        raise DamagedJournal(f"{partition}{JOURNAL}: is of another snapshot, {other}: everything is lost")
    if follows > number:
        raise DamagedJournal(
            f"{partition}{SNAPSHOT}: ends at input {number}, the journal begins after {follows}: "
            f"inputs {number + 1} to {follows} are lost"
        )
    if follows + len(bodies) < number:
        raise DamagedJournal(
            f"{partition}{JOURNAL}: ends at input {follows + len(bodies)}, the snapshot has {number}: "
            "it is an older one, and what followed the snapshot is lost"
        )
    return Saved(identity, number, state, bodies[number - follows :])


def _content(directory: int, name: str) -> bytes | None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedJournal(f"{name}: cannot be read: {error.strerror}") from error
    with os.fdopen(fd, "rb") as file:
        return file.read()
