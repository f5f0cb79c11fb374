"""Guest memory by the page: contiguous runs of page numbers, reserved before they are handed out.

Page 0 is never handed out, so that 0 can mean "no page". A run is reserved first: a full /dev/shm is an
error here and now, not a SIGBUS at the first store. Runs go back to a sorted free list and melt into their
neighbours; the lowest run that fits is taken, so that a guest which opens and closes for ever stays where it
was.
Sources: docs/design.md section 2 ("memory is reserved before it is handed out"), madvise(2).
"""

import bisect
import errno
import mmap
import threading
from collections.abc import Callable
from typing import Final

from vmbusd.abi import layout
from vmbusd.abi.errors import ResourceError, UsageError

Reserve = Callable[[int, int], None]
"""Makes pages (first page number, count) real, or raises ResourceError."""

_MADV_POPULATE_WRITE: Final = 23
"""Linux 5.14; the mmap module has no name for it. Works on a mapping whose descriptor is closed already."""
_NO_ROOM: Final = (errno.EFAULT, errno.ENOMEM, errno.ENOSPC)


def reserve_in(memory: mmap.mmap) -> Reserve:
    """The `Reserve` of a mapping of guest memory.

    A kernel before 5.14 cannot do it: there a full /dev/shm is met at the first store, where the mapping's
    guard turns it into a dead link.
    """

    def reserve(first: int, count: int) -> None:
        try:
            memory.madvise(_MADV_POPULATE_WRITE, first * layout.PAGE, count * layout.PAGE)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise ResourceError(
                    f"no room for {count} pages of guest memory: /dev/shm or a memory limit is full"
                ) from error
            if error.errno != errno.EINVAL:
                raise

    return reserve


class PageAllocator:
    """The pages 1 .. `pages` - 1 of guest memory. Safe to use from any thread."""

    def __init__(self, pages: int, reserve: Reserve) -> None:
        self.pages = pages
        self._reserve = reserve
        self._lock = threading.Lock()
        self._free: list[tuple[int, int]] = [(1, pages - 1)] if pages > 1 else []
        self._used: dict[int, int] = {}
        self._refused = 0

    def allocate(self, count: int) -> int:
        """The first of `count` contiguous pages. Their content is whatever it was.

        Raises UsageError for a count below 1, ResourceError when no run is long enough or memory is full.
        """
        if count < 1:
            raise UsageError(f"cannot allocate {count} pages")
        with self._lock:
            index = next((i for i, (_, length) in enumerate(self._free) if length >= count), None)
            if index is None:
                self._refused += 1
                raise ResourceError(
                    f"guest memory: no {count} contiguous pages left, "
                    f"{sum(length for _, length in self._free)} of {self.pages} pages are free"
                )
            first, length = self._free[index]
            try:
                self._reserve(first, count)
            except ResourceError:
                self._refused += 1
                raise
            self._free[index : index + 1] = [(first + count, length - count)] if length > count else []
            self._used[first] = count
        return first

    def free(self, first: int) -> None:
        """Give a run back, named by its first page. Raises UsageError for a page that starts no run."""
        with self._lock:
            count = self._used.pop(first, 0)
            if not count:
                raise UsageError(f"page {first} is not the first of a run in use")
            at = bisect.bisect(self._free, (first, 0))
            begin, end = first, first + count
            after = at
            if after < len(self._free) and self._free[after][0] == end:
                end += self._free[after][1]
                after += 1
            if at and sum(self._free[at - 1]) == begin:
                at -= 1
                begin = self._free[at][0]
            self._free[at:after] = [(begin, end - begin)]

    def statistics(self) -> dict[str, int]:
        """pages, runs and pages in use, pieces of the free list, requests refused."""
        with self._lock:
            return {
                "pages": self.pages,
                "runs": len(self._used),
                "used": sum(self._used.values()),
                "free_pieces": len(self._free),
                "refused": self._refused,
            }
