"""Types of the native core; the code is native.pyx over the vmbus_*.h headers."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from typing_extensions import Buffer

from vmbusd.abi.native_rings import Port as Port
from vmbusd.abi.native_rings import Requests as Requests
from vmbusd.abi.native_rings import RingBatch as RingBatch
from vmbusd.abi.native_rings import RingLease as RingLease
from vmbusd.abi.native_rings import RingReader as RingReader
from vmbusd.abi.native_rings import RingView as RingView
from vmbusd.abi.native_rings import RingWriter as RingWriter

MUTANTS: Final[tuple[str, ...]]
"""Seeded mistakes this build contains; empty in every shipped build."""

def faults() -> int:
    """Accesses of this process that faulted inside any guarded mapping so far: a look before many looks."""

class Guard:
    """Keeps a shared mapping safe from truncation: a fault inside it maps zero pages and marks it dead.

    One SIGBUS handler serves all guards and chains to the handler that was there before.
    """

    def __init__(self, buffer: Buffer, name: str) -> None:
        """Enable `faulthandler` first: a handler installed later sees our faults before we do."""
    @property
    def name(self) -> str: ...
    @property
    def dead(self) -> bool: ...
    def check(self) -> None:
        """Raises ObjectDead, naming the object, once a fault hit the mapping."""
    def release(self) -> None: ...

class Words:
    """Atomic 64-bit words on any aligned buffer: rmw seq_cst, loads acquire, stores release."""

    def __init__(self, buffer: Buffer, offset: int = 0, count: int | None = None) -> None: ...
    def __len__(self) -> int: ...
    def load(self, index: int) -> int: ...
    def store(self, index: int, value: int) -> None: ...
    def add(self, index: int, value: int) -> int: ...
    def or_(self, index: int, value: int) -> int: ...
    def and_(self, index: int, value: int) -> int: ...
    def exchange(self, index: int, value: int) -> int: ...
    def compare_exchange(self, index: int, expected: int, value: int) -> bool: ...

class EventFlags:
    """The 2048 flags of SINT 2 in an interrupt page (or any 4096-byte page of SIEFP layout)."""

    def __init__(self, buffer: Buffer, offset: int = 0) -> None:
        """`offset` is the page's byte offset in the buffer. The buffer must be writable."""
    def set(self, flag: int) -> bool:
        """True when the flag went from 0 to 1. Raises UsageError outside 0..2047."""
    def set_many(self, flags: Iterable[int]) -> int: ...
    def is_set(self, flag: int) -> bool: ...
    def any(self) -> bool: ...
    def pending(self) -> list[int]:
        """The set flags, ascending, left as they are."""
    def take(self) -> list[int]:
        """All pending flags but 0, ascending, each once, and cleared.

        Only for pages without claims and journal.
        """

class Doorbell:
    """Wake without which: a semaphore in a mapping or an eventfd. `wait` releases the GIL."""

    @staticmethod
    def semaphore(buffer: Buffer) -> Doorbell: ...
    @staticmethod
    def eventfd(fd: int) -> Doorbell:
        """Borrows the descriptor, which must be non-blocking."""
    @property
    def kind(self) -> str: ...
    def fileno(self) -> int:
        """The eventfd's descriptor. Raises UsageError for a semaphore."""
    def ring(self) -> None: ...
    def wait(self, timeout: float) -> bool:
        """False after `timeout` seconds of CLOCK_MONOTONIC. A Python signal handler may raise through it."""
    def drain(self) -> int: ...

class Table:
    """The channel table, read: slots, records, owners."""

    def __init__(self, buffer: Buffer) -> None: ...
    def slot(self, flag: int) -> int: ...
    def slots(self) -> list[tuple[int, int]]:
        """(flag, slot) of every non-empty slot."""
    def target(self, relid: int) -> int: ...
    def record(self, relid: int) -> dict[str, Any]:
        """The fields of struct vmb_record by name; GUIDs as 16 bytes."""
    def owner(self, vp: int) -> tuple[int, int, int, int]:
        """(pid, state, start time, incarnation)."""
    def header(self) -> dict[str, Any]: ...
    def fault(self, index: int) -> bytes:
        """The 64 bytes of fault rule `index`, as they stand: see `faults.decode`."""

class TableWriter(Table):
    """The daemon's side. Raises UsageError for a buffer that is mapped read-only, never faults."""

    def format(self, *, vps: int, epoch: int, ram_size: int, partition: str) -> None: ...
    def fill(
        self,
        flag: int,
        relid: int,
        *,
        host_link: int,
        connection_id: int,
        monitor_id: int,
        flags: int,
        interface_id: bytes,
        instance_id: bytes,
        subchannel_index: int,
    ) -> None:
        """Record, then slot with open = 0. Target is set to 'never interrupt'."""
    def open(self, flag: int, relid: int, generation: int) -> None: ...
    def close(self, flag: int) -> None: ...
    def empty(self, flag: int, relid: int) -> None: ...
    def set_target(self, relid: int, vp: int) -> None:
        """Point a channel at a VP, through the guest's interrupt page while one is in use."""
    def set_pages(self, interrupt: int, monitor: int) -> None:
        """The guest's pages in use from now on, as guest physical addresses; 0: none."""
    def set_state(self, relid: int, state: int) -> None: ...
    def set_owner(self, vp: int, pid: int, state: int, start_time: int, incarnation: int) -> None: ...
    def set_fault(self, index: int, rule: bytes | None) -> None:
        """Write fault rule 0..15, as `faults.encode` makes it; None switches it off. Takes effect at once if
        faults are armed; no process ever sees half a rule."""
    def set_fault_armed(self, armed: bool) -> None:
        """Have every process look at the rules from now on, or none."""
    def targets(self, vp: int) -> list[int]:
        """Relids of the non-empty slots whose record targets `vp`."""

class FaultCounts:
    """Faults injected by each rule, as one VP, one host or one host's guests counted them."""

    def __init__(self, buffer: Buffer, offset: int = 0, *, writable: bool = False) -> None:
        """In `-vpwork`: VPWORK_SIZE * vp + VPWORK_FIRED_OFFSET. In a host page: HOST_FIRED_OFFSET and
        HOST_FIRED_IN_GUEST_OFFSET."""
    def fired(self) -> list[int]:
        """One number for each of the 16 rules."""
    def begin(self, index: int, count: int = 0) -> int:
        """The daemon, while the rule is off or before anybody has the page: have it begin at `count`, 32
        bits. Returns what it was."""

class Blocks:
    """The `-guest` object: claims, ring location, driver state."""

    def __init__(self, buffer: Buffer) -> None: ...
    def claim(self, flag: int) -> int: ...
    def is_free(self, flag: int) -> bool:
        """Step 3 of close: RUN is not in the claim (seq_cst load)."""
    def is_locked(self, flag: int) -> bool:
        """Whether some process of the guest is writing the outgoing ring (seq_cst load)."""
    def clear(self, flag: int) -> None:
        """Zero what a completed close leaves behind; claim and ring location stay."""
    def ring(self, flag: int) -> tuple[int, int, int, int]:
        """(first page number, pages, downstream page, GPADL handle)."""
    def set_ring(self, flag: int, pfn: int, pages: int, downstream: int, gpadl: int) -> None:
        """Of a fresh ring: our indices in it are 0, and the state has no home."""
    def home(self, flag: int) -> int | None:
        """The VP whose process keeps the channel's state, None if no process does."""
    def set_home(self, flag: int, vp: int) -> None:
        """For the owner of the claim: the process of this VP keeps the channel's state from now on."""
    def interrupts(self, flag: int) -> int: ...
    def state(self, flag: int) -> memoryview:
        """The 256 bytes of driver state."""

class VpWork:
    """The `-vpwork` object, read."""

    def __init__(self, buffer: Buffer, vps: int) -> None: ...
    def statistics(self, vp: int) -> dict[str, int]:
        """The counters of struct vmb_vpwork by name, and `idle`."""
    def is_idle(self, vp: int) -> bool: ...

class Route:
    """Where a channel's signals go; subclass it for a channel object. Not live: signalling does nothing."""

    flag: int
    relid: int
    live: bool
    def bind(self, sender: Sender, relid: int, flag: int) -> None:
        """Set relid and event flag.

        Raises UsageError when the guest has a legacy interrupt page and the sender no guest memory.
        """
    def signal(self) -> bool:
        """Set the bit on the current target VP and ring if it sleeps. True for 0 -> 1.

        Holds the GIL for its whole duration: whoever holds the GIL knows that no signal call is running.
        """

class Sender:
    """What one host process (or thread, on an interpreter without a GIL) knows of the VPs it signals."""

    def __init__(
        self,
        table: Buffer,
        events: Buffer,
        vpwork: Buffer,
        doorbells: Sequence[Doorbell],
        ram: Buffer | None = None,
        page: Buffer | None = None,
    ) -> None:
        """`table` and `vpwork` may be read-only; `events` must be writable. One doorbell per VP. `ram`, guest
        memory, writable: needed for guests of 0.13 and 1.1 that named a legacy interrupt page. `page`: this
        host's own, where injected faults are counted."""
    def signal_many(self, routes: Sequence[Route]) -> int:
        """Signal every live route in one native call. Returns how many bits went from 0 to 1."""
    def statistics(self) -> dict[str, int]:
        """signals transitions posts moved (targets that changed under a signal) faults (injected)."""

class HostSender:
    """Guest to host: the flags and doorbell of one host link's page."""

    def __init__(self, page: Buffer, doorbell: Doorbell, table: Buffer | None = None) -> None:
        """Faults are injected by the rules of `table`, which may be read-only; None: none are."""
    def signal(self, flag: int) -> bool: ...
    def statistics(self) -> dict[str, int]: ...

class HostWaiter:
    """The host's end of its own page: sleep rule and take. One thread waits at a time."""

    storms: int
    """Times a doorbell rung for nothing was drained."""
    rescued: int
    """Flags found when a wait ended with nobody ringing: their doorbells were lost, or a moment late."""
    faults_injected: int

    def __init__(self, page: Buffer, doorbell: Doorbell, table: Buffer | None = None) -> None:
        """Faults are injected by the rules of `table`, which may be read-only; None: none are."""
    def wait(self, timeout: float) -> list[int]:
        """Flags taken, ascending; empty after `timeout` seconds. Releases the GIL while waiting."""

class InterruptPage:
    """The legacy interrupt page of 0.13 and 1.1: bits 1..2047 of either half are relids."""

    def __init__(self, buffer: Buffer, offset: int = 0) -> None: ...
    def signal_host(self, relid: int) -> bool:
        """Guest: set the channel's bit for the host. True for 0 -> 1. The host looks when it is told to."""
    def take_for_guest(self) -> list[int]:
        """Guest, once event flag 0 was set and taken: the relids that the host signalled, ascending."""
    def deliver(self, table: Table, hosts: dict[int, HostSender]) -> tuple[list[int], int]:
        """Host: take the guest's bits and signal the hosts of the open channels they mean, by link number.

        Returns (relids whose host is not in `hosts`, how many bits meant no open channel).
        """

class MonitorTrigger:
    """The child-to-parent monitor page in use, wherever in guest memory it is, as the guest uses it."""

    def __init__(self, table: Buffer, ram: Buffer) -> None:
        """`table` may be read-only, `ram` must be writable."""
    def trigger(self, monitor_id: int) -> bool | None:
        """Ask for a signal of this monitor id: True for 0 -> 1, None when no page is in use."""

class MonitorScanner:
    """Turns the trigger bits of a monitor page into signals of host links, a scan at a time."""

    scans: int
    signals: int

    def __init__(self, buffer: Buffer, latency: int) -> None:
        """`latency` in units of 100 ns: for ids of which the page says none."""
    def arm(self, monitor_id: int, host: HostSender, flag: int) -> None:
        """The bit of this id signals `flag` of `host` from now on."""
    def disarm(self, monitor_id: int) -> None:
        """The bit means nobody any more."""
    def scan(self) -> int:
        """Take the bits that are set and signal those that are armed. Returns how many those were."""
    def latency(self) -> int:
        """The shortest latency asked for the ids that are armed, in units of 100 ns; 0 when none is."""

class Ticker:
    """A timerfd: readable once per period. Raises ResourceError when there is none to be had."""

    def fileno(self) -> int: ...
    def every(self, nanoseconds: int) -> None:
        """Tick with this period from now on; 0: not at all."""
    def take(self) -> int:
        """Ticks since the last take; 0 when there was none."""
    def close(self) -> None:
        """Close the descriptor. May be called again."""

class Registry:
    """(flag, generation) -> callable: what the workers of one process call. Shared by its threads."""

    def __init__(
        self, missing: Callable[[int, int], None], failed: Callable[[int, BaseException], None]
    ) -> None:
        """`missing(flag, generation)` runs, under the claim, when nothing is bound for a slot's generation:
        it binds something and calls it. `failed(flag, error)` hears of a callback that raised an Exception.
        """
    def bind(self, flag: int, generation: int, call: Callable[[Any], object], argument: Any) -> None: ...
    def unbind(self, flag: int, generation: int) -> None: ...

class Worker:
    """Plays one VP: drain, dispatch, sleep."""

    def __init__(
        self,
        vp: int,
        *,
        table: Buffer,
        events: Buffer,
        vpwork: Buffer,
        blocks: Buffer,
        doorbell: Doorbell,
        registry: Registry,
        relook: bool = False,
        spin: float = 0.0,
        guards: Sequence[Guard] = (),
    ) -> None:
        """`spin`: seconds to look at the page before sleeping; switches itself off while it does not pay."""
    def dispatch(self) -> int:
        """One drain of the page: calls what is bound. Returns the number of bits seen.

        Raises UsageError from a callback or while another thread dispatches or runs this worker; or as `run`.
        """
    def run(self) -> None:
        """Serve until `stop` and until a drain found nothing, or a few passes later.

        Waits without the GIL, in slices of at most 1 s. Raises ObjectDead when a guard died, and what a
        callback or signal handler raised that is no Exception (KeyboardInterrupt, SystemExit).
        """
    def nap(self, flag: int, seconds: float) -> bool:
        """In a callback of `flag` only: wait for its next signal without the GIL, at most `seconds`.

        True when it came; then it is taken off the page, and `again` must follow before the callback ends.
        Flag 0: wait for any doorbell. Flags of other channels stay where they are. Raises UsageError.
        """
    def again(self, flag: int) -> None:
        """In a callback only: have `flag` served once more before this worker sleeps."""
    leaving: bool
    """Whether `stop` was called since `run` began."""
    def stop(self) -> None:
        """Ask `run` to return; callable from any thread and from callbacks."""
    def statistics(self) -> dict[str, int]: ...

class PassWorker(Worker):
    """A Worker until `use` is called; then its passes over the page are another extension's."""

    def use(self, passes: object) -> None:
        """`passes`: a capsule of struct vmb_pass. Raises UsageError for none, and while this worker runs."""

def recover(vp: int, *, table: Buffer, events: Buffer, vpwork: Buffer, blocks: Buffer) -> tuple[int, int]:
    """(claims freed, bits put back) of a VP whose process is known to be dead."""

def sweep(vp: int, live: int, *, events: Buffer, doorbell: Doorbell) -> int:
    """Hand the bits of a VP without worker to VP `live` and ring it. Returns the bits moved."""

def pending_count(events: Buffer, vp: int) -> int:
    """Bits set on a VP's page, flag 0 left out."""

def exit_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when the thread that started it ends."""

SEND_BURST: int
TAKE_BURST: int

def send_packets(fd: int, packets: list[bytes]) -> int:
    """Hand the first SEND_BURST packets to the kernel, in order; returns how many it took.

    Never waits: 0 means that there is no room now. Raises OSError when the first can never be sent: the
    peer is gone.
    """

class Inbox:
    """Room for the packets that one call takes from a socket; links that allow the same size share one."""

    max_packet: int
    descriptors_refused: int
    def __init__(self, max_packet: int) -> None: ...
    def take(self, fd: int) -> list[bytes | None]:
        """At most TAKE_BURST packets in order, [] when there is none now. Never waits.

        b"" is the end of the link and always the last, None a packet that was too long.
        `descriptors_refused`: how many of them came with descriptors, which are closed. Raises OSError when
        the peer is gone.
        """
