"""Passes over a ring: batches, masks, budgets, completions, and what a death or a failure leaves."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.abi.ring_world import Pair
from vmbusd.abi import native
from vmbusd.abi.delivery import Mode, run_pass
from vmbusd.abi.errors import RingDead
from vmbusd.abi.packets import Packet


class Driver:
    """Keeps what it gets."""

    def __init__(self, then: Callable[[], Any] = lambda: None) -> None:
        self.packets: list[bytes] = []
        self.completions: list[int] = []
        self.batches = 0
        self.then = then

    def on_packets(self, packets: list[Packet]) -> None:
        self.batches += 1
        self.packets += [packet.payload for packet in packets]
        self.then()

    def on_completion(self, packet: Packet) -> None:
        self.completions.append(packet.transaction_id)


@pytest.fixture
def pair() -> Pair:
    return Pair()


def mask(pair: Pair) -> int:
    """The mask of the host-to-guest ring, as the host sees it."""
    return native.RingView(pair.memory[1]).header()["interrupt_mask"]


def test_a_batched_pass_is_masked(pair: Pair) -> None:
    """The ring is masked while packets are delivered and open at the end, after another look (case 287)."""
    seen: list[int] = []
    driver = Driver(lambda: seen.append(mask(pair)))
    pair.host.send_many([b"12345678"] * 3)
    assert not run_pass(pair.guest.both, driver.on_packets)
    assert (len(driver.packets), driver.batches, seen, mask(pair)) == (3, 1, [1], 0)
    pair.guest_heard()
    pair.host.send(b"")
    assert pair.guest_heard()


def test_what_comes_meanwhile_is_delivered_in_the_same_pass(pair: Pair) -> None:
    """A packet that arrives during the callback raises no signal and is not lost."""
    more = [b"b" * 8, b"c" * 8]
    driver = Driver(lambda: more and pair.host.send(more.pop(0)))
    pair.host.send(b"a" * 8)
    pair.guest_heard()
    run_pass(pair.guest.both, driver.on_packets)
    assert driver.packets == [b"a" * 8, b"b" * 8, b"c" * 8]
    assert not pair.guest_heard()


def test_a_direct_pass_is_not_masked(pair: Pair) -> None:
    """A DIRECT callback gets all there is, and its peer may signal meanwhile."""
    seen: list[int] = []
    driver = Driver(lambda: seen.append(mask(pair)))
    pair.host.send_many([b"12345678"] * 3)
    run_pass(pair.guest.both, driver.on_packets, mode=Mode.DIRECT)
    assert (driver.batches, seen) == (1, [0])


@pytest.mark.parametrize("limits", [{"packets": 10}, {"seconds": 0.0}])
def test_a_budget_ends_a_pass(limits: dict[str, Any]) -> None:
    """A channel that has used up its packets or its time says so; the next pass goes on where it ended."""
    pair = Pair(1 << 16)
    driver = Driver()
    count = 2000
    pair.host.send_many([number.to_bytes(8, "little") for number in range(count)])
    passes = 1
    while run_pass(pair.guest.both, driver.on_packets, **limits):
        passes += 1
        assert mask(pair) == 1
    assert passes >= count // 1024
    assert driver.packets == [number.to_bytes(8, "little") for number in range(count)]
    assert mask(pair) == 0


def test_packets_are_given_back_after_the_callback(pair: Pair) -> None:
    """Whoever dies in a callback has given back nothing: the next reader gets the same packets (case 250)."""
    successors: list[object] = []
    driver = Driver(lambda: successors.append(native.RingReader(native.RingView(pair.memory[1])).get(False)))
    pair.host.send(b"12345678")
    run_pass(pair.guest.both, driver.on_packets)
    run_pass(pair.guest.both, driver.on_packets)
    assert successors == [(6, 0, 0, b"12345678", b"")]


def test_a_callback_that_raises_has_had_its_packets(pair: Pair) -> None:
    """The error goes to the caller; the batch is not delivered a second time."""

    def fail() -> None:
        raise ValueError("a mistake of the driver's")

    driver = Driver(fail)
    pair.host.send(b"12345678")
    with pytest.raises(ValueError, match="mistake"):
        run_pass(pair.guest.both, driver.on_packets)
    assert not run_pass(pair.guest.both, driver.on_packets)
    assert driver.batches == 1


def test_completions_go_where_they_are_awaited(pair: Pair) -> None:
    """To a future, to on_completion, else among the packets; unknown and repeated ones nowhere (case 270)."""
    future = pair.guest.request_future(b"?")
    ids = [pair.guest.send(b"?", request=True) for _ in range(2)]
    for packet in pair.host.receive_many():
        pair.host.complete(packet, b"%08d" % packet.transaction_id)
    pair.host.complete(2)
    pair.host.complete(200)
    driver = Driver()
    run_pass(pair.guest.both, driver.on_packets, driver.on_completion)
    assert future.result(0) == b"00000001"
    assert driver.completions == ids == [2, 3]
    assert driver.packets == []
    counted = pair.guest.both.statistics()
    assert (counted["outstanding"], counted["unknown"]) == (0, 2)

    pair.guest.send(b"?", request=True)
    pair.host.complete(pair.host.receive_many()[0], b"answer")
    run_pass(pair.guest.both, driver.on_packets)
    assert driver.packets == [b"answer\0\0"]


def test_a_request_stays_outstanding_until_its_callback_returned(pair: Pair) -> None:
    """A death in on_completion leaves the request outstanding, so that the answer is delivered again."""
    pair.guest.send(b"?", request=True)
    pair.host.complete(pair.host.receive_many()[0])
    outstanding: list[int] = []
    run_pass(
        pair.guest.both,
        lambda _: None,
        lambda _: outstanding.append(pair.guest.both.requests.outstanding),
    )
    assert outstanding == [1]
    assert pair.guest.both.requests.outstanding == 0


def test_a_channel_that_ends_in_its_callback(pair: Pair) -> None:
    """A close inside a callback ends the pass without an error."""
    driver = Driver(lambda: pair.guest.both.close("relid 5: closed"))
    pair.host.send_many([b""] * 100)
    assert not run_pass(pair.guest.both, driver.on_packets)
    assert driver.batches == 1
    assert not run_pass(pair.guest.both, driver.on_packets)


def test_sound_packets_before_a_broken_one(pair: Pair) -> None:
    """They are delivered; then the ring is dead, with a reason."""
    pair.host.send(b"12345678")
    pair.memory[1][4096 + 32 : 4096 + 34] = b"\xff\xff"
    pair.memory[1][0:4] = (64).to_bytes(4, "little")
    driver = Driver()
    with pytest.raises(RingDead):
        run_pass(pair.guest.both, driver.on_packets)
    assert driver.packets == [b"12345678"]
