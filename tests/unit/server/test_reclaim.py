"""Dead sets go, whatever is used, new or somebody else's stays."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator

import pytest

from vmbusd.abi import layout
from vmbusd.server import ofd, reclaim
from vmbusd.server.reclaim import Reclaimed

OURS = "0123456789ab"
OTHER = secrets.token_hex(6)


class Make:
    """Makes files as they lie in /dev/shm."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def __call__(self, *whats: str, instance: str = OTHER) -> None:
        for what in whats:
            self.paths.append(path(what, instance))
            with open(self.paths[-1], "xb") as file:
                file.write(bytes(64))


def path(what: str, instance: str = OTHER) -> str:
    prefix, _, kind = what.rpartition(" ")
    return f"/dev/shm/{'sem.' if prefix else ''}vmbusd-{instance}-web-1-{kind}"


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes files like a set's; what is left of them goes at the end."""
    made = Make()
    yield made
    for name in made.paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


@pytest.fixture
def grown_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every set is old enough to judge."""
    monkeypatch.setattr(reclaim, "YOUNG_SET", -1.0)


def of_test(report: Reclaimed) -> tuple[list[str], set[str], set[str]]:
    """What a report says about this file's sets; other daemons of the machine are none of our business."""
    mine = {OURS, OTHER}
    return (
        sorted(name.rpartition("-")[2] for name in report.removed if name.split("-")[1] in mine),
        {instance for instance, _ in report.living if instance in mine},
        {instance for instance, _ in report.young if instance in mine},
    )


ALL = ("table", "events", "sem vp0", "host0", "sem host0")


def test_a_dead_set_goes_whole(make: Make, grown_up: None) -> None:
    """Table unlocked on both bytes: everything of it is removed, semaphores too."""
    make(*ALL)

    assert of_test(reclaim.reclaim(OURS)) == (["events", "host0", "host0", "table", "vp0"], set(), set())
    assert [name for name in os.listdir("/dev/shm") if OTHER in name] == []


@pytest.mark.parametrize(
    ("kind", "byte"),
    [(fcntl.F_WRLCK, layout.LOCK_BYTE_DAEMON), (fcntl.F_RDLCK, layout.LOCK_BYTE_PEER)],
    ids=["daemon", "peer"],
)
def test_a_held_set_stays(make: Make, grown_up: None, kind: int, byte: int) -> None:
    """A daemon's or a peer's lock keeps all of it; it goes when the lock does."""
    make(*ALL)
    with open(path("table"), "r+b") as holder:
        assert ofd.lock(holder.fileno(), kind, byte)
        assert of_test(reclaim.reclaim(OURS)) == ([], {OTHER}, set())

    assert of_test(reclaim.reclaim(OURS))[0] != []


def test_a_passed_descriptor_holds_the_set(make: Make, grown_up: None) -> None:
    """The lock lives as long as any copy of the descriptor it was taken on."""
    make("table")
    fd = os.open(path("table"), os.O_RDONLY)
    ofd.hold_for_peer(fd, "table")
    copy = os.dup(fd)
    os.close(fd)

    assert of_test(reclaim.reclaim(OURS)) == ([], {OTHER}, set())
    os.close(copy)
    assert of_test(reclaim.reclaim(OURS)) == (["table"], set(), set())


@pytest.mark.parametrize("whats", [("events", "vpwork"), ALL], ids=["no table", "unlocked table"])
def test_a_young_set_is_left_for_later(
    make: Make, monkeypatch: pytest.MonkeyPatch, whats: tuple[str, ...]
) -> None:
    """Somebody may be making it this very moment; a moment later it is judged."""
    make(*whats)
    assert of_test(reclaim.reclaim(OURS)) == ([], set(), {OTHER})

    monkeypatch.setattr(reclaim, "YOUNG_SET", -1.0)

    assert len(of_test(reclaim.reclaim(OURS))[0]) == len(whats)


def test_our_own_dead_set_is_never_too_young(make: Make) -> None:
    """Nobody else makes objects under our name while we hold its directory."""
    make(*ALL, instance=OURS)

    assert len(of_test(reclaim.reclaim(OURS))[0]) == len(ALL)


def test_names_that_are_not_ours_are_left(grown_up: None) -> None:
    """Only exact names count: other programs' objects, directories and links are not touched."""
    names = [
        f"vmbusd-{OTHER}",
        f"vmbusd-{OTHER}-a",
        f"vmbusd-{OTHER[:-1]}-a-table",
        f"xvmbusd-{OTHER}-a-table",
    ]
    for name in names:
        with open(f"/dev/shm/{name}", "xb"):
            pass
    link = f"/dev/shm/vmbusd-{OTHER}-a-table"
    os.symlink("/etc/passwd", link)
    try:
        assert of_test(reclaim.reclaim(OURS)) == ([], set(), set())
        assert os.path.islink(link)
    finally:
        for name in names:
            os.unlink(f"/dev/shm/{name}")
        os.unlink(link)


@pytest.mark.root
def test_another_users_set_is_left(make: Make, grown_up: None) -> None:
    """Dead or not: only its own user removes it (as another user: ours is removed, there is no second)."""
    make("table")
    if os.geteuid() == 0:
        os.chown(path("table"), 65534, 65534)
        assert of_test(reclaim.reclaim(OURS)) == ([], set(), set())
    else:
        assert of_test(reclaim.reclaim(OURS)) == (["table"], set(), set())
