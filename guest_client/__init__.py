"""The guest's side of VMBus: attach to a partition, take offers with drivers, serve interrupts on its VPs."""

from guest_client.channel import Channel
from guest_client.driver import Driver
from guest_client.guest import Guest

__all__ = ["Channel", "Driver", "Guest"]
