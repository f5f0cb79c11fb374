"""Monitor bits: how a guest signals a host that looks by itself, without waking anybody.

Two pages are named at contact, as Linux does whether or not a device will want them. An offer with a monitor
id is signalled by its bit in the second, unless its driver wants low latency; without pages in use, and for
every other offer, directly. Unlike Linux, no interrupt page is touched: from 2.4 on no host looks there.
Sources: Linux 6.1 connection.c vmbus_connect, channel.c vmbus_setevent; cases 303, 305.
"""

from typing import TYPE_CHECKING, Final

from guest_client.memory import PageAllocator
from vmbusd.abi import layout
from vmbusd.abi.attach import Attached
from vmbusd.abi.errors import ResourceError
from vmbusd.abi.layout import NO_MONITOR

if TYPE_CHECKING:
    from guest_client.driver import Driver

PAGES: Final = 2
"""Parent-to-child, which nobody uses, and child-to-parent."""


def pages_for(attached: Attached, memory: PageAllocator) -> tuple[int, int]:
    """Guest physical addresses of two empty pages for the life of the link; (0, 0) where there is no room."""
    try:
        first = memory.allocate(PAGES)
    except ResourceError:
        return 0, 0
    for number in range(first, first + PAGES):
        # A guest before us may have left something there.
        with attached.page(number) as view:
            view[:] = bytes(layout.PAGE)
    return first * layout.PAGE, (first + 1) * layout.PAGE


def is_monitored(monitor_id: int, driver: "Driver | None") -> bool:
    """Whether a channel with this id is signalled by its bit."""
    return monitor_id != NO_MONITOR and not (driver is not None and driver.low_latency)
