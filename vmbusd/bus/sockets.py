"""Sockets over VMBus: the guest's connects go to one host link, and what it accepts becomes a channel.

There is no message for success but the offer (case 190). Whatever becomes of a request, it is answered once
(case 193), and sixteen that are not hold up every later guest message (case 192). A socket that the guest
does not open in time is withdrawn (case 194). Source: OpenVMM vmbus_server/src/hvsock.rs.
"""

import heapq
from collections.abc import Callable
from typing import Final

from vmbusd.abi import device_link, messages, wire
from vmbusd.abi.device_link import OfferFlag
from vmbusd.abi.packing import NO_GUID
from vmbusd.bus.channels import Channel, State
from vmbusd.bus.lifecycle import Lifecycle
from vmbusd.bus.offering import socket_offer
from vmbusd.bus.outbox import Outbox
from vmbusd.bus.refusal import Kind, Refusal

MAX_REQUESTS: Final = 16
"""Connects that may be unanswered: what a guest can make a host hold (case 192)."""
GUEST_OPENS_IN: Final = 5.0
"""Seconds in which a guest opens a socket it asked for."""
HOST_WAITS: Final = 2.0
"""Seconds in which a guest opens a socket that the host began."""
_UNOPENED: Final = frozenset({State.CLIENT_RELEASED, State.CLOSED})

Request = messages.TlConnect | messages.TlConnect2
Offers = Callable[[int, device_link.Offer], Channel | None]
"""Offers a channel in a host's name and tells the host; None when it could not be."""


class Sockets:
    """Socket connects of a partition.

    Args: `offers`, how a channel is offered. Attributes: `provider`, the host link that gets the connects, or
    None; `now`, seconds, as last told; `full`, no further guest message may be taken; `requests`, connects
    that the provider has not answered, by id (the message, the version spoken); `last_id`, the newest id;
    `heap`, the deadlines, also of some that count for nothing any more.
    """

    def __init__(self, outbox: Outbox, lifecycle: Lifecycle, offers: Offers) -> None:
        self._outbox = outbox
        self._lifecycle = lifecycle
        self._offer = offers
        self.requests: dict[int, tuple[Request, int]] = {}
        self.last_id = 0
        self.heap: list[tuple[float, int, Channel]] = []
        self._order = 0
        self.provider: int | None = None
        self.now = 0.0

    @property
    def full(self) -> bool:
        """Sixteen connects are unanswered."""
        return len(self.requests) >= MAX_REQUESTS

    def provide(self, host: int, message: device_link.ProvideSockets) -> None:
        """A host link wants the connects, or no longer."""
        text = b""
        if self.provider not in (None, host):
            text = b"another host provides sockets"
        elif message.enable:
            self.provider = host
        elif self.provider == host:
            self.host_gone(host)
        status = messages.UNSUCCESSFUL if text else messages.SUCCESS
        self._outbox.ask(host, device_link.SocketsProvided(status, text))

    def connect(self, message: Request, version: int) -> None:
        """TL_CONNECT_REQUEST."""
        if self.provider is None:
            self._refuse(message, version)
            return
        self.last_id += 1
        self.requests[self.last_id] = message, version
        silo = message.silo_id if isinstance(message, messages.TlConnect2) else NO_GUID
        request = device_link.SocketConnect(
            self.last_id & 0xFFFFFFFF, message.guest_endpoint_id, message.host_service_id, silo
        )
        self._outbox.ask(self.provider, request)

    def answer(self, host: int, message: device_link.SocketAnswer) -> None:
        """The host's answer. Raises Refusal when it was not asked, or the guest has left meanwhile."""
        if host != self.provider or message.request_id not in self.requests:
            raise Refusal(Kind.STALE_ANSWER, f"SocketAnswer {message.request_id}")
        request, version = self.requests.pop(message.request_id)
        channel = None
        if not message.status & messages.FAILED_BIT:
            silo = request.silo_id if isinstance(request, messages.TlConnect2) else NO_GUID
            offer = device_link.Offer(
                message.offer_id, request.host_service_id, request.guest_endpoint_id, flags=OfferFlag.SOCKET
            )
            channel = self._offer(host, socket_offer(offer, guest_accepts=False, silo=silo))
        if channel is None:
            self._refuse(request, version)
        else:
            self.expect(channel, GUEST_OPENS_IN)

    def expect(self, channel: Channel, seconds: float) -> None:
        """The guest is to open this socket within so many seconds."""
        channel.socket = True
        channel.expires = self.now + seconds
        self.remember(channel.expires, channel)

    def remember(self, due: float, channel: Channel) -> None:
        """Look at the channel when it is `due`; among equals in the order of the calls."""
        self._order += 1
        heapq.heappush(self.heap, (due, self._order, channel))

    def deadlines(self) -> list[tuple[float, Channel]]:
        """What `remember` was told and is not past, in the order in which it will be looked at."""
        return [(due, channel) for due, _, channel in sorted(self.heap)]

    def host_gone(self, host: int) -> None:
        """The provider has lost what it was asked."""
        if host == self.provider:
            self.provider = None
            lost, self.requests = list(self.requests.values()), {}
            for request, version in lost:
                self._refuse(request, version)

    def forget(self) -> None:
        """The guest is gone: nobody waits for an answer."""
        self.requests.clear()

    def next_deadline(self) -> float | None:
        """When `tick` has something to do; None: never."""
        while self.heap and not self._pending(*self.heap[0]):
            heapq.heappop(self.heap)
        return self.heap[0][0] if self.heap else None

    def tick(self, now: float) -> None:
        """It is `now`: withdraw the sockets that were not opened in time."""
        self.now = max(now, self.now)
        while (due := self.next_deadline()) is not None and due <= self.now:
            channel = heapq.heappop(self.heap)[2]
            channel.expires = None
            self._lifecycle.withdraw(channel)

    def _pending(self, due: float, _order: int, channel: Channel) -> bool:
        return channel.expires == due and channel.state in _UNOPENED

    def _refuse(self, request: Request, version: int) -> None:
        """A guest below 4.1 is not told (case 189)."""
        if version >= wire.V4_1:
            result = messages.TlConnectResult(
                request.guest_endpoint_id, request.host_service_id, messages.CONNECTION_REFUSED
            )
            self._outbox.send(result)
