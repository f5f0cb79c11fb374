"""One set of objects: names, sizes, modes, doorbells that work, and a removal that removes only its own."""

import os
import secrets
from collections.abc import Iterator

import pytest

from vmbusd.abi import layout
from vmbusd.abi.errors import ResourceError
from vmbusd.abi.link import Object
from vmbusd.server import limits
from vmbusd.server.memory import Memory
from vmbusd.server.objects import ObjectSet

RAM = 1 << 20


@pytest.fixture
def made() -> Iterator[ObjectSet]:
    made = ObjectSet(secrets.token_hex(6), "a", vps=2, ram_size=RAM, eventfd=False)
    yield made
    made.remove()


def on_disk(made: ObjectSet) -> dict[str, os.stat_result]:
    """What lies in /dev/shm of this set."""
    found = [name for name in os.listdir("/dev/shm") if made.prefix in name]
    return {name.replace(made.prefix, ""): os.stat(f"/dev/shm/{name}") for name in found}


def test_sizes_and_reservations(made: ObjectSet) -> None:
    """Small objects are allocated whole, guest memory and blocks page by page when they are promised."""
    found = on_disk(made)

    assert {name: status.st_size for name, status in found.items()} == {
        "-table": layout.TABLE_SIZE,
        "-events": 2 * layout.PAGE,
        "-vpwork": 2 * layout.VPWORK_SIZE,
        "-guest": layout.GUEST_SIZE,
        "-ram": RAM,
        "sem.-vp0": layout.SEMAPHORE_SIZE,
        "sem.-vp1": layout.SEMAPHORE_SIZE,
    }
    assert found["-table"].st_blocks * 512 >= layout.TABLE_SIZE
    assert found["-guest"].st_blocks == found["-ram"].st_blocks == 0
    made.reserve_block(2047)
    made.reserve_block(2047)
    made.reserve(Object.RAM, 8 * layout.PAGE, 2 * layout.PAGE)
    assert on_disk(made)["-guest"].st_blocks * 512 == layout.PAGE
    assert on_disk(made)["-ram"].st_blocks * 512 == 2 * layout.PAGE


def test_host_objects_come_and_go(made: ObjectSet) -> None:
    """Page and semaphore of a host link, and nothing else, are made and removed."""
    before = on_disk(made).keys()
    made.add_host(3)
    assert {name.rpartition("-")[2] for name in on_disk(made).keys() - before} == {"host3"}
    assert [each.what for each in made.host_objects(3)] == [Object.HOST_PAGE, Object.HOST_SEMAPHORE]

    made.remove_host(3)

    assert on_disk(made).keys() == before
    assert made.host_objects(3) == []


@pytest.mark.parametrize("eventfd", [False, True])
def test_doorbells_ring(eventfd: bool) -> None:
    """Of either kind; a semaphore was posted by its name and heard through its descriptor."""
    made = ObjectSet(secrets.token_hex(6), "a", vps=2, ram_size=RAM, eventfd=eventfd)
    memory = Memory(made, partition="a", vps=2, ram_size=RAM)
    try:
        bell = memory.doorbells[1]
        assert not bell.wait(0)
        bell.ring()
        assert bell.wait(0)
        assert memory.table.header()["partition"] == "a"
    finally:
        del bell
        memory.close()
        made.remove()


def test_a_reopened_table_cannot_be_written(made: ObjectSet) -> None:
    """A new open file, read-only, also when the name is gone."""
    os.unlink(f"/dev/shm/{made.prefix}-table")

    fd = made.reopen_read_only(Object.TABLE)

    with pytest.raises(OSError, match=r"Bad file descriptor|Invalid"):
        os.pwrite(fd, b"x", 0)
    os.close(fd)


def test_a_name_taken_over_is_not_removed(made: ObjectSet) -> None:
    """What lies under our name and is not ours stays."""
    path = f"/dev/shm/{made.prefix}-vpwork"
    os.unlink(path)
    with open(path, "xb"):
        pass

    assert not made[Object.VPWORK, 0].is_named()
    made.remove()

    assert list(on_disk(made)) == ["-vpwork"]
    os.unlink(path)


def test_a_set_that_needs_the_last_descriptors_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reserve that answers newcomers is not for objects."""
    monkeypatch.setattr(limits, "scarce", lambda _fd: True)
    instance = secrets.token_hex(6)

    with pytest.raises(ResourceError, match="too few file descriptors left"):
        ObjectSet(instance, "a", vps=1, ram_size=RAM, eventfd=False)

    assert [name for name in os.listdir("/dev/shm") if instance in name] == []
