"""The judge: reads every cell from outside and says what was lost, hangs, overlapped or was stale.

A channel is hung when seen < produced and seen has not moved for HUNG_SECONDS. Lost are the signals that no
callback has caught up with once everything is at rest. Both are computed from the cells alone, never from the
counters of the code under test.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from vmbusd.abi.native import Words
from vmbusd.demo import cell

HUNG_SECONDS: Final = 5.0
"""A hypervisor may halt a processor of a shared machine for seconds; a process waits for one far shorter."""


class Verdict(msgspec.Struct, frozen=True):
    """Sums over all channels; `behind` names the channels with seen < produced."""

    produced: int
    callbacks: int
    lost: int
    overlaps: int
    stale: int
    behind: list[int]


class Oracle:
    """Watches the cells of all channels, given as (relid, words)."""

    def __init__(self, cells: Iterable[tuple[int, Words]]) -> None:
        self.cells = list(cells)
        self._moved = {relid: (0, 0.0) for relid, _ in self.cells}
        self.hung: set[int] = set()

    def look(self, now: float) -> None:
        """Note what moved since the last look; `now` in seconds of any clock that only goes forward."""
        for relid, words in self.cells:
            seen = words.load(cell.SEEN)
            behind = words.load(cell.PRODUCED) > seen
            last, since = self._moved[relid]
            if seen != last or not behind or not since:
                self._moved[relid] = (seen, now)
            elif now - since >= HUNG_SECONDS:
                self.hung.add(relid)

    def behind(self) -> list[int]:
        """Relids with seen < produced at this moment."""
        return [relid for relid, words in self.cells if words.load(cell.SEEN) < words.load(cell.PRODUCED)]

    def verdict(self) -> Verdict:
        """Sums at this moment; final once the devices have stopped and nothing moves any more."""
        produced = callbacks = lost = overlaps = stale = 0
        behind = []
        for relid, words in self.cells:
            made, seen = words.load(cell.PRODUCED), words.load(cell.SEEN)
            produced += made
            callbacks += words.load(cell.CALLBACKS)
            overlaps += words.load(cell.OVERLAPS)
            stale += words.load(cell.STALE)
            if seen < made:
                lost += made - seen
                behind.append(relid)
        return Verdict(produced, callbacks, lost, overlaps, stale, behind)

    def latencies(self, relids: Sequence[int] | None = None) -> list[int]:
        """The histogram of credit mode, summed over all channels or the given ones."""
        wanted = None if relids is None else set(relids)
        total = [0] * cell.BUCKETS
        for relid, words in self.cells:
            if cell.is_credit(relid) and (wanted is None or relid in wanted):
                for index in range(cell.BUCKETS):
                    total[index] += words.load(cell.HISTOGRAM + index)
        return total


def percentile(histogram: Sequence[int], share: float) -> float | None:
    """The latency in microseconds that `share` of the samples stay below; None without samples."""
    samples = sum(histogram)
    if not samples:
        return None
    wanted = share * samples
    below = 0
    for index, count in enumerate(histogram):
        below += count
        if below >= wanted:
            return cell.bucket_limit(index) / 1000
    return cell.bucket_limit(len(histogram) - 1) / 1000
