"""The driver of the echo device: says hello twice a second, and asks how long an answer takes."""

import threading
import time
from concurrent.futures import Future
from uuid import UUID

from guest_client import Channel, Driver
from vmbusd.abi.errors import ChannelGone
from vmbusd.abi.packets import Packet


class EchoDriver(Driver):
    """One thread for each open channel talks; the workers' threads hear the answers."""

    interface = UUID("a1c9f0b2-7f43-4e1a-9d0e-5c2b7a64e001")

    def __init__(self, config: str = "") -> None:
        super().__init__(config)
        self.talking: dict[int, tuple[threading.Event, threading.Thread]] = {}

    def probe(self, channel: Channel) -> "Future[None]":
        opening = channel.begin_open()
        opening.add_done_callback(lambda done: None if done.exception() else self.start(channel))
        return opening

    def start(self, channel: Channel) -> None:
        stop = threading.Event()
        thread = threading.Thread(target=self.talk, args=(channel, stop))
        self.talking[channel.relid] = stop, thread
        thread.start()

    def talk(self, channel: Channel, stop: threading.Event) -> None:
        number = 0
        try:
            while not stop.wait(0.5):
                number += 1
                channel.send(b"hello %d" % number)
                begun = time.perf_counter()
                answer = channel.request(b"and how are you?")
                took = (time.perf_counter() - begun) * 1e6
                print(f"answered after {took:.0f} us: {answer.rstrip(bytes(1)).decode()}", flush=True)
        except ChannelGone as gone:
            print(gone, flush=True)

    def on_packets(self, channel: Channel, packets: list[Packet]) -> None:
        # A ring knows multiples of 8 bytes: who needs the exact length sends it along, or uses a pipe.
        for packet in packets:
            print(f"heard from relid {channel.relid}: {packet.payload.rstrip(bytes(1)).decode()}", flush=True)

    def removed(self, channel: Channel) -> None:
        talking = self.talking.pop(channel.relid, None)
        if talking is not None:
            stop, thread = talking
            stop.set()
            thread.join()
