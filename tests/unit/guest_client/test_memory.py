"""The guest's page allocator: what it hands out, what it takes back, what it refuses."""

import mmap
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest_client.memory import PageAllocator, reserve_in
from vmbusd.abi.errors import ResourceError, UsageError


def nothing(first: int, count: int) -> None:
    """A machine that is never full."""


def test_page_zero_is_never_handed_out() -> None:
    """Every page but page 0 can be had, and then the allocator says how little is left."""
    pages = PageAllocator(5, nothing)

    assert sorted(pages.allocate(1) for _ in range(4)) == [1, 2, 3, 4]
    with pytest.raises(ResourceError, match="no 1 contiguous pages left, 0 of 5"):
        pages.allocate(1)
    assert pages.statistics()["refused"] == 1


def test_runs_are_contiguous_and_disjoint() -> None:
    """Whatever is allocated and freed in whatever order, runs never overlap and the free list heals."""
    pages = PageAllocator(512, nothing)
    chance = random.Random(3)
    held: dict[int, int] = {}
    for _ in range(3000):
        if held and chance.random() < 0.5:
            first = chance.choice(sorted(held))
            del held[first]
            pages.free(first)
        else:
            count = chance.randint(1, 9)
            try:
                held[pages.allocate(count)] = count
            except ResourceError:
                continue
        used = [page for first, count in held.items() for page in range(first, first + count)]
        assert len(used) == len(set(used))
        assert 0 not in used
    for first in held:
        pages.free(first)

    assert pages.statistics() | {"refused": 0} == {
        "pages": 512,
        "runs": 0,
        "used": 0,
        "free_pieces": 1,
        "refused": 0,
    }
    assert pages.allocate(511) == 1


@pytest.mark.parametrize("first", [0, 2, 7])
def test_freeing_what_is_no_run_is_refused(first: int) -> None:
    """Only the first page of a run in use can be given back, and only once."""
    pages = PageAllocator(16, nothing)
    pages.allocate(4)

    with pytest.raises(UsageError, match=f"page {first} "):
        pages.free(first)
    pages.free(1)
    with pytest.raises(UsageError, match="page 1 "):
        pages.free(1)


def test_a_count_below_one_is_refused() -> None:
    """Nobody gets an empty run."""
    with pytest.raises(UsageError, match="0 pages"):
        PageAllocator(16, nothing).allocate(0)


def test_a_full_machine_is_an_error_and_costs_no_page() -> None:
    """When the pages cannot be made real the caller hears it and the run stays free."""

    def full(first: int, count: int) -> None:
        raise ResourceError("no room")

    pages = PageAllocator(16, full)

    with pytest.raises(ResourceError, match="no room"):
        pages.allocate(3)
    assert pages.statistics()["used"] == 0
    assert pages.statistics()["free_pieces"] == 1


@pytest.fixture
def sparse(tmp_path: Path) -> Iterator[mmap.mmap]:
    """A sparse mapping of 64 pages."""
    fd = os.open(tmp_path / "ram", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 64 * 4096)
    mapping = mmap.mmap(fd, 64 * 4096)
    os.close(fd)
    yield mapping
    mapping.close()


def test_reserving_leaves_the_content_alone(sparse: mmap.mmap) -> None:
    """Making pages real changes none of their bytes."""
    sparse[4096:4100] = b"kept"

    reserve_in(sparse)(1, 3)

    assert sparse[4096:4100] == b"kept"
    assert sparse[4100 : 4 * 4096] == bytes(3 * 4096 - 4)


@pytest.mark.root
def test_a_full_file_system_is_a_resource_error(tmp_path: Path) -> None:
    """On a file system that is full, reserving raises ResourceError and no store is ever tried."""
    if os.geteuid() != 0:
        full = PageAllocator(1 << 20, nothing)
        with pytest.raises(ResourceError):
            full.allocate(1 << 20)
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=True)
    try:
        fd = os.open(tmp_path / "ram", os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, 64 * 4096)
        with mmap.mmap(fd, 64 * 4096) as mapping:
            os.close(fd)
            pages = PageAllocator(64, reserve_in(mapping))
            pages.allocate(8)
            with pytest.raises(ResourceError, match="no room for 32 pages"):
                pages.allocate(32)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
