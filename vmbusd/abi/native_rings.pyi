"""Types of the native core's rings, kept apart for their length: at run time they are in `native` alone."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

from typing_extensions import Buffer

from vmbusd.abi.native import HostSender, Route

class RingView:
    """One ring's header page and data area: any buffer, or mirror-mapped with `mapped`."""

    def __init__(self, buffer: Buffer, offset: int = 0, size: int | None = None, name: str = "ring") -> None:
        """Header page at `offset`, `size` bytes of data behind it, default all: whole pages (case 257)."""
    @staticmethod
    def mapped(fd: int, pfns: Iterable[int], name: str = "ring") -> RingView:
        """Map the pages `pfns` of the guest memory `fd`, header first, with the data area twice in a row.

        Raises UsageError for a page outside, ResourceError for more than 64 runs of pages or a failed mmap.
        """
    @property
    def size(self) -> int:
        """Bytes of the data area."""
    @property
    def mirrored(self) -> bool: ...
    @property
    def extents(self) -> int: ...
    @property
    def dead(self) -> bool: ...
    def format(self) -> None:
        """Zero the header page, set feature bit 0: what a guest does before it opens the channel."""
    def header(self) -> dict[str, int]:
        """write_index, read_index, interrupt_mask, pending_send_sz, feature_bits as they stand, unjudged."""
    def stuck(self) -> tuple[bool, bool]:
        """(reader, writer): which end sleeps on something it could have (cases 073, 296)."""
    def release(self) -> None:
        """Unmap; writers and readers of it raise UsageError from now on. Refused while a lease is out."""

@final
class RingWriter:
    """Writes packets to one ring. Threads may share it; another process may not write at the same time.

    Raises ProtocolError (`reason`: field and value) once the peer broke the ring, ObjectDead when guest
    memory was truncated, UsageError after the view's release.
    `resync` goes on from the indices as they stand: when another process wrote last.
    """

    def __init__(self, view: RingView, announce: bool = False) -> None:
        """`announce`: say that this writer sets pending_send_sz, and that it waits for nothing now."""
    def put(
        self, payload: Buffer, type: int = 6, flags: int = 0, transaction_id: int = 0, extra: Buffer = b""
    ) -> bool | None:
        """Write and publish one packet. True: signal the reader; False: need not; None: no room now.

        `extra` is the type header, a multiple of 8 bytes. Raises UsageError for what never fits (case 266).
        """
    def stage(
        self, payload: Buffer, type: int = 6, flags: int = 0, transaction_id: int = 0, extra: Buffer = b""
    ) -> bool:
        """Put a packet that the reader does not see before `publish` (case 248). False: no room now."""
    def publish(self) -> bool:
        """Let the reader see what was staged. True: it must be signalled."""
    def revert(self) -> None:
        """Forget what was staged and not published."""
    def put_many(
        self,
        payloads: Sequence[Buffer],
        start: int = 0,
        *,
        type: int = 6,
        flags: int = 0,
        transaction_ids: Sequence[int] | None = None,
    ) -> tuple[int, bool, int]:
        """Write payloads[start:] as far as they fit, publish once: (packets, signal, bytes on the ring).

        Raises UsageError for a payload that is no buffer or never fits; then nothing was written.
        """
    def most_payload(self, extra: int = 0) -> int:
        """Bytes of payload that fit the empty ring beside a type header of `extra` bytes."""
    def ask(self, size: int, extra: int = 0) -> bool:
        """Ask for a signal once a payload of `size` fits, and look again (case 288).

        True: wait for the signal, then `withdraw`. False: there is room, and nothing is asked.
        """
    def withdraw(self) -> None:
        """Stop asking for room: after the wake-up, or when giving up."""
    def resync(self) -> None:
        """Go on from the indices as they stand: when another process wrote last."""
    @property
    def room(self) -> int:
        """Free bytes by a fresh read_index; a packet with descriptor and trailer must be smaller."""
    @property
    def reason(self) -> str | None: ...
    def statistics(self) -> dict[str, int]:
        """packets, bytes (on the ring), signals (decided), full (times there was no room)."""

@final
class RingBatch:
    """Packets copied off a ring: one bytes object, and where each lies in it."""

    @property
    def data(self) -> bytes:
        """Descriptors, type headers, payloads and trailers as they stood on the ring."""
    @property
    def spans(self) -> memoryview:
        """Pairs of u32: where the payload of each packet begins and ends in `data`."""
    def __len__(self) -> int: ...
    def __getitem__(self, i: int) -> tuple[int, int, int, bytes, bytes]:
        """As `RingReader.get`."""
    def payload(self, i: int) -> bytes: ...
    def payloads(self) -> list[bytes]: ...

@final
class RingLease:
    """Packets where they lie in the ring, a read-only buffer: only for a writer that is trusted."""

    @property
    def spans(self) -> memoryview: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int) -> memoryview: ...
    released: Callable[[], object] | None
    """Called after the release."""
    def release(self) -> None:
        """Give the room back, see `RingReader.due`. Raises UsageError while a memoryview of it lives."""
    def __enter__(self) -> RingLease: ...
    def __exit__(self, *_: object) -> None: ...

@final
class RingReader:
    """Reads packets off one ring. Threads may share it; another process may not read at the same time.

    Every read commits unless told not to. Errors as of RingWriter. Payloads end in padding.
    `resync` goes on from the indices as they stand: when another process read last.
    """

    due: bool
    """Set by a commit that made the room the writer waits for. Who signals the writer clears it first."""
    type: int
    flags: int
    transaction_id: int
    extra: int
    """These four, read-only: of the last packet of `get_into`; `extra` is the size of its type header."""
    def __init__(self, view: RingView) -> None: ...
    def get(self, commit: bool = True) -> tuple[int, int, int, bytes, bytes] | None:
        """(type, flags, transaction id, payload, type header); None: the ring is empty."""
    def get_into(self, buffer: Buffer, commit: bool = True) -> int:
        """Copy the next payload and, behind it, its type header. Bytes of payload; -1: the ring is empty.

        Raises UsageError naming the size that is needed; then the packet stays (case 267).
        """
    def get_many(self, limit: int = 1024, max_bytes: int = 16384, commit: bool = True) -> RingBatch | None:
        """At most `limit` packets in `max_bytes`, or one that is larger; None: the ring is empty."""
    def get_many_into(self, buffer: Buffer, spans: Buffer, commit: bool = True) -> int:
        """Copy whole packets to `buffer`, a pair of u32 each to `spans`. How many; 0: the ring is empty."""
    def lease_many(self, limit: int = 1024, max_bytes: int = 16384) -> RingLease | None:
        """The same without a copy. No other read until it is released."""
    def commit(self) -> bool:
        """Give back what was read. True: the writer must be signalled (`due` stays as it is)."""
    def revert(self) -> None:
        """Read again what was not committed (case 250)."""
    def mark(self, word: int) -> None:
        """Overwrite the first 8 payload bytes of the first in-band packet that was read and not committed.

        For byte pipes (case 274). Raises UsageError when there is none.
        """
    def mask(self) -> None:
        """Want no signals."""
    def rest(self) -> bool:
        """Commit, want signals, look again (case 287). True: wait. False: there is more, masked again."""
    def resync(self) -> None: ...
    @property
    def peer_frees(self) -> bool:
        """The peer says that it signals room in the opposite ring."""
    @property
    def reason(self) -> str | None: ...
    def statistics(self) -> dict[str, int]:
        """packets, bytes (on the ring) given back, signals (decided)."""

class Requests:
    """Transaction ids of outstanding requests, 1..256: in an event flag's block, or in memory of its own."""

    def __init__(self, blocks: Buffer | None = None, flag: int = 0) -> None:
        """`blocks`: the `-guest` object; then every process of the guest shares the table."""
    unknown: int
    """Completions that named no outstanding request."""
    def begin(self, word: int = 0) -> int | None:
        """An id for a request, with a word of the sender's below 2^63; None when all are outstanding."""
    def word(self, id: int) -> int | None:
        """The word of an outstanding request, which stays outstanding; None for any other id."""
    def end(self, id: int) -> int | None:
        """The word of the request that is over; None, and counted, for an id that is not outstanding."""
    @property
    def outstanding(self) -> int: ...

class Port:
    """The packets of one open channel, from one side. Threads may share it.

    `slow` finishes what a verb cannot: its `send`, `send_many`, `receive_into` wait, read options and raise;
    its `raise_closed` raises what a closed channel raises; its `completed` takes completions of requests with
    a word. With `blocks` other processes write the same ring.
    """

    def __init__(
        self,
        writer: RingWriter,
        reader: RingReader,
        slow: Any,
        *,
        route: Route | None = None,
        host: HostSender | None = None,
        flag: int = 0,
        requests: Requests | None = None,
        blocks: Buffer | None = None,
        owner: int | None = None,
        table: Buffer | None = None,
        generation: int = 0,
    ) -> None:
        """Exactly one of `route` (a host's) and `host` (a guest's) says where signals go; `flag` is the event
        flag; `owner` the VP that this process plays, None for the control process. With `table` nothing is
        written once its slot says that this generation is over: `slow.close(reason)` is called then.
        """
    writer: RingWriter
    reader: RingReader
    requests: Requests | None
    closed: bool
    signalled: int
    def close(self) -> None:
        """From now on every verb is left to `slow`, and nobody is signalled."""
    def signal(self) -> bool:
        """Signal the other side, whatever the rings look like. True for 0 -> 1."""
    def flush(self) -> None:
        """Signal the writer if a read of `reader` made the room that it waits for (`due`)."""
    def send(
        self,
        payload: Buffer,
        *,
        request: bool = False,
        ranges: object = None,
        transaction_id: int | None = None,
        timeout: float | None = 10.0,
        word: int = 0,
    ) -> int | None:
        """Send an in-band packet; the transaction id of a request, else None. The rest goes to `slow`."""
    def send_many(self, payloads: Iterable[Buffer], *, timeout: float | None = 10.0) -> int:
        """Send in-band packets, published as few times as there is room. How many: all of them."""
    def withdraw(self) -> None:
        """Stop asking for room."""
    def put(
        self, payload: Buffer, type: int = 6, flags: int = 0, transaction_id: int = 0, extra: Buffer = b""
    ) -> bool:
        """Write one packet of any type, signal if need be. False when there is no room or no lock now."""
    def put_many(
        self,
        payloads: Sequence[Buffer],
        start: int = 0,
        *,
        type: int = 6,
        flags: int = 0,
        transaction_ids: Sequence[int] | None = None,
    ) -> int:
        """Write payloads[start:] as far as they fit, publish once, signal at most once. How many."""
    def ask(self, size: int, extra: int = 0) -> bool:
        """As RingWriter.ask; False also when another process writes now."""
    def receive_into(self, buffer: Buffer, *, timeout: float | None = None) -> int:
        """Copy the next payload, its type header behind it. Bytes of payload, -1 after `timeout` seconds.

        Completions that nobody asked for are dropped and counted.
        """
    def try_into(self, buffer: Buffer) -> int:
        """As `receive_into`, but -1 at once when nothing is there."""
    def get(self) -> tuple[int, int, int, bytes, bytes] | None:
        """(type, flags, transaction id, payload, type header) of the next packet; None: nothing is there."""
    def get_many(self, limit: int, max_bytes: int) -> RingBatch | None:
        """As RingReader.get_many, not committed."""
    def lease_many(self, limit: int, max_bytes: int) -> RingLease | None:
        """As RingReader.lease_many; its release signals."""
    def mask(self) -> None:
        """Want no signals."""
    @property
    def peer_frees(self) -> bool:
        """The peer says that it signals room."""
    def get_many_into(self, buffer: Buffer, spans: Buffer) -> int:
        """As RingReader.get_many_into, and signals."""
    def resume(self) -> None:
        """With `blocks`: go on reading where the last process of this side ended. Needs the claim."""
    def commit(self) -> None:
        """Give back what was read without commit; signal the writer if it waits for that room."""
    def rest(self) -> bool:
        """As RingReader.rest, and signals."""
