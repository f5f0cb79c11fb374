"""GPADLs of a partition: assembly, the device's answers, teardown, and the caps that keep all of it small.

The key of a GPADL is (handle, channel); only an unfinished handle must be unique on the connection, because a
body names no channel (cases 092, 093). GPADL_TORNDOWN promises that nobody touches the memory any more, so it
waits for the device and, for the rings of an open, until that open is completed; after a host link ended also
until its process is known dead. Sources: OpenVMM channels.rs, docs/signal-protocol.md section 6.
"""

import enum
from itertools import chain
from typing import Final

import msgspec

from vmbusd.abi import device_link, messages
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.gpadl import Assembly, Range, check_ring, decode_ranges, whole_buffer
from vmbusd.bus.channels import GUEST_KNOWS, WITHDRAWN, Channel
from vmbusd.bus.outbox import Outbox
from vmbusd.bus.refusal import Kind, Refusal

MAX_GPADLS: Final = 16384
"""GPADLs of a partition, eight for each channel."""
MAX_TOTAL_PAGES: Final = 1 << 22
"""Pages named by all GPADLs together: 16 GiB, or 32 MiB of page numbers in the hosts that map them."""


class GpadlState(enum.Enum):
    """How far a GPADL is."""

    IN_PROGRESS = enum.auto()  # bodies are missing
    OFFERED = enum.auto()  # the device was asked
    OFFERED_TEARING_DOWN = enum.auto()  # the same, and the guest is done with the channel
    ACCEPTED = enum.auto()
    TEARING_DOWN = enum.auto()  # the device lets go
    HELD = enum.auto()  # the device has let go, but the memory may still be touched


class Gpadl(msgspec.Struct, eq=False, gc=False):
    """One GPADL of one channel. `pages` counts towards the cap, `ring` is what an open will look at."""

    handle: int
    state: GpadlState
    pages: int = 0
    ring: Range | None = None


class Gpadls:
    """All GPADLs of a partition.

    Args: `outbox`, where effects go; `ram_pages`, pages of guest memory: no higher page number is accepted;
    `max_unfinished`, how many may lack bodies (case 310). Attributes: `at_limit`, how often one was refused
    because there are too many, of them or of their pages.
    """

    def __init__(self, outbox: Outbox, ram_pages: int, max_unfinished: int) -> None:
        self._outbox = outbox
        self._max_unfinished = max_unfinished
        self._ram_pages = ram_pages
        self._unfinished: dict[int, tuple[Channel, Gpadl, Assembly]] = {}
        self._count = 0
        self._pages = 0
        self.at_limit = 0

    @property
    def count(self) -> int:
        """GPADLs that exist."""
        return self._count

    @property
    def unfinished(self) -> int:
        """GPADLs whose bodies are missing."""
        return len(self._unfinished)

    @property
    def pages(self) -> int:
        """Pages that all complete GPADLs name."""
        return self._pages

    def assembly(self, gpadl: Gpadl) -> Assembly | None:
        """The bytes so far of an unfinished GPADL, None of any other."""
        return self._unfinished[gpadl.handle][2] if gpadl.state is GpadlState.IN_PROGRESS else None

    def reinstate(self, channel: Channel, gpadl: Gpadl, assembly: Assembly | None) -> None:
        """A GPADL of a saved bus; unfinished if it has an assembly."""
        channel.gpadls[gpadl.handle] = gpadl
        self._count += 1
        self._pages += gpadl.pages
        if assembly is not None:
            self._unfinished[gpadl.handle] = channel, gpadl, assembly

    def header(self, channel: Channel | None, message: messages.GpadlHeader) -> None:
        """The guest begins a GPADL on `channel` (None: it knows no such relid)."""
        handle = message.gpadl
        buffer = whole_buffer(message)
        if (
            channel is None
            or channel.reserved is not None
            or handle in channel.gpadls
            or (buffer is None and handle in self._unfinished)
            or self._is_full(buffer is None)
        ):
            self._created(message.child_relid, handle, messages.UNSUCCESSFUL)
            return
        gpadl = channel.gpadls[handle] = Gpadl(handle, GpadlState.IN_PROGRESS)
        self._count += 1
        if buffer is None:
            self._unfinished[handle] = channel, gpadl, Assembly(message)
        else:
            self._complete(channel, gpadl, buffer, message.rangecount)

    def _is_full(self, is_unfinished: bool) -> bool:
        full = self._count >= MAX_GPADLS or (is_unfinished and len(self._unfinished) >= self._max_unfinished)
        self.at_limit += full
        return full

    def body(self, message: messages.GpadlBody) -> None:
        """The guest continues a GPADL. Raises Refusal when none is unfinished by that handle (case 094)."""
        entry = self._unfinished.get(message.gpadl)
        if entry is None:
            raise Refusal(Kind.UNKNOWN_GPADL, f"body for handle {message.gpadl:#x}")
        channel, gpadl, assembly = entry
        assembly.add(message.ranges)
        if not assembly.missing:
            del self._unfinished[message.gpadl]
            self._complete(channel, gpadl, assembly.buffer(), assembly.range_count)

    def teardown(self, channel: Channel, message: messages.GpadlTeardown) -> None:
        """The guest wants its memory back. Raises Refusal unless the GPADL is accepted, and on a reserved
        channel (cases 099, 184)."""
        if channel.reserved is not None:
            raise Refusal(Kind.WRONG_STATE, f"teardown of a GPADL of reserved channel {channel.relid}")
        gpadl = channel.gpadls.get(message.gpadl)
        if gpadl is None:
            raise Refusal(Kind.UNKNOWN_GPADL, f"handle {message.gpadl:#x} on relid {channel.relid}")
        if gpadl.state is not GpadlState.ACCEPTED:
            raise Refusal(Kind.WRONG_STATE, f"teardown of GPADL {gpadl.handle:#x}: {gpadl.state.name}")
        if channel.state in WITHDRAWN:
            self._let_go(channel, gpadl)
        else:
            self._ask_teardown(channel, gpadl)

    def accepted(self, channel: Channel, message: device_link.GpadlAccepted) -> None:
        """The device's answer to Gpadl. Raises Refusal when it was not asked."""
        gpadl = channel.gpadls.get(message.gpadl)
        ok = not message.status & messages.FAILED_BIT
        if gpadl is not None and gpadl.state is GpadlState.OFFERED:
            if ok:
                gpadl.state = GpadlState.ACCEPTED
            else:
                self._forget(channel, gpadl)
            self._created(channel.relid, gpadl.handle, messages.SUCCESS if ok else messages.UNSUCCESSFUL)
        elif gpadl is not None and gpadl.state is GpadlState.OFFERED_TEARING_DOWN:
            if ok:
                self._ask_teardown(channel, gpadl)
            else:
                self._forget(channel, gpadl)
        else:
            raise Refusal(Kind.STALE_ANSWER, f"GpadlAccepted {message.gpadl:#x} on relid {channel.relid}")

    def torn_down(self, channel: Channel, message: device_link.GpadlTornDown) -> None:
        """The device's answer to Teardown. Raises Refusal when it was not asked."""
        gpadl = channel.gpadls.get(message.gpadl)
        if gpadl is None or gpadl.state is not GpadlState.TEARING_DOWN:
            raise Refusal(Kind.STALE_ANSWER, f"GpadlTornDown {message.gpadl:#x} on relid {channel.relid}")
        if channel.state in GUEST_KNOWS:
            self._let_go(channel, gpadl)
        else:
            self._forget(channel, gpadl)

    def ring(self, channel: Channel, handle: int, downstream_page: int) -> None:
        """May the channel open with these rings? Raises ProtocolError if not (cases 065, 066)."""
        gpadl = channel.gpadls.get(handle)
        if gpadl is None or gpadl.state is not GpadlState.ACCEPTED or gpadl.ring is None:
            raise ProtocolError(f"ring GPADL {handle:#x} is not an accepted GPADL of one range")
        check_ring([gpadl.ring], downstream_page)

    def retry(self, channel: Channel) -> None:
        """Send the GPADL_TORNDOWNs that need not wait any longer."""
        held, channel.held = channel.held, []
        for gpadl in held:
            self._let_go(channel, gpadl)

    def at_device(self, channel: Channel) -> bool:
        """Was the device told of memory that it has not given back?"""
        return any(
            gpadl.state not in (GpadlState.IN_PROGRESS, GpadlState.HELD) for gpadl in channel.gpadls.values()
        )

    def release(self, channel: Channel) -> None:
        """The guest is done with a channel that has a device: no more messages, the device gives all back."""
        channel.held.clear()
        for gpadl in list(channel.gpadls.values()):
            if gpadl.state is GpadlState.OFFERED:
                gpadl.state = GpadlState.OFFERED_TEARING_DOWN
            elif gpadl.state is GpadlState.ACCEPTED:
                self._ask_teardown(channel, gpadl)
            elif gpadl.state is not GpadlState.TEARING_DOWN:
                self._forget(channel, gpadl)

    def revoke(self, channel: Channel) -> None:
        """The device is gone and the guest still knows the channel: answer what is open (cases 101, 102)."""
        for gpadl in list(channel.gpadls.values()):
            if gpadl.state is GpadlState.OFFERED:
                self._forget(channel, gpadl)
                self._created(channel.relid, gpadl.handle, messages.UNSUCCESSFUL)
        self.retry(channel)
        for gpadl in list(channel.gpadls.values()):
            if gpadl.state is GpadlState.TEARING_DOWN:
                self._let_go(channel, gpadl)

    def forget_all(self, channel: Channel) -> None:
        """Neither guest nor device has anything to do with the channel's GPADLs any more."""
        channel.held.clear()
        for gpadl in list(channel.gpadls.values()):
            self._forget(channel, gpadl)

    def _complete(self, channel: Channel, gpadl: Gpadl, buffer: bytes, count: int) -> None:
        try:
            ranges = decode_ranges(buffer, count)
            pages = ranges[0].pfns if count == 1 else tuple(chain.from_iterable(one.pfns for one in ranges))
            self._check_pages(pages)
        except ProtocolError:
            self._forget(channel, gpadl)
            self._created(channel.relid, gpadl.handle, messages.UNSUCCESSFUL)
            return
        gpadl.pages = len(pages)
        self._pages += gpadl.pages
        # Page numbers are the device's business; the bus keeps only what an open looks at.
        gpadl.ring = Range(ranges[0].byte_count, ranges[0].byte_offset, ()) if count == 1 else None
        if channel.state in WITHDRAWN:
            gpadl.state = GpadlState.ACCEPTED
            self._created(channel.relid, gpadl.handle, messages.SUCCESS)
        else:
            gpadl.state = GpadlState.OFFERED
            request = device_link.Gpadl(channel.offer.offer_id, gpadl.handle, count, 0, buffer)
            self._outbox.ask(channel.host, request, pages)

    def _check_pages(self, pages: tuple[int, ...]) -> None:
        """Raises ProtocolError for a page outside guest memory, or when the cap is reached."""
        highest = max(pages)
        if highest >= self._ram_pages:
            raise ProtocolError(f"page {highest:#x} is outside the {self._ram_pages} pages of guest memory")
        if self._pages + len(pages) > MAX_TOTAL_PAGES:
            self.at_limit += 1
            raise ProtocolError(f"GPADLs of a partition name at most {MAX_TOTAL_PAGES} pages")

    def _created(self, relid: int, handle: int, status: int) -> None:
        self._outbox.send(messages.GpadlCreated(relid, handle, status))

    def _ask_teardown(self, channel: Channel, gpadl: Gpadl) -> None:
        gpadl.state = GpadlState.TEARING_DOWN
        self._outbox.ask(channel.host, device_link.Teardown(channel.offer.offer_id, gpadl.handle))

    def _let_go(self, channel: Channel, gpadl: Gpadl) -> None:
        """The device is done with it: tell the guest now, or when nobody can touch the memory any more."""
        if channel.memory_in_use(gpadl.handle):
            gpadl.state = GpadlState.HELD
            channel.held.append(gpadl)
        else:
            self._forget(channel, gpadl)
            self._outbox.send(messages.GpadlTorndown(gpadl.handle))

    def _forget(self, channel: Channel, gpadl: Gpadl) -> None:
        del channel.gpadls[gpadl.handle]
        self._count -= 1
        self._pages -= gpadl.pages
        entry = self._unfinished.get(gpadl.handle)
        if entry is not None and entry[1] is gpadl:
            del self._unfinished[gpadl.handle]
