"""Waiting for packets and room inside an event loop: the same steps as `rings`, with awaiting for sleeping.

Nothing here blocks the loop's thread. Whoever takes the channel's flags, this loop or another thread, wakes
the waiting task through the loop.
"""

import asyncio
import time
from concurrent.futures import Future

from vmbusd.abi.errors import RingFull
from vmbusd.abi.packets import Packet
from vmbusd.abi.ring_wait import deadline_of
from vmbusd.abi.rings import POLL, Bytes, Rings


async def _heard(rings: Rings, seen: int, deadline: float | None, longest: float | None = None) -> bool:
    """Until the peer was heard since `signals` was `seen`; False at the deadline. Raises ChannelGone."""
    left = longest
    if deadline is not None:
        left = max(0.0, deadline - time.monotonic())
        left = left if longest is None else min(left, longest)
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(woken.set)

    rings.call_once(wake, seen)
    try:
        async with asyncio.timeout(left):
            await woken.wait()
    except TimeoutError:
        return deadline is None or time.monotonic() < deadline
    finally:
        rings.forget(wake)
    rings.raise_closed()
    return True


async def _room(rings: Rings, size: int, deadline: float | None) -> None:
    seen = rings.signals
    longest = None if rings.port.peer_frees else POLL
    with rings.asking():
        if rings.port.ask(size) and not await _heard(rings, seen, deadline, longest):
            raise RingFull(f"{rings.name}: no room for {size} bytes now")


async def send(rings: Rings, payload: Bytes, timeout: float | None) -> None:
    """As `Verbs.send`, in-band."""
    deadline = deadline_of(timeout)
    rings.raise_closed()
    while not rings.port.put(payload):
        await _room(rings, memoryview(payload).nbytes, deadline)


async def receive(rings: Rings, timeout: float | None) -> Packet | None:
    """As `Verbs.receive`."""
    deadline = deadline_of(timeout)
    while True:
        seen = rings.signals
        packet = rings.receive(0)
        if packet is not None or not await _heard(rings, seen, deadline):
            return packet


async def request(rings: Rings, payload: Bytes, timeout: float | None) -> bytes:
    """As `Verbs.request`."""
    deadline = deadline_of(timeout)
    future: Future[bytes] | None = None
    while future is None:
        try:
            future = rings.request_future(payload, 0)
        except RingFull:
            if rings.ids_used_up():
                raise
            await _room(rings, memoryview(payload).nbytes, deadline)
    while not future.done():
        seen = rings.signals
        if rings.delivered:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            done, _ = await asyncio.wait([asyncio.wrap_future(future)], timeout=left)
            answered = bool(done)
        else:
            answered = rings.look_for(future) or not rings.port.rest() or await _heard(rings, seen, deadline)
        if not answered:
            raise rings.unanswered(future)
    return future.result()
