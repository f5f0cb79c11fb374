"""The words of the script language that name no message: options, calls, states, happenings."""

import difflib
from collections.abc import Callable, Iterable
from typing import Final

from tests.conformance import values
from tests.conformance.script import Value
from tests.conformance.vocabulary import plain


def _switch(text: str) -> Value:
    return bool(values.number(text))


OPTIONS: Final[dict[str, Callable[[str], Value]]] = {
    "vps": values.number,
    "pages": values.number,
    "versions": lambda text: tuple(values.number(part) for part in text.split(",")),
    "manual-claims": _switch,
    "manual-pages": _switch,
    "max-version": values.number,
    "cap": values.number,
    "trusted": _switch,
    "max-version-later": _switch,
    "absolute-order": _switch,
    "relid-offset": values.number,
    "max-unfinished-gpadls": values.number,
    "guest-pages": _switch,
    "monitor-pages": values.numbers,
    "gpa-pinning": _switch,
    "linked-vtls": values.numbers,
    "minimum-version": values.number,
    "interfaces": lambda text: frozenset(map(values.guid, text.split(","))),
    "features": lambda text: values.number(text, 32),
    "client-id": values.guid,
}
"""Options of a script and how their value is read; one without a value is switched on."""

QUESTIONS: Final = {
    "DONE": "",
    "OPEN": "Open",
    "CLOSE": "Close",
    "GPADL": "Gpadl",
    "TEARDOWN": "Teardown",
    "RETARGET": "Retarget",
    "WITHDRAW": "Withdraw",
    "SOCKETCONNECT": "SocketConnect",
}
"""`done`, and what the device may have been asked."""
CALLS: Final = {
    "connect": (),
    "request_offers": (),
    "open": ("relid", "vp", "offset", "pages", "user"),
    "close": ("relid",),
    "retarget": ("relid", "vp"),
    "release": ("relid",),
    "drop": ("relid",),
    "unload": (),
    "crash": (),
    "suspend": (),
    "resume": (),
    "pause": (),
    "unpause": (),
    "modify_connection": ("page1", "page2"),
    "connect_socket": ("endpoint", "service", "silo"),
    "lost": (),
}
"""What an application can ask of a guest's client."""
SAME_CALLS: Final = {
    "give_up": "release",
    "disconnect": "unload",
    "tl_connect": "connect_socket",
    "socket_connect": "connect_socket",
    "link_lost": "lost",
}
"""Other words for the same."""
TOLD: Final = {
    "done": ("op", "relid"),
    "error": ("op", "kind", "text"),
    "offered": ("relid", "interface", "instance", "subchannel", "primary", "vp"),
    "offers_delivered": (),
    "opened": ("relid",),
    "detach": ("relid",),
    "free": ("relid",),
    "gone": ("relid",),
    "suspended": (),
    "resumed": ("relid", "was", "instance"),
    "missing": ("relid",),
    "refused": ("kind",),
}
"""What a guest's client tells its application."""
STATES: Final = {
    "connected": "version",
    "connecting": "version",
    "disconnected": "",
    "disconnecting": "",
    "contacting": "",
    "unloading": "",
    "suspending": "",
    "suspended": "",
    "channels": "number",
    "refused": "number",
    "relids": "number",
    "open": "number",
    "gpadls": "number",
    "unfinished_gpadls": "number",
    "channel": "fields",
    "features": "number",
    "client_id": "guid",
    "paused": "number",
    "accepting": "number",
    "silence": "",
}
"""What an observer can be asked, and what stands after it."""
VIEW_FIELDS: Final = (
    "state",
    "vp",
    "flag",
    "generation",
    "host",
    "subchannel",
    "interface",
    "instance",
    "phase",
    "primary",
    "connection",
)
HAPPENINGS: Final = {
    r"guest gone": "guest_gone",
    r"guest attach": "guest_attach",
    r"guest blocked": "guest_blocked",
    r"guest ready": "guest_ready",
    r"host(?: (\d+))? gone": "host_gone",
    r"host(?: (\d+))? dead": "host_dead",
    r"host(?: (\d+))? attach": "host_attach",
    r"vp (\d+) offline(?: to)? (\d+)": "vp_offline",
    r"vp (\d+) online": "vp_online",
    r"claim_free (\d+)": "claim_free",
    r"pages ok": "pages_ok",
    r"pages failed": "pages_failed",
    r"reset": "reset",
    r"reconnect(?: guest)?": "guest_reconnect",
    r"reconnect host(?: (\d+))?": "host_reconnect",
    r"save": "save",
    r"restore": "restore",
    r"port busy": "port_busy",
    r"port closed": "port_closed",
    r"port refuses": "port_refuses",
    r"port ready": "port_ready",
    r"silence": "silence",
}
"""Statements that are no messages; the numbers in them are VPs, host links or event flags."""
DIRECTIVES: Final = (
    "case",
    "side",
    "only",
    "order",
    "option",
    "version",
    "offer",
    "offers",
    "revoke",
    "gpadl",
    "open",
)


def near(text: str, known: Iterable[str]) -> str:
    """A hint for a mistyped word."""
    names = {plain(name): name for name in known}
    near = difflib.get_close_matches(plain(text), list(names), 1)
    return f"; did you mean {names[near[0]]}?" if near else ""
