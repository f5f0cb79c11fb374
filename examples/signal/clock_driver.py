"""The driver of the clock: prints the time at each interrupt and tells the device that it did."""

import threading
import time
from uuid import UUID

from guest_client import Channel, Driver
from vmbusd.abi.native import Words


class ClockDriver(Driver):
    """Channels of this interface are opened as they are offered; that is what `probe` does by itself."""

    interface = UUID("3f2a1b7c-5d0e-4c9a-8b6f-112233445566")

    def on_interrupt(self, channel: Channel) -> None:
        now = Words(channel.memory(channel.downstream_page + 1)).load(0)
        where = threading.current_thread().name
        print(
            f"{time.strftime('%H:%M:%S', time.localtime(now))} from relid {channel.relid} on {where}",
            flush=True,
        )
        channel.signal()

    def removed(self, channel: Channel) -> None:
        print(f"relid {channel.relid} is gone", flush=True)
