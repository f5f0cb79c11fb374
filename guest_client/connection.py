"""The control process's connection: carries out what `client` decides, on memory, table, blocks and link.

One lock orders everything: whoever holds it may call the client and posts what comes of it, so the daemon
sees messages in the order of the decisions. Futures that others wait for are completed without the lock.
Nothing here waits: closing channels are looked at by the link's thread, between packets (docs/signal-protocol
section 6).
"""

import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from copy import copy
from typing import Any, Final, Protocol

from guest_client import actions
from guest_client.actions import Action
from guest_client.channel import Channel, Space, log_failure
from guest_client.client import Client
from guest_client.driver import Driver
from guest_client.feed import Feed, takes_packets
from guest_client.link import SLICE, LinkThread
from guest_client.memory import PageAllocator, reserve_in
from guest_client.operations import Phase
from vmbusd.abi import layout, link
from vmbusd.abi.attach import Attached
from vmbusd.abi.errors import ChannelGone, LinkClosed, RingDead, UsageError, VmbusError
from vmbusd.abi.link import Object
from vmbusd.abi.native import Registry

log = logging.getLogger(__name__)

FIRST_LOOK: Final = 0.001
LAST_LOOK: Final = 0.010
"""Seconds between looks at the claims of closing channels: short at first, as callbacks are."""
FEATURE_BITS: Final = (64, b"\x01\0\0\0")
"""Offset in a ring's control page, and what we write there: this side honours pending_send_sz."""

Call = Future[None]
_WHY: Final = {Phase.CLOSING: "was closed", Phase.RESCINDED: "was rescinded"}


class Listener(Protocol):
    """Who hears of offers and of the end, in the link's thread: it must not block."""

    def offered(self, channel: Channel) -> None: ...
    def offers_delivered(self) -> None: ...
    def gone(self, channel: Channel) -> None: ...
    def ended(self, reason: VmbusError) -> None: ...


class Connection:
    """One guest's control link.

    Attributes: `space`; `memory`; `registry`, what VPs in this process call; `channels`, relid -> Channel;
    `lost`, why the link ended, None while it has not.
    """

    def __init__(self, attached: Attached, listener: Listener, drivers: dict[Any, Driver]) -> None:
        self.attached = attached
        self.space = Space(attached)
        self.memory = PageAllocator(
            attached.welcome.ram_size // layout.PAGE, reserve_in(attached[Object.RAM])
        )
        self.registry = Registry(self._missing, log_failure)
        self.space.feed = Feed(self.space, self.registry)
        self.channels: dict[int, Channel] = {}
        self.lost: VmbusError | None = None
        self._client = Client()
        self._listener = listener
        self._drivers = drivers
        self._targets: Iterator[int] = itertools.cycle(range(attached.welcome.vps))
        self._lock = threading.RLock()
        self._rings: dict[int, int] = {}
        self._attached_callbacks: set[int] = set()
        self._watched: set[int] = set()
        self._look = FIRST_LOOK
        self._refused: Counter[str] = Counter()
        self._link = LinkThread(
            attached,
            name="guest-control",
            packet=self._on_packet,
            ended=self._on_ended,
            hosts=self.space.hosts,
            idle=self._idle,
        )
        self._link.start()

    # -- the connection ------------------------------------------------------------------------------------

    def contact(self) -> Call:
        """Negotiate; the future fails with RefusedError when there is no common version."""
        return self._begin(self._client.contact)

    def request_offers(self, vps: int) -> None:
        """Ask for the offers; channels are spread over VPs 0 .. `vps` - 1."""
        self._targets = itertools.cycle(range(vps))
        self._perform(self._client.request_offers)

    def unload(self) -> Call:
        """End the connection: when the future is done no callback runs and the host has closed everything."""
        return self._begin(self._client.unload)

    def release(self, channel: Channel) -> None:
        """The driver of a rescinded channel has let go."""
        with self._lock:
            if self.channels.get(channel.relid) is channel:
                del self.channels[channel.relid]
                self._perform(self._client.release, channel.relid)

    def close(self) -> None:
        """End the link. Channels that are open are closed by the daemon."""
        self._link.close()
        self._perform(self._client.lost, LinkClosed("this guest has let go of its link"))
        for channel in self.channels.values():
            channel.end(f"relid {channel.relid}: this guest has left")
        self.space.close()
        self.attached.close()

    # -- channels (channel.Control) ------------------------------------------------------------------------

    def begin_open(self, channel: Channel, target_vp: int | None, user_data: bytes) -> Call:
        """See `Channel.open`."""
        if channel.driver is None:
            raise UsageError(f"{channel!r} has no driver that says how large its rings are")
        vp = next(self._targets) if target_vp is None else target_vp
        if vp != layout.NO_TARGET:
            self._check_vp(vp)
        upstream, downstream = channel.driver.ring_pages
        count = upstream + downstream
        first = self.memory.allocate(count)
        call = _call()
        try:
            for page in range(first, first + count):
                with self.attached.page(page) as view:
                    view[:] = bytes(layout.PAGE)
            offset, bits = FEATURE_BITS
            for header in (first, first + upstream):
                with self.attached.page(header) as view:
                    view[offset : offset + len(bits)] = bits
            with self._lock:
                self._known(channel)
                happened = self._client.open(
                    channel.relid,
                    call,
                    pfns=range(first, first + count),
                    downstream=upstream,
                    target_vp=vp,
                    user_data=user_data,
                )
                handle = self._client.channels[channel.relid].gpadl
                self.space.blocks.set_ring(channel.event_flag, first, count, upstream, handle)
                self._rings[channel.relid] = first
                channel.close_reason = ""
                channel.begin()
                channel.locate_ring()
                self._attached_callbacks.add(channel.relid)
                self._carry_out(happened)
        except BaseException:
            if self._rings.get(channel.relid) != first:
                self.memory.free(first)
            raise
        return call

    def begin_close(self, channel: Channel, reason: str) -> Call:
        """See `Channel.close`."""
        with self._lock:
            if self.channels.get(channel.relid) is not channel:
                return _finished()
            call = self._begin(self._client.close, channel.relid)
            channel.close_reason = channel.close_reason or reason
        return call

    def begin_retarget(self, channel: Channel, vp: int) -> Call:
        """See `Channel.retarget`. The same VP again sends nothing (case 152)."""
        self._check_vp(vp)
        if channel.driver is not None and channel.driver.pinned:
            raise UsageError(f"{channel!r}: its driver is pinned, it cannot be moved")
        with self._lock:
            entry = self._known(channel)
            if entry.phase is Phase.OPEN and not entry.retargets and channel.target_vp == vp:
                return _finished()
            return self._begin(self._client.retarget, channel.relid, vp)

    def is_inside(self, channel: Channel) -> bool:
        """Whether the calling thread is running a callback of this very channel."""
        return self.space.feed.is_inside(channel)

    def open_channels(self) -> list[Channel]:
        """The channels that are open now."""
        with self._lock:
            opened = [relid for relid, entry in self._client.channels.items() if entry.phase is Phase.OPEN]
            return [self.channels[relid] for relid in opened]

    def statistics(self) -> dict[str, Any]:
        """Version, channels by phase, packets, refused messages by kind, guest memory, host links."""
        with self._lock:
            phases = Counter(str(entry.phase) for entry in self._client.channels.values())
            return {
                "state": str(self._client.state),
                "version": f"{self._client.version >> 16}.{self._client.version & 0xFFFF}",
                "channels": dict(phases),
                "refused": dict(self._refused),
                "link": self._link.statistics(),
                "memory": self.memory.statistics(),
                "hosts": self.space.hosts.statistics(),
            }

    # -- the machine ---------------------------------------------------------------------------------------

    def _check_vp(self, vp: int) -> None:
        if not 0 <= vp < self.attached.welcome.vps:
            raise UsageError(f"VP {vp} is not one of the {self.attached.welcome.vps} of this partition")

    def _known(self, channel: Channel) -> Any:
        """The client's entry of a channel object that is not one of a relid's former lives."""
        if self.lost is not None:
            raise copy(self.lost)
        entry = self._client.channels.get(channel.relid)
        if entry is None or self.channels.get(channel.relid) is not channel:
            raise ChannelGone(f"relid {channel.relid} is gone")
        return entry

    def _begin(self, operation: Callable[..., list[Action]], *arguments: Any) -> Call:
        call = _call()
        self._perform(operation, *arguments, call)
        return call

    def _perform(self, operation: Callable[..., list[Action]], *arguments: Any) -> None:
        with self._lock:
            done = self._carry_out(operation(*arguments))
        for action in done:
            if action.error is None:
                action.token.set_result(None)
            else:
                action.token.set_exception(action.error)

    def _carry_out(self, happened: list[Action]) -> list[actions.Done]:
        """Do everything but completing futures, which is left to be done without the lock."""
        done = []
        for action in happened:
            if isinstance(action, actions.Post):
                self._link.post(link.encode_message(action.data, where=action.connection))
            elif isinstance(action, actions.Done):
                done.append(action)
            else:
                _CARRY_OUT[type(action)](self, action)
        return done

    def _offered(self, action: actions.Offered) -> None:
        offer = action.offer
        channel = Channel(
            self.space,
            offer.child_relid,
            driver=self._drivers.get(offer.if_type),
            user_defined=offer.user_defined,
            control=self,
        )
        self.channels[channel.relid] = channel
        self._listener.offered(channel)

    def _opened(self, action: actions.Opened) -> None:
        channel = self.channels[action.relid]
        channel.generation = layout.slot_generation(self.space.table.slot(channel.event_flag))
        self.unstick([channel])

    def unstick(self, channels: Iterable[Channel]) -> None:
        """Where a wake-up may have been lost: look at the rings of channels whose packets we handle."""
        for channel in channels:
            if channel.made is not None or takes_packets(channel.driver):
                try:
                    self.space.feed.unstick(channel)
                except RingDead as error:
                    log.error("%r: %s", channel, error)

    def _detach(self, action: actions.Detach) -> None:
        self._attached_callbacks.discard(action.relid)
        channel = self.channels[action.relid]
        channel.end(
            f"relid {action.relid} {_WHY.get(self._client.channels[action.relid].phase, 'was unloaded')}"
        )
        if channel.generation:
            self.registry.unbind(channel.event_flag, channel.generation)

    def _watch(self, action: actions.Watch) -> None:
        self._watched.add(action.relid)
        self._look = FIRST_LOOK
        self._link.wake()

    def _free(self, action: actions.Free) -> None:
        self.channels[action.relid].drop_ring()
        self.memory.free(self._rings.pop(action.relid))

    def _gone(self, action: actions.Gone) -> None:
        self._listener.gone(self.channels[action.relid])

    def _delivered(self, _action: actions.OffersDelivered) -> None:
        self._listener.offers_delivered()

    def _refuse(self, action: actions.Refused) -> None:
        self._refused[action.kind] += 1
        if self._refused[action.kind] == 1:
            log.warning("ignored a message of the daemon: %s (further ones are counted)", action.reason)

    def _missing(self, flag: int, generation: int) -> None:
        """First interrupt of an open on a VP of this process. It may come before OPEN_RESULT does."""
        channel = self.channels.get(self.space.relid_of(flag))
        if channel is None or channel.driver is None or channel.relid not in self._attached_callbacks:
            return
        channel.generation = generation
        self.space.feed.bind(channel)(channel)

    # -- the link's thread ---------------------------------------------------------------------------------

    def _on_packet(self, header: link.Header, packet: bytes) -> None:
        if header.kind == link.Kind.MESSAGE:
            self._perform(self._client.receive, packet[link.HEADER.size :])

    def _on_ended(self, reason: VmbusError) -> None:
        self.lost = reason
        self._watched.clear()
        self._perform(self._client.lost, reason)
        self._listener.ended(reason)

    def _idle(self) -> float:
        """Look at the closing channels: slot closed first, then the claim and the ring's lock free."""
        for relid in list(self._watched):
            flag = self.channels[relid].event_flag
            if self.space.table.slot(flag) & layout.SLOT_OPEN:
                continue
            if self.space.blocks.is_free(flag) and not self.space.blocks.is_locked(flag):
                self._watched.discard(relid)
                self._perform(self._client.quiet, relid)
        if not self._watched:
            return SLICE
        self._look, look = min(2 * self._look, LAST_LOOK), self._look
        return look


_CARRY_OUT: Final[dict[type[Any], Callable[[Connection, Any], None]]] = {
    actions.Offered: Connection._offered,
    actions.OffersDelivered: Connection._delivered,
    actions.Opened: Connection._opened,
    actions.Detach: Connection._detach,
    actions.Watch: Connection._watch,
    actions.Free: Connection._free,
    actions.Gone: Connection._gone,
    actions.Refused: Connection._refuse,
}


def _call() -> Call:
    call: Call = Future()
    # Nobody can take an operation back, so its future cannot be cancelled.
    call.set_running_or_notify_cancel()
    return call


def _finished() -> Call:
    call = _call()
    call.set_result(None)
    return call
