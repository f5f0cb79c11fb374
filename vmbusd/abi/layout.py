"""The shared-memory ABI as numbers: sizes and offsets of every object that two processes share.

The C header `vmbus_abi.h` is the same list with static assertions, `docs/abi.md` the same in prose; a test
compares them. Source: docs/design.md section 2 for the objects, Linux 6.1 hyperv-tlfs.h for event pages.
"""

from typing import Final

ABI_VERSION: Final = 1
PAGE: Final = 4096

FLAGS: Final = 2048
"""Event flags of one SINT; flag 0 is never a channel, so at most 2047 channels."""
MAX_RELID: Final = FLAGS - 1
MAX_VPS: Final = 64
DEFAULT_VPS: Final = 4
SINT: Final = 2
FLAGS_OFFSET: Final = SINT * 256
FLAGS_BYTES: Final = FLAGS // 8
NO_TARGET: Final = 0xFFFFFFFF
NO_MONITOR: Final = 0xFF

EVENT_PAGE_SIZE: Final = PAGE

TABLE_MAGIC: Final = 0x4C42545355424D56
TABLE_SLOTS_OFFSET: Final = PAGE
TABLE_RECORDS_OFFSET: Final = TABLE_SLOTS_OFFSET + 8 * FLAGS
RECORD_SIZE: Final = 128
TABLE_SIZE: Final = TABLE_RECORDS_OFFSET + RECORD_SIZE * FLAGS
TABLE_OWNERS_OFFSET: Final = 1024
OWNER_SIZE: Final = 32
TABLE_FAULTS_OFFSET: Final = 3072
FAULT_RULES: Final = 16
FAULT_RULE_SIZE: Final = 64
FAULT_ALWAYS: Final = 0x80000000
FAULT_ANY: Final = 0xFFFFFFFF
LOCK_BYTE_DAEMON: Final = 0
LOCK_BYTE_PEER: Final = 1

SLOT_OPEN: Final = 1 << 32
GENERATION_SHIFT: Final = 33
GENERATION_MAX: Final = 0x7FFFFFFF

VPWORK_SIZE: Final = 512
VPWORK_TAKEN_OFFSET: Final = 256
VPWORK_FIRED_OFFSET: Final = 192

BLOCK_SIZE: Final = PAGE
BLOCK_RING_OFFSET: Final = 64
BLOCK_CLEARED_FROM: Final = 128
BLOCK_STATE_OFFSET: Final = 256
BLOCK_STATE_SIZE: Final = 256
BLOCK_REQUESTS_OFFSET: Final = 512
REQUESTS: Final = 256
GUEST_SIZE: Final = BLOCK_SIZE * FLAGS

CLAIM_RUN: Final = 0x80000000
CLAIM_AGAIN: Final = 0x40000000

HOST_PAGE_SIZE: Final = PAGE
HOST_IDLE_OFFSET: Final = 1024
HOST_FIRED_OFFSET: Final = 1088
HOST_FIRED_IN_GUEST_OFFSET: Final = 1152

DEFAULT_RAM_SIZE: Final = 64 << 20
SEMAPHORE_SIZE: Final = 32
"""sizeof(sem_t) on every 64-bit Linux libc; the file behind a named semaphore is exactly this long."""


def events_size(vps: int) -> int:
    """Bytes of the `-events` object of a partition with `vps` virtual processors."""
    return EVENT_PAGE_SIZE * vps


def vpwork_size(vps: int) -> int:
    """Bytes of the `-vpwork` object of a partition with `vps` virtual processors."""
    return VPWORK_SIZE * vps


def record_offset(relid: int) -> int:
    """Byte offset of a channel's record in the table object."""
    return TABLE_RECORDS_OFFSET + RECORD_SIZE * relid


def slot_value(generation: int, relid: int, *, is_open: bool) -> int:
    """The word a slot holds for channel `relid` in `generation`."""
    return generation << GENERATION_SHIFT | (SLOT_OPEN if is_open else 0) | record_offset(relid)


def slot_generation(slot: int) -> int:
    """The generation in a slot word; 0 for an empty slot."""
    return slot >> GENERATION_SHIFT


def next_generation(generation: int) -> int:
    """The generation after this one: 31 bits, and 0 never comes back."""
    return generation % GENERATION_MAX + 1
