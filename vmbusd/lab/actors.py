"""Who acts in a replay: the device that sends, the driver that reads, and VPs that move when they are told.

A VP is a real worker in a thread: the shipped loop, sleep and doorbell, and passes over its page that stop at
named steps. A list is changed while the VP that owns it serves no interrupt: it is asleep, or held before it
has taken one. So does a call to another CPU, which comes before a VMBus interrupt that is pending there.
"""

import threading
from typing import Final
from uuid import UUID

from guest_client import Channel, Driver
from guest_client.calls import Listener
from guest_client.feed import HERE
from host_client import Channel as HostChannel
from host_client import Device
from vmbusd.abi import layout
from vmbusd.abi.attach import Attached
from vmbusd.abi.errors import VmbusError
from vmbusd.abi.link import Object, VpChanged
from vmbusd.abi.native import EventFlags, PassWorker, Registry, VpWork
from vmbusd.abi.packets import Packet
from vmbusd.lab import percpu
from vmbusd.lab.schedule import PATIENCE, Hold, ReplayError, wait_until
from vmbusd.lab.stepped import SteppedPasses

INTERFACE: Final = UUID("5c8f1b52-9e0d-4a0b-8f55-7a2c8d1f6b31")
NAMES: Final = "AB"
_NOTHING_TAKEN: Final = (None, "pass.design", "drain.look", "serve.look")
"""Where a VP can be that is not serving an interrupt; a doorbell may be rung for nothing at any time."""


class PacketDevice(Device):
    """Sends one packet at once, others when the scene says so. Attributes: `channel`, None while closed."""

    interface = INTERFACE

    def __init__(self) -> None:
        self.channel: HostChannel | None = None

    def on_open(self, channel: HostChannel) -> None:
        """Remember where to send, and leave a packet for the host's first look at the ring."""
        channel.send(b"a packet that nobody reads yet")
        self.channel = channel

    def on_close(self, channel: HostChannel) -> None:  # noqa: ARG002
        """Nowhere any more."""
        self.channel = None


class PacketDriver(Driver):
    """Counts the packets that its callbacks get. Attributes: `received`."""

    interface = INTERFACE
    # A callback reads all there is, however slow the machine: then the number of callbacks is exact.
    budget_seconds = PATIENCE

    def __init__(self, config: str = "") -> None:
        super().__init__(config)
        self.received = 0

    def on_packets(self, channel: Channel, packets: list[Packet]) -> None:  # noqa: ARG002
        """Part of one callback."""
        self.received += len(packets)


class Offered(Listener):
    """Who hears of the guest's one channel."""

    def __init__(self) -> None:
        self._channel: Channel | None = None
        self._delivered = threading.Event()

    def wait(self) -> Channel:
        """The channel, once the list of offers is complete. Raises ReplayError."""
        if not self._delivered.wait(PATIENCE) or self._channel is None:
            raise ReplayError("the guest was not offered the channel")
        return self._channel

    def offered(self, channel: Channel, *, answers: bool) -> None:  # noqa: ARG002
        self._channel = channel

    def offers_delivered(self) -> None:
        self._delivered.set()

    def gone(self, channel: Channel, *, released: bool) -> None:
        """Nothing of it is kept beyond the scene."""

    def resumed(self, channel: Channel, *, was_open: bool) -> None:
        """Nobody suspends this guest."""

    def vp_changed(self, changed: VpChanged) -> None:
        """Nobody takes its VPs away."""

    def ended(self, reason: VmbusError) -> None:  # noqa: ARG002
        self._delivered.set()


class Vp:
    """One VP over its worker's link `attached`: asleep, or held, or doing what it was told."""

    def __init__(self, attached: Attached, registry: Registry, relid: int) -> None:
        self.number = attached.welcome.vp
        self.name = f"VP {NAMES[self.number]}"
        self._relid = relid
        self._hold = Hold(self.name)
        self._flags = EventFlags(attached[Object.EVENTS], self.number * layout.EVENT_PAGE_SIZE)
        self._work = VpWork(attached[Object.VPWORK], attached.welcome.vps)
        memory = memoryview(attached[Object.RAM])[-percpu.SIZE :]
        self._lists = percpu.Lists(memory)
        self._passes = SteppedPasses(memory, self._hold.at_step)
        self._worker = PassWorker(
            self.number,
            table=attached[Object.TABLE],
            events=attached[Object.EVENTS],
            vpwork=attached[Object.VPWORK],
            blocks=attached[Object.GUEST],
            doorbell=attached.vp_doorbells[self.number],
            registry=registry,
            guards=attached.guards,
        )
        self._worker.use(self._passes.passes())
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    # -- as its scheduler has it -----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to serve; nothing is held before the first `rest` has returned."""
        self._thread.start()

    def stop(self) -> None:
        """Serve what is left, end, and let go of the mappings. Raises what ended the worker before."""
        self._hold.release()
        if self._thread.ident is not None:
            self._worker.stop()
            self._thread.join(PATIENCE)
        del self._worker, self._passes, self._lists, self._flags, self._work
        if self._error is not None:
            raise self._error

    def clear(self) -> None:
        """Take the interrupt, test and clear the bit, and stop before anything is looked up."""
        self._hold.until_past("drain.clear")

    def rest(self) -> None:
        """Go on until nothing is pending and the VP sleeps; from then on it is held at its next step."""
        self._hold.release()
        wait_until(self._is_at_rest, f"{self.name} comes to rest")
        self._hold.hold()

    def link(self) -> None:
        """L2: put the channel on this VP's list."""
        self._outside_interrupts("link")
        if not self._lists.link(self.number, self._relid):
            raise ReplayError(f"relid {self._relid} is on a list already")

    def unlink(self) -> None:
        """L1: take the channel off this VP's list."""
        self._outside_interrupts("unlink")
        if not self._lists.unlink(self.number, self._relid):
            raise ReplayError(f"relid {self._relid} is not on the list of {self.name}")

    # -- what the shared words say ---------------------------------------------------------------------------

    @property
    def flag(self) -> int:
        """The channel's bit on this VP's page."""
        return int(self._flags.is_set(self._relid))

    @property
    def lists_it(self) -> bool:
        """Whether a walk over this VP's list finds the channel."""
        return self._lists.find(self.number, self._relid)

    # -- small change ----------------------------------------------------------------------------------------

    def _outside_interrupts(self, what: str) -> None:
        if self._hold.at not in _NOTHING_TAKEN:
            raise ReplayError(f"{self.name} is serving an interrupt and cannot {what}")

    def _is_at_rest(self) -> bool:
        if not self._thread.is_alive():
            raise ReplayError(f"{self.name}: its worker ended: {self._error}")
        return self._work.is_idle(self.number) and not self._flags.any()

    def _run(self) -> None:
        HERE.vp, HERE.worker = self.number, self._worker
        try:
            self._worker.run()
        except BaseException as error:  # noqa: BLE001
            self._error = error
        finally:
            HERE.worker = None
