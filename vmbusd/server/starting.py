"""Makes a partition: anew, or as a daemon before us left it when it died or made room for us.

To resume: the files are read and checked, the objects opened by name, the inputs replayed, a snapshot of the
result written. Until then nothing that anybody can see has changed, and whatever is wrong, the files, an
object, the state, is one error that says what is lost. Then what may be half done is finished: the table, the
VPs, the closes under way, memory for what was promised. Links are away until their processes come back;
of processes that died meanwhile the death is dealt with at once. Source: docs/restart.md.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from structlog.typing import FilteringBoundLogger

from vmbusd.abi import layout
from vmbusd.abi.errors import ProtocolError, VmbusError
from vmbusd.abi.link import Code, Role
from vmbusd.bus.bus import Bus
from vmbusd.server import journal, state
from vmbusd.server.attached import Attached
from vmbusd.server.carry import reserve_pages
from vmbusd.server.config import PartitionSpec
from vmbusd.server.door import Door
from vmbusd.server.journal import Journal, Saved
from vmbusd.server.journal_file import DamagedJournal, Identity
from vmbusd.server.links import GuestControl, HostLink, Worker
from vmbusd.server.memory import Memory
from vmbusd.server.objects import MissingObject, ObjectSet, WrongObject
from vmbusd.server.partition import Partition
from vmbusd.server.peer import Peer
from vmbusd.server.reconcile import reconcile
from vmbusd.server.replay import KnownLink, Replay
from vmbusd.server.steps import Step
from vmbusd.server.tokens import NO_TOKEN

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class CannotResumeError(VmbusError):
    """What a daemon before us left cannot be gone on with; the text says why and what is lost.

    Attributes: `anew`, how the partition was asked for, if it can be made anew and nobody is hurt.
    """

    def __init__(self, text: str, anew: PartitionSpec | None = None) -> None:
        super().__init__(text)
        self.anew = anew


def _boot() -> str:
    """The kernel's boot id; nothing where a service may not see /proc/sys. Then the objects alone tell: they
    lie in memory, and no other boot has them."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _identity(name: str, spec: PartitionSpec, instance: str) -> Identity:
    return Identity(
        layout.ABI_VERSION,
        _boot(),
        instance,
        name,
        spec.vps,
        spec.ram_bytes(),
        msgspec.json.encode(spec),
    )


def make(
    loop: asyncio.AbstractEventLoop,
    name: str,
    spec: PartitionSpec,
    *,
    instance: str,
    directory: int,
    log: FilteringBoundLogger,
) -> Partition:
    """A new partition with all its objects and a journal in `directory`.

    Raises ResourceError naming what cannot be made; nothing is left then.
    """
    ram_size = spec.ram_bytes()
    journal.remove(directory, name)
    objects = ObjectSet(instance, name, vps=spec.vps, ram_size=ram_size, eventfd=spec.doorbell == "eventfd")
    try:
        memory = Memory(objects, partition=name, vps=spec.vps, ram_size=ram_size)
    except BaseException:
        objects.remove()
        raise
    kept = Journal(directory, _identity(name, spec, instance))
    bus = Bus(vps=spec.vps, ram_pages=ram_size // layout.PAGE, options=spec.bus_options())
    made = Partition(loop, name, spec, objects=objects, memory=memory, bus=bus, journal=kept, log=log)
    try:
        made.keeper.begin()
    except BaseException:
        made.close(Code.STOPPING, "it could not be made")
        raise
    return made


def resume(
    loop: asyncio.AbstractEventLoop, name: str, *, directory: int, door: Door, log: FilteringBoundLogger
) -> Partition:
    """The partition of which `directory` has the files.

    Raises CannotResumeError, or ResourceError for what only this moment has not got, such as descriptors; the
    files and the objects are as they were then.
    """
    try:
        saved = journal.read(directory, name)
        spec = _check(saved, name)
        try:
            return _resume(loop, saved, spec, directory, door, log)
        except MissingObject as error:
            if _anyone_lives(saved, spec):
                raise
            # While there was neither a peer nor a daemon to hold it, another daemon's start reclaimed it.
            raise CannotResumeError(f"{error}, and nobody was attached: it is made anew", spec) from error
    except FileNotFoundError as error:
        raise CannotResumeError(f"{name}: it was only being made") from error
    except DamagedJournal as error:
        raise CannotResumeError(str(error)) from error
    except WrongObject as error:
        raise CannotResumeError(f"{error}: everything in the journal of {name} is lost") from error
    except ProtocolError as error:
        raise CannotResumeError(f"{name}: {error}: everything in its journal is lost") from error


def _anyone_lives(saved: Saved, spec: PartitionSpec) -> bool:
    """Whether a process that had a link when the daemon before us died still lives."""
    replay = Replay(state.decode(saved.state), spec, saved.identity.ram_size // layout.PAGE)
    replay.run(saved.number + 1, saved.bodies, lambda _pages: None)
    for known in replay.links.values():
        it = known.made
        with contextlib.closing(Peer.found_again(it.pid, it.start_time, it.uid, it.gid)) as peer:
            if not peer.is_dead():
                return True
    return False


def _check(saved: Saved, name: str) -> PartitionSpec:
    """Whether it is ours to resume; how it was asked for."""
    it = saved.identity
    try:
        spec = msgspec.json.decode(it.spec, type=PartitionSpec, strict=True)
        spec.check()
        ours = _identity(name, spec, it.instance)
    except (msgspec.DecodeError, ValueError) as error:
        raise ProtocolError(f"its specification: {error}") from error
    if it != ours:
        raise ProtocolError(f"its files have {it.differs(ours)}")
    return spec


def _resume(
    loop: asyncio.AbstractEventLoop,
    saved: Saved,
    spec: PartitionSpec,
    directory: int,
    door: Door,
    log: FilteringBoundLogger,
) -> Partition:
    it = saved.identity
    replay = Replay(state.decode(saved.state), spec, it.ram_size // layout.PAGE)
    objects = ObjectSet(
        it.instance,
        it.partition,
        vps=it.vps,
        ram_size=it.ram_size,
        eventfd=spec.doorbell == "eventfd",
        there=True,
    )
    try:
        replay.run(saved.number + 1, saved.bodies, lambda pages: reserve_pages(objects, pages))
        for known in replay.links.values():
            if known.made.role is Role.HOST and known.session is not None:
                objects.take_host(known.made.number)
        memory = Memory(objects, partition=it.partition, vps=it.vps, ram_size=it.ram_size, there=True)
    except BaseException:
        objects.close()
        raise
    made = Partition(
        loop,
        it.partition,
        spec,
        objects=objects,
        memory=memory,
        bus=replay.bus,
        journal=Journal(directory, it),
        log=log,
    )
    made.faults.restore(replay.next_fault, replay.faults.values())
    try:
        links = _links(made, replay)
        made.keeper.resume(saved.number + len(saved.bodies))
    except BaseException:
        for attached in made.links():
            attached.peer.close()
        memory.close()
        objects.close()
        raise
    _go_on(loop, made, links, door)
    made.log.info("partition resumed", inputs=len(saved.bodies), links=len(links), epoch=memory.epoch)
    return made


def _links(made: Partition, replay: Replay) -> list[Attached]:
    """The links, each without a socket, in their places."""
    links: list[Attached] = []
    workers: dict[int, Worker] = {}
    for known in replay.links.values():
        peer = Peer.found_again(known.made.pid, known.made.start_time, known.made.uid, known.made.gid)
        attached = _link(made, known, peer)
        if isinstance(attached, GuestControl):
            made.control = attached
        elif isinstance(attached, HostLink):
            made.hosts[attached.number] = attached
        elif isinstance(attached, Worker):
            if not replay.seats[attached.vp].occupied:
                # Its daemon died before it was admitted, and it never heard of its link.
                peer.close()
                continue
            workers[attached.vp] = attached
            made.workers.add(attached)
        before = NO_TOKEN
        for token in known.tokens:
            made.tokens.give(attached, token, before)
            before = token
        links.append(attached)
    made.vps.restore(replay.seats, replay.offline, replay.unplugged, workers)
    return links


def _link(made: Partition, known: KnownLink, peer: Peer) -> Attached:
    role, number = known.made.role, known.made.number
    log = made.log.bind(role=role.name.lower(), pid=peer.pid, uid=peer.uid)
    if role is Role.GUEST_CONTROL:
        return GuestControl(made, None, peer, log, known.session)
    if role is Role.GUEST_WORKER:
        return Worker(made, None, peer, log.bind(vp=number), number, known.session)
    return HostLink(made, None, peer, log.bind(host=number), number, known.session)


def _go_on(loop: asyncio.AbstractEventLoop, made: Partition, links: Iterable[Attached], door: Door) -> None:
    """Finish what may be half done; each step may be done again by the next daemon, should we die in it."""
    picture = made.bus.picture()
    # Before any target is written: through a page or not is decided by what is in use.
    made.faults.go_on()
    made.steps.reach(Step.RESUMED)
    made.pages.take_over(picture.pages)
    written = reconcile(made.memory, picture)
    strays = made.objects.remove_strays()
    if written or strays:
        made.log.info("half done by the daemon before", words=written, objects=strays)
    made.steps.reach(Step.RECONCILED)
    for attached in links:
        attached.expect(loop, door.link_closed, door.grace)
    for shown in picture.slots.values():
        made.reserve_block(shown.fill)
    for close in picture.closing:
        made.closing.add(close.flag, close.generation)
    for armed in picture.armed:
        made.pages.arm(armed)
    if picture.modifying is not None:
        made.modify_pages(picture.modifying)
    for attached in links:
        if attached.peer.is_dead():
            attached.process_died()
        elif attached.session is None:
            attached.bye(Code.STOPPING, "it ended with the daemon before")
    # What is handed over goes to a VP whose worker lives: so after the deaths.
    made.vps.go_on()
    if made.control is None:
        made.vps.guest_gone()
    # What the guest announced while nobody was there to hear it.
    made.pages.signalled()
    made.tell_time()
