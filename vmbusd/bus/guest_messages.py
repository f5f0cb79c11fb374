"""Guest messages: from bytes of the guest to the part of the bus whose business they are.

What deserves no answer is refused here, whichever part found it out: nothing of it raises past `handle`.
Source: docs/protocol.md, OpenVMM vmbus_server, cases 018-024, 293.
"""

from collections.abc import Callable
from typing import Any, Final, get_args

import msgspec

from vmbusd.abi import messages, wire
from vmbusd.abi.link import MESSAGE_CONNECTION_OLD
from vmbusd.bus.effects import Refused
from vmbusd.bus.negotiation import SINTS, Contact, check_connection_id
from vmbusd.bus.offers import Offers
from vmbusd.bus.opening import open_request
from vmbusd.bus.refusal import Kind, Refusal
from vmbusd.bus.saving import Parts

MAX_WAITING: Final = 64
"""Guest messages that may wait while `Bus.accepting` is False; their reader must stop before (case 311)."""
_PAUSED_HEARS: Final = (messages.Resume, messages.Unload, *get_args(Contact))


class GuestMessages:
    """The guest's side of one bus."""

    def __init__(self, parts: Parts, offers: Offers, vps: int) -> None:
        self._outbox = parts.outbox
        self._registry = parts.registry
        self._gpadls = parts.gpadls
        self._targets = parts.targets
        self._lifecycle = parts.lifecycle
        self._sockets = parts.sockets
        self._connection = connection = parts.connection
        self._offers = offers
        self._vps = vps
        # Any: each handler takes the class it is filed under.
        self._handlers: dict[type[msgspec.Struct], Callable[[Any], None]] = {
            messages.RequestOffers: self._request_offers,
            messages.Open: self._open,
            messages.Open2: self._open,
            messages.Close: self._close,
            messages.GpadlHeader: self._gpadl_header,
            messages.GpadlBody: parts.gpadls.body,
            messages.GpadlTeardown: self._gpadl_teardown,
            messages.RelidReleased: self._relid_released,
            messages.Unload: connection.unload,
            messages.OpenReserved: self._open_reserved,
            messages.CloseReserved: self._close_reserved,
            messages.TlConnect: self._tl_connect,
            messages.TlConnect2: self._tl_connect,
            messages.ModifyChannel: self._modify_channel,
            messages.ModifyConnection: connection.modify,
            messages.Pause: connection.pause,
            messages.Resume: connection.resume,
        }

    def handle(self, data: bytes, connection_id: int, trusted: bool) -> None:
        """A message as it was posted on a message connection. Never raises for its bytes."""
        try:
            now = self._connection.now
            if now.trusted and not trusted:
                raise Refusal(Kind.NOT_TRUSTED, "an untrusted message on a trusted connection")
            message = wire.decode(data, now.version, now.features)
            if connection_id != MESSAGE_CONNECTION_OLD:
                check_connection_id(message, connection_id)
            if self._outbox.paused:
                self._unpause(message)
            handler = self._handlers.get(type(message))
            if handler is not None:
                handler(message)
            elif isinstance(message, Contact):
                self._connection.initiate_contact(message, data, connection_id, trusted=trusted)
        except wire.WireError as error:
            self._outbox.add(Refused(error.problem, str(error)))
        except Refusal as refusal:
            self._outbox.add(Refused(refusal.kind, str(refusal)))

    def _unpause(self, message: msgspec.Struct) -> None:
        """A paused connection hears only what ends the pause (case 293)."""
        if not isinstance(message, _PAUSED_HEARS):
            raise Refusal(Kind.PAUSED, type(message).__name__)
        self._outbox.paused = False
        self._outbox.flow()

    def _request_offers(self, _message: messages.RequestOffers) -> None:
        if self._connection.now.offers_sent:
            raise Refusal(Kind.WRONG_STATE, "the offers were sent already")
        self._connection.now.offers_sent = True
        self._offers.request()

    def _open(self, message: messages.Open | messages.Open2) -> None:
        request = open_request(message, self._connection.now.features)
        self._lifecycle.open(self._registry.known(message.child_relid), request)

    def _close(self, message: messages.Close) -> None:
        self._lifecycle.close_primary(self._registry.known(message.child_relid))

    def _gpadl_header(self, message: messages.GpadlHeader) -> None:
        self._gpadls.header(self._registry.find(message.child_relid), message)

    def _gpadl_teardown(self, message: messages.GpadlTeardown) -> None:
        self._gpadls.teardown(self._registry.known(message.child_relid), message)

    def _relid_released(self, message: messages.RelidReleased) -> None:
        self._lifecycle.release(self._registry.known(message.child_relid))

    def _open_reserved(self, message: messages.OpenReserved) -> None:
        self._check_target(message)
        self._lifecycle.open_reserved(self._registry.known(message.child_relid), message)

    def _close_reserved(self, message: messages.CloseReserved) -> None:
        self._check_target(message)
        self._lifecycle.close_reserved(self._registry.known(message.child_relid), message)

    def _check_target(self, message: messages.OpenReserved | messages.CloseReserved) -> None:
        """Raises Refusal when the answer could not be sent anywhere."""
        if message.target_vp >= self._vps or not 0 < message.target_sint < SINTS:
            where = f"VP {message.target_vp} SINT {message.target_sint}"
            raise Refusal(Kind.WRONG_TARGET, f"{type(message).__name__} names {where}")

    def _tl_connect(self, message: messages.TlConnect | messages.TlConnect2) -> None:
        self._sockets.connect(message, self._connection.now.version)

    def _modify_channel(self, message: messages.ModifyChannel) -> None:
        self._targets.modify(self._registry.find(message.child_relid), message)
