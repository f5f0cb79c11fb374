"""One ring in private memory, for tests of both its ends."""

import struct

from vmbusd.abi import native

PAGE = 4096
WRITE_INDEX, READ_INDEX, MASK, PENDING, FEATURES = 0, 4, 8, 12, 64


class World:
    """One ring in private memory, both ends."""

    def __init__(self, size: int = 4 * PAGE) -> None:
        self.size = size
        self.memory = bytearray(PAGE + size)
        self.view = native.RingView(self.memory)
        self.view.format()
        self.writer = native.RingWriter(self.view)
        self.reader = native.RingReader(self.view)

    def word(self, at: int) -> int:
        (value,) = struct.unpack_from("<I", self.memory, at)
        return int(value)

    def set(self, at: int, value: int) -> None:
        struct.pack_into("<I", self.memory, at, value)

    def raw(self, data: bytes, at: int = 0) -> None:
        """Put bytes on the ring as a peer without manners would."""
        self.memory[PAGE + at : PAGE + at + len(data)] = data
        self.set(WRITE_INDEX, at + len(data))
