"""What a bus is told to be: one frozen struct, read once when the bus is made.

The defaults are the plain host of the posix backend: every version, no page of the guest, none of its own.
Sources: OpenVMM vmbus_server's builder, cases 004, 005, 017, 031, 038, 299, 301, 307, 310.
"""

from typing import Final

import msgspec

from vmbusd.abi import wire
from vmbusd.abi.errors import UsageError
from vmbusd.abi.layout import MAX_RELID, PAGE

VERSIONS: Final = (
    wire.V0_13,
    wire.V1_1,
    wire.V2_4,
    wire.V3_0,
    wire.V4_0,
    wire.V4_1,
    wire.V5_0,
    wire.V5_1,
    wire.V5_2,
    wire.V5_3,
    wire.V6_0,
)
"""Versions this host speaks; a guest's number must be one of them exactly (docs/protocol.md)."""
MAX_UNFINISHED_GPADLS: Final = 256
"""Range buffers being assembled: at most 64 KiB each, so 16 MiB. A guest needs one per thread."""


class BusOptions(msgspec.Struct, frozen=True):
    """What the bus of one partition does beside the plain.

    `max_version`: the newest version accepted, one of `VERSIONS` (case 004).
    `max_version_later`: the cap begins when the first connection has ended (case 005).
    `absolute_order`: offers are listed by order first, then interface and instance (case 038).
    `relid_offset`: the first relid is this plus one (case 307).
    `max_unfinished_gpadls`: GPADLs that may be unfinished at a time (case 310).
    `guest_pages`: the backend can map pages that the guest names. Without it a contact that needs the legacy
    interrupt page is unsupported (013), monitor pages are not looked at and no channel is monitored (299).
    `monitor_pages`: guest physical addresses of the backend's own monitor pages, (parent to child, child to
    parent); the first may be 0. Feature 0x40 is granted only with them (case 301).
    `gpa_pinning`: grant feature 0x80 (case 031).
    `linked_vtls`: VTLs that another server serves; a contact for one of them is handed over (case 017).
    """

    max_version: int = wire.V6_0
    max_version_later: bool = False
    absolute_order: bool = False
    relid_offset: int = 0
    max_unfinished_gpadls: int = MAX_UNFINISHED_GPADLS
    guest_pages: bool = False
    monitor_pages: tuple[int, int] | None = None
    gpa_pinning: bool = False
    linked_vtls: frozenset[int] = frozenset()

    def check(self) -> None:
        """Raises UsageError naming the option that cannot be."""
        if self.max_version not in VERSIONS:
            raise UsageError(f"max_version {self.max_version:#x} is no version of VMBus")
        if not 0 <= self.relid_offset < MAX_RELID:
            raise UsageError(f"relid_offset {self.relid_offset}: 0 to {MAX_RELID - 1}")
        if self.max_unfinished_gpadls < 1:
            raise UsageError(f"max_unfinished_gpadls {self.max_unfinished_gpadls}: at least 1")
        pages = self.monitor_pages
        if pages is not None and (pages[1] == 0 or any(page < 0 or page % PAGE for page in pages)):
            raise UsageError(f"monitor_pages {pages}: two page addresses, the second not 0")
