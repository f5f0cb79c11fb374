"""Carries out what `client` decides, on memory, table, blocks and link.

One lock orders everything: whoever holds it may call the client and posts what comes of it, so the daemon
sees messages in the order of the decisions. Futures that others wait for are completed without the lock.
Nothing here waits: closing channels are looked at by the link's thread, between packets (docs/
signal-protocol.md section 6).
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final
from uuid import UUID

import msgspec

from guest_client import actions, versions
from guest_client.actions import Action
from guest_client.calls import Call, Listener, begun
from guest_client.channel import Channel, Control, log_failure
from guest_client.client import Client
from guest_client.driver import Driver
from guest_client.feed import Feed, takes_packets
from guest_client.link import SLICE, LinkThread
from guest_client.monitor import pages_for
from guest_client.phases import Phase
from guest_client.rings import Rings
from guest_client.space import Space
from vmbusd.abi import layout, link
from vmbusd.abi.attach import Attached
from vmbusd.abi.errors import RingDead, VmbusError
from vmbusd.abi.native import Registry

log = logging.getLogger(__name__)

FIRST_LOOK: Final = 0.001
LAST_LOOK: Final = 0.010
"""Seconds between looks at the claims of closing channels: short at first, as callbacks are."""
_WHY: Final = {Phase.CLOSING: "was closed", Phase.RESCINDED: "was rescinded"}


class Machine(Control):
    """What the connection is made of.

    Attributes: `space`; `registry`, what VPs in this process call; `channels`, relid -> Channel;
    `lost`, why the link ended, None while it has not.
    """

    def __init__(
        self,
        attached: Attached,
        listener: Listener,
        drivers: dict[UUID, Driver],
        options: versions.Options = versions.DEFAULT,
    ) -> None:
        self.attached = attached
        self.space = Space(attached)
        self.registry = Registry(self._missing, log_failure)
        self.space.feed = Feed(self.space, self.registry)
        self.channels: dict[int, Channel] = {}
        self.lost: VmbusError | None = None
        self._rings = Rings(attached)
        if options.monitor_pages == (0, 0):
            pages = pages_for(attached, self._rings.memory)
            options = msgspec.structs.replace(options, monitor_pages=pages)
        self._client = Client(options)
        self._listener = listener
        self._drivers = drivers
        self._lock = threading.RLock()
        self._asleep: dict[int, tuple[Channel, bool]] = {}
        """Of a suspended guest: relid it had -> channel, whether it was open."""
        self._open_before: set[int] = set()
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
            unsent=self._unsent,
        )
        self._link.start()

    # -- what the client decided -----------------------------------------------------------------------------

    def _begin(self, operation: Callable[..., list[Action]], *arguments: Any, **named: Any) -> Call:
        call = begun()
        self._perform(operation, *arguments, call, **named)
        return call

    def _perform(self, operation: Callable[..., list[Action]], *arguments: Any, **named: Any) -> None:
        with self._lock:
            self._client.now = time.monotonic()
            done = self._carry_out(operation(*arguments, **named))
            results = [
                self.channels.get(action.relid) if action.relid else action.answered for action in done
            ]
        for action, result in zip(done, results, strict=True):
            if action.error is None:
                action.token.set_result(result)
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
        channel = Channel(self.space, action.offer.child_relid, offer=action.offer, control=self)
        driver = self._drivers.get(channel.interface)
        if action.primary:
            channel.primary = self.channels[action.primary]
            channel.primary.subchannels.append(channel)
            driver = channel.primary.driver
        elif self._client.channels[channel.relid].is_stray(action.answers):
            # A socket that nobody asked for (case 195).
            driver = None
        channel.driver = driver
        self.channels[channel.relid] = channel
        self._listener.offered(channel, answers=action.answers)

    def _suspended(self, action: actions.Suspended) -> None:
        self._asleep = {relid: (self.channels[relid], relid in self._open_before) for relid in action.relids}
        self.channels.clear()
        self._watched.clear()

    def _resumed(self, action: actions.Resumed) -> None:
        channel, was_open = self._asleep.pop(action.was)
        channel.read_offer(action.offer)
        channel.subchannels.clear()
        self.channels[channel.relid] = channel
        self._listener.resumed(channel, was_open=was_open)

    def _missing_now(self, action: actions.Missing) -> None:
        channel, _ = self._asleep.pop(action.was)
        log.warning("%r was not offered again after the suspension", channel)
        self._listener.gone(channel, released=True)

    def _opened(self, action: actions.Opened) -> None:
        channel = self.channels[action.relid]
        channel.read_record()
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
        channel = self.channels.get(action.relid)
        if channel is None:
            return
        entry = self._client.channels.get(action.relid)
        why = _WHY.get(entry.phase) if entry is not None else None
        channel.end(f"relid {action.relid} {why or 'was unloaded'}")
        if channel.generation:
            self.registry.unbind(channel.event_flag, channel.generation)

    def _watch(self, action: actions.Watch) -> None:
        self._watched.add(action.relid)
        self._look = FIRST_LOOK
        self._link.wake()

    def _free(self, action: actions.Free) -> None:
        self.channels[action.relid].drop_ring()
        self._rings.free(action.relid)

    def _gone(self, action: actions.Gone) -> None:
        channel = self.channels[action.relid]
        if action.released:
            self._forget(action.relid)
        self._listener.gone(channel, released=action.released)

    def _forget(self, relid: int) -> None:
        """The relid may mean another channel soon."""
        channel = self.channels.pop(relid)
        if channel.primary is not None and channel in channel.primary.subchannels:
            channel.primary.subchannels.remove(channel)

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
        channel.read_record()
        channel.generation = generation
        self.space.feed.bind(channel)(channel)

    # -- the link's thread ---------------------------------------------------------------------------------

    def _on_packet(self, header: link.Header, packet: bytes) -> None:
        if header.kind == link.Kind.MESSAGE:
            self._perform(self._client.receive, packet[link.HEADER.size :])
        elif header.kind == link.Kind.VP_CHANGED:
            changed = link.decode_body(header, packet)
            assert isinstance(changed, link.VpChanged)
            self._listener.vp_changed(changed)

    def _on_ended(self, reason: VmbusError) -> None:
        self.lost = reason
        self._watched.clear()
        self._perform(self._client.lost, reason)
        self._listener.ended(reason)

    def _unsent(self, packet: bytes, error: VmbusError) -> None:
        self._perform(self._client.unposted, packet[link.HEADER.size :], error)

    def _idle(self) -> float:
        """Look at the closing channels (slot closed, then claim and ring lock free), and at the clock."""
        if (deadline := self._client.next_deadline()) is not None and deadline <= time.monotonic():
            self._perform(self._client.tick, time.monotonic())
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


_CARRY_OUT: Final[dict[type[Any], Callable[[Machine, Any], None]]] = {
    actions.Offered: Machine._offered,
    actions.OffersDelivered: Machine._delivered,
    actions.Opened: Machine._opened,
    actions.Detach: Machine._detach,
    actions.Watch: Machine._watch,
    actions.Free: Machine._free,
    actions.Gone: Machine._gone,
    actions.Suspended: Machine._suspended,
    actions.Resumed: Machine._resumed,
    actions.Missing: Machine._missing_now,
    actions.Refused: Machine._refuse,
}
