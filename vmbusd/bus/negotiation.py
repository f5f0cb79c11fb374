"""Negotiation: what a contact leads to, as pure functions from the contact and the options.

Sources: OpenVMM vmbus_server/src/channels.rs, cases 001-017, 031, 301.
"""

from typing import Final

import msgspec

from vmbusd.abi import messages, wire
from vmbusd.abi.layout import PAGE, SINT
from vmbusd.abi.link import MESSAGE_CONNECTION_MULTI_CLIENT, MESSAGE_CONNECTION_OLD
from vmbusd.abi.messages import ConnectionState, Feature
from vmbusd.bus.options import VERSIONS, BusOptions
from vmbusd.bus.refusal import Kind, Refusal

ALWAYS_SUPPORTED: Final = int(
    Feature.GUEST_SIGNAL_PARAMETERS
    | Feature.INTERRUPT_REDIRECTION
    | Feature.MODIFY_CONNECTION
    | Feature.CLIENT_ID
    | Feature.PAUSE_RESUME
)
SINTS: Final = 16

Contact = messages.InitiateContact | messages.InitiateContact2 | messages.InitiateContactOld
Response = messages.VersionResponse | messages.VersionResponse2 | messages.VersionResponse3


class Pages(msgspec.Struct, frozen=True):
    """Pages that a connection uses (guest physical addresses, 0: none); `own_monitor`: the backend's."""

    interrupt: int = 0
    parent_to_child: int = 0
    child_to_parent: int = 0
    own_monitor: bool = False


NO_PAGES: Final = Pages()


class Plan(msgspec.Struct, frozen=True):
    """What a contact leads to: `version` is NOT_CONNECTED when it is not supported, `state` says why a
    supported one fails, `pages` must be in use before it is answered."""

    vp: int
    version: int = wire.NOT_CONNECTED
    features: int = 0
    state: ConnectionState = ConnectionState.OK
    pages: Pages = NO_PAGES


NO_PLAN: Final = Plan(0)


def check_connection_id(message: msgspec.Struct, connection_id: int) -> None:
    """Contact may come on either message connection, everything else on the one that is answered.

    Raises Refusal.
    """
    if connection_id == MESSAGE_CONNECTION_OLD:
        return
    if connection_id != MESSAGE_CONNECTION_MULTI_CLIENT or not isinstance(message, Contact):
        raise Refusal(Kind.CONNECTION_ID, f"{type(message).__name__} on connection {connection_id}")


def other_sint(contact: Contact, connection_id: int) -> int:
    """The SINT that a contact on the multi-client connection names and that is not ours (case 016), else 0.

    Raises Refusal for one that does not exist.
    """
    if connection_id != MESSAGE_CONNECTION_MULTI_CLIENT or isinstance(contact, messages.InitiateContactOld):
        return 0
    if contact.msg_sint == SINT:
        return 0
    if not 0 < contact.msg_sint < SINTS:
        raise Refusal(Kind.WRONG_TARGET, f"contact names SINT {contact.msg_sint}")
    return contact.msg_sint


def other_vtl(contact: Contact, connection_id: int) -> int:
    """The VTL that a contact on the multi-client connection names (case 017); 0 is ours."""
    if connection_id != MESSAGE_CONNECTION_MULTI_CLIENT or isinstance(contact, messages.InitiateContactOld):
        return 0
    return contact.msg_vtl if contact.vmbus_version_requested >= wire.V5_1 else 0


def negotiate(
    contact: Contact, options: BusOptions, *, newest: int, vps: int, ram_pages: int, trusted: bool
) -> Plan:
    """The plan for a contact of a guest with `vps` virtual processors; `newest` caps the version."""
    version = contact.vmbus_version_requested
    # Before 3.0 every message goes to VP 0 (case 012).
    named = contact.target_vcpu if version >= wire.V3_0 else 0
    vp = named if named < vps else 0
    if version not in VERSIONS or version > newest:
        return Plan(vp)
    features = _features(contact, options, trusted=trusted)
    pages = _pages(contact, options, features)
    one_page = (contact.monitor_page1 == 0) != (contact.monitor_page2 == 0)
    wrong = one_page or named >= vps or not pages_exist(pages, ram_pages)
    if _needs_interrupt_page(contact) and not options.guest_pages:
        wrong = True
    if not wrong:
        return Plan(vp, version, features, pages=pages)
    if version < wire.V2_4:
        return Plan(vp)  # such a guest cannot see a connection state
    return Plan(vp, version, features, ConnectionState.UNKNOWN_FAILURE)


def pages_exist(pages: Pages, ram_pages: int) -> bool:
    """Are all the pages whole pages of guest memory?"""
    return all(
        gpa % PAGE == 0 and gpa // PAGE < ram_pages
        for gpa in (pages.interrupt, pages.parent_to_child, pages.child_to_parent)
    )


def response(plan: Plan, state: ConnectionState) -> Response:
    """The VERSION_RESPONSE to a contact with this plan. The last word is the version, from 5.0 on the message
    connection id (case 003); features and pages follow from 6.0 on (cases 006, 301)."""
    version = plan.version
    if version == wire.NOT_CONNECTED or (state is not ConnectionState.OK and version < wire.V2_4):
        return messages.VersionResponse(0, 0, 0)
    word = version if version < wire.V5_0 else MESSAGE_CONNECTION_OLD
    if version < wire.V6_0:
        return messages.VersionResponse(1, state, word)
    pages = plan.pages
    if pages.own_monitor:
        return messages.VersionResponse3(
            1, state, word, plan.features, pages.parent_to_child, pages.child_to_parent
        )
    return messages.VersionResponse2(1, state, word, plan.features)


def supported_features(options: BusOptions, *, trusted: bool) -> int:
    """The feature flags that a guest at 6.0 is granted when it asks."""
    supported = ALWAYS_SUPPORTED
    if trusted:
        supported |= Feature.CONFIDENTIAL_CHANNELS
    if options.monitor_pages is not None:
        supported |= Feature.SERVER_MONITOR_PAGES
    if options.gpa_pinning:
        supported |= Feature.GPA_PINNING
    return int(supported)


def _features(contact: Contact, options: BusOptions, *, trusted: bool) -> int:
    if contact.vmbus_version_requested < wire.V6_0 or isinstance(contact, messages.InitiateContactOld):
        return 0
    return contact.feature_flags & supported_features(options, trusted=trusted)


def _needs_interrupt_page(contact: Contact) -> bool:
    """Does the guest want its interrupts in a legacy page? From 2.4 on the field is ignored (case 013)."""
    return (
        isinstance(contact, messages.InitiateContactOld)
        and contact.vmbus_version_requested < wire.V2_4
        and contact.interrupt_page != 0
    )


def _pages(contact: Contact, options: BusOptions, features: int) -> Pages:
    interrupt = 0
    if _needs_interrupt_page(contact) and isinstance(contact, messages.InitiateContactOld):
        interrupt = contact.interrupt_page
    if features & Feature.SERVER_MONITOR_PAGES and options.monitor_pages is not None:
        return Pages(interrupt, *options.monitor_pages, own_monitor=True)
    if not options.guest_pages:
        return Pages(interrupt)
    return Pages(interrupt, contact.monitor_page1, contact.monitor_page2)
