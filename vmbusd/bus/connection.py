"""The connection between a guest and its host: its state, and what a contact is answered.

What a version can do is data: `ACCEPTED` and `SUPPORTED_FEATURES` say what this host speaks, the rest follows
from the numbers. Sources: OpenVMM channels.rs, spec/02 sections 5 and 6, cases 001-031.
"""

import enum
from dataclasses import dataclass
from typing import Final

import msgspec

from vmbusd.abi import messages, wire
from vmbusd.abi.layout import SINT
from vmbusd.abi.link import MESSAGE_CONNECTION_MULTI_CLIENT, MESSAGE_CONNECTION_OLD
from vmbusd.bus.refusal import Kind, Refusal

ACCEPTED: Final = frozenset({wire.V5_3})
"""Versions this host speaks; the guest's number must match exactly (spec/02 section 5)."""
SUPPORTED_FEATURES: Final = 0
"""Feature flags this host grants from 6.0 on."""
SINTS: Final = 16

Contact = messages.InitiateContact | messages.InitiateContact2 | messages.InitiateContactOld
Response = messages.VersionResponse | messages.VersionResponse2


class ConnectionState(enum.StrEnum):
    """Where a connection stands; there is no time between contact and its answer."""

    DISCONNECTED = "disconnected"
    CONNECTED = "connected"
    DISCONNECTING = "disconnecting"


class Answer(msgspec.Struct, frozen=True):
    """What a contact leads to: the response, who gets it, and the connection if there is one now."""

    response: Response
    vp: int
    sint: int = SINT
    version: int = wire.NOT_CONNECTED
    features: int = 0


@dataclass(slots=True)
class Connection:
    """One guest's connection. `version` is NOT_CONNECTED except while connected."""

    state: ConnectionState = ConnectionState.DISCONNECTED
    version: int = wire.NOT_CONNECTED
    features: int = 0
    offers_sent: bool = False
    unload_asked: bool = False
    """Send UNLOAD_RESPONSE when the disconnect is done."""
    contact: Contact | None = None
    """Answer this contact when the disconnect is done."""


def check_connection_id(message: msgspec.Struct, connection_id: int) -> None:
    """Contact may come on either message connection, everything else on the one that is answered.

    Raises Refusal.
    """
    if connection_id == MESSAGE_CONNECTION_OLD:
        return
    if connection_id != MESSAGE_CONNECTION_MULTI_CLIENT or not isinstance(message, Contact):
        raise Refusal(Kind.CONNECTION_ID, f"{type(message).__name__} on connection {connection_id}")


def asks_elsewhere(contact: Contact, connection_id: int, vps: int) -> Answer | None:
    """The answer to a contact on the multi-client connection that is not for this server (cases 016, 017).

    None if it is for this server. Raises Refusal when there is nobody to answer.
    """
    if connection_id != MESSAGE_CONNECTION_MULTI_CLIENT or isinstance(contact, messages.InitiateContactOld):
        return None
    if contact.msg_sint != SINT:
        if contact.msg_sint >= SINTS:
            raise Refusal(Kind.WRONG_TARGET, f"contact names SINT {contact.msg_sint}")
        vp = contact.target_vcpu if contact.target_vcpu < vps else 0
        return Answer(_unsupported(), vp, contact.msg_sint)
    if contact.vmbus_version_requested >= wire.V5_1 and contact.msg_vtl:
        raise Refusal(Kind.WRONG_TARGET, f"contact names VTL {contact.msg_vtl}, which has no server")
    return None


def negotiate(contact: Contact, vps: int) -> Answer:
    """The answer to a contact of a guest with `vps` virtual processors."""
    version = contact.vmbus_version_requested
    # Before 3.0 every message goes to VP 0 (case 012).
    named = contact.target_vcpu if version >= wire.V3_0 else 0
    vp = named if named < vps else 0
    if version not in ACCEPTED:
        return Answer(_unsupported(), vp)
    one_page = (contact.monitor_page1 == 0) != (contact.monitor_page2 == 0)
    if one_page or named >= vps:
        if version < wire.V2_4:
            return Answer(_unsupported(), vp)
        return Answer(_response(version, messages.ConnectionState.UNKNOWN_FAILURE, 0), vp)
    features = 0
    if version >= wire.V6_0 and not isinstance(contact, messages.InitiateContactOld):
        features = contact.feature_flags & SUPPORTED_FEATURES
    return Answer(_response(version, messages.ConnectionState.OK, features), vp, SINT, version, features)


def _unsupported() -> Response:
    return messages.VersionResponse(0, 0, 0)


def _response(version: int, state: messages.ConnectionState, features: int) -> Response:
    """Supported: the last word is the version, from 5.0 on the message connection id (case 003)."""
    word = version if version < wire.V5_0 else MESSAGE_CONNECTION_OLD
    if version >= wire.V6_0:
        return messages.VersionResponse2(1, state, word, features)
    return messages.VersionResponse(1, state, word)
