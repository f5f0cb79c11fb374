"""A device that swallows packets as fast as they come and prints, every second, how fast that was.

It looks at packets where they lie in the ring, without a copy (`receive_views`): right for a guest that one
trusts. The driver numbers its batches, so that a packet lost or out of order would be seen.
"""

import struct
import threading
import time
from uuid import UUID

from host_client import Channel, Device
from vmbusd.abi.errors import ChannelGone

NUMBER = struct.Struct("<Q")


class Sink(Device):
    """One thread for each open channel receives: no callback takes the packets."""

    interface = UUID("a1c9f0b2-7f43-4e1a-9d0e-5c2b7a64e002")

    def __init__(self) -> None:
        self.threads: dict[Channel, threading.Thread] = {}

    def on_open(self, channel: Channel) -> None:
        thread = threading.Thread(target=self.swallow, args=(channel,))
        self.threads[channel] = thread
        thread.start()

    def swallow(self, channel: Channel) -> None:
        packets = size = 0
        expected: int | None = None
        begun = time.monotonic()
        try:
            while True:
                lease = channel.receive_views(timeout=1.0)
                if lease is None:
                    continue
                with lease, memoryview(lease) as view, lease.spans as spans:
                    # The whole batch was sent in order if its first and last number fit each other.
                    first = NUMBER.unpack_from(view, spans[0])[0]
                    last = NUMBER.unpack_from(view, spans[-2])[0]
                    size += view.nbytes
                    packets += len(lease)
                    if first != (first if expected is None else expected) or last - first != len(lease) - 1:
                        print(f"packets {first} to {last} in place of {expected}", flush=True)
                    expected = last + 1
                seconds = time.monotonic() - begun
                if seconds >= 1.0:
                    rate, bandwidth = packets / seconds / 1e6, size / seconds / 1e6
                    print(
                        f"{rate:.2f} million packets/s, {bandwidth:.0f} MB/s, next is {expected}", flush=True
                    )
                    packets = size = 0
                    begun = time.monotonic()
        except ChannelGone as gone:
            print(gone, flush=True)

    def on_close(self, channel: Channel) -> None:
        self.threads.pop(channel).join()
