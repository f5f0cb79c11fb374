"""Verbs inside an event loop: nothing blocks the loop, everything ends in time."""

import asyncio

import pytest

from tests.unit.abi.ring_world import Pair
from vmbusd.abi.errors import ChannelGone, RingFull, TimedOut

PATIENCE = 10.0


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_both_sides_in_one_loop(pair: Pair) -> None:
    """A writer and a reader take turns in one thread, though each has to wait for the other."""

    async def write() -> None:
        for number in range(500):
            await pair.host.async_send(number.to_bytes(4, "little") * 25, timeout=PATIENCE)

    async def read() -> list[int]:
        packets = [await pair.guest.async_receive(PATIENCE) for _ in range(500)]
        return [int.from_bytes(packet.payload[:4], "little") for packet in packets if packet is not None]

    async def both() -> list[int]:
        return (await asyncio.gather(read(), write()))[0]

    with pair.taking():
        assert asyncio.run(both()) == list(range(500))


def test_requests_in_a_loop(pair: Pair) -> None:
    """Many tasks wait for their answers at a time, each gets its own."""

    async def serve(count: int) -> None:
        for _ in range(count):
            asked = await pair.host.async_receive(PATIENCE)
            assert asked is not None
            pair.host.complete(asked, asked.payload)

    async def ask() -> list[bytes]:
        serving = asyncio.create_task(serve(20))
        answers = [await pair.guest.async_request(b"%08d" % number, timeout=PATIENCE) for number in range(20)]
        await serving
        return answers

    with pair.taking():
        assert asyncio.run(ask()) == [b"%08d" % number for number in range(20)]


def test_waits_end_in_time(pair: Pair) -> None:
    """None, RingFull, TimedOut after the timeout, as without a loop."""

    async def late() -> None:
        assert await pair.guest.async_receive(0.01) is None
        assert await pair.guest.async_receive(0) is None
        pair.host.send_many([bytes(1000)] * 3)
        with pytest.raises(RingFull):
            await pair.host.async_send(bytes(1000), timeout=0.01)
        with pytest.raises(TimedOut):
            await pair.guest.async_request(b"?", timeout=0.01)

    asyncio.run(late())


def test_a_cancelled_wait_leaves_nothing(pair: Pair) -> None:
    """A task that is cancelled while it waits is forgotten."""

    async def cancel() -> None:
        task = asyncio.create_task(pair.guest.async_receive())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert pair.guest.both._wakers == []


def test_a_close_ends_a_waiting_task(pair: Pair) -> None:
    """ChannelGone, at once."""

    async def close() -> None:
        tasks = [
            asyncio.create_task(pair.guest.async_receive()),
            asyncio.create_task(pair.guest.async_request(b"?", timeout=None)),
        ]
        await asyncio.sleep(0.01)
        pair.guest.both.close("relid 5: rescinded")
        for task in tasks:
            with pytest.raises(ChannelGone, match="rescinded"):
                await asyncio.wait_for(task, PATIENCE)

    asyncio.run(close())
