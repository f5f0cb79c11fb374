"""What faults keep back of a link: its order, its bounds, and what becomes of it when the link ends."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.live.daemon import eventually
from tests.live.peers import CONTACT, INTERFACE, Guest, device, farewell, guest
from tests.unit.server.in_process import InProcess, in_process
from vmbusd.abi import device_link, link, messages, wire
from vmbusd.abi.attach import attach
from vmbusd.abi.link import Role
from vmbusd.abi.session import WINDOW, Session
from vmbusd.server.config import PartitionSpec
from vmbusd.server.fault_requests import FaultSpec
from vmbusd.server.faults import Faults
from vmbusd.server.partition import Partition

LATE = 150_000
"""Microseconds: longer than anything here takes that is not delayed."""
EVER = 10_000_000
"""Microseconds: longer than a test."""
NOW = 0.1
"""Seconds in which what is not delayed has come."""


class World:
    """A daemon in this process with one partition, and its faults."""

    def __init__(self, running: InProcess, runtime_dir: Path) -> None:
        self.running = running
        self.directory = runtime_dir
        self.partition: Partition = running.daemon.partitions["a"]
        self.faults: Faults = self.partition.faults

    def add(self, kind: str, *names: str, **fields: object) -> int:
        rule = FaultSpec(kind, messages=names, **fields)  # type: ignore[arg-type]
        return self.running.call(lambda: self.faults.add(rule))

    def remove(self) -> None:
        self.running.call(lambda: self.faults.remove(None))


@pytest.fixture
def world(runtime_dir: Path) -> Iterator[World]:
    with in_process(runtime_dir, a=PartitionSpec(vps=2)) as running:
        yield World(running, runtime_dir)


def heard(peer: Guest) -> list[str]:
    """The kinds of the channel messages that are here now."""
    found = []
    while peer.attached.wait_readable(NOW):
        found.append(type(peer.hear_any()).__name__)
    return found


def test_what_comes_behind_a_delayed_message_waits_behind_it(world: World) -> None:
    """On a plain link too, in: two answers, both late, in order."""
    world.add("delay-message", "INITIATE_CONTACT", delay=LATE)
    with guest(world.directory) as peer:
        begun = time.monotonic()
        peer.say(CONTACT)
        peer.say(messages.RequestOffers())
        assert peer.hear(messages.VersionResponse).version_supported
        assert time.monotonic() - begun >= LATE / 1e6
        peer.hear(messages.AllOffersDelivered)


def test_what_is_said_behind_a_delayed_message_waits_behind_it(world: World) -> None:
    """Out: nothing overtakes, and what the guest hears is what it would have heard."""
    with device(world.directory) as behind, guest(world.directory) as peer:
        behind.offer(1)
        world.add("delay-message", "VERSION_RESPONSE", delay=LATE)
        begun = time.monotonic()
        peer.connect(1)
        assert time.monotonic() - begun >= LATE / 1e6


def test_a_rule_that_is_taken_back_holds_nothing_more(world: World) -> None:
    """What it keeps back leaves when it is due, what comes later is not judged."""
    with guest(world.directory) as peer:
        world.add("delay-message", "VERSION_RESPONSE", delay=LATE)
        peer.say(CONTACT)
        world.remove()
        peer.hear(messages.VersionResponse)
        peer.say(messages.RequestOffers())
        assert heard(peer) == ["AllOffersDelivered"]


def test_a_dropped_message_leaves_the_others_alone(world: World) -> None:
    """On plain links, both ways, guest and host: only what the rule names is missing."""
    world.add("drop-message", "REQUESTOFFERS", times=1)
    with device(world.directory) as behind, guest(world.directory) as peer:
        peer.say(CONTACT)
        peer.say(messages.RequestOffers())
        assert heard(peer) == ["VersionResponse"]
        world.add("drop-message", "OFFERCHANNEL", after=1, times=1)
        world.add("drop-device-message", "OFFER_RESULT", host=0, times=1)
        world.add("drop-device-message", "OFFER", after=3, times=1)
        peer.say(messages.RequestOffers())
        assert heard(peer) == ["AllOffersDelivered"]
        for number in (1, 2, 3, 4):
            behind.say(device_link.Offer(number, INTERFACE, UUID(int=number)))
        assert [behind.hear(device_link.OfferResult).offer_id for _ in range(2)] == [2, 3]
        assert heard(peer) == ["Offer", "Offer"]


def test_a_flood_behind_a_delayed_message_stays_in_the_socket(world: World) -> None:
    """A plain link is not read while something waits, so a guest that goes on fills its own socket."""
    world.add("delay-message", "INITIATE_CONTACT", delay=EVER)
    with guest(world.directory) as peer:
        peer.say(CONTACT)
        before = world.partition.keeper.number
        packet = link.encode_message(wire.encode(messages.RequestOffers()), where=1)
        peer.attached.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(1_000_000):
                peer.attached.sock.send(packet)
            pytest.fail("a million messages were taken")
        assert world.running.call(lambda: world.partition.keeper.number) <= before + 1
        control = world.partition.control
        assert control is not None
        assert control.held is not None
        assert world.running.call(lambda: control.traffic()["packets_in"]) < 2000


def test_a_session_that_goes_on_behind_a_delayed_message_has_its_window(world: World) -> None:
    """Nothing behind it is confirmed; a peer that says more than a window is told so and ends."""
    world.add("delay-message", "INITIATE_CONTACT", delay=EVER)
    with attach(Role.GUEST_CONTROL, "a", runtime_dir=world.directory, resumable=True) as attached:
        contact = wire.encode(CONTACT)
        request = wire.encode(messages.RequestOffers())
        for number in range(1, WINDOW + 2):
            said = contact if number == 1 else request
            attached.send(link.encode_message(said, where=1, sequence=number))
        assert f"more than {WINDOW} packets" in farewell(attached)


def test_a_farewell_does_not_wait(world: World) -> None:
    """What a peer said before it and nobody took does not count any more."""
    world.add("delay-message", "INITIATE_CONTACT", delay=EVER)
    with attach(Role.GUEST_CONTROL, "a", runtime_dir=world.directory, resumable=True) as attached:
        contact = wire.encode(CONTACT)
        attached.send(link.encode_message(contact, where=1, sequence=1))
        attached.send(link.encode(link.Detached(0), sequence=2))
        farewell(attached)
        assert world.running.call(lambda: world.partition.control) is None


def test_a_link_that_ends_takes_along_what_was_kept_back(world: World) -> None:
    """Both ways: no timer is left that would send to nobody, and the next guest starts clean."""
    world.add("delay-message", delay=EVER)
    with guest(world.directory) as peer:
        peer.say(CONTACT)
    eventually(lambda: world.partition.control is None, "the guest has left")
    world.remove()
    with guest(world.directory) as peer:
        peer.connect()


def test_what_a_session_may_send_ends_before_what_is_kept_back() -> None:
    """And not a window earlier or later, whatever was confirmed."""
    session = Session()
    for _ in range(10):
        session.stamp_and_post(link.encode_message(b"x", where=0))
    assert len(list(session.due(before=1))) == 0
    assert len(list(session.due(before=4))) == 3
    assert len(list(session.due(before=4))) == 0
    session.take_confirmation(2)
    assert len(list(session.due(before=6))) == 2
    assert len(list(session.due())) == 5
    assert session.waiting == 0
