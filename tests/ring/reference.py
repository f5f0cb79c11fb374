"""A ring in plain Python: slow and obviously right, so that the native ring has something to be equal to.

One header page and a data area in one bytearray, one object for each end; nothing is atomic and nobody is
in a hurry. Every byte is moved on its own, every rule is written the way the sources state it.
Sources: Linux 6.1 drivers/hv/ring_buffer.c, OpenVMM vmbus_ring/src/lib.rs.
"""

from dataclasses import dataclass
from typing import Final

HEADER: Final = 4096
WRITE_INDEX: Final = 0
READ_INDEX: Final = 4
INTERRUPT_MASK: Final = 8
PENDING_SEND: Final = 12
FEATURES: Final = 64
FEATURE_PENDING_SEND: Final = 1

DESCRIPTOR: Final = 16
TRAILER: Final = 8
MAX_LEN8: Final = 0xFFFF
IN_BAND, TRANSFER_PAGES, GPA_DIRECT, COMPLETION = 6, 7, 9, 11
LEAST_EXTRA: Final = {IN_BAND: 0, TRANSFER_PAGES: 8, GPA_DIRECT: 8, COMPLETION: 0}


class Dead(Exception):
    """The peer broke the ring: `field` has a `value` that cannot be."""

    def __init__(self, field: str, value: int) -> None:
        super().__init__(f"{field} is {value:#x}")
        self.field = field
        self.value = value


class TooLarge(Exception):
    """The packet fits no empty ring of this size."""


@dataclass(frozen=True)
class Full:
    """There is no room now; `need` bytes are wanted."""

    need: int


@dataclass(frozen=True)
class Packet:
    """What a reader sees; `payload` ends in padding."""

    type: int
    flags: int
    transaction_id: int
    extra: bytes
    payload: bytes


class Ring:
    """The shared memory of one ring, `size` bytes of data."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.memory = bytearray(HEADER + size)
        self.store(FEATURES, FEATURE_PENDING_SEND)

    def load(self, at: int) -> int:
        return int.from_bytes(self.memory[at : at + 4], "little")

    def store(self, at: int, value: int) -> None:
        self.memory[at : at + 4] = value.to_bytes(4, "little")

    def index(self, at: int, name: str) -> int:
        """An index of the peer, which may be anything."""
        value = self.load(at)
        if value >= self.size or value % 8:
            raise Dead(name, value)
        return value

    def used(self, write: int, read: int) -> int:
        return write - read if write >= read else self.size - read + write

    def room(self, write: int, read: int) -> int:
        return self.size - self.used(write, read)

    def put(self, at: int, data: bytes) -> int:
        """Bytes into the data area, one by one; returns where the next one goes."""
        for byte in data:
            self.memory[HEADER + at] = byte
            at = at + 1 if at + 1 < self.size else 0
        return at

    def get(self, at: int, count: int) -> bytes:
        taken = bytearray()
        for _ in range(count):
            taken.append(self.memory[HEADER + at])
            at = at + 1 if at + 1 < self.size else 0
        return bytes(taken)


class Writer:
    """The writing end. `largest` bounds a packet with its trailer, which never may fill the ring."""

    def __init__(self, ring: Ring, largest: int | None = None) -> None:
        self.ring = ring
        self.largest = ring.size - 8 if largest is None else largest
        self.at = ring.index(WRITE_INDEX, "write_index")
        self.start = self.at

    def put(
        self,
        payload: bytes,
        *,
        type: int = IN_BAND,
        flags: int = 0,
        transaction_id: int = 0,
        extra: bytes = b"",
    ) -> Full | None:
        """Copy a packet behind those not committed yet. Nothing changes if there is no room."""
        padding = bytes(-len(payload) % 8)
        offset8 = (DESCRIPTOR + len(extra)) // 8
        len8 = offset8 + (len(payload) + len(padding)) // 8
        need = len8 * 8 + TRAILER
        if len8 > MAX_LEN8 or need > self.largest:
            raise TooLarge(need)
        read = self.ring.index(READ_INDEX, "read_index")
        if self.ring.room(self.at, read) <= need:
            return Full(need)
        descriptor = b"".join(
            value.to_bytes(width, "little")
            for value, width in ((type, 2), (offset8, 2), (len8, 2), (flags, 2), (transaction_id, 8))
        )
        trailer = bytes(4) + self.at.to_bytes(4, "little")
        self.at = self.ring.put(self.at, descriptor + extra + payload + padding + trailer)
        return None

    def revert(self) -> None:
        """Forget what was not committed."""
        self.at = self.start

    def commit(self) -> bool:
        """Let the reader see it; whether it must be signalled."""
        if self.at == self.start:
            return False
        old, self.start = self.start, self.at
        self.ring.store(WRITE_INDEX, self.at)
        if self.ring.load(INTERRUPT_MASK):
            return False
        return self.ring.index(READ_INDEX, "read_index") == old

    def ask(self, need: int) -> bool:
        """Ask to be told of `need` bytes, or of a quarter of the ring; False if `need` are there already."""
        if need > self.ring.size - 8:
            raise TooLarge(need)
        self.ring.store(PENDING_SEND, max(need, self.ring.size // 4 // 8 * 8))
        if self.ring.room(self.at, self.ring.index(READ_INDEX, "read_index")) > need:
            self.ring.store(PENDING_SEND, 0)
            return False
        return True

    def withdraw(self) -> None:
        self.ring.store(PENDING_SEND, 0)


class Reader:
    """The reading end."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.at = ring.index(READ_INDEX, "read_index")
        self.start = self.at

    def get(self) -> Packet | None:
        """The next packet, None if the ring is empty; nothing moves in shared memory."""
        ring = self.ring
        available = ring.used(ring.index(WRITE_INDEX, "write_index"), self.at)
        if not available:
            return None
        if available < DESCRIPTOR + TRAILER:
            raise Dead("available", available)
        data = ring.get(self.at, available)

        def word(at: int, width: int) -> int:
            return int.from_bytes(data[at : at + width], "little")

        type, offset8, len8, flags = (word(at, 2) for at in (0, 2, 4, 6))
        if len8 * 8 + TRAILER > available:
            raise Dead("len8", len8)
        if not 2 <= offset8 <= len8:
            raise Dead("offset8", offset8)
        if type not in LEAST_EXTRA:
            raise Dead("type", type)
        if flags & ~1:
            raise Dead("flags", flags)
        if offset8 * 8 < DESCRIPTOR + LEAST_EXTRA[type]:
            raise Dead("offset8", offset8)
        start, end = offset8 * 8, len8 * 8
        self.at = (self.at + end + TRAILER) % ring.size
        return Packet(type, flags, word(8, 8), data[DESCRIPTOR:start], data[start:end])

    def revert(self) -> None:
        """Read again what was not committed."""
        self.at = self.start

    def commit(self) -> bool:
        """Give the room back; whether the writer must be signalled."""
        freed = self.ring.used(self.at, self.start)
        if not freed:
            return False
        self.start = self.at
        self.ring.store(READ_INDEX, self.at)
        if not self.ring.load(FEATURES) & FEATURE_PENDING_SEND:
            return False
        pending = self.ring.load(PENDING_SEND) & ~7
        if not pending:
            return False
        now = self.ring.room(self.ring.index(WRITE_INDEX, "write_index"), self.at)
        return now - freed <= pending < now

    def mask(self) -> None:
        self.ring.store(INTERRUPT_MASK, 1)

    def rest(self) -> tuple[bool, bool]:
        """Commit, ask for signals, look again: whether to wait, and whether the writer must be signalled."""
        signal = self.commit()
        self.ring.store(INTERRUPT_MASK, 0)
        more = self.ring.index(WRITE_INDEX, "write_index") != self.at
        if more:
            self.mask()
        return not more, signal
