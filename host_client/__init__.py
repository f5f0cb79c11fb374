"""Devices for vmbusd: offer channels to a guest, signal them, hear the guest's signals."""

from host_client.async_host import AsyncHost
from host_client.channel import Channel
from host_client.device import Device
from host_client.host import Host
from host_client.offer import Offer

__all__ = ["AsyncHost", "Channel", "Device", "Host", "Offer"]
