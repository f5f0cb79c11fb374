"""A device that sends everything back: packets as packets, requests as their completions."""

from uuid import UUID

from host_client import Channel, Device
from vmbusd.abi.packets import COMPLETION_REQUESTED, Packet


class Echo(Device):
    """`on_packets` gets what the guest sent, in order; when it returns the guest has its room back."""

    interface = UUID("a1c9f0b2-7f43-4e1a-9d0e-5c2b7a64e001")

    def on_open(self, channel: Channel) -> None:
        print(f"opened: {channel}", flush=True)

    def on_packets(self, channel: Channel, packets: list[Packet]) -> None:
        for packet in packets:
            if packet.flags & COMPLETION_REQUESTED:
                channel.complete(packet, packet.payload)
            else:
                channel.send(packet.payload)
        print(f"{len(packets)} sent back to relid {channel.relid}", flush=True)

    def on_close(self, channel: Channel) -> None:
        print(f"closed: {channel}", flush=True)
