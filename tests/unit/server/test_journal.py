"""The journal: what was appended is read back, and what is damaged is refused with a word on what is lost."""

import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from vmbusd.abi.errors import ResourceError
from vmbusd.server import journal, journal_file
from vmbusd.server.journal import Journal
from vmbusd.server.journal_file import DamagedJournal, Identity

WHO = Identity(1, "boot", "0123456789ab", "p", 2, 1 << 20, b"{}")
STATE = b"state" * 20


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    """The descriptor of an empty directory."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def begun(directory: int) -> Iterator[Journal]:
    """A journal after its first snapshot."""
    made = Journal(directory, WHO)
    made.begin(0, STATE)
    yield made
    made.close()


def bodies(count: int, seed: int = 0) -> list[bytes]:
    """Inputs of every length from 1 up, with zeros in them."""
    draw = random.Random(seed)
    return [bytes(draw.choices((0, 1, 255), k=1 + index % 60)) for index in range(count)]


def test_what_was_appended_is_read_back(directory: int, begun: Journal, tmp_path: Path) -> None:
    """State, number and every input in order, while the writer still holds the file; nobody else may read."""
    wanted = bodies(300)
    assert all(begun.append(body) for body in wanted)

    saved = journal.read(directory, "p")

    assert (saved.identity, saved.number, saved.state, saved.bodies) == (WHO, 0, STATE, wanted)
    assert journal.partitions(directory) == ["p"]
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_snapshot_begins_a_new_journal(directory: int, begun: Journal) -> None:
    """Numbers go on; what the snapshot has is read no more."""
    for body in bodies(10):
        begun.append(body)
    begun.begin(10, b"later")
    begun.append(b"eleven")

    saved = journal.read(directory, "p")

    assert (saved.number, saved.state, saved.bodies) == (10, b"later", [b"eleven"])


def test_a_snapshot_is_due_by_number_and_by_room(begun: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """After RECORDS inputs; or when the largest that may come would not fit, so that it still fits now."""
    monkeypatch.setattr(journal, "RECORDS", 3)
    due = []
    for _ in range(4):
        due.append(begun.due)
        begun.append(b"x")
    assert due == [False, False, False, True]

    begun.begin(3, STATE)
    monkeypatch.setattr(journal, "RECORDS", 1 << 30)
    while not begun.due:
        assert begun.append(bytes(1000))
    assert begun.append(bytes(journal_file.MARGIN // 2))
    while begun.append(bytes(1000)):
        pass
    assert not begun.append(bytes(1000))


def test_a_journal_without_room_loses_nothing_it_had(directory: int, begun: Journal) -> None:
    """The last record may end at the last word but one; what did not fit was never there."""
    kept = 0
    for size in (100_000, 1000, 8, 1):
        while begun.append(bytes([1]) * size):
            kept += 1

    assert len(journal.read(directory, "p").bodies) == kept


def test_every_truncation_is_refused(directory: int, begun: Journal, tmp_path: Path) -> None:
    """Both files, cut at any byte: nothing is believed that may not be all."""
    for body in bodies(3):
        begun.append(body)
    begun.close()
    for name in ("p.snapshot", "p.journal"):
        whole = (tmp_path / name).read_bytes()
        used = whole.rstrip(b"\0")
        for size in [*range(len(used) + 20), len(whole) - 1]:
            if size >= len(whole):
                continue
            (tmp_path / name).write_bytes(whole[:size])
            with pytest.raises(DamagedJournal, match=rf"^{name}: .* lost"):
                journal.read(directory, "p")
        (tmp_path / name).write_bytes(whole + b"\0")
        with pytest.raises(DamagedJournal, match="lost"):
            journal.read(directory, "p")
        (tmp_path / name).write_bytes(whole)
    assert journal.read(directory, "p").bodies == bodies(3)


def test_every_flipped_bit_is_refused_or_changes_nothing(
    directory: int, begun: Journal, tmp_path: Path
) -> None:
    """Each bit of what is used, one at a time, and some of what is not."""
    wanted = bodies(4)
    for body in wanted:
        begun.append(body)
    begun.close()
    refused = 0
    for name in ("p.snapshot", "p.journal"):
        whole = (tmp_path / name).read_bytes()
        bits = [*range(8 * (len(whole.rstrip(b"\0")) + 24))]
        bits = [bit for bit in bits if bit < 8 * len(whole)]
        for bit in bits:
            changed = bytearray(whole)
            changed[bit >> 3] ^= 1 << (bit & 7)
            (tmp_path / name).write_bytes(changed)
            try:
                saved = journal.read(directory, "p")
            except DamagedJournal:
                refused += 1
            else:
                assert (saved.identity, saved.number, saved.state, saved.bodies) == (WHO, 0, STATE, wanted)
        (tmp_path / name).write_bytes(whole)
    assert refused > 3600


def test_a_record_cut_short_by_a_kill_was_never_there(directory: int, begun: Journal, tmp_path: Path) -> None:
    """Its first word is stored last: whatever else of it is there, it and nothing else is dropped."""
    begun.append(b"one")
    before = (tmp_path / "p.journal").read_bytes()
    begun.append(b"two" * 5)
    begun.close()
    after = (tmp_path / "p.journal").read_bytes()
    begin = next(at for at in range(len(before)) if before[at] != after[at]) & ~7
    for written in range(begin + 8, begin + 40):
        torn = after[:begin] + bytes(8) + after[begin + 8 : written] + before[written:]
        (tmp_path / "p.journal").write_bytes(torn)
        assert journal.read(directory, "p").bodies == [b"one"]


@pytest.mark.parametrize("step", range(5))
def test_a_kill_between_any_two_steps_of_a_snapshot_loses_nothing(
    directory: int, begun: Journal, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old snapshot with its inputs, or new one: the same inputs are in what is read, each once."""

    class KilledError(BaseException):
        """Not an OSError: the writer does not get to tidy up."""

    left = iter(range(step, -1, -1))

    def dies(method: Callable[..., object]) -> Callable[..., object]:
        def maybe(*arguments: object) -> object:
            if next(left) == 0:
                raise KilledError
            return method(*arguments)

        return maybe

    for body in (b"1", b"2", b"3"):
        begun.append(body)
    for name in ("_write_snapshot", "_make_journal", "_rename"):
        monkeypatch.setattr(begun, name, dies(getattr(begun, name)))
    if step < 4:
        with pytest.raises(KilledError):
            begun.begin(3, b"123")
    else:
        begun.begin(3, b"123")

    saved = journal.read(directory, "p")

    assert (saved.state, saved.bodies) == (b"123", []) if step >= 3 else (STATE, [b"1", b"2", b"3"])
    assert saved.number + len(saved.bodies) == 3
    journal.remove(directory, "p")
    assert journal.partitions(directory) == []


def test_a_full_disk_is_an_error_that_changes_nothing(
    directory: int, begun: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot that finds no room leaves the old files, which go on being appended to."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    begun.append(b"1")
    monkeypatch.setattr(journal, "_allocate", full)
    with pytest.raises(ResourceError, match=r"p\.journal: cannot be written: No space left"):
        begun.begin(1, b"state 1")
    assert begun.append(b"2")

    saved = journal.read(directory, "p")
    assert (saved.state, saved.bodies) == (STATE, [b"1", b"2"])
    assert not any(name.endswith(".new") for name in os.listdir(directory))


def test_files_that_do_not_belong_together_are_refused(
    directory: int, begun: Journal, tmp_path: Path
) -> None:
    """Another partition's journal, an older or newer snapshot, one file without the other."""
    begun.append(b"1")
    (tmp_path / "old").write_bytes((tmp_path / "p.snapshot").read_bytes())
    begun.begin(1, b"state 1")
    (tmp_path / "p.snapshot").write_bytes((tmp_path / "old").read_bytes())
    with pytest.raises(DamagedJournal, match="inputs 1 to 1 are lost"):
        journal.read(directory, "p")

    begun.begin(5, b"state 5")
    (tmp_path / "new").write_bytes((tmp_path / "p.snapshot").read_bytes())
    begun.begin(2, b"state 2")
    (tmp_path / "p.snapshot").write_bytes((tmp_path / "new").read_bytes())
    with pytest.raises(DamagedJournal, match="ends at input 2, the snapshot has 5"):
        journal.read(directory, "p")

    begun.begin(6, b"")
    (tmp_path / "p.journal").rename(tmp_path / "p.journal.away")
    with pytest.raises(DamagedJournal, match="is missing: everything since input 6"):
        journal.read(directory, "p")
    (tmp_path / "p.journal.away").rename(tmp_path / "p.journal")
    (tmp_path / "p.snapshot").unlink()
    with pytest.raises(DamagedJournal, match="its snapshot is missing"):
        journal.read(directory, "p")
    (tmp_path / "p.journal").unlink()
    with pytest.raises(FileNotFoundError):
        journal.read(directory, "p")

    other = Journal(directory, msgspec.structs.replace(WHO, instance="ba9876543210"))
    other.begin(0, STATE)
    other.close()
    begun.begin(0, STATE)
    (tmp_path / "p.snapshot").write_bytes(
        (tmp_path / "p.snapshot").read_bytes().replace(b"0123456789ab", b"?")
    )
    with pytest.raises(DamagedJournal, match=r"p\.snapshot"):
        journal.read(directory, "p")


def test_a_truncated_journal_ends_nobody(begun: Journal, tmp_path: Path) -> None:
    """Somebody of our own user cuts the file while it is mapped: appends are refused, a snapshot mends it."""
    begun.append(b"1")
    os.truncate(tmp_path / "p.journal", 0)
    begun.append(b"2")

    assert begun.due
    assert not begun.append(b"3")
    begun.begin(begun.number, b"mended")
    assert begun.append(b"4")
