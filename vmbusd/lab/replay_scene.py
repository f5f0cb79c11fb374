"""The scene of a replay: daemon, host, guest and two VPs at rest, and the steps that any of them can do.

Everything is the running code. The daemon is a process of its own; host link, guest link and workers are
attached to it, each through its own mappings; packets go through the channel's ring, and the ring's rule
decides whether the host signals. Held are only the guest's MODIFYCHANNEL, in a gate on its way to the
daemon, and the VPs, at the steps of a pass over their pages. All but the daemon are threads of this process,
but what one step leaves for another lies in shared memory alone.

A host looks once, 0.1 s after an open, for a guest that sleeps on packets (case 073). The device leaves it
one to find, and nothing is replayed before it has: so this look cannot help a channel later.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from guest_client import Channel
from guest_client.calls import Call, finished
from guest_client.connection import Connection
from host_client import Channel as HostChannel
from host_client import Host
from vmbusd.abi import layout, link
from vmbusd.abi.attach import attach, attach_socket
from vmbusd.abi.link import Object, Role
from vmbusd.abi.native import Registry, RingView
from vmbusd.lab import percpu
from vmbusd.lab.actors import Offered, PacketDevice, PacketDriver, Vp
from vmbusd.lab.gate import Gate
from vmbusd.lab.schedule import PATIENCE, ReplayError, wait_until

PARTITION: Final = "replay"
VPS: Final = 2
A: Final = 0
B: Final = 1


class State(msgspec.Struct, frozen=True):
    """What the shared words say: the channel's bit on either page, which VP's list has it, the record's
    target, whether the global table has it, bytes in the ring to the guest; and, since the reset, callbacks
    begun, packets written and read, signals that the ring's rule asked for."""

    flags: tuple[int, int]
    lists: tuple[bool, bool]
    target: int
    in_table: bool
    ring_bytes: int
    callbacks: int
    sent: int
    received: int
    signals: int


def answer(call: Call, what: str) -> None:
    """Wait for the daemon's answer. Raises ReplayError without one, or what the answer is."""
    try:
        call.result(PATIENCE)
    except TimeoutError:
        raise ReplayError(f"{what} was not answered within {PATIENCE:g} s") from None


class Scene:
    """Channel R is open and everybody at rest; `reset` comes first. Its other methods are steps of a replay.

    Attributes: `vps`, A and B; `interrupted`, the VP that the last packet was to be announced on.
    """

    def __init__(
        self, sender: HostChannel, channel: Channel, connection: Connection, gate: Gate, vps: list[Vp]
    ) -> None:
        self.vps = vps
        self.interrupted = A
        self._sender = sender
        self._channel = channel
        self._connection = connection
        self._gate = gate
        memory, pages = connection.attached[Object.RAM], channel.ring_pages[channel.downstream_page :]
        self._ring = RingView(memory, pages[0] * layout.PAGE, (len(pages) - 1) * layout.PAGE)
        # No page of them is anybody else's: a guest hands out the lowest, and here two rings.
        self._lists = percpu.Lists(memoryview(memory)[-percpu.SIZE :])
        self._lists.init(percpu.GLOBAL)
        self._moving: Call = finished()
        self._before = (0, 0, 0, 0)

    # -- steps -----------------------------------------------------------------------------------------------

    def post(self) -> None:
        """Guest: post MODIFYCHANNEL(R, B). The daemon does not see it yet."""
        self._gate.shut()
        self._moving = self._connection.begin_retarget(self._channel, B)
        self._gate.wait_held()

    def process(self) -> None:
        """Host: process MODIFYCHANNEL and answer it."""
        self._gate.open()
        answer(self._moving, "the move of R")

    def unlink(self) -> None:
        """Guest, on A: take R off A's list."""
        self.vps[A].unlink()

    def link(self) -> None:
        """Guest, on B: put R on B's list."""
        self.vps[B].link()

    def write(self, packets: int = 1) -> None:
        """Host: write packets, and signal the target whenever the ring's rule says so."""
        self.interrupted = self._channel.target_vp
        for _ in range(packets):
            self._sender.send(b"a packet")

    def clear(self) -> None:
        """The VP that was interrupted: test and clear the bit."""
        self.vps[self.interrupted].clear()

    def look(self) -> None:
        """The VP that was interrupted: look the channel up, call it if it is found, go back to sleep."""
        self.vps[self.interrupted].rest()

    def reset(self, *, per_cpu: bool) -> None:
        """Everybody at rest again, the ring empty, target A, R on A's list; what is counted begins at 0.

        Channels are looked up in the VPs' lists from now on if `per_cpu`, else in the global table. What an
        order before has left in the ring is read by the callback of one more signal, in the new design.
        """
        self._gate.open()
        if self._channel.target_vp != A:
            answer(self._connection.begin_retarget(self._channel, A), "the move of R back to A")
        self._rest()
        self._lists.init(percpu.GLOBAL)
        self._sender.signal()
        self._rest()
        if per_cpu:
            self._lists.begin(percpu.PER_CPU)
            self.vps[A].link()
        self.interrupted = A
        self._before = self._counts()

    def _rest(self) -> None:
        for vp in self.vps:
            vp.rest()

    # -- what the shared words say ---------------------------------------------------------------------------

    def state(self) -> State:
        """What they say now. Exact, for nobody moves."""
        header = self._ring.header()
        vp_a, vp_b = self.vps
        counts = (now - then for now, then in zip(self._counts(), self._before, strict=True))
        return State(
            (vp_a.flag, vp_b.flag),
            (vp_a.lists_it, vp_b.lists_it),
            self._channel.target_vp,
            self._channel.is_open,
            (header["write_index"] - header["read_index"]) % self._ring.size,
            *counts,
        )

    def _counts(self) -> tuple[int, int, int, int]:
        driver, rings = self._channel.driver, self._sender.rings().statistics()
        assert isinstance(driver, PacketDriver)
        return self._channel.interrupts, rings["sent_packets"], driver.received, rings["sent_signals"]

    def leave(self) -> None:
        """Let everybody go, and let go of shared memory. The scene is not to be used afterwards."""
        self._gate.open()
        self._ring.release()
        del self._ring, self._lists


@contextmanager
def scene(runtime_dir: Path) -> Iterator[Scene]:
    """A scene on the daemon of `runtime_dir`, which has the partition PARTITION. Gone when it is left.

    Raises ReplayError, or what attaching and opening raise.
    """
    device, driver, offered = PacketDevice(), PacketDriver(), Offered()
    with ExitStack() as stack:
        host = stack.enter_context(Host.connect(PARTITION, runtime_dir=runtime_dir))
        stack.enter_context(host.serving())
        host.offer(device)
        gate = stack.enter_context(Gate(runtime_dir))
        connection = stack.enter_context(_guest(gate, driver, offered))
        channel = offered.wait()
        answer(channel.begin_open(A), "the open")
        sender = device.channel
        if sender is None:
            raise ReplayError("the channel was closed while the scene was set")
        wait_until(lambda: host.statistics()["unstuck"] > 0, "the host looks at the ring after the open")
        vps = [
            stack.enter_context(_vp(runtime_dir, number, connection.registry, channel.relid))
            for number in (A, B)
        ]
        made = Scene(sender, channel, connection, gate, vps)
        try:
            for vp in vps:
                vp.start()
            yield made
        finally:
            made.leave()


@contextmanager
def _guest(gate: Gate, driver: PacketDriver, offered: Offered) -> Iterator[Connection]:
    """The guest's control link behind the gate, with offers asked for; unloads at the end."""
    attached = attach_socket(gate.guest, Role.GUEST_CONTROL, PARTITION, resumable=True)
    connection = Connection(attached, offered, {driver.interface: driver})
    try:
        answer(connection.contact(), "the contact")
        connection.request_offers(VPS)
        yield connection
        answer(connection.unload(), "the unload")
    finally:
        connection.close()


@contextmanager
def _vp(runtime_dir: Path, number: int, registry: Registry, relid: int) -> Iterator[Vp]:
    """The worker of one VP, not started; leaves in order."""
    with attach(Role.GUEST_WORKER, PARTITION, runtime_dir=runtime_dir, vp=number) as attached:
        vp = Vp(attached, registry, relid)
        try:
            yield vp
        finally:
            vp.stop()
            attached.send(link.encode(link.Detached(number)))
