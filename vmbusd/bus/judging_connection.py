"""Judging the connection: which version, features, pages and ends a saved connection can have.

A daemon may be told to accept less than the one that saved: what it would not accept now is refused (cases
211, 212). Source: `connection`, `negotiation`.
"""

from typing import Final

from vmbusd.abi import messages, wire
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.messages import ConnectionState as Result
from vmbusd.abi.packing import NO_GUID
from vmbusd.bus.connection import ConnectionState
from vmbusd.bus.judging_channels import Wrong
from vmbusd.bus.negotiation import NO_PAGES, NO_PLAN, Contact, Pages, pages_exist, supported_features
from vmbusd.bus.options import VERSIONS, BusOptions
from vmbusd.bus.saved import SavedConnection

_EVERY_FEATURE: Final = int(~messages.Feature(0))


def wrong_with_connection(
    saved: SavedConnection, *, vps: int, ram_pages: int, options: BusOptions, busy: bool
) -> Wrong:
    """All that cannot be; `busy`: a channel has a relid that a disconnect waits for."""
    state, plan = saved.state, saved.plan
    disconnected = state is ConnectionState.DISCONNECTED
    capped = saved.capped or not options.max_version_later
    newest = options.max_version if capped else wire.V6_0
    yield from wrong_version("plan.version", plan.version, newest, may_be_none=True)
    supported = supported_features(options, trusted=saved.trusted)
    yield from wrong_features("plan.features", plan.features, plan.version, supported)
    yield from wrong_version("spoken", saved.spoken, wire.V6_0, may_be_none=True)
    yield from wrong_features("spoken_features", saved.spoken_features, saved.spoken, _EVERY_FEATURE)
    if plan.vp >= vps or plan.vp < 0 or plan.state is not Result.OK:
        yield "plan", f"VP {plan.vp} of {vps}, {plan.state.name}"
    for field, pages in (("plan.pages", plan.pages), ("pages", saved.pages), ("modifying", saved.modifying)):
        if pages is not None and (text := _objection(pages, ram_pages, options)):
            yield field, text
    if saved.modifying is not None and not saved.ticket:
        yield "ticket", "0, and the backend was asked for pages"
    if saved.contact is not None:
        try:
            contact_in(saved.contact.data)
        except ProtocolError as error:
            yield "contact", str(error)
    if disconnected != (plan == NO_PLAN) and state is not ConnectionState.DISCONNECTING:
        yield "plan", f"version {plan.version:#x} while {state}"
    yield from _ends(saved, busy)
    if state is ConnectionState.CONNECTED and (
        saved.spoken != plan.version or saved.spoken_features != plan.features
    ):
        yield "spoken", f"{saved.spoken:#x} with features {saved.spoken_features:#x} is not the plan's"


def _ends(saved: SavedConnection, busy: bool) -> Wrong:
    """What each state of a connection can have under way."""
    state = saved.state
    connecting, disconnecting = ConnectionState.CONNECTING, ConnectionState.DISCONNECTING
    if state is disconnecting and not busy:
        yield "state", "disconnecting, and nothing is waited for"
    if saved.resets and state is not disconnecting:
        yield "resets", f"{saved.resets} while {state}"
    if saved.unload_asked and not (state is disconnecting and saved.contact is None and saved.plan.version):
        yield "unload_asked", f"while {state}"
    if saved.contact is not None and state not in (connecting, disconnecting):
        yield "contact", f"while {state}"
    if state is connecting and (saved.modifying is None or saved.modifying != saved.plan.pages):
        yield "modifying", "not what the contact asked for"
    if saved.pages != NO_PAGES and state in (connecting, ConnectionState.DISCONNECTED):
        yield "pages", f"in use while {state}"
    if saved.offers_sent and state in (connecting, ConnectionState.DISCONNECTED):
        yield "offers_sent", f"while {state}"
    if state is ConnectionState.DISCONNECTED:
        if saved.modifying is not None:
            yield "modifying", "without a connection"
        if saved.trusted or saved.client_id != NO_GUID:
            yield "client_id", "of nobody"


def wrong_version(field: str, version: int, newest: int, *, may_be_none: bool = False) -> Wrong:
    """Whether a connection can speak this version."""
    if not (may_be_none and version == wire.NOT_CONNECTED):
        if version not in VERSIONS:
            yield field, f"{version:#x} is no version of VMBus"
        elif version > newest:
            yield field, f"{_text(version)}, at most {_text(newest)} is accepted"


def wrong_features(field: str, features: int, version: int, supported: int) -> Wrong:
    """Whether a connection at this version can have these features."""
    if features < 0 or features & ~supported:
        yield field, f"{features:#x}, {supported:#x} are supported"
    elif features and version < wire.V6_0:
        yield field, f"{features:#x} at {_text(version)}"


def contact_in(data: bytes) -> Contact:
    """The contact in these bytes. Raises ProtocolError when they are none."""
    message = wire.decode(data, wire.NOT_CONNECTED)
    if not isinstance(message, Contact):
        raise ProtocolError(f"{type(message).__name__} is no contact")
    return message


def _objection(pages: Pages, ram_pages: int, options: BusOptions) -> str:
    own = options.monitor_pages
    if pages.own_monitor:
        if own != (pages.parent_to_child, pages.child_to_parent):
            return "own monitor pages of another backend"
    elif pages != NO_PAGES and not options.guest_pages:
        return "the backend takes no pages of the guest"
    elif (pages.parent_to_child == 0) != (pages.child_to_parent == 0):
        return "one monitor page"
    if not pages_exist(pages, ram_pages):
        return f"outside the {ram_pages} pages of guest memory"
    return ""


def _text(version: int) -> str:
    return f"{version >> 16}.{version & 0xFFFF}"
