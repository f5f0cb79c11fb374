"""A device that signals its guest once a second, and hears the guest's answer.

The time goes to the first data page of the host-to-guest ring, where the driver looks when it is interrupted.
"""

import threading
import time
from uuid import UUID

from host_client import Channel, Device
from vmbusd.abi.native import Words

CLOCK = UUID("3f2a1b7c-5d0e-4c9a-8b6f-112233445566")


class Clock(Device):
    """One thread for each open channel; nothing but `signal` is needed to reach the guest."""

    interface = CLOCK

    def __init__(self) -> None:
        self.ticking: dict[Channel, tuple[threading.Event, threading.Thread]] = {}

    def on_open(self, channel: Channel) -> None:
        print(f"opened: {channel}", flush=True)
        stop = threading.Event()
        thread = threading.Thread(target=self.tick, args=(channel, stop))
        self.ticking[channel] = stop, thread
        thread.start()

    def tick(self, channel: Channel, stop: threading.Event) -> None:
        now = Words(channel.memory(channel.downstream_page + 1))
        while not stop.wait(1.0):
            now.store(0, int(time.time()))
            channel.signal()

    def on_signal(self, channel: Channel) -> None:
        print(f"the guest has read the clock of relid {channel.relid}", flush=True)

    def on_retarget(self, channel: Channel, vp: int) -> None:
        print(f"relid {channel.relid} now interrupts VP {vp}", flush=True)

    def on_close(self, channel: Channel) -> None:
        stop, thread = self.ticking.pop(channel)
        stop.set()
        thread.join()
        print(f"closed: {channel}", flush=True)
