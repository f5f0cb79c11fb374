"""The driver of the sink: sends numbered packets without a pause, in batches; CONFIG is their size."""

import struct
import threading
from concurrent.futures import Future
from uuid import UUID

from guest_client import Channel, Driver
from vmbusd.abi.errors import ChannelGone

NUMBER = struct.Struct("<Q")
BATCH = 256


class Source(Driver):
    """One thread for each open channel sends; it waits, by the ring's flow control, when the ring is full."""

    interface = UUID("a1c9f0b2-7f43-4e1a-9d0e-5c2b7a64e002")
    ring_pages = (257, 2)

    def __init__(self, config: str = "") -> None:
        super().__init__(config)
        self.size = max(NUMBER.size, int(config or "64"))
        self.sending: dict[int, threading.Thread] = {}

    def probe(self, channel: Channel) -> "Future[None]":
        opening = channel.begin_open()
        opening.add_done_callback(lambda done: None if done.exception() else self.start(channel))
        return opening

    def start(self, channel: Channel) -> None:
        thread = threading.Thread(target=self.send, args=(channel,))
        self.sending[channel.relid] = thread
        thread.start()

    def send(self, channel: Channel) -> None:
        rest = bytes(self.size - NUMBER.size)
        number = 0
        try:
            while True:
                channel.send_many([NUMBER.pack(number + index) + rest for index in range(BATCH)])
                number += BATCH
        except ChannelGone as gone:
            print(gone, flush=True)

    def removed(self, channel: Channel) -> None:
        # The channel is closed by now, which ends the thread's send.
        thread = self.sending.pop(channel.relid, None)
        if thread is not None:
            thread.join()
