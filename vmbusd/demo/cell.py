"""What one channel of the demo counts, in a page of its own ring memory.

Each word has one writer at a time: the device's process, or whoever runs the channel's callback (the claim
admits one). The oracle reads them all. The overlap word is the demo's own: it would tell on a claim that
failed. Nothing here takes part in signalling.
"""

import os
from typing import Final

from vmbusd.abi.errors import VmbusError
from vmbusd.abi.native import Words

RING_PAGES: Final = (2, 2)
"""Pages of the out and in ring: the smallest rings that are any."""
CELL_PAGE: Final = 3
"""The data page of the in ring: the demo moves no packets, so it is free."""

# Written by the device's process.
PRODUCED: Final = 0
STAMP: Final = 1
GENERATION: Final = 2
# Written by whoever runs the callback; a cache line of their own.
SEEN: Final = 8
INSIDE: Final = 9
OVERLAPS: Final = 10
STALE: Final = 11
CALLBACKS: Final = 12
# Latency histogram of credit mode, ns: four buckets per power of two.
HISTOGRAM: Final = 16
BUCKETS_PER_OCTAVE_BITS: Final = 2
BUCKETS: Final = 160
"""Up to 2^40 ns, 18 minutes."""


class DemoError(VmbusError):
    """The demo could not be set up; the text says which part failed and how."""


def bucket(nanoseconds: int) -> int:
    """The histogram bucket of a latency: its power of two and the two bits below the highest."""
    value = max(nanoseconds, 4)
    octave = value.bit_length() - 1
    index = octave << BUCKETS_PER_OCTAVE_BITS | value >> octave - BUCKETS_PER_OCTAVE_BITS & 3
    return min(index, BUCKETS - 1)


def bucket_limit(index: int) -> int:
    """The smallest latency (ns) that lies above bucket `index`."""
    octave, part = divmod(index + 1, 1 << BUCKETS_PER_OCTAVE_BITS)
    return (4 + part) << octave - BUCKETS_PER_OCTAVE_BITS if octave >= BUCKETS_PER_OCTAVE_BITS else 4


def is_credit(relid: int) -> bool:
    """Odd relids signal like a real ring, only when seen == produced; even ones as fast as they can."""
    return relid % 2 == 1


def process_lives(pid: int) -> bool:
    """False once the process is gone or a zombie: what it left in an overlap word is no overlap."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def enter(words: Words, me: int) -> None:
    """Begin a callback: count an overlap when another living process is inside."""
    other = words.exchange(INSIDE, me)
    if other and (other == me or process_lives(other)):
        words.add(OVERLAPS, 1)


def leave(words: Words, me: int) -> None:
    """End a callback: whoever is inside now, it must be we."""
    if words.exchange(INSIDE, 0) != me:
        words.add(OVERLAPS, 1)


def identity() -> int:
    """What this process writes into an overlap word."""
    return os.getpid()
