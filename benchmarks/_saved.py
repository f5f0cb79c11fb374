"""A bus with every channel open, and what it costs to save it and to make it again."""

from __future__ import annotations

import time
from uuid import UUID

from vmbusd.abi import device_link, gpadl, layout, messages, wire
from vmbusd.bus import saved
from vmbusd.bus.bus import Bus

VPS = 4
RAM_PAGES = 1 << 14
RING_PAGES = 16


def open_bus(channels: int) -> Bus:
    """A bus with so many channels, each open with rings of its own."""
    bus = Bus(vps=VPS, ram_pages=RAM_PAGES)
    for number in range(1, channels + 1):
        bus.host_message(0, device_link.Offer(number, UUID(int=1), UUID(int=number)))
    for message in (
        messages.InitiateContact(wire.V5_3, 0, layout.SINT, 0, 0, 0, 0),
        messages.RequestOffers(),
    ):
        bus.guest_message(wire.encode(message), 1)
    for number in range(1, channels + 1):
        (ring,) = gpadl.split(number, number, [gpadl.whole_pages(range(RING_PAGES))])
        bus.guest_message(wire.encode(ring), 1)
        bus.host_message(0, device_link.GpadlAccepted(number, number, 0))
        opened = messages.Open(number, number, number, number % VPS, RING_PAGES // 2, bytes(120))
        bus.guest_message(wire.encode(opened), 1)
        bus.host_message(0, device_link.Opened(number, 1, 0))
    return bus


def save_cost(bus: Bus) -> float:
    """ms from the bus to its bytes."""
    begun = time.perf_counter_ns()
    saved.encode(bus.save())
    return (time.perf_counter_ns() - begun) / 1e6


def restore_cost(data: bytes) -> float:
    """ms from the bytes to the bus, judged."""
    begun = time.perf_counter_ns()
    Bus.restore(saved.decode(data), vps=VPS, ram_pages=RAM_PAGES)
    return (time.perf_counter_ns() - begun) / 1e6
