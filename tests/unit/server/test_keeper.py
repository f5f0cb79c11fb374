"""The keeper: what is on disk is true or is not there, and what could not be kept is kept again."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.link import Role
from vmbusd.server import inputs, journal, limits, log
from vmbusd.server.inputs import ClaimFree
from vmbusd.server.journal import Journal
from vmbusd.server.journal_file import Identity
from vmbusd.server.keeper import Keeper

WHO = Identity(1, "boot", "0123456789ab", "p", 2, 1 << 20, b"{}")


class Scene:
    """A keeper whose state is how many inputs it was told of."""

    def __init__(self, directory: int) -> None:
        self.directory = directory
        self.keeper = Keeper(Journal(directory, WHO), lambda: b"%d" % self.keeper.number, log.get())
        self.keeper.begin()

    def trouble(self) -> str:
        """What an administrator is told."""
        return self.keeper.trouble or ""

    def total(self) -> int:
        """The inputs that somebody who reads the files now knows of."""
        read = journal.read(self.directory, "p")
        assert int(read.state) == read.number
        return read.number + len(read.bodies)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(limits, "SNAPSHOT_RETRY", 0.0)
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    made = Scene(directory)
    yield made
    made.keeper.remove()
    assert os.listdir(tmp_path) == []
    os.close(directory)


def full(*_: object) -> None:
    """No space left."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_snapshot_is_written_when_it_is_due(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never within an input; each input is in the snapshot or behind it, once."""
    monkeypatch.setattr(journal, "RECORDS", 10)
    for number in range(1, 101):
        assert scene.keeper.keep(ClaimFree(1, number)) == number
        assert scene.total() == number
        scene.keeper.settle()
        assert scene.total() == number
    assert scene.keeper.statistics()["snapshots"] == 11


def test_without_room_for_a_snapshot_the_journal_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it has room itself; the administrator is told, until it is mended."""
    monkeypatch.setattr(journal, "RECORDS", 2)
    monkeypatch.setattr(journal, "_allocate", full)
    for number in range(1, 50):
        scene.keeper.keep(ClaimFree(1, number))
        scene.keeper.settle()
        assert scene.total() == number
    assert "No space left" in scene.trouble()

    monkeypatch.setattr(journal, "_allocate", os.posix_fallocate)
    scene.keeper.settle()
    assert scene.trouble() == ""
    assert scene.total() == 49


def test_without_any_room_there_is_nothing_rather_than_a_lie(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files go, the partition goes on, and with the next snapshot everything is kept again."""
    monkeypatch.setattr(journal, "_allocate", full)
    number = 0
    while "lose" not in scene.trouble():
        number = scene.keeper.keep(inputs.GuestPacket(bytes(60_000)))
        scene.keeper.settle()
    assert journal.partitions(scene.directory) == []
    assert scene.keeper.keep(ClaimFree(1, 1)) == number + 1

    monkeypatch.setattr(journal, "_allocate", os.posix_fallocate)
    scene.keeper.settle()
    assert scene.trouble() == ""
    scene.keeper.keep(ClaimFree(1, 2))
    assert scene.total() == number + 2


def test_what_has_ended_is_not_kept(scene: Scene) -> None:
    """After the end of its partition nothing is written any more, whatever is still on its way."""
    scene.keeper.remove()
    scene.keeper.keep(ClaimFree(1, 1))
    scene.keeper.settle(now=True)
    assert journal.partitions(scene.directory) == []
    assert scene.trouble() == ""


@pytest.mark.parametrize(
    "what",
    [
        inputs.GuestPacket(bytes(24) + b"x"),
        inputs.HostPacket(63, bytes(24) + b"x"),
        inputs.NoPages(1 << 40, 2, 3, 4),
        inputs.TakenBack(1, 2),
        inputs.ClaimFree(2047, 0x7FFFFFFF),
        inputs.PagesModified(1, True),
        inputs.Offline(1, 2),
        inputs.Online(1),
        inputs.GuestGone(),
        inputs.HostGone(1),
        inputs.HostDead(1),
        inputs.Tick(1.5),
        inputs.GuestOutput(False),
        inputs.Reset(),
        inputs.LinkMade(Role.HOST, 3, 4, 5, 6, 7, bytes(16)),
        inputs.LinkRenewed(Role.GUEST_WORKER, 3, bytes(16), b"1" * 16),
        inputs.LinkLost(3),
        inputs.SeatSet(1, 2, 3, True, False, 4, 5, True),
    ],
)
def test_every_input_survives_its_record(what: inputs.Input) -> None:
    """What is decoded is what was encoded; a record cut short or of another kind is refused."""
    body = inputs.encode(what)
    assert inputs.decode(body) == what
    for wrong in (b"", b"?" + body, body[:1]):
        with pytest.raises(ProtocolError):
            inputs.decode(wrong)
