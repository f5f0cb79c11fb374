"""The words of the script language: names of messages and of their fields, taken from the wire's own tables.

A message is called what the catalogue's table of sizes calls it; Linux's name and the class's name mean the
same, underscores and case never matter. A field has the name of its struct and the short names below. Nothing
here is a second table of messages: a new message of `wire` or `device_link` is a new word of the language.
"""

from dataclasses import dataclass, field
from typing import Final, get_args, get_type_hints

import msgspec

from vmbusd.abi import device_link, wire
from vmbusd.abi.packing import Packing
from vmbusd.bus import effects

CATALOGUE: Final = {
    1: "OFFER_CHANNEL",
    2: "RESCIND_OFFER",
    3: "REQUEST_OFFERS",
    4: "ALL_OFFERS_DELIVERED",
    5: "OPEN_CHANNEL",
    6: "OPEN_RESULT",
    7: "CLOSE_CHANNEL",
    8: "GPADL_HEADER",
    9: "GPADL_BODY",
    10: "GPADL_CREATED",
    11: "GPADL_TEARDOWN",
    12: "GPADL_TORNDOWN",
    13: "RELID_RELEASED",
    14: "INITIATE_CONTACT",
    15: "VERSION_RESPONSE",
    16: "UNLOAD",
    17: "UNLOAD_COMPLETE",
    18: "OPEN_RESERVED",
    19: "CLOSE_RESERVED",
    20: "CLOSE_RESERVED_RESPONSE",
    21: "TL_CONNECT_REQUEST",
    22: "MODIFY_CHANNEL",
    23: "TL_CONNECT_RESULT",
    24: "MODIFY_CHANNEL_RESPONSE",
    25: "MODIFY_CONNECTION",
    26: "MODIFY_CONNECTION_RESPONSE",
    27: "PAUSE",
    28: "PAUSE_RESPONSE",
    29: "RESUME",
}
"""What the messages are called in scripts and in what the runner prints."""

MORE_NAMES: Final = {
    1: ("OFFER",),
    2: ("RESCIND", "RESCIND_CHANNEL_OFFER"),
    4: ("ALL_OFFERS",),
    5: ("OPEN",),
    6: ("OPEN_CHANNEL_RESULT",),
    7: ("CLOSE",),
    14: ("CONTACT",),
    17: ("UNLOAD_RESPONSE",),
    18: ("OPEN_RESERVED_CHANNEL",),
    19: ("CLOSE_RESERVED_CHANNEL",),
    20: ("CLOSE_RESERVED_CHANNEL_RESPONSE",),
    21: ("TL_CONNECT",),
    22: ("MODIFY",),
    24: ("MODIFY_RESPONSE",),
}

SHORT: Final = {
    "child_relid": ("relid", "channel", "channel_id"),
    "openid": ("open_id",),
    "ringbuffer_gpadlhandle": ("gpadl", "ring_gpadl", "ring"),
    "target_vp": ("vp",),
    "target_vcpu": ("vp", "target_vp"),
    "downstream_ringbuffer_pageoffset": ("offset", "ring_offset", "downstream_page", "downstream"),
    "userdata": ("user_data", "user", "data"),
    "connection_id": ("connection",),
    "event_flag": ("flag",),
    "open_flags": ("flags",),
    "gpadl": ("gpadl_id", "handle"),
    "range_buflen": ("length", "buflen"),
    "rangecount": ("count", "range_count"),
    "ranges": ("data",),
    "msgnumber": ("number",),
    "creation_status": ("status",),
    "vmbus_version_requested": ("version",),
    "msg_sint": ("sint",),
    "msg_vtl": ("vtl",),
    "feature_flags": ("features",),
    "monitor_page1": ("page1", "parent_to_child"),
    "monitor_page2": ("page2", "child_to_parent"),
    "parent_to_child_monitor_page_gpa": ("page1", "parent_to_child"),
    "child_to_parent_monitor_page_gpa": ("page2", "child_to_parent"),
    "client_id": ("client",),
    "version_supported": ("supported",),
    "connection_state": ("state",),
    "selected_version_or_connection_id": ("selected", "version", "connection", "connection_id"),
    "supported_features": ("features",),
    "target_sint": ("sint",),
    "guest_endpoint_id": ("endpoint", "endpoint_id"),
    "host_service_id": ("service", "service_id"),
    "silo_id": ("silo",),
    "if_type": ("interface", "interface_id"),
    "if_instance": ("instance", "instance_id"),
    "chn_flags": ("flags", "channel_flags"),
    "mmio_megabytes": ("mmio",),
    "mmio_megabytes_optional": ("mmio_optional",),
    "user_defined": ("user", "user_data", "data"),
    "sub_channel_index": ("subchannel", "subchannel_index", "index"),
    "monitorid": ("monitor", "monitor_id"),
    "monitor_allocated": ("allocated",),
    "is_dedicated_interrupt": ("dedicated",),
    # Device messages
    "offer_id": ("id", "offer"),
    "interface_id": ("interface", "if_type"),
    "instance_id": ("instance", "if_instance"),
    "subchannel_index": ("subchannel", "sub_channel_index", "index"),
    "ring_gpadl": ("gpadl", "ring"),
    "downstream_page": ("offset", "ring_offset", "downstream"),
    "user_data": ("user", "userdata", "data"),
    "range_count": ("count", "rangecount"),
    "text": ("reason",),
    "endpoint_id": ("endpoint",),
    "service_id": ("service",),
    "request_id": ("request",),
}

RANGES: Final = {
    "pages": "page_count",
    "pfns": "pfns",
    "pfn": "pfns",
    "page": "pfns",
    "bytes": "byte_count",
    "byte_count": "byte_count",
    "byte_offset": "byte_offset",
    "offset": "byte_offset",
    "words": "words",
}
"""Ways to write the range buffer of a GPADL, beside the bytes themselves."""


def plain(name: str) -> str:
    """A name as it is compared: upper case, no underscores or hyphens, no Linux prefix."""
    return name.upper().replace("CHANNELMSG_", "").replace("_", "").replace("-", "")


@dataclass(frozen=True)
class Kind:
    """One kind of message. `fields`: every accepted name -> field of the struct; `types`: field -> (type,
    struct code). `forms` are the classes that have this number, the longest first."""

    name: str
    number: int
    sender: str
    forms: tuple[type[msgspec.Struct], ...]
    fields: dict[str, str] = field(default_factory=dict)
    types: dict[str, tuple[type, str]] = field(default_factory=dict)

    @property
    def struct(self) -> type[msgspec.Struct]:
        """The shortest form."""
        return self.forms[-1]


def _words(forms: tuple[type[msgspec.Struct], ...]) -> tuple[dict[str, str], dict[str, tuple[type, str]]]:
    types: dict[str, tuple[type, str]] = {}
    for form in reversed(forms):
        for name, hint in get_type_hints(form, include_extras=True).items():
            if name in form.__struct_fields__:
                kind, code = get_args(hint)[:2]
                types.setdefault(name, (kind, code))
    fields = {plain(name): name for name in types}
    for name in types:
        for short in SHORT.get(name, ()):
            fields.setdefault(plain(short), name)
    return fields, types


def _channel_messages() -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    for number, name in CATALOGUE.items():
        rows = [row for row in wire.MESSAGES if row.number == number]
        forms = tuple(dict.fromkeys(row.cls for row in rows))
        fields, types = _words(forms)
        if number in (8, 9):
            fields |= {plain(short): target for short, target in RANGES.items()}
        kind = Kind(name, number, rows[0].sender.name, forms, fields, types)
        names = [name, *MORE_NAMES.get(number, ()), *(row.name for row in rows)]
        names += [form.__name__ for form in forms]
        for each in names:
            kinds.setdefault(plain(each), kind)
    # A whole GPADL at once: header and bodies.
    whole = kinds["GPADLHEADER"]
    kinds["GPADL"] = Kind("GPADL", 8, "GUEST", whole.forms, whole.fields, whole.types)
    return kinds


def _device_messages(kinds: dict[int, type[msgspec.Struct]], sender: str) -> dict[str, Kind]:
    found = {}
    for number, form in kinds.items():
        fields, types = _words((form,))
        if plain("chn_flags") in fields:
            # `flags` of an offer are the flags that the guest sees; the protocol's own have a longer name.
            fields[plain("flags")], fields[plain("offer_flags")] = "chn_flags", "flags"
        fields.setdefault(plain("relid"), "relid")
        types.setdefault("relid", (int, "I"))
        if form is device_link.Open:
            # No field of the device's: what the guest asked with, which its result must carry.
            fields |= {plain("open_id"): "openid"}
            types["openid"] = (int, "I")
        if "ranges" in types:
            fields |= {plain(short): target for short, target in RANGES.items()}
        name = device_link.Kind(number).name.lower()
        found[plain(name)] = found[plain(form.__name__)] = Kind(name, number, sender, (form,), fields, types)
    return found


CHANNEL: Final = _channel_messages()
"""Channel messages by plain name."""
_ALL: Final = {
    cls.kind: cls for cls in vars(device_link).values() if isinstance(getattr(cls, "kind", None), int)
}
FROM_HOST: Final = _device_messages(
    {number: cls for number, cls in _ALL.items() if number in device_link.FROM_HOST_KINDS}, "HOST"
)
"""Device messages of a host by plain name."""
TO_HOST: Final = _device_messages(
    {number: cls for number, cls in _ALL.items() if number not in device_link.FROM_HOST_KINDS}, "DAEMON"
)
"""Device messages to a host by plain name."""


def _backend() -> dict[str, Kind]:
    """What the bus has its server do beside sending messages: the other effects, under their own names."""
    found = {}
    others = (effects.SendToGuest, effects.AskHost, effects.Refused)
    for form in get_args(effects.Effect):
        if form not in others:
            hints = get_type_hints(form)
            types = {name: (hints[name], "Q") for name in form.__struct_fields__}
            fields = {plain(name): name for name in types}
            found[plain(form.__name__)] = Kind(form.__name__, 0, "BUS", (form,), fields, types)
    return found


BACKEND: Final = _backend()
"""Effects of the bus by plain name."""

BY_FORM: Final = {
    form: kind for kind in reversed(CHANNEL.values()) for form in kind.forms if kind.name != "GPADL"
} | {
    form: kind for kind in (*FROM_HOST.values(), *TO_HOST.values(), *BACKEND.values()) for form in kind.forms
}
"""The kind of a decoded message."""


def fixed_size(form: type[msgspec.Struct]) -> int:
    """Bytes of a device message's fixed part."""
    return Packing(form).size
