"""The payloads of payload.h in Python: what packet `number` holds follows from the seed."""

import struct
from typing import Final

HEAD: Final = struct.Struct("<QQ")
POOL: Final = 1 << 17
LARGEST: Final = 1 << 16
_MASK: Final = (1 << 64) - 1


def _mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


class Payloads:
    """All packets of one run. `largest` bounds a packet, in bytes."""

    def __init__(self, seed: int, largest: int) -> None:
        self.seed = seed
        self.largest = largest
        self._pool = b"".join(_mix((seed + at) & _MASK).to_bytes(8, "little") for at in range(0, POOL, 8))

    def make(self, number: int) -> bytes:
        random = _mix(self.seed ^ number)
        span = self.largest - HEAD.size
        if random % 4 and span > 256:
            span = 256
        length = HEAD.size + (random >> 8) % (span + 1)
        at = (random >> 40) % LARGEST
        return HEAD.pack(number, length) + self._pool[at : at + length - HEAD.size]

    def padded(self, number: int) -> bytes:
        """As a reader sees it."""
        made = self.make(number)
        return made + bytes(-len(made) % 8)
