"""Bus: the VMBus host of one partition as a pure machine. One input at a time, a list of effects out.

Inputs are bytes of the guest, answers of hosts, and what the server observed: a claim became free, a link or
a process ended, a VP came or went, time passed. Nothing here waits, reads a clock or fails on a peer's bytes;
the same inputs give the same effects. A message that deserves no answer comes out as one `Refused`. The
guest's messages are read in `guest_messages`; the rules of a channel stand in `channels`, `opening` and
`lifecycle`, of memory in `gpadls`, of contact in `negotiation` and `connection`; `saved` is all of it as
data. Source: docs/design.md section 4, docs/protocol.md; the model is OpenVMM's
`vmbus_server/src/channels.rs`.
"""

from collections import deque
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec

from vmbusd.abi import device_link, wire
from vmbusd.bus import restoring, saving
from vmbusd.bus.channels import Channel, ChannelView
from vmbusd.bus.connection import Connection
from vmbusd.bus.effects import Effect, Refused
from vmbusd.bus.gpadls import Gpadls
from vmbusd.bus.guest_messages import MAX_WAITING, GuestMessages
from vmbusd.bus.judging import check_same, judge
from vmbusd.bus.lifecycle import Lifecycle
from vmbusd.bus.offering import prepare
from vmbusd.bus.offers import Offers, is_socket
from vmbusd.bus.options import BusOptions
from vmbusd.bus.orders import Orders
from vmbusd.bus.outbox import Outbox
from vmbusd.bus.picture import Picture, of_channels
from vmbusd.bus.refusal import Kind, Refusal
from vmbusd.bus.registry import Registry
from vmbusd.bus.saved import SavedBus
from vmbusd.bus.saving import Parts
from vmbusd.bus.sockets import HOST_WAITS, Sockets
from vmbusd.bus.targets import Targets


class BusStatistics(msgspec.Struct, frozen=True):
    """What a bus holds: offers, relids in use, GPADLs, those unfinished, and pages that they name; and how
    often a GPADL was refused because there are too many."""

    channels: int
    relids: int
    gpadls: int
    unfinished_gpadls: int
    gpadl_pages: int
    gpadls_at_limit: int


class Bus:
    """The VMBus host of one partition.

    Args: `vps`, number of virtual processors; `ram_pages`, pages of guest memory; `options`.
    Attributes: `orders`, what an administrator may ask for, and whether it is done.
    Every method that returns effects returns them in the order in which they must be carried out.
    Attributes, true after each input: `accepting`, may guest messages be handled? While not they wait here,
    at most MAX_WAITING: stop reading them. `next_deadline`, when `tick` must be called, in its seconds; None:
    time changes nothing now.
    Raises UsageError for options that cannot be.
    """

    def __init__(self, *, vps: int, ram_pages: int, options: BusOptions | None = None) -> None:
        options = options or BusOptions()
        options.check()
        self._vps, self._ram_pages = vps, ram_pages
        self._outbox = outbox = Outbox()
        self._registry = registry = Registry(options.relid_offset)
        self._gpadls = gpadls = Gpadls(outbox, ram_pages, options.max_unfinished_gpadls)
        self._targets = targets = Targets(outbox, vps)
        self._lifecycle = lifecycle = Lifecycle(outbox, registry, gpadls, targets)
        self._offers = offers = Offers(outbox, registry, lifecycle, absolute_order=options.absolute_order)
        self._sockets = sockets = Sockets(outbox, lifecycle, offers.offer)
        self._connection = connection = Connection(
            options, outbox, registry, targets, lifecycle, vps=vps, ram_pages=ram_pages
        )
        self.orders = Orders(outbox, registry, targets, lifecycle)
        self.accepting = True
        self.next_deadline: float | None = None
        self._waiting: deque[tuple[bytes, int, bool]] = deque()
        self._parts = Parts(outbox, registry, gpadls, targets, lifecycle, sockets, connection, self._waiting)
        self._guest = GuestMessages(self._parts, offers, vps)
        # Any: each handler takes the class it is filed under.
        self._of_offer: dict[type[msgspec.Struct], Callable[[Channel, Any], None]] = {
            device_link.Revoke: self._revoke,
            device_link.EnableSubchannels: offers.enable_subchannels,
            device_link.Opened: lifecycle.opened,
            device_link.Closed: lifecycle.closed,
            device_link.GpadlAccepted: self._gpadl_accepted,
            device_link.GpadlTornDown: self._gpadl_torn_down,
            device_link.Retargeted: targets.retargeted,
        }
        self._of_host: dict[type[msgspec.Struct], Callable[[int, Any], None]] = {
            device_link.Offer: self._offer,
            device_link.ProvideSockets: sockets.provide,
            device_link.SocketAnswer: sockets.answer,
        }

    # What is kept of it

    def save(self) -> SavedBus:
        """All of it as plain data, at any time between two inputs."""
        return saving.save(self._parts, self._vps, self._ram_pages)

    @classmethod
    def restore(
        cls, saved: SavedBus, *, vps: int, ram_pages: int, options: BusOptions | None = None
    ) -> "Bus":
        """The bus that was saved, which goes on as that one would have; it has no effects of its own.

        `saved` comes from `saved.decode`. Raises SavedError naming the first field that cannot be, for
        another partition than it was saved from, or for options that do not allow what it holds; UsageError
        for options that cannot be.
        """
        bus = cls(vps=vps, ram_pages=ram_pages, options=options)
        judge(saved, vps, ram_pages, options or BusOptions())
        restoring.restore(saved, bus._parts)
        check_same(saved, bus.save())
        bus._look()
        return bus

    def picture(self) -> Picture:
        """What the table shows and what the backend has under way once all effects so far are carried out."""
        slots, closing, armed = of_channels(self._registry.all())
        connection = self._connection
        return Picture(slots, closing, armed, connection.now.pages, connection.request())

    # What it is

    @property
    def state(self) -> str:
        """ "disconnected", "connecting", "connected" or "disconnecting"."""
        return self._connection.now.state.value

    @property
    def version(self) -> int:
        """The version spoken (major << 16 | minor), 0 unless connected."""
        return self._connection.now.version

    @property
    def features(self) -> int:
        """The feature flags granted, 0 unless connected at 6.0."""
        return self._connection.now.features

    @property
    def client_id(self) -> UUID:
        """What the guest calls itself (case 009); zero unless it said."""
        return self._connection.now.client_id

    @property
    def paused(self) -> bool:
        """The guest asked for silence, and messages to it are held back."""
        return self._outbox.paused

    @property
    def resetting(self) -> bool:
        """A reset has begun and is not done."""
        return bool(self._connection.resets)

    def channels(self) -> list[ChannelView]:
        """Every channel, in the order of the offers."""
        return [channel.view() for channel in self._registry.all()]

    def relid_of(self, host: int, offer_id: int) -> int:
        """The relid of a host's living offer, 0 when it has none."""
        channel = self._registry.offered(host, offer_id)
        return 0 if channel is None else channel.relid

    def primary_of(self, relid: int) -> int:
        """The relid of the primary channel of the device that `relid` belongs to, 0 when there is none."""
        channel = self._registry.find(relid)
        primary = None if channel is None else self._registry.primary(channel)
        return 0 if primary is None else primary.relid

    def statistics(self) -> BusStatistics:
        """How much the bus holds now."""
        return BusStatistics(
            channels=len(self._registry),
            relids=self._registry.ids.in_use,
            gpadls=self._gpadls.count,
            unfinished_gpadls=self._gpadls.unfinished,
            gpadl_pages=self._gpadls.pages,
            gpadls_at_limit=self._gpadls.at_limit,
        )

    # Inputs of the guest

    def guest_message(self, data: bytes, connection_id: int, *, trusted: bool = False) -> list[Effect]:
        """A channel message of the guest, as posted on a message connection, `trusted` if it came the way
        that the rest of the system cannot see. Never raises for its bytes."""
        if not self._waiting and self.accepting:
            self._guest.handle(data, connection_id, trusted)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting.append((data, connection_id, trusted))
        else:
            self._outbox.add(Refused(Kind.TOO_MANY, f"{MAX_WAITING} messages wait already"))
        return self._finish()

    def guest_output(self, ready: bool) -> list[Effect]:
        """Whether the transport takes messages to the guest. While not they are held back in order, and no
        guest message is handled (case 291)."""
        self._outbox.blocked = not ready
        self._outbox.flow()
        return self._finish()

    def guest_gone(self) -> list[Effect]:
        """The guest's link ended: an unload without an answer (case 176). Ends with `Disconnected`, now or
        when devices and claims are done."""
        self._waiting.clear()
        self._outbox.blocked = False
        self._connection.guest_gone()
        return self._finish()

    # Inputs of hosts

    def host_message(self, host: int, message: device_link.FromHost) -> list[Effect]:
        """A device message of host link `host`. Never raises for what it says."""
        try:
            kind = type(message)
            handler = self._of_offer.get(kind)
            if handler is None:
                self._of_host[kind](host, message)
            else:
                offer_id = message.offer_id  # type: ignore[union-attr]
                channel = self._registry.offered(host, offer_id)
                if channel is None:
                    raise Refusal(Kind.UNKNOWN_OFFER, f"{kind.__name__} for offer {offer_id}")
                # What crossed our Withdraw counts for nothing, the host is to say Revoke.
                if not channel.withdrawn or kind is device_link.Revoke:
                    handler(channel, message)
        except Refusal as refusal:
            self._outbox.add(Refused(refusal.kind, str(refusal)))
        return self._finish()

    def host_gone(self, host: int) -> list[Effect]:
        """A host link ended: its offers are rescinded at once, sub-channels first (case 177). What its
        process might still do is waited for until `host_dead`."""
        self._sockets.host_gone(host)
        self._offers.withdraw_all(host)
        return self._finish()

    def host_dead(self, host: int) -> list[Effect]:
        """The process of a host link is gone, or it left in order: it has acknowledged everything."""
        self._sockets.host_gone(host)
        self._offers.withdraw_all(host)
        self._lifecycle.host_dead(host)
        return self._finish()

    # Inputs of the server

    def claim_free(self, flag: int, generation: int) -> list[Effect]:
        """The claim of a closed slot was seen free: no callback of `generation` runs or will run."""
        try:
            channel = self._registry.with_flag(flag)
            if channel is None:
                raise Refusal(Kind.STALE_ANSWER, f"claim of flag {flag}, which has no channel")
            self._lifecycle.claim_free(channel, generation)
        except Refusal as refusal:
            self._outbox.add(Refused(refusal.kind, str(refusal)))
        return self._finish()

    def pages_modified(self, ticket: int, ok: bool) -> list[Effect]:
        """The answer to `ModifyPages`: the pages are in use, or cannot be used."""
        try:
            self._connection.pages_modified(ticket, ok=ok)
        except Refusal as refusal:
            self._outbox.add(Refused(refusal.kind, str(refusal)))
        return self._finish()

    def reset(self) -> list[Effect]:
        """Make the bus as new, for whoever runs the partition: ends with `ResetDone`, now or later. Guest
        messages that come meanwhile wait (cases 166-170)."""
        self._connection.reset()
        return self._finish()

    def retarget(self, relid: int, vp: int) -> list[Effect]:
        """An order of the administrator, see `Orders.retarget`."""
        self.orders.retarget(relid, vp)
        return self._finish()

    def rescind(self, relid: int) -> list[Effect]:
        """An order of the administrator, see `Orders.rescind`."""
        self.orders.rescind(relid)
        return self._finish()

    def tick(self, now: float) -> list[Effect]:
        """It is `now`: seconds of any clock that does not go back, 0.0 before the first. What a host offers
        or answers is dated by the last tick."""
        self._sockets.tick(now)
        return self._finish()

    def vp_offline(self, vp: int, live: int) -> list[Effect]:
        """VP `vp` has no worker any more; VP `live`, which has one, takes its channels and later opens."""
        self._targets.offline(vp, live, self._registry.all())
        return self._finish()

    def vp_online(self, vp: int) -> list[Effect]:
        """VP `vp` has a worker again. Channels that were moved away stay where they are."""
        self._targets.online(vp)
        return self._finish()

    def _finish(self) -> list[Effect]:
        """The effects of this input, and of guest messages that need not wait any longer."""
        connection, sockets = self._connection, self._sockets
        while True:
            if connection.now.version == wire.NOT_CONNECTED:
                sockets.forget()
                connection.finish()
            self._look()
            if not (self._waiting and self.accepting):
                break
            self._guest.handle(*self._waiting.popleft())
        return self._outbox.take()

    def _look(self) -> None:
        """Say what follows from the state, once for each input: it is asked for more often."""
        outbox, sockets = self._outbox, self._sockets
        self.accepting = not (
            outbox.blocked or self._connection.resets or (sockets.requests and sockets.full)
        )
        self.next_deadline = sockets.next_deadline() if sockets.heap else None

    # Messages of hosts
    # Messages of hosts

    def _offer(self, host: int, offer: device_link.Offer) -> None:
        channel = self._offers.offer(host, prepare(offer))
        if channel is not None and is_socket(offer):
            self._sockets.expect(channel, HOST_WAITS)

    def _revoke(self, channel: Channel, _message: device_link.Revoke) -> None:
        self._lifecycle.revoke(channel, acknowledged=True)

    def _gpadl_accepted(self, channel: Channel, message: device_link.GpadlAccepted) -> None:
        self._gpadls.accepted(channel, message)
        self._lifecycle.settle(channel)

    def _gpadl_torn_down(self, channel: Channel, message: device_link.GpadlTornDown) -> None:
        self._gpadls.torn_down(channel, message)
        self._lifecycle.settle(channel)
