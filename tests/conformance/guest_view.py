"""What a script of the guest's side may ask about the client, and what its options make of one."""

from typing import Any, Final

import msgspec

from guest_client.entries import Entry
from guest_client.versions import DEFAULT, Options
from tests.conformance.script import Fields, Given, Script

STATES: Final = {
    "offered": "closed",
    "creating its GPADL": "opening",
    "tearing its GPADL down": "closing",
    "closing its subchannels": "closing",
    "rescinded while its primary is open": "rescinded",
}
"""What else a phase may be called after `= channel N`."""
CONNECTION: Final = {"connecting": "contacting", "disconnecting": "unloading"}
"""The same for the connection."""


def seen(entry: Entry) -> Fields:
    """What can be asked about a channel."""
    return {
        "phase": str(entry.phase),
        "state": str(entry.phase),
        "vp": entry.vp,
        "flag": entry.event_flag or entry.offer.child_relid,
        "primary": entry.primary,
        "subchannel": entry.offer.sub_channel_index,
        "interface": entry.offer.if_type,
        "instance": entry.offer.if_instance,
        "connection": entry.offer.connection_id,
    }


def options_of(played: Script, given: Given | None) -> Options:
    """What the script's options, and its `version`, make of the client."""
    asked = played.options
    version: Any = given.fields["version"] if given else None
    features: Any = given.fields.get("features", 0) if given else 0
    named = {
        "versions": asked.get("versions", (version,) if version is not None else DEFAULT.versions),
        "minimum": asked.get("minimum-version", 0),
        "features": asked.get("features", features),
        "client_id": asked.get("client-id"),
        "interfaces": asked.get("interfaces"),
        "vps": asked.get("vps", 1),
        "monitor_pages": asked.get("monitor-pages", (0, 0)),
    }
    return msgspec.convert(named, Options)
