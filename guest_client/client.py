"""The guest's half of the control protocol, sans-IO: what Linux does with the same messages.

Calls and received bytes go in, a list of actions comes out; no socket, clock, thread or mapping is known
here. Operations take a token of the caller's and end with exactly one `Done` for it. Bytes of the daemon
never raise: what does not fit is refused, counted by the caller, and changes nothing (cases 047-050, 056,
132, 133, 173). This file has the connection and the table of messages, `operations` the life of one channel.
Sources: Linux 6.1 connection.c and channel_mgmt.c.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from guest_client import actions
from guest_client.actions import Action
from guest_client.operations import Entry, Operations, State
from vmbusd.abi import layout, link, messages, wire
from vmbusd.abi.errors import ChannelGone, RefusedError, UsageError, VmbusError

VERSIONS: Final = (wire.V5_3,)
"""What this guest speaks, newest first: each is asked once, until one is accepted (case 025)."""


class Client(Operations):
    """One connection of one guest.

    Attributes: `state`; `version`, as negotiated, 0 before; `channels`, relid -> Entry, to be read only.
    """

    def __init__(
        self, *, versions: Sequence[int] = VERSIONS, vp: int = 0, monitor_pages: tuple[int, int] = (0, 0)
    ) -> None:
        """`monitor_pages`: parent to child, child to parent, as guest physical addresses; both 0 for none."""
        super().__init__()
        self.version = wire.NOT_CONNECTED
        self._versions = versions
        self._vp = vp
        self._monitor_pages = monitor_pages
        self._asked = 0
        self._waiting: Any = None
        self._offers_asked = False
        self._collecting = False

    # -- asked by the application --------------------------------------------------------------------------

    def contact(self, token: Any) -> list[Action]:
        """Negotiate a version. Raises UsageError unless disconnected (case 028)."""
        self._need(State.DISCONNECTED)
        self.state = State.CONTACTING
        self._waiting = token
        self._asked = 0
        self._ask()
        return self._flush()

    def _ask(self) -> None:
        self._connection = link.MESSAGE_CONNECTION_MULTI_CLIENT
        version = self._versions[self._asked]
        contact = messages.InitiateContact(version, self._vp, layout.SINT, 0, 0, *self._monitor_pages)
        self._post(contact)

    def request_offers(self) -> list[Action]:
        """Ask for the offers, once per connection."""
        self._need(State.CONNECTED)
        if self._offers_asked:
            raise UsageError("offers were requested already")
        self._offers_asked = self._collecting = True
        self._post(messages.RequestOffers())
        return self._flush()

    def unload(self, token: Any) -> list[Action]:
        """End the connection: the host closes every channel, then `token` is done and all is forgotten."""
        self._need(State.CONNECTED)
        self.state = State.UNLOADING
        self._waiting = token
        for relid, entry in self.channels.items():
            self._out.append(actions.Detach(relid))
            self._fail(entry, ChannelGone(f"relid {relid}: the connection is being unloaded"))
        self._post(messages.Unload())
        return self._flush()

    def lost(self, error: VmbusError) -> list[Action]:
        """The link has ended: everything that waits fails, and so does every later call.

        Callbacks stay attached, as signals need no daemon. Ring memory is not given back: nobody says when
        the host has let go of it (case 078).
        """
        if self.state in (State.CONTACTING, State.UNLOADING):
            self._out.append(actions.Done(self._waiting, error))
        for entry in self.channels.values():
            self._fail(entry, error)
            self._finish_closers(entry, error)
        self._forget()
        self._lost = error
        return self._flush()

    # -- told by the host ----------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Action]:
        """Handle one channel message. Never raises, whatever the bytes are."""
        version = self.version or self._versions[self._asked]
        try:
            message = wire.decode(data, version, sender=wire.Sender.HOST)
        except wire.WireError as error:
            return [actions.Refused(error.problem, str(error))]
        name = type(message).__name__
        state, handler = _HANDLERS.get(type(message), (None, None))
        if handler is None:
            self._refuse(name, f"{message} was not asked for")
        elif self.state is not state:
            self._refuse(name, f"{message} while {self.state}")
        else:
            handler(self, message)
        return self._flush()

    def _on_version_response(
        self, message: messages.VersionResponse | messages.VersionResponse2 | messages.VersionResponse3
    ) -> None:
        version = self._versions[self._asked]
        if not message.version_supported:
            self._asked += 1
            if self._asked < len(self._versions):
                self._ask()
                return
            self._asked = 0
            self._contact_failed("no common protocol version", 0)
        elif message.connection_state != messages.ConnectionState.OK:
            # Another version would meet the same trouble (case 027).
            state = message.connection_state
            self._contact_failed(f"the host cannot connect us now, connection state {state}", state)
        else:
            self.state = State.CONNECTED
            self.version = version
            if version >= wire.V5_0:
                self._connection = message.selected_version_or_connection_id
            self._out.append(actions.Done(self._waiting))

    def _contact_failed(self, text: str, state: int) -> None:
        self.state = State.DISCONNECTED
        self._out.append(actions.Done(self._waiting, RefusedError(text, state)))

    def _on_offer(self, message: messages.Offer) -> None:
        relid = message.child_relid
        entry = Entry(message)
        wrong = (
            (not self._offers_asked, "before offers were requested"),
            (not 1 <= relid <= layout.MAX_RELID, "out of range"),
            (relid in self.channels, "in use"),
            (entry.key in self._keys, f"and {message.if_instance} exists already"),
        )
        for is_so, why in wrong:
            if is_so:
                self._refuse("Offer", f"relid {relid} was offered {why}")
                return
        self.channels[relid] = entry
        self._keys.add(entry.key)
        self._out.append(actions.Offered(message))

    def _on_offers_delivered(self, _message: messages.AllOffersDelivered) -> None:
        if not self._collecting:
            self._refuse("AllOffersDelivered", "nobody is collecting offers")
            return
        self._collecting = False
        self._out.append(actions.OffersDelivered())

    def _on_unloaded(self, _message: messages.UnloadResponse) -> None:
        for relid, entry in self.channels.items():
            self._free(relid, entry)
            self._finish_closers(entry, None)
        self._out.append(actions.Done(self._waiting))
        self._forget()

    def _forget(self) -> None:
        self.channels = {}
        self._keys.clear()
        self._tearing.clear()
        self.state = State.DISCONNECTED
        self.version = wire.NOT_CONNECTED
        self._asked = 0
        self._waiting = None
        self._offers_asked = self._collecting = False


_Handler = Callable[[Client, Any], None]

_HANDLERS: Final[dict[type[msgspec.Struct], tuple[State, _Handler]]] = {
    messages.VersionResponse: (State.CONTACTING, Client._on_version_response),
    messages.VersionResponse2: (State.CONTACTING, Client._on_version_response),
    messages.VersionResponse3: (State.CONTACTING, Client._on_version_response),
    messages.Offer: (State.CONNECTED, Client._on_offer),
    messages.AllOffersDelivered: (State.CONNECTED, Client._on_offers_delivered),
    messages.Rescind: (State.CONNECTED, Client._on_rescind),
    messages.GpadlCreated: (State.CONNECTED, Client._on_created),
    messages.OpenResult: (State.CONNECTED, Client._on_open_result),
    messages.GpadlTorndown: (State.CONNECTED, Client._on_torndown),
    messages.ModifyChannelResponse: (State.CONNECTED, Client._on_modified),
    messages.UnloadResponse: (State.UNLOADING, Client._on_unloaded),
}
"""In which state of the connection a message counts, and who handles it; anything else is refused."""
