"""Offers: what hosts offer, revoke and enable, and when the guest is told.

Sources: OpenVMM vmbus_server/src/channels.rs and vmbus_channel, Linux 6.1 channel_mgmt.c, cases 032-045,
111-115, 306, 307.
"""

import msgspec

from vmbusd.abi import device_link, messages
from vmbusd.abi.device_link import OfferFlag
from vmbusd.bus import offering
from vmbusd.bus.channels import Channel, State
from vmbusd.bus.lifecycle import Lifecycle
from vmbusd.bus.outbox import Outbox
from vmbusd.bus.refusal import Kind, Refusal
from vmbusd.bus.registry import Registry


class Offers:
    """The offers of a partition's hosts.

    Args: `absolute_order`, list them by order first (case 038).
    """

    def __init__(
        self, outbox: Outbox, registry: Registry, lifecycle: Lifecycle, *, absolute_order: bool
    ) -> None:
        self._outbox = outbox
        self._registry = registry
        self._lifecycle = lifecycle
        self._absolute_order = absolute_order

    def request(self) -> None:
        """REQUESTOFFERS: list every channel, later ones come as they are made (cases 032-037)."""
        self._lifecycle.offering = True
        released = [c for c in self._registry.all() if c.state is State.CLIENT_RELEASED]
        if self._absolute_order:
            released.sort(key=lambda channel: channel.absolute_order)
        else:
            released.sort(key=lambda channel: channel.order)
        for channel in released:
            self._lifecycle.offer(channel)
        self._outbox.send(messages.AllOffersDelivered())

    def offer(self, host: int, offer: device_link.Offer) -> Channel | None:
        """A host offers a channel; it is told the result. None when the offer was refused."""
        existing = self._registry.with_key(offer)
        refusal = offering.objection(offer)
        if self._registry.offered(host, offer.offer_id) is not None:
            refusal = f"offer id {offer.offer_id} is in use"
        elif existing is not None and (existing.state is not State.REVOKED or existing.withdrawn):
            refusal = "an offer with this interface, instance and subchannel index already exists"
        elif existing is None and self._registry.full():
            refusal = "too many channels"
        status = messages.UNSUCCESSFUL if refusal else messages.SUCCESS
        self._outbox.ask(host, device_link.OfferResult(offer.offer_id, status, refusal.encode()))
        if refusal:
            return None
        if existing is not None:
            self._lifecycle.reoffer(existing, offer, host)
            return existing
        channel = Channel(offer, host)
        self._registry.add(channel)
        if self._lifecycle.offering:
            self._lifecycle.offer(channel)
        return channel

    def enable_subchannels(self, primary: Channel, message: device_link.EnableSubchannels) -> None:
        """Offer the subchannels that are missing (cases 111, 112, 115).

        Raises Refusal when it was meant for an earlier open of the primary.
        """
        if primary.state is not State.OPEN or primary.generation != message.generation:
            raise Refusal(Kind.STALE_ANSWER, f"EnableSubchannels on relid {primary.relid}")
        host, offer = primary.host, primary.offer
        live = {channel.offer.subchannel_index for channel in self._live(primary)}
        status, text = messages.SUCCESS, b""
        if offer.subchannel_index or message.count > offer.max_subchannels:
            status = messages.UNSUCCESSFUL
            text = f"{message.count} subchannels, at most {offer.max_subchannels}".encode()
        for index in range(1, message.count + 1) if not status else ():
            if index not in live:
                subchannel = msgspec.structs.replace(
                    offer,
                    offer_id=(message.first_offer_id + index - 1) & 0xFFFFFFFF,
                    subchannel_index=index,
                    max_subchannels=0,
                )
                if self.offer(host, subchannel) is not None:
                    live.add(index)
                else:
                    status, text = messages.UNSUCCESSFUL, b"a subchannel could not be offered"
        answer = device_link.SubchannelsEnabled(offer.offer_id, status, len(live), text)
        self._outbox.ask(host, answer)

    def _live(self, primary: Channel) -> list[Channel]:
        return [
            channel
            for channel in self._registry.subchannels(primary)
            if channel.state is not State.REVOKED and not channel.withdrawn
        ]

    def withdraw_all(self, host: int) -> None:
        """A host link ended: its offers are rescinded, subchannels first (case 177)."""
        offers = self._registry.of_host(host)
        for channel in sorted(offers, key=lambda c: c.offer.subchannel_index == 0):
            self._lifecycle.revoke(channel, acknowledged=False)


def is_socket(offer: device_link.Offer) -> bool:
    """Does the host begin a socket with this offer?"""
    return bool(offer.flags & OfferFlag.SOCKET)
