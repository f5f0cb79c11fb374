"""What is on disk gives, replayed, the very state that the living daemon has, at every moment."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from guest_client import Channel, Driver, Guest
from host_client import Device, Host
from host_client.channel import Channel as HostChannel
from tests.unit.server.in_process import InProcess, in_process
from vmbusd.abi.errors import ChannelGone, RefusedError, ResourceError
from vmbusd.abi.layout import PAGE
from vmbusd.abi.link import Role
from vmbusd.bus import saved
from vmbusd.server import inputs, journal, objects, state
from vmbusd.server.config import PartitionSpec
from vmbusd.server.inputs import SeatSet
from vmbusd.server.links import Worker
from vmbusd.server.partition import Partition
from vmbusd.server.replay import Replay
from vmbusd.server.state import LinkState

INTERFACE = UUID("2f0c7a52-0d1e-4b51-8d53-5f9a6c1f7e01")


class Quiet(Driver):
    """Opens nothing by itself."""

    interface = INTERFACE

    def probe(self, channel: Channel) -> None:
        """The test does."""


class Ringer(Device):
    """Signals at each open."""

    interface = INTERFACE

    def on_open(self, channel: HostChannel) -> None:
        channel.signal()


def never(_pages: tuple[int, ...]) -> None:
    """Nothing is asked of the machine: every decision is in the journal already."""
    raise AssertionError("a replay between two inputs has to ask for nothing")


def reserved(_pages: tuple[int, ...]) -> None:
    """There was memory, and there is."""


def links_of(states: tuple[LinkState, ...]) -> dict[inputs.Key, tuple[object, ...]]:
    """What must be equal: whose, which tokens, what was taken, and every packet that may have to go again."""
    found: dict[inputs.Key, tuple[object, ...]] = {}
    for each in states:
        session = each.session
        numbers = (session.received, session.confirmed + len(session.packets)) if session else None
        who = (each.pid, each.start_time, each.uid, each.gid, each.tokens[-1:])
        found[each.role, each.number] = (who, numbers, session.packets if session else ())
    return found


def replayed(partition: Partition, directory: int) -> tuple[Replay, int]:
    """What is on disk now, and the number of its last input."""
    read = journal.read(directory, partition.name)
    replay = Replay(state.decode(read.state), partition.spec, partition.memory.ram_size // PAGE)
    replay.run(read.number + 1, read.bodies, reserved)
    return replay, read.number + len(read.bodies)


def check(partition: Partition, directory: int) -> None:
    """Read what is on disk now, replay it, and compare with the living state."""
    lives = state.of(partition)
    replay, number = replayed(partition, directory)

    assert number == partition.keeper.number
    assert saved.decode(lives.bus) == replay.bus.save()
    assert lives.seats == tuple(replay.seats)
    assert set(lives.offline) == replay.offline
    assert set(lives.unplugged) == replay.unplugged
    again = links_of(
        tuple(
            LinkState(
                role,
                number,
                known.made.pid,
                known.made.start_time,
                known.made.uid,
                known.made.gid,
                known.tokens,
                known.session.save() if known.session else None,
            )
            for (role, number), known in replay.links.items()
        )
    )
    assert links_of(lives.links) == again
    assert lives.next_fault == replay.next_fault
    assert [(each.id, each.fault, each.fired, each.ended) for each in lives.faults] == [
        (each.id, each.fault, each.fired, each.ended) for each in replay.faults.values()
    ]


class Scene:
    """A daemon in this process, and what is compared in it."""

    def __init__(self, running: InProcess, directory: int) -> None:
        self.running = running
        self.partition = running.daemon.partitions["a"]
        self.directory = directory

    def check(self) -> None:
        self.running.call(lambda: check(self.partition, self.directory))


@pytest.fixture
def scene(runtime_dir: Path) -> Iterator[Scene]:
    directory = os.open(runtime_dir, os.O_RDONLY | os.O_DIRECTORY)
    with in_process(runtime_dir, a=PartitionSpec(vps=2)) as running:
        yield Scene(running, directory)
    os.close(directory)


def test_a_replay_gives_the_living_state(scene: Scene, runtime_dir: Path) -> None:
    """Through attach, offers, open, retarget, close, revoke, and the leaving of everybody."""
    scene.check()
    with Host.connect("a", runtime_dir=runtime_dir) as host, host.serving():
        scene.check()
        offers = [host.offer(Ringer(), UUID(int=number + 1)) for number in range(3)]
        scene.check()
        with Guest.attach("a", runtime_dir=runtime_dir) as guest:
            guest.register(Quiet())
            guest.start(2, "thread")
            assert guest.wait_ready(20)
            scene.check()
            for _ in range(3):
                for channel in guest.channels:
                    channel.open()
                    scene.check()
                for channel in guest.channels:
                    channel.retarget(1 - channel.target_vp)
                    scene.check()
                for channel in guest.channels:
                    channel.close()
                    scene.check()
            guest.channels[0].open()
            host.revoke(offers[0])
            scene.check()
        scene.check()
    scene.check()


def test_vps_that_come_and_go_are_replayed(
    scene: Scene, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders of the guest, granted and refused, and of the administrator: with snapshots between them too."""
    vps = scene.partition.vps
    with Host.connect("a", runtime_dir=runtime_dir) as host, host.serving():
        host.offer(Ringer(), UUID(int=1))
        for records in (4096, 3):
            monkeypatch.setattr(journal, "RECORDS", records)
            with Guest.attach("a", runtime_dir=runtime_dir) as guest:
                guest.register(Quiet())
                guest.start(2, "thread")
                assert guest.wait_ready(20)
                guest.channels[0].open()
                for vp in (0, 1):
                    guest.vp_offline(vp)
                    scene.check()
                    with pytest.raises(RefusedError, match=f"VP {1 - vp} is the last that has a worker"):
                        guest.vp_offline(1 - vp)
                    scene.check()
                    guest.vp_online(vp)
                    scene.check()
                scene.running.call(lambda: vps.unplug(1))
                scene.check()
                scene.running.call(lambda: vps.plug(1))
                scene.check()
                guest.vp_online(1)
                guest.vp_offline(1)
            scene.check()
            assert vps.seats[1].unplugged


def test_no_snapshot_has_a_packet_without_the_order_in_it(
    scene: Scene, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a guest's order is judged workers are heard, and a snapshot may be due then: it has to wait, or a
    daemon that dies there would have taken the packet and never heard of the order."""
    partition, key = scene.partition, (Role.GUEST_CONTROL, 0)
    judged: list[tuple[int, int]] = []
    heard = Worker.catch_up

    def catch_up(worker: Worker) -> None:
        heard(worker)
        partition.keeper.settle()
        replay, _ = replayed(partition, scene.directory)
        control, session = replay.links[key], partition.control and partition.control.session
        assert session
        assert control.session is not None
        judged.append((control.session.received, session.received))

    with Guest.attach("a", runtime_dir=runtime_dir) as guest:
        guest.start(2, "thread")
        monkeypatch.setattr(Worker, "catch_up", catch_up)
        monkeypatch.setattr(journal, "RECORDS", 0)
        guest.vp_offline(1)
        monkeypatch.undo()
    assert judged
    assert all(kept < taken for kept, taken in judged)


def test_a_replay_goes_on_from_every_snapshot(
    scene: Scene, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snapshots in the middle of everything: each is the state of that moment."""
    monkeypatch.setattr(journal, "RECORDS", 3)
    before = scene.partition.keeper.snapshots
    with Host.connect("a", runtime_dir=runtime_dir) as host, host.serving():
        for number in range(3):
            host.offer(Ringer(), UUID(int=number + 1))
        with Guest.attach("a", runtime_dir=runtime_dir) as guest:
            guest.register(Quiet())
            guest.start(2, "thread")
            assert guest.wait_ready(20)
            for channel in [*guest.channels, *guest.channels]:
                channel.open()
                scene.check()
                channel.close()
                scene.check()
    assert scene.partition.keeper.snapshots - before > 10
    scene.check()


def no_memory(what: int) -> Callable[[int, int, int], None]:
    """An allocation that finds no memory from the `what`-th call on."""
    left = iter(range(what))

    def allocate(fd: int, offset: int, length: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.posix_fallocate(fd, offset, length)

    return allocate


def test_memory_that_was_not_there_is_not_there_in_a_replay(
    scene: Scene, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPADL that its host was not asked to take, and an offer that was taken back (case 197): the packets
    after it have the same numbers again."""
    with Host.connect("a", runtime_dir=runtime_dir) as host, host.serving():
        host.offer(Ringer(), UUID(int=1))
        with Guest.attach("a", runtime_dir=runtime_dir) as guest:
            guest.register(Quiet())
            guest.start(2, "thread")
            assert guest.wait_ready(20)
            (channel,) = guest.channels
            monkeypatch.setattr(objects, "_allocate", no_memory(0))
            with pytest.raises((RefusedError, ChannelGone)):
                channel.open()
            scene.check()
            host.offer(Ringer(), UUID(int=2))
            scene.check()
            monkeypatch.undo()
            channel.open()
            scene.check()
            channel.close()
    scene.check()


@pytest.mark.parametrize("aside", [None, inputs.FaultCounted(1, {"host 0": 1}), inputs.FaultFired(1, 1, 1)])
def test_of_the_last_input_the_machine_is_asked_again(
    scene: Scene, runtime_dir: Path, aside: inputs.Input | None
) -> None:
    """A daemon that died before it reserved the pages of a GPADL: without memory the guest is told so, and
    the host is not asked; with memory it is asked. What faults did meanwhile is no input after it."""
    behind = [inputs.encode(aside)] if aside is not None else []
    directory = os.open(runtime_dir, os.O_RDONLY | os.O_DIRECTORY)
    with Host.connect("a", runtime_dir=runtime_dir) as host, host.serving():
        host.offer(Ringer(), UUID(int=1))
        with Guest.attach("a", runtime_dir=runtime_dir) as guest:
            guest.register(Quiet())
            guest.start(2, "thread")
            assert guest.wait_ready(20)
            guest.channels[0].open()
            read = scene.running.call(lambda: journal.read(directory, "a"))
    os.close(directory)

    whats = [inputs.decode(body) for body in read.bodies]
    outcomes = []
    for end in range(1, len(whats) + 1):
        asked: list[tuple[int, ...]] = []

        def full(pages: tuple[int, ...], asked: list[tuple[int, ...]] = asked) -> None:
            asked.append(pages)
            raise ResourceError("no memory")

        ram_pages = scene.partition.memory.ram_size // PAGE
        without = Replay(state.decode(read.state), scene.partition.spec, ram_pages)
        without.run(read.number + 1, read.bodies[:end] + behind, full)
        with_memory = Replay(state.decode(read.state), scene.partition.spec, ram_pages)
        with_memory.run(read.number + 1, read.bodies[:end] + behind, reserved)
        if asked:
            outcomes.append((without.bus.statistics().gpadls, with_memory.bus.statistics().gpadls))
    assert outcomes == [(0, 1)]


def test_a_seat_says_once_that_its_worker_is_to_leave(scene: Scene) -> None:
    """The packet that asks for it is in the session once, however often the seat is kept."""
    made = inputs.LinkMade(Role.GUEST_WORKER, 1, 1, 1, 0, 0, bytes(range(16)))
    seat = SeatSet(1, 3, 1, True, True, 0, 0, False)
    lives = scene.running.call(lambda: state.of(scene.partition))
    replay = Replay(lives, scene.partition.spec, scene.partition.memory.ram_size // PAGE)
    bodies = [inputs.encode(what) for what in (made, seat, seat)]

    replay.run(1, bodies, never)

    session = replay.links[Role.GUEST_WORKER, 1].session
    assert session is not None
    assert session.last == 1
