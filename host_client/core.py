"""The host's half of the device protocol: requests of the bus in, device callbacks, answers out.

Knows no thread and no event loop: `read` takes what the socket holds, `serve` carries out what was read, and
the blocking and the asyncio flavour decide when. Results of our own requests are settled in `read` already,
so that a callback may wait for one while later requests stay in the inbox. `monitor` is held by whoever runs
a callback. Source: docs/design.md section 4; the acknowledgements are those of section 2.
"""

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec

from host_client.asked import STATUS_OK, Asked
from host_client.channel import Channel
from host_client.device import Device
from host_client.feed import Feed
from host_client.offer import Offer
from vmbusd.abi import device_link, link
from vmbusd.abi.attach import Attached
from vmbusd.abi.errors import ChannelGone, LinkClosed, ProtocolError, RefusedError, UsageError, VmbusError
from vmbusd.abi.lasting import Lasting, SocketHooks
from vmbusd.abi.link import Object
from vmbusd.abi.link_socket import close_all
from vmbusd.abi.native import Sender

log = logging.getLogger(__name__)

INBOX_BURST: Final = 256
"""Packets read before the first of them is carried out: bounds the memory that a burst can take."""


def _same_device(one: Offer, other: Offer) -> bool:
    return one.instance == other.instance and one.device.interface == other.device.interface


Request = (
    device_link.Open
    | device_link.Close
    | device_link.Gpadl
    | device_link.Teardown
    | device_link.Retarget
    | device_link.Withdraw
)


class Core:
    """Offers, channels and answers of one host link. Not thread-safe but for signalling and `wake_waiter`.

    Attributes: `attached`; `link`, its packets; `sender`, shared by all channels; `offers`, id -> living
    offer; `ended`, why the link is over, or None; `monitor`, held during callbacks and notified when a result
    arrives.
    """

    def __init__(
        self, attached: Attached, full: Callable[[], None], hooks: SocketHooks | None = None
    ) -> None:
        """`full` is called, from any thread, when `link` must be polled for room; `hooks` are the link's."""
        if not getattr(sys, "_is_gil_enabled", lambda: True)():
            raise UsageError(
                "a host needs the GIL (PYTHON_GIL=1): by it we know that no signal call is running"
            )
        self.attached = attached
        self.link = Lasting(attached, socket_hooks=hooks)
        self._full = full
        self.offers: dict[int, Offer] = {}
        self.ended: VmbusError | None = None
        self.monitor = threading.Condition(threading.RLock())
        end = attached.host_links[attached.welcome.link]
        self.sender = Sender(
            attached[Object.TABLE],
            attached[Object.EVENTS],
            attached[Object.VPWORK],
            attached.vp_doorbells,
            attached[Object.RAM],
            page=end[0],
        )
        self._inbox: deque[Request] = deque()
        self._last_id = 0
        self._left: dict[str, int] | None = None
        self._is_heard = True
        self._counts = dict.fromkeys(
            (
                *("opens", "open_failures", "closes", "retargets", "guest_signals", "unrouted"),
                *("device_errors", "dead_rings", "unstuck"),
            ),
            0,
        )
        self.feed = Feed(
            attached.ram_fd, *end, attached[Object.TABLE], self.monitor, self._counts, self._call
        )
        self._asked = Asked(attached, self.sender, self.feed, self._counts, self._answer, self._call)
        self._requests: dict[type[msgspec.Struct], Callable[[Offer, Any], None]] = {
            device_link.Open: self._asked.open,
            device_link.Close: self._asked.close,
            device_link.Gpadl: self._asked.gpadl,
            device_link.Teardown: self._asked.teardown,
            device_link.Retarget: self._asked.retarget,
            device_link.Withdraw: self._withdraw,
        }

    # -- our requests --------------------------------------------------------------------------------------

    def offer(self, device: Device, instance: UUID | None, fields: dict[str, Any]) -> Offer:
        """Send an offer; its `result` says what became of it. Raises UsageError, LinkClosed."""
        interface = getattr(device, "interface", None)
        if not isinstance(interface, UUID):
            raise UsageError(f"{type(device).__name__}.interface must be a UUID, not {interface!r}")
        with self.monitor:
            self._alive()
            self._last_id += 1
            offer = Offer(self._last_id, device, instance or uuid4(), fields.get("subchannel_index", 0))
            packet = device_link.encode(device_link.Offer(offer.id, interface, offer.instance, **fields))
            self.offers[offer.id] = offer
            self._say(packet)
        return offer

    def revoke(self, offer: Offer) -> "Future[None]":
        """Close the channel, if it is open, and withdraw the offer. Asking again gives the same future."""
        with self.monitor:
            if offer.gone is None:
                if self.offers.get(offer.id) is not offer:
                    raise UsageError(f"offer {offer.id} is not one of this link")
                self._alive()
                offer.gone = Future()
                for other in list(self.offers.values()):
                    # A primary takes its subchannels along, and our Revoke speaks for them too.
                    if other is offer or (other.subchannel_index and _same_device(other, offer)):
                        self._asked.end_channel(other, "rescinded, its offer was withdrawn")
                self._answer(device_link.Revoke(offer.id))
            return offer.gone

    def _alive(self) -> None:
        if self.ended is not None:
            raise type(self.ended)(*self.ended.args)

    # -- the link ------------------------------------------------------------------------------------------

    def read(self) -> bool:
        """Take packets off the socket, at most a burst; True if there were any. Never raises for a packet.

        The end of the link, also by our own verdict on a packet, is `ended` from then on.
        """
        taken = 0
        try:
            while self.ended is None and taken < INBOX_BURST:
                got = self.link.receive()
                if got is None:
                    break
                taken += 1
                self._receive(*got)
        except VmbusError as error:
            self.end(error)
        return taken > 0

    def _receive(self, header: link.Header, packet: bytes, fds: list[int]) -> None:
        if fds:
            close_all(fds)
            raise ProtocolError(f"the daemon passed {len(fds)} descriptors that nobody asked for")
        message = device_link.decode(header, packet)
        if isinstance(message, device_link.OfferResult | device_link.Revoked):
            self._settle(message)
        elif type(message) in self._requests:
            self._inbox.append(message)  # type: ignore[arg-type]
        else:
            raise ProtocolError(f"the daemon sent {type(message).__name__}, which only hosts send")

    def _settle(self, message: device_link.OfferResult | device_link.Revoked) -> None:
        with self.monitor:
            offer = self.offers.get(message.offer_id)
            if offer is None:
                raise ProtocolError(f"{type(message).__name__} for unknown offer {message.offer_id}")
            if isinstance(message, device_link.Revoked):
                del self.offers[offer.id]
                # What came before it and waits to be carried out concerns nobody any more.
                waiting = [request for request in self._inbox if request.offer_id != offer.id]
                self._inbox = deque(waiting)
                self._asked.end_channel(offer, "rescinded, the daemon took the offer back")
                if offer.gone is not None:
                    offer.gone.set_result(None)
            elif offer.result.done():
                raise ProtocolError(f"a second OfferResult for offer {offer.id}")
            elif message.status == STATUS_OK:
                offer.result.set_result(None)
            else:
                del self.offers[offer.id]
                offer.result.set_exception(RefusedError(message.text.decode("utf-8", "replace")))
            self.monitor.notify_all()

    def end(self, error: VmbusError) -> None:
        """The link is over: whoever waits for a result gets `error`. Channels live on until `leave`.

        They must: the data path needs no daemon, so its death takes no signal away.
        """
        with self.monitor:
            if self.ended is None:
                self.ended = error
            for offer in self.offers.values():
                for future in (offer.result, offer.gone):
                    if future is not None and not future.done():
                        future.set_exception(type(error)(*error.args))
            self.monitor.notify_all()

    def serve(self) -> None:
        """Carry out the requests read so far, in their order. No device and no daemon can make it raise."""
        while self._inbox:
            with self.monitor:
                if not self._inbox:
                    return
                message = self._inbox.popleft()
                offer = self.offers.get(message.offer_id)
                try:
                    if offer is None:
                        raise ProtocolError(f"{type(message).__name__} for unknown offer {message.offer_id}")
                    # A request that crossed our Revoke: the daemon answers it for us.
                    if offer.gone is None:
                        self._requests[type(message)](offer, message)
                except VmbusError as error:
                    self._inbox.clear()
                    self.end(error)

    def _answer(self, message: device_link.FromHost) -> None:
        self._say(device_link.encode(message))

    def _say(self, packet: bytes) -> None:
        if not self.link.post(packet):
            self._full()

    def _withdraw(self, offer: Offer, _message: device_link.Withdraw) -> None:
        """The bus took the channel from the guest: the same as our own revoke, begun by the other side."""
        self.revoke(offer)

    # -- the device ----------------------------------------------------------------------------------------

    def _call(self, callback: Callable[..., None], channel: Channel, *arguments: Any) -> bool:
        """Run a callback of a device; False, logged and counted, when it raised."""
        try:
            callback(channel, *arguments)
        except Exception as error:
            name = getattr(callback, "__qualname__", callback)
            if isinstance(error, ChannelGone) and not channel.live:
                # What ends a callback that waits, or goes on, while its channel goes away.
                log.info("%s: %s", name, error)
            else:
                log.exception("%s for %r", name, channel)
                self._counts["device_errors"] += 1
            return False
        return True

    def signalled(self, flags: list[int]) -> None:
        """The guest set these event flags on our page: call the devices."""
        self.feed.heard(flags)
        self.feed.serve(flags)

    def wake_waiter(self) -> None:
        """Make a running `feed.waiter.wait` return."""
        self.feed.wake()

    def signal_many(self, channels: Sequence[Channel]) -> int:
        """Signal each live channel in one native call; after `leave` there are none."""
        return 0 if self._left is not None else self.sender.signal_many(channels)

    def statistics(self) -> dict[str, int]:
        """Counters of this link: what was offered, asked, signalled and went wrong."""
        if self._left is not None:
            return self._left
        opened = sum(offer.channel is not None for offer in list(self.offers.values()))
        now = {"offers": len(self.offers), "open": opened, "resumed": self.link.resumed}
        sent, waiter = self.sender.statistics(), self.feed.waiter
        heard = {"faults": sent["faults"] + waiter.faults_injected, "rescued": waiter.rescued}
        return {**now, **self._counts, **sent, **heard}

    # -- the end -------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Close every channel, say Detached when there is somebody to hear it, and let go of everything."""
        self.end_channels()
        self.say_farewell()
        self.let_go()

    def end_channels(self) -> None:
        """First of the three steps of `leave`: no channel is signalled any more, nothing can be asked."""
        with self.monitor:
            for offer in list(self.offers.values()):
                self._asked.end_channel(offer, "the host has left")
            self._left = self.statistics()
            self._is_heard = self.ended is None
        self.end(LinkClosed("the host has left"))

    def say_farewell(self) -> None:
        """Second: the one that waits, for a second at most. From any thread, if no other is in `read`."""
        if self._is_heard:
            self.link.farewell(link.encode(link.Detached(0)))

    def let_go(self) -> None:
        """Third: nothing of the link is there any more."""
        self.offers.clear()
        self._inbox.clear()
        self._requests.clear()
        del self.sender, self.feed, self._asked
        self.attached.close()
