"""One partition: its memory, its bus, its links, and the effects of the bus carried out in their order.

Every input of the bus goes through `feed`, one at a time: it is kept in the journal, then its effects are
carried out, all of them before the next is looked at, also when carrying them out causes the next (a claim
that is free at once, memory that is not there, a link that breaks). So every input in the journal but the
last is done, and of the last one nobody knows how far it came. When an object was truncated by a peer the
partition is dead: its links end with the reason, and nothing of it is touched any more; other partitions do
not notice.
"""

import asyncio
import contextlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator

from structlog.typing import FilteringBoundLogger

from vmbusd.abi import layout, link, native
from vmbusd.abi.link import Code, Object, Role
from vmbusd.bus.bus import Bus
from vmbusd.bus.effects import FillSlot, ModifyPages
from vmbusd.server import inputs, limits, ofd, state
from vmbusd.server.attached import Attached
from vmbusd.server.carry import Carrier
from vmbusd.server.closing import Closing
from vmbusd.server.config import PartitionSpec
from vmbusd.server.faults import Faults
from vmbusd.server.guest_pages import GuestPages
from vmbusd.server.journal import Journal
from vmbusd.server.keeper import Keeper
from vmbusd.server.links import GuestControl, HostLink, Worker
from vmbusd.server.memory import Memory, encode_grants
from vmbusd.server.objects import ObjectSet, SharedObject
from vmbusd.server.recovery import Vps
from vmbusd.server.steps import Step, Steps
from vmbusd.server.tokens import Tokens


class Partition:
    """A living partition, until `close`; `starting` makes it.

    Attributes: `name`, `spec`; `bus`; `memory`; `pages`, those that the guest named; `keeper`, its journal;
    `vps`; `faults`, what goes wrong on purpose, and `steps`, where; `control`, the guest's control link;
    `workers`, `hosts`, the other links; `dead`, why it is dead, or None; `warnings`, what an administrator
    should know; `counters`, effects carried out and refused.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        spec: PartitionSpec,
        *,
        objects: ObjectSet,
        memory: Memory,
        bus: Bus,
        journal: Journal,
        log: FilteringBoundLogger,
    ) -> None:
        self.name = name
        self.spec = spec
        self.log = log.bind(partition=name)
        self.objects = objects
        self.memory = memory
        self.bus = bus
        self.steps = journal.steps = Steps()
        self.keeper = Keeper(journal, lambda: state.encode(state.of(self)), self.log)
        self.vps = Vps(
            loop,
            self.memory,
            self.log,
            offline=lambda vp, live: self.feed(None, inputs.Offline(vp, live)),
            online=lambda vp: self.feed(None, inputs.Online(vp)),
            keep=self.keeper.keep,
            tell=self._tell_guest,
            steps=self.steps,
        )
        self.pages = GuestPages(loop, self.memory, self.log)
        self.closing = Closing(loop, self.memory.settle, self._claim_is_free)
        self.tokens = Tokens()
        self.faults = Faults(loop, self)
        self.control: GuestControl | None = None
        self.workers: set[Worker] = set()
        self.hosts: dict[int, HostLink] = {}
        self.dead: str | None = None
        self.warnings: list[str] = []
        self.counters: Counter[str] = Counter()
        self._nameless: set[str] = set()
        self._inputs: deque[tuple[Attached | None, inputs.ToBus]] = deque()
        self._busy = False
        self._cause = 0
        self._hears = True
        self._loop = loop
        self._alarm: asyncio.TimerHandle | None = None
        self._carrier = Carrier(self)
        self._carry_out = self._carrier.carry_out

    # -- the bus -------------------------------------------------------------------------------------------

    def feed(self, source: Attached | None, what: inputs.ToBus) -> None:
        """Give the bus one input and carry out what it wants; what comes meanwhile waits its turn."""
        if self.dead is not None:
            return
        if self._busy:
            self._inputs.append((source, what))
            return
        self._busy = True
        try:
            if self._inputs:
                # Left over by an error of ours: they came first.
                self._inputs.append((source, what))
            else:
                self._take_in(source, what)
            while self._inputs and self.dead is None:
                self._take_in(*self._inputs.popleft())
        finally:
            self._busy = False
        if native.faults() != self.memory.faults:
            self.look_for_faults()
        bus = self.bus
        if bus.accepting is not self._hears and self.control is not None:
            # The bus holds a few packets of a guest that is to wait, the socket the rest.
            self._hears = bus.accepting
            self.control.listen(bus.accepting)
        if bus.next_deadline is not None or self._alarm is not None:
            self._set_alarm()

    def _take_in(self, source: Attached | None, what: inputs.ToBus) -> None:
        if not isinstance(what, inputs.NoPages):
            self._cause = self.keeper.keep(what)
            if self.steps.armed:
                self.steps.reach(Step.APPENDED)
        self._carry_out(inputs.apply(self.bus, what, trusted=self.spec.trusted), source)

    def answer_for(self, host: HostLink, offer_id: int, gpadl: int) -> None:
        """There is no memory for a GPADL: refuse it in the host's name, who never hears of it.

        That goes into the journal at once, not when its turn comes: a replay must know it when it meets the
        effect, to give the packets after this one the same numbers again.
        """
        answer = inputs.NoPages(self._cause, host.number, offer_id, gpadl)
        self.keeper.keep(answer)
        self.feed(host, answer)

    def reserve_block(self, effect: FillSlot) -> None:
        """Make sure that a channel which is in the table has its block."""
        self._carrier.reserve_block(effect)

    def modify_pages(self, effect: ModifyPages) -> None:
        """Use other pages of the guest, as the bus asked before a restart."""
        self._carrier.modify_pages(effect)

    def tell_time(self) -> None:
        """Let the bus know what time it is."""
        self.feed(None, inputs.Tick(self._loop.time()))

    def _set_alarm(self) -> None:
        due = self.bus.next_deadline if self.dead is None else None
        if self._alarm is not None:
            if self._alarm.when() == due:
                return
            self._alarm.cancel()
            self._alarm = None
        if due is not None:
            self._alarm = self._loop.call_at(due, self.tell_time)

    def _claim_is_free(self, flag: int, generation: int) -> None:
        self.feed(None, inputs.ClaimFree(flag, generation))

    def _tell_guest(self, what: link.VpChanged) -> None:
        if self.control is not None:
            self.control.tell(what)

    # -- links ---------------------------------------------------------------------------------------------

    def links(self) -> list[Attached]:
        """Every link of this partition that is still there."""
        control = [self.control] if self.control else []
        return [each for each in (*self.hosts.values(), *self.workers, *control) if each.linked]

    @contextlib.contextmanager
    def welcome(self, role: Role, *, number: int = 0, vp: int = 0) -> Iterator[Callable[[Attached], None]]:
        """Get ready what a link of this role is handed; inside, call the value to answer its hello.

        Whatever can fail has failed, with ResourceError, before anybody knows of the link.
        """
        hosts = [number] if role is Role.HOST else [j for j, host in self.hosts.items() if host.linked]
        granted = self.memory.grants(role, hosts)
        ours: list[int] = []

        def answer(to: Attached) -> None:
            body = link.Welcome(
                abi_version=layout.ABI_VERSION,
                vps=self.spec.vps,
                ram_size=self.memory.ram_size,
                epoch=self.memory.epoch,
                link=number,
                vp=vp,
                incarnation=self.vps.seats[vp].incarnation if role is Role.GUEST_WORKER else 0,
                token=to.token,
                received=to.session.received if to.session else 0,
                grace=round(to.grace * 1000) if to.session else 0,
                reserved=0,
                grants=encode_grants(granted),
            )
            to.send(body, fds)

        try:
            fds = [made.fd if writable else self._read_only(made, ours) for made, writable in granted]
            yield answer
        finally:
            for fd in ours:
                os.close(fd)

    def _read_only(self, made: SharedObject, ours: list[int]) -> int:
        fd = self.objects.reopen_read_only(made.what)
        ours.append(fd)
        if made.what is Object.TABLE:
            # The peer's own description carries the lock that says "somebody is attached", until its last
            # descriptor and mapping are gone. Nobody else can hold this byte for writing while we live.
            ofd.hold_for_peer(fd, str(made.path))
        return fd

    def allows(self, uid: int) -> bool:
        """Whether a process of this user may attach."""
        return self.spec.uids is None or uid in (0, os.geteuid(), *self.spec.uids)

    def _keep_link(self, attached: Attached, number: int) -> None:
        peer = attached.peer
        token = attached.tokens[-1] if attached.tokens else b""
        self.keeper.keep(
            inputs.LinkMade(attached.role, number, peer.pid, peer.start_time, peer.uid, peer.gid, token)
        )

    def link_renewed(self, attached: Attached, shown: bytes) -> None:
        """A link came back with the token `shown`, and is about to be told its new one."""
        self.keeper.keep(inputs.LinkRenewed(attached.role, attached.number, shown, attached.token))

    def link_confirmed(self, attached: Attached, received: int) -> None:
        """Its peer has our packets up to this number."""
        self.keeper.keep(inputs.LinkConfirmed(attached.role, attached.number, received))

    def guest_attached(self, control: GuestControl) -> None:
        """A guest begins."""
        self._keep_link(control, 0)
        self.control = control
        self._hears = True
        self.vps.guest_attached()

    def guest_ended(self) -> None:
        """The control link is gone: the guest's connection is unloaded, its workers are to leave."""
        self.control = None
        self.feed(None, inputs.GuestGone())
        if self.dead is None:
            self.vps.guest_gone()

    def guest_output(self, ready: bool) -> None:
        """Whether the guest takes what it is told; while not, nothing of it is heard."""
        self.feed(None, inputs.GuestOutput(ready))

    def worker_attached(self, worker: Worker) -> None:
        """A VP gets its worker."""
        self._keep_link(worker, worker.vp)
        self.workers.add(worker)
        self.vps.admit(worker.vp, worker)

    def worker_unlinked(self, worker: Worker) -> None:
        """Its link is gone, its process lives."""
        if self.dead is None:
            self.keeper.keep(inputs.LinkLost(worker.vp))
            self.vps.unlinked(worker.vp)

    def worker_detached(self, worker: Worker) -> None:
        """It left in order."""
        self.workers.discard(worker)
        if self.dead is None:
            self.vps.detached(worker.vp)
            self.look_for_faults()

    def worker_died(self, worker: Worker) -> None:
        """Its process is known to be gone."""
        self.workers.discard(worker)
        if self.dead is None:
            self.vps.dead(worker.vp)
            self.look_for_faults()

    def free_host_number(self) -> int | None:
        """The lowest number that no host link has, and no host that may still be signalling had."""
        free = (number for number in range(limits.MAX_HOST_LINKS) if number not in self.hosts)
        return next(free, None)

    @contextlib.contextmanager
    def host_objects(self, number: int) -> Iterator[None]:
        """Make page and doorbell of a host link; they go again if the block fails."""
        self.objects.add_host(number)
        try:
            self.faults.host_begins(number)
            yield
        except BaseException:
            self.objects.remove_host(number)
            raise

    def host_attached(self, host: HostLink) -> None:
        """Every guest link learns of the host's page and doorbell before any of its offers is looked at."""
        self._keep_link(host, host.number)
        self.hosts[host.number] = host
        granted = self.objects.host_objects(host.number)
        tail = encode_grants([(made, True) for made in granted])
        for other in (self.control, *self.workers):
            if other is not None and other.linked:
                host.announce(granted, tail, other)

    def host_ended(self, host: HostLink) -> None:
        """The host's link is gone, and its offers with it; what it must acknowledge waits for its death."""
        self.check_objects()  # a host that found its own object truncated leaves before the next look
        self.faults.host_ends(host.number)
        self.feed(None, inputs.HostGone(host.number))
        self.objects.remove_host(host.number)
        self.pages.host_gone(host.number)

    def hand_over_bits(self) -> None:
        """A host's process is gone: what it left undone in the middle of a signal is done for it."""
        if self.dead is None:
            self.vps.sweep_and_ring()

    def host_dead(self, host: HostLink) -> None:
        """Nothing of this host signals any more."""
        self.hand_over_bits()
        self.hosts.pop(host.number, None)
        self.feed(None, inputs.HostDead(host.number))

    # -- watching and ending -------------------------------------------------------------------------------

    def look_for_faults(self) -> None:
        """End the partition if an access to one of its objects has faulted."""
        if self.dead is None and (path := self.memory.faulted()) is not None:
            self.check_objects()
            self.die(f"{path} was truncated")

    def check_objects(self) -> None:
        """Look whether every object is still what was made: truncated is the end, removed is a warning; and
        at the heartbeats."""
        if self.dead is not None:
            return
        for made in list(self.objects.objects.values()):
            if made.truncated():
                self.die(f"{made.path} was truncated")
                return
            if made.path is not None and made.path not in self._nameless and not made.is_named():
                self._nameless.add(made.path)
                text = f"{made.path} was removed or renamed; those who have it go on"
                self.warnings.append(text)
                self.log.warning("object without name", path=made.path)
        self.vps.heartbeats.look(self.vps.seats, self._loop.time())

    def die(self, reason: str) -> None:
        """The shared memory cannot be trusted any more: end every link, touch nothing."""
        if self.dead is not None:
            return
        self.dead = reason
        self.keeper.remove()
        self.log.error("partition is dead", reason=reason)
        self._end_links(Code.PARTITION_DEAD, f"partition {self.name} is dead: {reason}")

    def _end_links(self, code: Code, text: str) -> None:
        self.vps.stop()
        self.closing.stop()
        self.pages.close()
        self.faults.stop()
        self._set_alarm()
        self._inputs.clear()
        for attached in self.links():
            attached.bye(code, text)

    def close(self, code: Code, text: str) -> None:
        """End every link with this reason and remove every object."""
        self.dead = self.dead or text
        self.keeper.remove()
        self._end_links(code, text)
        self._let_go()
        self.objects.remove()

    def leave(self) -> None:
        """Touch nothing more, tell nobody: another daemon goes on."""
        self.dead = "another daemon goes on"
        self.keeper.close()
        self.vps.stop()
        self.closing.stop()
        self.faults.stop()
        self._set_alarm()
        self._let_go()
        self.objects.close()

    def _let_go(self) -> None:
        for attached in (*self.hosts.values(), *self.workers):
            attached.peer.close()
        self.hosts.clear()
        self.workers.clear()
        self.memory.close()
