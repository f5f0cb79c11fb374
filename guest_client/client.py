"""The guest's half of the control protocol, sans-IO: what Linux does with the same messages.

Calls and received bytes go in, a list of actions comes out; no socket, clock, thread or mapping is known
here, time enters by `tick`. Operations take a token of the caller's and end with exactly one `Done` for it.
Bytes of the daemon never raise: what does not fit is refused, counted by the caller, and changes nothing
(cases 047-050, 056, 132, 133, 173). This file has the connection and the table of messages; `operations` the
life of one channel, `devices` what several have to do with each other, `requests` what is asked of the
connection as a whole, `suspension` leaving and coming back.
Sources: Linux 6.1 connection.c and channel_mgmt.c.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from guest_client import actions, versions
from guest_client.actions import Action
from guest_client.entries import Entry, State
from guest_client.suspension import Suspension
from vmbusd.abi import messages, wire
from vmbusd.abi.errors import ChannelGone, RefusedError, UsageError, VmbusError

CRASH_WAIT: Final = 100.0
"""Seconds that a crashing guest waits for the host to let go, as Linux does (case 172)."""


class Client(Suspension):
    """One connection of one guest.

    Attributes: `state`; `version` and `features`, as negotiated, 0 before; `channels`, relid -> Entry, to be
    read only; `now`, the caller's time in seconds; `monitor_pages`, those in use; `paused`.
    """

    def __init__(self, options: versions.Options = versions.DEFAULT) -> None:
        super().__init__(options)
        self._asked = 0
        self._offers_asked = False
        self._collecting = False

    # -- asked by the application --------------------------------------------------------------------------

    def contact(self, token: Any) -> list[Action]:
        """Negotiate a version. Raises UsageError unless disconnected (case 028)."""
        self._need(State.DISCONNECTED)
        self.state = State.CONTACTING
        self._waiting = token
        self._trying = self.options.versions
        self._ask()
        return self._flush()

    def _ask(self) -> None:
        self._connection, message = versions.contact(self._trying[self._asked], self.options)
        self._post(message)

    def request_offers(self) -> list[Action]:
        """Ask for the offers, once per connection."""
        self._need(State.CONNECTED)
        if self._offers_asked:
            raise UsageError("offers were requested already")
        self._request_offers()
        return self._flush()

    def _request_offers(self) -> None:
        self._offers_asked = self._collecting = True
        self._post(messages.RequestOffers())

    def unload(self, token: Any, *, crash: bool = False) -> list[Action]:
        """End the connection: the host closes every channel, then `token` is done and all is forgotten.

        Below 3.0 nothing is sent, and nobody says when the host has let go (case 171). A `crash` may come in
        any state, hears nothing but the answer, and goes on without it after CRASH_WAIT (case 172).
        """
        if not crash:
            self._need(State.CONNECTED)
        elif self._lost is not None or self.state in (State.DISCONNECTED, State.SUSPENDED):
            return [actions.Done(token)]
        gone = ChannelGone("the connection is being unloaded")
        if self.state is not State.CONNECTED or self._resuming:
            self._out.append(actions.Done(self._waiting, gone))
        self._waiting = token
        self._suspending = self._resuming = False
        self._out += [actions.Missing(was) for was, _ in self._kept.values()]
        self._kept.clear()
        for relid, entry in self.channels.items():
            self._out.append(actions.Detach(relid))
            self._fail(entry, ChannelGone(f"relid {relid}: the connection is being unloaded"))
        self._fail_requests(gone)
        self._deadline = self.now + CRASH_WAIT if crash else None
        self._held = None
        if self.version < versions.HAS_UNLOAD:
            self._left()
        else:
            self.state = State.UNLOADING
            self._post(messages.Unload())
        return self._flush()

    def tick(self, now: float) -> list[Action]:
        """It is `now`: whatever waited long enough ends."""
        self.now = max(now, self.now)
        for token in self._sockets.expired(self.now):
            self._out.append(actions.Done(token, RefusedError("nobody answered the connect")))
        if self._deadline is not None and self._deadline <= self.now:
            self._deadline = None
            if self.state is State.UNLOADING:
                self._out.append(actions.Done(self._waiting, answered=False))
                self._forget()
            else:
                self._waited_enough()
        return self._flush()

    def next_deadline(self) -> float | None:
        """When `tick` has something to do, None for never."""
        times = (self._deadline, self._sockets.next_deadline())
        return min((time for time in times if time is not None), default=None)

    def lost(self, error: VmbusError) -> list[Action]:
        """The link has ended: everything that waits fails, and so does every later call.

        Callbacks stay attached, as signals need no daemon. Ring memory is not given back: nobody says when
        the host has let go of it (case 078).
        """
        if self.state in (State.CONTACTING, State.UNLOADING, State.SUSPENDING) or self._resuming:
            self._out.append(actions.Done(self._waiting, error))
        for entry in self.channels.values():
            self._fail(entry, error)
            self._finish_closers(entry, error)
        self._fail_requests(error)
        self._forget()
        self._kept.clear()
        self._lost = error
        return self._flush()

    def unposted(self, data: bytes, error: VmbusError) -> list[Action]:
        """A message of ours could not be sent, now or ever: what depends on it fails with `error`.

        A contact is treated as unsupported, so that the next version is asked (case 294); of a channel whose
        close could not be sent the memory is kept (case 078).
        """
        message = wire.decode(data, wire.V6_0, self.features or _EVERY_FEATURE)
        if self.state is State.CONTACTING:
            self._next_version()
        elif self.state is State.UNLOADING and isinstance(message, messages.Unload):
            self._out.append(actions.Done(self._waiting, error))
            self._forget()
        elif (handler := _UNPOSTED.get(type(message))) is not None:
            handler(self, message, error)
        return self._flush()

    # -- told by the host ----------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Action]:
        """Handle one channel message. Never raises, whatever the bytes are."""
        version = self.version or self._trying[self._asked]
        try:
            message = wire.decode(data, version, self.features, sender=wire.Sender.HOST)
        except wire.WireError as error:
            return [actions.Refused(error.problem, str(error))]
        name = type(message).__name__
        states, handler = _HANDLERS.get(type(message), ((), None))
        if handler is None:
            self._refuse(name, f"{message} was not asked for")
        elif self.state not in states:
            self._refuse(name, f"{message} while {self.state}")
        else:
            handler(self, message)
        return self._flush()

    def _on_version_response(
        self, message: messages.VersionResponse | messages.VersionResponse2 | messages.VersionResponse3
    ) -> None:
        version = self._trying[self._asked]
        state = message.connection_state if version >= versions.HAS_STATE else messages.ConnectionState.OK
        if not message.version_supported:
            self._next_version()
        elif state != messages.ConnectionState.OK:
            # Another version would meet the same trouble (case 027).
            self._contact_failed(f"the host cannot connect us now, connection state {state}", state)
        elif version < self.options.minimum:
            # As Linux, whose connection counts as disconnected before it would unload: nothing is sent.
            least = versions.text(self.options.minimum)
            self._contact_failed(f"the host speaks {versions.text(version)}, at least {least} is needed", 0)
        else:
            self._connected(version, message)

    def _next_version(self) -> None:
        self._asked += 1
        if self._asked < len(self._trying):
            self._ask()
        else:
            self._contact_failed("no common protocol version", 0)

    def _contact_failed(self, text: str, state: int) -> None:
        self.state = State.SUSPENDED if self._resuming else State.DISCONNECTED
        self._asked = 0
        self._resuming = False
        self._out.append(actions.Done(self._waiting, RefusedError(text, state)))

    def _connected(
        self,
        version: int,
        message: messages.VersionResponse | messages.VersionResponse2 | messages.VersionResponse3,
    ) -> None:
        self.state = State.CONNECTED
        self.version = version
        self.features = versions.granted(version, self.options, message)
        self.monitor_pages = self.options.monitor_pages
        if isinstance(message, messages.VersionResponse3):
            self.monitor_pages = (
                message.parent_to_child_monitor_page_gpa,
                message.child_to_parent_monitor_page_gpa,
            )
        if version >= wire.V5_0:
            self._connection = message.selected_version_or_connection_id
        if self._resuming:
            self._request_offers()
            self._came_back()
        else:
            self._out.append(actions.Done(self._waiting))

    def _on_offer(self, message: messages.Offer) -> None:
        if not self._offers_asked:
            self._refuse("Offer", f"relid {message.child_relid} was offered before offers were requested")
        elif not self._offered_again(message):
            answers = self._sockets.is_answered_by(Entry(message))
            if self._take_offer(message, answers=answers) and answers:
                token = self._sockets.end(message.if_instance, message.if_type)
                self._out.append(actions.Done(token, relid=message.child_relid))

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
        self._left()

    # -- small change --------------------------------------------------------------------------------------

    def _forget(self) -> None:
        over = ChannelGone("the connection is over")
        self._fail_requests(over)
        for entry in self.channels.values():
            self._fail(entry, over)
            self._finish_closers(entry, None)
        self.channels = {}
        self._keys.clear()
        self._devices.clear()
        self._tearing.clear()
        self.state = State.DISCONNECTED
        self.version = wire.NOT_CONNECTED
        self.features = self._asked = 0
        self.monitor_pages = (0, 0)
        self._waiting = self._deadline = self._held = None
        self.paused = self._offers_asked = self._collecting = False
        self._suspending = self._resuming = False


_Handler = Callable[[Client, Any], None]
_EVERY_FEATURE: Final = versions.FEATURES & ~versions.LONG_OPEN
_CONTACTING: Final = (State.CONTACTING,)
_CONNECTED: Final = (State.CONNECTED,)
_ALIVE: Final = (State.CONNECTED, State.SUSPENDING)
_UNLOADING: Final = (State.UNLOADING,)

_HANDLERS: Final[dict[type[msgspec.Struct], tuple[tuple[State, ...], _Handler]]] = {
    messages.VersionResponse: (_CONTACTING, Client._on_version_response),
    messages.VersionResponse2: (_CONTACTING, Client._on_version_response),
    messages.VersionResponse3: (_CONTACTING, Client._on_version_response),
    messages.Offer: (_CONNECTED, Client._on_offer),
    messages.AllOffersDelivered: (_ALIVE, Client._on_offers_delivered),
    messages.Rescind: (_ALIVE, Client._on_rescind),
    messages.GpadlCreated: (_ALIVE, Client._on_created),
    messages.OpenResult: (_ALIVE, Client._on_open_result),
    messages.GpadlTorndown: (_ALIVE, Client._on_torndown),
    messages.ModifyChannelResponse: (_ALIVE, Client._on_modified),
    messages.TlConnectResult: (_ALIVE, Client._on_socket_result),
    messages.ModifyConnectionResponse: (_ALIVE, Client._on_connection_modified),
    messages.PauseResponse: (_ALIVE, Client._on_paused),
    messages.UnloadResponse: (_UNLOADING, Client._on_unloaded),
}
"""In which states of the connection a message counts, and who handles it; anything else is refused."""

_UNPOSTED: Final[dict[type[msgspec.Struct], Callable[[Client, Any, VmbusError], None]]] = {
    messages.GpadlHeader: Client._open_unposted,
    messages.GpadlBody: Client._open_unposted,
    messages.Open: Client._open_unposted,
    messages.Open2: Client._open_unposted,
    messages.Close: Client._close_unposted,
    messages.GpadlTeardown: Client._close_unposted,
    messages.ModifyChannel: Client._retarget_unposted,
    messages.TlConnect: Client._socket_unposted,
    messages.TlConnect2: Client._socket_unposted,
}
"""What depends on a message that could not be sent; nothing depends on the others."""
