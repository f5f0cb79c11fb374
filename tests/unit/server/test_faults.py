"""Faults in the daemon's messages: what is dropped or late, in which order, and that a replay agrees."""

import contextlib
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args
from uuid import UUID

import pytest

from guest_client import Channel, Guest
from host_client import Host
from tests.unit.server.test_replay import Quiet, Ringer, Scene, scene
from vmbusd.abi import device_link, layout, wire
from vmbusd.abi.errors import ResourceError, UsageError
from vmbusd.abi.link import Object
from vmbusd.abi.native import FaultCounts
from vmbusd.abi.packing import Packing
from vmbusd.server.armed import Armed, FaultState
from vmbusd.server.fault_requests import FaultSpec
from vmbusd.server.fault_rules import MAX_RULES, NO_OFFER, RELID_AT
from vmbusd.server.faults import Faults

__all__ = ["scene"]
SOON = 0.3
"""Seconds in which an answer that was not dropped has come."""
LATE = 200_000
"""Microseconds."""


class World:
    """A daemon in this process with a host, a device, and a guest that opens nothing by itself."""

    def __init__(self, checked: Scene, host: Host, guest: Guest) -> None:
        self.checked = checked
        self.host = host
        self.guest = guest
        self.faults: Faults = checked.partition.faults

    @property
    def channel(self) -> Channel:
        return self.guest.channels[0]

    def add(self, kind: str, **fields: object) -> int:
        rule = FaultSpec(kind, **fields)  # type: ignore[arg-type]
        return self.checked.running.call(lambda: self.faults.add(rule))

    def remove(self, which: int | None = None) -> list[int]:
        removed: list[int] = self.checked.running.call(lambda: self.faults.remove(which))["removed"]
        return removed

    def fired(self, which: int) -> int:
        view = self.checked.running.call(self.faults.view)
        return int(next(rule["fired"] for rule in view["rules"] if rule["id"] == which))


@contextmanager
def attached(checked: Scene, runtime_dir: Path) -> Iterator[World]:
    with Host.connect("a", runtime_dir=runtime_dir) as host, host.serving():
        offer = host.offer(Ringer(), UUID(int=1))
        with Guest.attach("a", runtime_dir=runtime_dir) as guest:
            guest.register(Quiet())
            guest.start(2, "thread")
            assert guest.wait_ready(20)
            made = World(checked, host, guest)
            yield made
            made.remove()
            # A device that owes the guest an answer would have it wait at its end.
            host.revoke(offer)


@pytest.fixture
def world(scene: Scene, runtime_dir: Path) -> Iterator[World]:
    with attached(scene, runtime_dir) as made:
        yield made
    scene.check()


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        ("drop", {}, "fault 'drop': one of drop-doorbell, "),
        ("drop-message", {"delay": 5}, "fault drop-message: delay 5 means nothing for it"),
        ("drop-message", {"host": 0}, "host 0 means nothing"),
        ("drop-message", {"messages": ("OPEN",)}, "message 'OPEN': one of OFFERCHANNEL, "),
        ("drop-device-message", {"messages": ("OPENCHANNEL",)}, "message 'OPENCHANNEL': one of OFFER, "),
        ("drop-message", {"messages": ("UNLOAD", "UNLOAD")}, "messages UNLOAD, UNLOAD: each once"),
        ("drop-message", {"probability": 0.0}, "probability 0: more than 0 and at most 1"),
        ("drop-message", {"probability": float("nan")}, "probability nan"),
        ("drop-message", {"probability": 1.5}, "probability 1.5"),
        ("drop-message", {"every": 0}, "every 0: 1 to "),
        ("drop-message", {"after": -1}, "after -1: 0 to "),
        ("drop-message", {"times": 0}, "times 0: 1 to "),
        ("drop-message", {"seed": 2**64}, "seed 18446744073709551616: 0 to "),
        ("drop-message", {"relid": 2048}, "relid 2048: 1 to 2047"),
        ("drop-message", {"relid": 7}, "relid 7: the guest knows no such channel"),
        (
            "drop-message",
            {"relid": 1, "messages": ("UNLOAD",)},
            "relid 1: the message UNLOAD names no channel",
        ),
        (
            "drop-device-message",
            {"relid": 1, "messages": ("OPEN", "PROVIDE_SOCKETS")},
            "relid 1: the message PROVIDE_SOCKETS names no channel",
        ),
        ("delay-message", {}, "fault delay-message: delay is missing"),
        ("delay-message", {"delay": 0}, "delay 0: 1 to 10000000 microseconds"),
        ("delay-message", {"delay": 10_000_001}, "delay 10000001: 1 to 10000000 microseconds"),
        ("delay-device-message", {"delay": 5, "host": 9}, "host 9: there is no such link"),
        ("spurious-bit", {"rate": 10_001}, "rate 10001: 1 to 10000 per second"),
        ("spurious-bit", {"vp": 2}, "vp 2: 0 to 1"),
        ("spurious-bit", {"vp": 1, "host": 0}, "vp 1 and host 0: a bit is on one page"),
        ("kill-daemon", {}, "step is missing"),
        ("kill-daemon", {"step": "somewhere"}, "step 'somewhere': one of journal.between-append-and-effect"),
        ("drop-doorbell", {"messages": ("OPENCHANNEL",)}, "messages OPENCHANNEL means nothing for it"),
        ("drop-doorbell", {"vp": 2}, "vp 2: 0 to 1"),
        ("delay-dispatch", {"delay": 1001}, "fault delay-dispatch: delay 1001: 1 to 1000 microseconds"),
        ("delay-read", {"delay": 1001}, "fault delay-read: delay 1001: 1 to 1000 microseconds"),
        ("delay-dispatch", {}, "fault delay-dispatch: delay is missing: 1 to 1000 microseconds"),
        ("stuck-vp", {"delay": 60_000_001}, "delay 60000001: 1 to 60000000 microseconds"),
        ("delay-doorbell", {}, "fault delay-doorbell: delay is missing: 1 to 1000 microseconds"),
        ("reorder-doorbell", {"vp": 1}, "fault reorder-doorbell: delay is missing"),
        ("stuck-vp", {}, "fault stuck-vp: delay is missing: 1 to 60000000 microseconds"),
        ("stuck-vp", {"delay": 1, "who": "hosts"}, "fault stuck-vp: who hosts: it happens in guests alone"),
        ("kill", {}, "fault kill: step is missing: one of signal.between-bit-and-post"),
        ("kill", {"step": "nowhere"}, "fault kill: step 'nowhere': one of signal.between-bit-and-post"),
        ("kill", {"step": "recover.before-claims"}, "step 'recover.before-claims' is a step of kill-daemon"),
        ("kill-daemon", {"step": "drain.before-done"}, "step 'drain.before-done' is a step of kill"),
        ("drop-doorbell", {"who": "nobody"}, "who 'nobody': one of hosts, guests"),
        ("drop-doorbell", {"times": 0}, "fault drop-doorbell: times 0: 1 to "),
    ],
)
def test_a_rule_that_cannot_be_is_refused_by_name(
    scene: Scene, kind: str, fields: dict[str, object], text: str
) -> None:
    """Kind, field and value are named, and nothing is armed: a delay above 1000 us too (case 295)."""
    faults = scene.partition.faults
    rule = FaultSpec(kind, **fields)  # type: ignore[arg-type]
    with pytest.raises(UsageError) as error:
        scene.running.call(lambda: faults.add(rule))
    assert text in str(error.value)
    assert scene.running.call(faults.view) == {"armed": False, "rules": []}


def test_there_is_an_end_to_the_faults_of_a_partition(world: World) -> None:
    """16 on the data path, 64 together; each refusal is a ResourceError that says the number."""
    for _ in range(16):
        world.add("drop-doorbell")
    with pytest.raises(ResourceError, match="16 faults of the data path"):
        world.add("drop-doorbell")
    for _ in range(MAX_RULES - 16):
        world.add("drop-message", times=1, after=1000)
    with pytest.raises(ResourceError, match="64 faults"):
        world.add("drop-message")
    with pytest.raises(UsageError, match="no such fault"):
        world.remove(999)
    assert len(world.remove()) == MAX_RULES


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("drop-message", "OPENCHANNEL"),
        ("drop-message", "OPENCHANNEL_RESULT"),
        ("drop-device-message", "OPEN"),
        ("drop-device-message", "OPENED"),
    ],
)
def test_a_dropped_message_was_never_said(world: World, kind: str, message: str) -> None:
    """From or to the guest, from or to its host: the open waits for ever, a replay knows of the same drop,
    and what comes later has the numbers that it had."""
    rule = world.add(kind, messages=(message,), times=1)
    with pytest.raises(TimeoutError):
        world.channel.open(timeout=SOON)
    assert world.fired(rule) == 1
    world.checked.check()
    world.host.offer(Ringer(), UUID(int=2))
    world.checked.check()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("delay-message", "OPENCHANNEL"),
        ("delay-message", "OPENCHANNEL_RESULT"),
        ("delay-device-message", "OPEN"),
        ("delay-device-message", "OPENED"),
    ],
)
def test_a_delayed_message_comes_later_and_nothing_overtakes_it(
    world: World, kind: str, message: str
) -> None:
    """Each open takes as long as the delay; everything else is as it was, in a replay too."""
    rule = world.add(kind, messages=(message,), delay=LATE)
    for times in (1, 2):
        begun = time.monotonic()
        world.channel.open()
        assert time.monotonic() - begun >= LATE / 1e6
        world.checked.check()
        world.channel.close()
        assert world.fired(rule) == times
    world.remove(rule)
    world.channel.open(timeout=20)
    world.channel.close()


def test_an_unnamed_message_is_every_message(world: World) -> None:
    """And the counts choose among them: after, every, times."""
    rule = world.add("delay-message", delay=1, after=2, every=3, times=2)
    world.channel.open()
    world.channel.close()
    assert world.fired(rule) == 2


@pytest.mark.parametrize("kind", ["drop-message", "drop-device-message"])
def test_a_rule_with_a_relid_leaves_other_channels_alone(world: World, kind: str) -> None:
    """The second device opens; the first does not, whichever side the message comes from."""
    first = world.channel
    world.host.offer(Ringer(), UUID(int=2))
    while len(world.guest.channels) < 2:
        time.sleep(0.001)
    second = next(each for each in world.guest.channels if each is not first)
    rule = world.add(kind, relid=first.relid)
    second.open(timeout=20)
    second.close()
    assert world.fired(rule) == 0
    with pytest.raises(TimeoutError):
        first.open(timeout=SOON)
    assert world.fired(rule) > 0


def test_the_same_seed_meets_the_same_messages(world: World) -> None:
    """The decisions of two rules with one seed are equal, those of another seed are not."""

    def fate(seed: int) -> list[bool]:
        rule = Armed(FaultState(1, FaultSpec("drop-message", probability=0.5, seed=seed)))
        return [rule.fires() for _ in range(200)]

    assert fate(1) == fate(1) != fate(2)
    assert 60 < sum(fate(1)) < 140


def test_counts_go_on_where_they_were(world: World) -> None:
    """A snapshot and a replay both know how often each came, so `times` is kept by the next daemon too."""
    rule = world.add("delay-message", delay=1, times=4)
    world.channel.open()
    world.checked.check()
    world.checked.running.call(lambda: world.checked.partition.keeper.settle(now=True))
    world.checked.check()
    assert world.fired(rule) == 4
    assert world.remove() == [rule]
    world.checked.check()


def test_the_offset_of_a_relid_is_where_the_codec_puts_it() -> None:
    """For every channel message that has one."""
    for row in wire.MESSAGES:
        names = row.cls.__struct_fields__
        has_relid = "child_relid" in names
        assert (row.number in RELID_AT) is has_relid, row.name
        if has_relid:
            blank = Packing(row.cls).decode(bytes(240))
            fields = {name: getattr(blank, name) for name in names} | {"child_relid": 0x11223344}
            data = wire.encode(row.cls(**fields))
            at = RELID_AT[row.number]
            assert data[at : at + 4] == (0x11223344).to_bytes(4, "little"), row.name


def test_device_messages_begin_with_their_offer() -> None:
    """All but those that are said not to."""
    for cls in (*get_args(device_link.FromHost), *get_args(device_link.ToHost)):
        first = cls.__struct_fields__[0]
        assert (first == "offer_id") is (cls.kind.name not in NO_OFFER), cls


def test_a_dead_partition_takes_no_fault(scene: Scene) -> None:
    """Its memory is not to be trusted: an error says so, nothing is armed; what was can be taken back."""
    faults = scene.partition.faults
    made = scene.running.call(lambda: faults.add(FaultSpec("drop-doorbell")))
    scene.running.call(lambda: scene.partition.die("a test"))
    with pytest.raises(UsageError, match="partition a is dead: a test"):
        scene.running.call(lambda: faults.add(FaultSpec("drop-message")))
    assert scene.running.call(lambda: faults.remove(None))["removed"] == [made]
    assert scene.running.call(faults.view) == {"armed": False, "rules": []}
    assert scene.running.call(lambda: faults.to_guest) == ()


def test_the_counts_of_a_host_go_on_with_its_number(scene: Scene, runtime_dir: Path) -> None:
    """In the next link's page, in the status, in a replay; a rule that is new begins at 0 in both."""
    partition = scene.partition

    def counts(added: int) -> list[tuple[list[int], list[int]]]:
        """Of the page of host link 0, as a host and the guests that signal it count, before and after."""
        made = partition.objects[Object.HOST_PAGE, 0]
        with contextlib.closing(mmap.mmap(made.fd, made.size)) as page:
            found = []
            for offset in (layout.HOST_FIRED_OFFSET, layout.HOST_FIRED_IN_GUEST_OFFSET):
                fired = FaultCounts(page, offset, writable=True)
                before = fired.fired()[:2]
                fired.begin(0, before[0] + added)
                found.append((before, fired.fired()[:2]))
                added += 1
                del fired
        return found

    def attached(added: int) -> list[tuple[list[int], list[int]]]:
        with Host.connect("a", runtime_dir=runtime_dir):
            return scene.running.call(lambda: counts(added))

    def fired_by() -> list[dict[str, int]]:
        while scene.running.call(lambda: partition.hosts):
            time.sleep(0.001)
        scene.check()
        scene.running.call(lambda: partition.keeper.settle(now=True))
        scene.check()
        return [rule["fired_by"] for rule in scene.running.call(partition.faults.view)["rules"]]

    rule = scene.running.call(lambda: partition.faults.add(FaultSpec("drop-doorbell")))
    scene.running.call(lambda: partition.faults.add(FaultSpec("delay-read", delay=1)))
    assert attached(1) == [([0, 0], [1, 0]), ([0, 0], [2, 0])]
    assert fired_by() == [{"host 0": 1, "guest to host 0": 2}, {}]
    assert attached(0) == [([1, 0], [1, 0]), ([2, 0], [3, 0])]
    assert fired_by() == [{"host 0": 1, "guest to host 0": 3}, {}]
    scene.running.call(lambda: partition.faults.remove(rule))
    scene.running.call(lambda: partition.faults.add(FaultSpec("drop-doorbell")))
    assert attached(0) == [([0, 0], [0, 0]), ([0, 0], [1, 0])]
    assert fired_by() == [{}, {"guest to host 0": 1}]


def test_a_host_that_truncates_its_page_is_counted_no_more(scene: Scene, runtime_dir: Path) -> None:
    """Nobody who reads or sets counts, or bits, at that page fails; the partition is dead when it is seen."""
    partition = scene.partition
    with Host.connect("a", runtime_dir=runtime_dir) as host:
        scene.running.call(lambda: partition.faults.add(FaultSpec("drop-doorbell")))
        scene.running.call(lambda: partition.faults.add(FaultSpec("spurious-bit", host=0, rate=10_000)))

        def cut() -> object:
            os.ftruncate(partition.objects[Object.HOST_PAGE, host.link].fd, 0)
            partition.faults.add(FaultSpec("drop-doorbell"))
            return partition.faults.view()

        assert scene.running.call(cut)
        time.sleep(SOON)
        scene.running.call(partition.check_objects)
        assert partition.dead is not None
