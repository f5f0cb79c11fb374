"""Connection: one guest's connection from contact to its end, and everything that ends it.

Nothing of a connection outlives `Disconnected` except channels open as reserved. The end is reached when
every other channel has given its relid back; what then happens (UNLOAD_RESPONSE, the answer to a newer
contact, the report of a reset) was decided when the end began. The guest's pages are let go first (case 157).
Sources: OpenVMM vmbus_server/src/channels.rs, cases 001-017, 156-170, 292, 293.
"""

import enum
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import msgspec

from vmbusd.abi import messages, wire
from vmbusd.abi.packing import NO_GUID
from vmbusd.bus.effects import Disconnected, ForwardContact, ModifyPages, ResetDone, ResetPages
from vmbusd.bus.lifecycle import Lifecycle
from vmbusd.bus.negotiation import (
    NO_PAGES,
    NO_PLAN,
    Contact,
    Pages,
    Plan,
    negotiate,
    other_sint,
    other_vtl,
    pages_exist,
    response,
)
from vmbusd.bus.options import BusOptions
from vmbusd.bus.outbox import Outbox
from vmbusd.bus.refusal import Kind, Refusal
from vmbusd.bus.registry import Registry
from vmbusd.bus.targets import Targets

_OK: Final = messages.ConnectionState.OK
_FAILURE: Final = messages.ConnectionState.UNKNOWN_FAILURE
_CHOSEN_FLAGS: Final = int(messages.Feature.GUEST_SIGNAL_PARAMETERS)


class ConnectionState(enum.StrEnum):
    """Where a connection stands. CONNECTING lasts while the backend maps the pages of a contact."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    DISCONNECTING = "disconnecting"


class Waiting(msgspec.Struct, frozen=True):
    """A contact to be answered when the disconnect is done."""

    contact: Contact
    trusted: bool


@dataclass(slots=True)
class Current:
    """The connection of now. `version` and `features` are 0 except while connected."""

    state: ConnectionState = ConnectionState.DISCONNECTED
    plan: Plan = NO_PLAN
    version: int = wire.NOT_CONNECTED
    features: int = 0
    trusted: bool = False
    client_id: UUID = NO_GUID
    offers_sent: bool = False
    pages: Pages = NO_PAGES
    """Pages in use."""
    modifying: Pages | None = None
    """Pages that the backend was asked to use instead."""
    unload_asked: bool = False
    """Send UNLOAD_RESPONSE when the disconnect is done, at `plan.version`."""
    contact: Waiting | None = None
    """Answer this contact when the disconnect is done."""


class Connection:
    """The connection of a partition's guest.

    Attributes: `now`, its state; `resets`, callers waiting for a reset; `ticket`, of the last ModifyPages;
    `capped`, whether `max_version` holds already.
    """

    def __init__(
        self,
        options: BusOptions,
        outbox: Outbox,
        registry: Registry,
        targets: Targets,
        lifecycle: Lifecycle,
        *,
        vps: int,
        ram_pages: int,
    ) -> None:
        self._options = options
        self._outbox = outbox
        self._registry = registry
        self._targets = targets
        self._lifecycle = lifecycle
        self._vps = vps
        self._ram_pages = ram_pages
        self.ticket = 0
        self.capped = not options.max_version_later
        self.now = Current()
        self.resets = 0

    # Contact

    def initiate_contact(self, contact: Contact, data: bytes, connection_id: int, *, trusted: bool) -> None:
        """INITIATE_CONTACT. Raises Refusal when it is for a SINT or VTL where there is nobody."""
        if sint := other_sint(contact, connection_id):
            vp = contact.target_vcpu if contact.target_vcpu < self._vps else 0
            self._outbox.send_to(messages.VersionResponse(0, 0, 0), vp, sint)
        elif vtl := other_vtl(contact, connection_id):
            if vtl not in self._options.linked_vtls:
                raise Refusal(Kind.WRONG_TARGET, f"contact names VTL {vtl}, which has no server")
            self._outbox.add(ForwardContact(data, vtl))
        elif self.now.state is ConnectionState.DISCONNECTED:
            self._contact(Waiting(contact, trusted))
        else:
            # Also the contact of an unknown version ends the connection that stands (cases 163-165).
            self.now.unload_asked, self.now.contact = False, Waiting(contact, trusted)
            if self.now.state is ConnectionState.CONNECTED:
                self._disconnect()

    def _contact(self, asked: Waiting) -> None:
        contact = asked.contact
        plan = negotiate(
            contact,
            self._options,
            newest=self._options.max_version if self.capped else wire.V6_0,
            vps=self._vps,
            ram_pages=self._ram_pages,
            trusted=asked.trusted,
        )
        self._outbox.vp = plan.vp
        if plan.version == wire.NOT_CONNECTED or plan.state is not _OK:
            self._outbox.send(response(plan, plan.state))
            return
        client_id = contact.client_id if isinstance(contact, messages.InitiateContact2) else NO_GUID
        self.now = Current(ConnectionState.CONNECTING, plan, trusted=asked.trusted, client_id=client_id)
        if plan.pages == NO_PAGES:
            self._connected()
        else:
            self._ask_pages(plan.pages)

    def _connected(self) -> None:
        now, plan = self.now, self.now.plan
        now.state, now.version, now.features = ConnectionState.CONNECTED, plan.version, plan.features
        self.speak(plan.version, plan.features)
        self._lifecycle.connected = True
        self._outbox.send(response(plan, _OK))
        if now.contact is not None:
            self._disconnect()

    def speak(self, version: int, features: int) -> None:
        """What the channels live by from now on."""
        self._targets.version = version
        self._registry.chosen_flags = bool(features & _CHOSEN_FLAGS)
        self._lifecycle.features = features

    # Pages

    def _ask_pages(self, pages: Pages) -> None:
        self.ticket += 1
        self.now.modifying = pages
        request = self.request()
        assert request is not None
        self._outbox.add(request)

    def request(self) -> ModifyPages | None:
        """What the backend was asked and has not answered."""
        pages = self.now.modifying
        if pages is None:
            return None
        return ModifyPages(
            self.ticket, pages.interrupt, pages.parent_to_child, pages.child_to_parent, pages.own_monitor
        )

    def pages_modified(self, ticket: int, *, ok: bool) -> None:
        """The backend uses the pages, or cannot. Raises Refusal when that was not asked, or no longer."""
        now = self.now
        if ticket != self.ticket or now.modifying is None:
            raise Refusal(Kind.STALE_ANSWER, f"pages of ticket {ticket}")
        if ok:
            now.pages = now.modifying
            self._lifecycle.monitors.active = now.pages.child_to_parent != 0
        now.modifying = None
        if now.state is ConnectionState.DISCONNECTING:
            # Whoever asked is being disconnected: pages in use are let go with the rest, nobody is answered.
            return
        if now.state is ConnectionState.CONNECTED:
            self._outbox.send(messages.ModifyConnectionResponse(_OK if ok else _FAILURE))
        elif ok:
            self._connected()
        else:
            self.now = Current()
            self._outbox.send(response(now.plan, _FAILURE))
            if now.contact is not None:
                self._contact(now.contact)

    def modify(self, message: messages.ModifyConnection) -> None:
        """MODIFY_CONNECTION: other monitor pages, or none (cases 156, 304)."""
        parent, child = message.parent_to_child_monitor_page_gpa, message.child_to_parent_monitor_page_gpa
        now, pages = self.now, Pages(0, parent, child)
        if (
            (parent == 0) != (child == 0)
            or now.modifying is not None
            or now.pages.own_monitor
            or self._lifecycle.monitors.armed
            or not pages_exist(pages, self._ram_pages)
        ):
            self._outbox.send(messages.ModifyConnectionResponse(_FAILURE))
        elif self._options.guest_pages:
            self._ask_pages(pages)
        else:
            self._outbox.send(messages.ModifyConnectionResponse(_OK))

    # Flow

    def pause(self, _message: messages.Pause) -> None:
        """PAUSE: the answer is the last message until the guest wants more (case 292)."""
        self._outbox.send(messages.PauseResponse())
        self._outbox.paused = True

    def resume(self, _message: messages.Resume) -> None:
        """RESUME; whoever decides what is heard while paused has let the messages out."""

    # The end

    def unload(self, _message: messages.Unload) -> None:
        """UNLOAD."""
        self.now.unload_asked = True
        self._disconnect()

    def guest_gone(self) -> None:
        """The guest's link ended: an unload without an answer (case 176)."""
        self.now.unload_asked, self.now.contact = False, None
        self._outbox.paused = False
        self._outbox.drop_held()
        if self.now.state is ConnectionState.DISCONNECTED:
            self._outbox.add(Disconnected())
        elif self.now.state is not ConnectionState.DISCONNECTING:
            self._disconnect()

    def reset(self) -> None:
        """Everything closes, reserved channels too; whoever asked is told by ResetDone (cases 166-170)."""
        self.resets += 1
        if self.resets > 1:
            return
        self.now.unload_asked, self.now.contact = False, None
        self._outbox.paused = False
        self._outbox.drop_held()
        self._disconnect(everything=True)

    def _disconnect(self, *, everything: bool = False) -> None:
        now = self.now
        now.state, now.version, now.features = ConnectionState.DISCONNECTING, wire.NOT_CONNECTED, 0
        self._lifecycle.connected = self._lifecycle.offering = False
        for channel in self._registry.all():
            self._lifecycle.reset(channel, everything=everything)

    def finish(self) -> None:
        """At the end of each input: a disconnect is done when no channel has a relid, but those kept."""
        ended = self.now
        while ended.state is ConnectionState.DISCONNECTING and self._registry.ids.in_use == len(
            self._lifecycle.kept
        ):
            self._ended(ended)
            ended = self.now

    def _ended(self, ended: Current) -> None:
        self.now = Current()
        self._lifecycle.monitors.active = False
        if ended.plan.version:
            self.capped = True
        if ended.pages != NO_PAGES or ended.modifying is not None:
            self._outbox.add(ResetPages())
        self._outbox.add(Disconnected())
        if self.resets:
            self._outbox.add(ResetDone(self.resets))
            self.resets = 0
        if ended.unload_asked and ended.plan.version >= wire.V1_1:
            self._outbox.send(messages.UnloadResponse())
        elif ended.contact is not None:
            self._contact(ended.contact)
