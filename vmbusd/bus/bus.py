"""Bus: the VMBus host of one partition as a pure machine. One input at a time, a list of effects out.

Inputs are bytes of the guest, answers of hosts, and what the server observed: a claim became free, a link or
a process ended, a VP came or went. Nothing here waits, reads a clock or fails on a peer's bytes; the same
inputs give the same effects. A message that deserves no answer comes out as one `Refused`. The rules of a
channel stand in `channels` and `lifecycle`, of memory in `gpadls`, of contact in `connection`.
Source: DESIGN section 4, spec/02 sections 6-10; the model is OpenVMM's `vmbus_server/src/channels.rs`.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from vmbusd.abi import device_link, messages, wire
from vmbusd.bus.channels import Channel, ChannelView, State
from vmbusd.bus.connection import (
    Answer,
    Connection,
    ConnectionState,
    Contact,
    asks_elsewhere,
    check_connection_id,
    negotiate,
)
from vmbusd.bus.effects import Disconnected, Effect, Refused
from vmbusd.bus.gpadls import Gpadls
from vmbusd.bus.lifecycle import Lifecycle
from vmbusd.bus.outbox import Outbox
from vmbusd.bus.refusal import Kind, Refusal
from vmbusd.bus.registry import Registry
from vmbusd.bus.targets import Targets


class BusStatistics(msgspec.Struct, frozen=True):
    """What a bus holds: offers, relids in use, GPADLs, those unfinished, and pages that they name."""

    channels: int
    relids: int
    gpadls: int
    unfinished_gpadls: int
    gpadl_pages: int


class Bus:
    """The VMBus host of one partition.

    Args: `vps`, number of virtual processors; `ram_pages`, pages of guest memory.
    Every method that returns effects returns them in the order in which they must be carried out.
    """

    def __init__(self, *, vps: int, ram_pages: int) -> None:
        self._vps = vps
        self._connection = Connection()
        self._outbox = Outbox()
        self._registry = Registry()
        self._gpadls = Gpadls(self._outbox, ram_pages)
        self._targets = Targets(self._outbox, vps)
        self._lifecycle = Lifecycle(self._outbox, self._registry, self._gpadls, self._targets)
        # Any: each handler takes the class it is filed under.
        self._from_guest: dict[type[msgspec.Struct], Callable[[Any], None]] = {
            messages.RequestOffers: self._request_offers,
            messages.Open: self._open,
            messages.Close: self._close,
            messages.GpadlHeader: self._gpadl_header,
            messages.GpadlBody: self._gpadls.body,
            messages.GpadlTeardown: self._gpadl_teardown,
            messages.RelidReleased: self._relid_released,
            messages.Unload: self._unload,
            messages.ModifyChannel: self._modify_channel,
            messages.TlConnect: self._tl_connect,
            messages.TlConnect2: self._tl_connect,
        }
        self._from_host: dict[type[msgspec.Struct], Callable[[Channel, Any], None]] = {
            device_link.Revoke: self._revoke,
            device_link.Opened: self._lifecycle.opened,
            device_link.Closed: self._lifecycle.closed,
            device_link.GpadlAccepted: self._gpadl_accepted,
            device_link.GpadlTornDown: self._gpadl_torn_down,
            device_link.Retargeted: self._retargeted,
        }

    @property
    def state(self) -> str:
        """ "disconnected", "connected" or "disconnecting"."""
        return self._connection.state.value

    @property
    def version(self) -> int:
        """The version spoken (major << 16 | minor), 0 unless connected."""
        return self._connection.version

    def channels(self) -> list[ChannelView]:
        """Every channel, in the order of the offers."""
        return [channel.view() for channel in self._registry.all()]

    def statistics(self) -> BusStatistics:
        """How much the bus holds now."""
        return BusStatistics(
            channels=len(self._registry),
            relids=self._registry.ids.in_use,
            gpadls=self._gpadls.count,
            unfinished_gpadls=self._gpadls.unfinished,
            gpadl_pages=self._gpadls.pages,
        )

    def guest_message(self, data: bytes, connection_id: int) -> list[Effect]:
        """A channel message of the guest, as posted on a message connection. Never raises for its bytes."""
        try:
            connection = self._connection
            message = wire.decode(data, connection.version, connection.features)
            check_connection_id(message, connection_id)
            handler = self._from_guest.get(type(message))
            if handler is not None:
                handler(message)
            elif isinstance(message, Contact):
                self._initiate_contact(message, connection_id)
            else:
                raise Refusal(Kind.NOT_SUPPORTED, type(message).__name__)
        except wire.WireError as error:
            self._outbox.add(Refused(error.problem, str(error)))
        except Refusal as refusal:
            self._outbox.add(Refused(refusal.kind, str(refusal)))
        return self._finish()

    def host_message(self, host: int, message: device_link.FromHost) -> list[Effect]:
        """A device message of host link `host`. Never raises for what it says."""
        try:
            if isinstance(message, device_link.Offer):
                self._offer(host, message)
            elif type(message) not in self._from_host:
                raise Refusal(Kind.NOT_SUPPORTED, type(message).__name__)
            else:
                assert not isinstance(message, device_link.ProvideSockets)
                channel = self._registry.offered(host, message.offer_id)
                if channel is None:
                    raise Refusal(
                        Kind.UNKNOWN_OFFER, f"{type(message).__name__} for offer {message.offer_id}"
                    )
                self._from_host[type(message)](channel, message)
        except Refusal as refusal:
            self._outbox.add(Refused(refusal.kind, str(refusal)))
        return self._finish()

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

    def host_gone(self, host: int) -> list[Effect]:
        """A host link ended: its offers are rescinded at once, sub-channels first (case 177). What its
        process might still do is waited for until `host_dead`."""
        self._withdraw_all(host)
        return self._finish()

    def host_dead(self, host: int) -> list[Effect]:
        """The process of a host link is gone, or it left in order: it has acknowledged everything."""
        self._withdraw_all(host)
        self._lifecycle.host_dead(host)
        return self._finish()

    def guest_gone(self) -> list[Effect]:
        """The guest's link ended: an unload without an answer (case 176). Ends with `Disconnected`, now or
        when devices and claims are done."""
        connection = self._connection
        connection.unload_asked, connection.contact = False, None
        if connection.state is ConnectionState.DISCONNECTED:
            self._outbox.add(Disconnected())
        elif connection.state is ConnectionState.CONNECTED:
            self._disconnect()
        return self._finish()

    def vp_offline(self, vp: int, live: int) -> list[Effect]:
        """VP `vp` has no worker any more; VP `live`, which has one, takes its channels and later opens."""
        self._targets.offline(vp, live, self._registry.all())
        return self._finish()

    def vp_online(self, vp: int) -> list[Effect]:
        """VP `vp` has a worker again. Channels that were moved away stay where they are."""
        self._targets.online(vp)
        return self._finish()

    # Connection

    def _initiate_contact(self, contact: Contact, connection_id: int) -> None:
        elsewhere = asks_elsewhere(contact, connection_id, self._vps)
        if elsewhere is not None:
            self._answer(elsewhere)
        elif self._connection.state is ConnectionState.DISCONNECTED:
            self._contact(contact)
        else:
            # Also the contact of an unknown version ends the connection that stands (cases 163-165).
            self._connection.unload_asked, self._connection.contact = False, contact
            if self._connection.state is ConnectionState.CONNECTED:
                self._disconnect()

    def _contact(self, contact: Contact) -> None:
        answer = negotiate(contact, self._vps)
        self._outbox.vp = answer.vp
        if answer.version:
            state, version, features = ConnectionState.CONNECTED, answer.version, answer.features
            self._connection = Connection(state, version, features)
            self._lifecycle.features = features
        self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        self._outbox.send(answer.response, vp=answer.vp, sint=answer.sint)

    def _unload(self, _message: messages.Unload) -> None:
        self._connection.unload_asked = True
        self._disconnect()

    def _disconnect(self) -> None:
        self._connection.state = ConnectionState.DISCONNECTING
        self._connection.version = wire.NOT_CONNECTED
        for channel in self._registry.all():
            self._lifecycle.reset(channel)

    def _finish(self) -> list[Effect]:
        """The effects of this input; a disconnect is done when no channel has a relid any more."""
        ended = self._connection
        if ended.state is ConnectionState.DISCONNECTING and not self._registry.ids.in_use:
            self._connection = Connection()
            self._outbox.add(Disconnected())
            if ended.unload_asked:
                self._outbox.send(messages.UnloadResponse())
            elif ended.contact is not None:
                self._contact(ended.contact)
        return self._outbox.take()

    def _request_offers(self, _message: messages.RequestOffers) -> None:
        if self._connection.offers_sent:
            raise Refusal(Kind.WRONG_STATE, "the offers were sent already")
        self._connection.offers_sent = True
        released = [c for c in self._registry.all() if c.state is State.CLIENT_RELEASED]
        for channel in sorted(released, key=lambda c: c.order):
            self._lifecycle.offer(channel)
        self._outbox.send(messages.AllOffersDelivered())

    # Guest

    def _open(self, message: messages.Open) -> None:
        self._lifecycle.open(self._registry.known(message.child_relid), message)

    def _close(self, message: messages.Close) -> None:
        self._lifecycle.close(self._registry.known(message.child_relid))

    def _gpadl_header(self, message: messages.GpadlHeader) -> None:
        self._gpadls.header(self._registry.find(message.child_relid), message)

    def _gpadl_teardown(self, message: messages.GpadlTeardown) -> None:
        self._gpadls.teardown(self._registry.known(message.child_relid), message)

    def _relid_released(self, message: messages.RelidReleased) -> None:
        self._lifecycle.release(self._registry.known(message.child_relid))

    def _modify_channel(self, message: messages.ModifyChannel) -> None:
        channel = self._registry.find(message.child_relid)
        self._targets.modify(channel, message, self._connection.version)

    def _tl_connect(self, message: messages.TlConnect | messages.TlConnect2) -> None:
        """Nobody listens for sockets; a guest below 4.1 is not told."""
        if self._connection.version < wire.V4_1:
            raise Refusal(Kind.NOT_SUPPORTED, type(message).__name__)
        endpoint, service = message.guest_endpoint_id, message.host_service_id
        self._outbox.send(messages.TlConnectResult(endpoint, service, messages.CONNECTION_REFUSED))

    # Hosts

    def _offer(self, host: int, offer: device_link.Offer) -> None:
        existing = self._registry.with_key(offer)
        refusal = ""
        if self._registry.offered(host, offer.offer_id) is not None:
            refusal = f"offer id {offer.offer_id} is in use"
        elif existing is not None and existing.state is not State.REVOKED:
            refusal = "an offer with this interface, instance and subchannel index already exists"
        elif existing is None and self._registry.full():
            refusal = "too many channels"
        status = messages.UNSUCCESSFUL if refusal else messages.SUCCESS
        self._outbox.ask(host, device_link.OfferResult(offer.offer_id, status, refusal.encode()))
        if refusal:
            return
        if existing is not None:
            self._lifecycle.reoffer(existing, offer, host)
            return
        channel = Channel(offer, host)
        self._registry.add(channel)
        connected = self._connection.state is ConnectionState.CONNECTED
        if connected and self._connection.offers_sent:
            self._lifecycle.offer(channel)

    def _revoke(self, channel: Channel, _message: device_link.Revoke) -> None:
        self._lifecycle.revoke(channel, acknowledged=True)

    def _gpadl_accepted(self, channel: Channel, message: device_link.GpadlAccepted) -> None:
        self._gpadls.accepted(channel, message)
        self._lifecycle.settle(channel)

    def _gpadl_torn_down(self, channel: Channel, message: device_link.GpadlTornDown) -> None:
        self._gpadls.torn_down(channel, message)
        self._lifecycle.settle(channel)

    def _retargeted(self, channel: Channel, message: device_link.Retargeted) -> None:
        self._targets.retargeted(channel, message, self._connection.version)

    def _withdraw_all(self, host: int) -> None:
        offers = self._registry.of_host(host)
        for channel in sorted(offers, key=lambda c: c.offer.subchannel_index == 0):
            self._lifecycle.revoke(channel, acknowledged=False)
