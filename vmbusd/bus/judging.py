"""Judging: whether a `SavedBus` could have been saved by a bus of these options. Trusts nothing in it.

Rules. Types and ranges were checked when it was decoded; here is what its parts say of each other. A state
that no bus can reach is refused, also where it would do no harm now: what a channel waits for must be under
way, or it waits for ever. Channels are judged one by one in `judging_channels`, the connection in
`judging_connection`. Source: `channels.TRANSITIONS`, the modules of the parts, cases 203, 211-214.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Final

import msgspec

from vmbusd.abi import messages, wire
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.layout import FLAGS
from vmbusd.bus.channels import NO_HOST, State
from vmbusd.bus.connection import ConnectionState
from vmbusd.bus.gpadls import MAX_GPADLS, MAX_TOTAL_PAGES, GpadlState
from vmbusd.bus.guest_messages import MAX_WAITING
from vmbusd.bus.ids import Ids
from vmbusd.bus.judging_channels import Around, Wrong, wrong_with
from vmbusd.bus.judging_connection import wrong_features, wrong_version, wrong_with_connection
from vmbusd.bus.negotiation import supported_features
from vmbusd.bus.options import BusOptions
from vmbusd.bus.saved import SavedBus, SavedChannel, SavedError
from vmbusd.bus.sockets import MAX_REQUESTS

_CHOSEN_FLAGS: Final = int(messages.Feature.GUEST_SIGNAL_PARAMETERS)
_NO_KEY: Final = frozenset({State.REVOKED_CLIENT_RELEASE, State.REMOVED})


def judge(saved: SavedBus, vps: int, ram_pages: int, options: BusOptions) -> None:
    """Raises SavedError naming the first field that cannot be."""
    for field, text in _wrong(saved, vps, ram_pages, options):
        raise SavedError(field, text)


def check_same(saved: SavedBus, again: SavedBus) -> None:
    """Raises SavedError unless the bus that was made of `saved` would be saved as just that, but for what its
    options decide: nothing may be lost, or be written in another way than a bus does."""
    decided = msgspec.structs.replace(
        again,
        low_relids=saved.low_relids,
        connection=msgspec.structs.replace(again.connection, capped=saved.connection.capped),
    )
    if decided != saved:
        for field in SavedBus.__struct_fields__:
            if getattr(decided, field) != getattr(saved, field):
                raise SavedError(field, "no bus is saved like this")


def _wrong(saved: SavedBus, vps: int, ram_pages: int, options: BusOptions) -> Wrong:
    if saved.vps != vps:
        yield "vps", f"{saved.vps}, the partition has {vps}"
    if saved.ram_pages != ram_pages:
        yield "ram_pages", f"{saved.ram_pages}, the partition has {ram_pages}"
    yield from _lists(saved)
    yield from _unique(saved)
    kept = sum(each.reserved is not None or each.abandoned for each in saved.channels)
    in_use = sum(each.relid != 0 for each in saved.channels)
    for field, text in wrong_with_connection(
        saved.connection, vps=vps, ram_pages=ram_pages, options=options, busy=in_use > kept
    ):
        yield f"connection.{field}", text
    around = _around(saved, vps)
    for place, channel in enumerate(saved.channels):
        for field, text in wrong_with(channel, place, around):
            yield f"channels[{place}].{field}", text
        if channel.reserved is not None:
            for field, text in _reserved(channel, options):
                yield f"channels[{place}].{field}", text
    yield from _room(saved, options)
    yield from _sockets(saved)
    yield from _messages(saved)


def _lists(saved: SavedBus) -> Wrong:
    """Every place is that of a channel, every list names it once, everything else has its range."""
    places = range(len(saved.channels))
    named = [("bound", saved.bound)]
    named += [(f"ghosts[{number}]", of) for number, (_, of) in enumerate(saved.ghosts)]
    named += [(f"flag_waiters[{number}]", of) for number, (_, of) in enumerate(saved.flag_waiters)]
    for field, of in named:
        if len(set(of)) != len(of):
            yield field, "a channel twice"
        if of and max(of) not in places:
            yield field, f"channel {max(of)} of {len(places)}"
    for due, place in saved.sockets.deadlines:
        if place not in places or not math.isfinite(due):
            yield "sockets.deadlines", f"channel {place} of {len(places)} at {due}"
    if list(saved.sockets.deadlines) != sorted(saved.sockets.deadlines, key=lambda each: each[0]):
        yield "sockets.deadlines", "not in their order"
    with_host = {place for place in places if saved.channels[place].host != NO_HOST}
    if set(saved.bound) != with_host:
        yield "bound", f"{len(saved.bound)} channels, {len(with_host)} have a host"
    owned = {channel.flag for channel in saved.channels}
    for number, (flag, _) in enumerate(saved.flag_waiters):
        if flag not in owned or not flag:
            yield f"flag_waiters[{number}]", f"nobody has event flag {flag}"
    if len(saved.generations) > FLAGS:
        yield "generations", f"{len(saved.generations)}, there are {FLAGS} event flags"
    if saved.low_relids and not 0 < min(saved.low_relids) <= max(saved.low_relids) < FLAGS:
        yield "low_relids", f"{saved.low_relids}"
    absent = {vp for vp, _ in saved.stand_ins}
    for vp, stand_in in saved.stand_ins:
        if max(vp, stand_in) >= saved.vps or stand_in in absent:
            yield "stand_ins", f"VP {stand_in} for VP {vp} of {saved.vps}"


def _unique(saved: SavedBus) -> Wrong:
    """What must be different must be different."""
    channels = saved.channels
    yield from _twice("relid", (each.relid for each in channels if each.relid))
    yield from _twice("flag", (each.flag for each in channels if each.flag))
    yield from _twice("monitor_id", (each.monitor_id for each in channels if each.owns_monitor_id))
    yield from _twice(
        "offer.offer_id", ((each.host, each.offer.offer_id) for each in channels if each.host != NO_HOST)
    )
    yield from _twice("offer", (_key(each) for each in channels if each.state not in _NO_KEY))
    unfinished = (gpadl for each in channels for gpadl in each.gpadls if gpadl.assembly is not None)
    yield from _twice("gpadls", (gpadl.handle for gpadl in unfinished))
    for field, numbers in (
        ("ghosts", saved.ghosts),
        ("flag_waiters", saved.flag_waiters),
        ("stand_ins", saved.stand_ins),
    ):
        if len({number for number, _ in numbers}) != len(numbers):
            yield field, "one of them twice"


def _twice(field: str, values: Iterable[Hashable]) -> Wrong:
    for value, count in Counter(values).items():
        if count > 1:
            yield f"channels[].{field}", f"{value} twice"
            return


def _key(channel: SavedChannel) -> Hashable:
    offer = channel.offer
    return offer.interface_id, offer.instance_id, offer.subchannel_index


def _around(saved: SavedBus, vps: int) -> Around:
    ghosts: dict[int, set[int]] = {}
    waits: dict[int, set[int]] = {}
    for lists, of in ((saved.ghosts, ghosts), (saved.flag_waiters, waits)):
        for number, places in lists:
            for place in places:
                of.setdefault(place, set()).add(number)
    connection = saved.connection
    return Around(
        vps=vps,
        connected=connection.state is ConnectionState.CONNECTED,
        queues=connection.spoken < wire.V5_3,
        chosen_flags=bool(connection.spoken_features & _CHOSEN_FLAGS),
        generations=saved.generations,
        owners={channel.flag: place for place, channel in enumerate(saved.channels) if channel.flag},
        absent=frozenset(vp for vp, _ in saved.stand_ins),
        ghosts=ghosts,
        waits=waits,
        deadlines=set(saved.sockets.deadlines),
    )


def _reserved(channel: SavedChannel, options: BusOptions) -> Wrong:
    """A reserved channel outlives the connection in which it was opened: that one is judged here."""
    if channel.reserved_in is None:
        yield "reserved_in", "no connection"
        return
    version, features = channel.reserved_in
    newest = wire.V6_0 if options.max_version_later else options.max_version
    yield from wrong_version("reserved_in", version, newest)
    if version < wire.V4_0:
        yield "reserved_in", f"version {version >> 16}.{version & 0xFFFF} has no reserved channels"
    supported = supported_features(options, trusted=True)
    yield from wrong_features("reserved_in", features, version, supported)


def _room(saved: SavedBus, options: BusOptions) -> Wrong:
    """The caps hold."""
    ids = Ids(options.relid_offset)
    for relid in saved.low_relids:
        ids.lower(relid)
    for channel in saved.channels:
        ids.lower(channel.relid)
    offers = sum(channel.state is not State.REMOVED for channel in saved.channels)
    if offers > ids.room:
        yield "channels", f"{offers}, there is room for {ids.room}"
    gpadls = [gpadl for channel in saved.channels for gpadl in channel.gpadls]
    if len(gpadls) > MAX_GPADLS:
        yield "channels[].gpadls", f"{len(gpadls)}, at most {MAX_GPADLS}"
    if (pages := sum(gpadl.pages for gpadl in gpadls)) > MAX_TOTAL_PAGES:
        yield "channels[].gpadls", f"{pages} pages, at most {MAX_TOTAL_PAGES}"
    unfinished = sum(gpadl.state is GpadlState.IN_PROGRESS for gpadl in gpadls)
    if unfinished > options.max_unfinished_gpadls:
        yield "channels[].gpadls", f"{unfinished} unfinished, at most {options.max_unfinished_gpadls}"


def _sockets(saved: SavedBus) -> Wrong:
    sockets = saved.sockets
    if not math.isfinite(sockets.now):
        yield "sockets.now", f"{sockets.now}"
    ids = [number for number, _ in sockets.requests]
    if len(ids) > MAX_REQUESTS or ids != sorted(set(ids)) or (ids and ids[-1] > sockets.last_id):
        yield "sockets.requests", f"{ids}, the last is {sockets.last_id}"
    if not ids:
        return
    if sockets.provider is None or saved.connection.state is not ConnectionState.CONNECTED:
        yield "sockets.requests", "nobody asks, or nobody answers"
    for number, data in sockets.requests:
        try:
            socket_request_in(data, saved.connection.plan.version)
        except ProtocolError as error:
            yield f"sockets.requests[{number}]", str(error)


def _messages(saved: SavedBus) -> Wrong:
    outbox = saved.outbox
    if outbox.paused and saved.connection.state is not ConnectionState.CONNECTED:
        yield "outbox.paused", f"while {saved.connection.state}"
    if outbox.vp >= saved.vps:
        yield "outbox.vp", f"VP {outbox.vp} of {saved.vps}"
    if outbox.held and not (outbox.paused or outbox.blocked):
        yield "outbox.held", "messages that nothing holds back"
    for number, (data, vp) in enumerate(outbox.held):
        if not wire.HEADER_SIZE <= len(data) <= wire.MAX_MESSAGE or vp >= saved.vps:
            yield f"outbox.held[{number}]", f"{len(data)} bytes for VP {vp} of {saved.vps}"
    accepting = not (outbox.blocked or saved.connection.resets or len(saved.sockets.requests) >= MAX_REQUESTS)
    if saved.waiting and (accepting or len(saved.waiting) > MAX_WAITING):
        yield "waiting", f"{len(saved.waiting)} messages, and they need not wait"


def socket_request_in(data: bytes, version: int) -> messages.TlConnect | messages.TlConnect2:
    """The connect in these bytes. Raises ProtocolError when they are none."""
    message = wire.decode(data, version)
    if not isinstance(message, messages.TlConnect | messages.TlConnect2):
        raise ProtocolError(f"{type(message).__name__} is no socket connect")
    return message
