"""Saving: the parts of a bus, and what they hold as a `SavedBus`.

Between two inputs nothing is half done: what the bus waits for stands in the states of its channels, GPADLs
and connection. So a save reads, and changes nothing. It runs while the guest waits: values that are plain
data already are taken over, not copied.
"""

from collections import deque
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, Final, NamedTuple

from vmbusd.abi import wire
from vmbusd.bus import saved
from vmbusd.bus.channels import Channel, State
from vmbusd.bus.connection import Connection
from vmbusd.bus.effects import FillSlot
from vmbusd.bus.gpadls import Gpadl, Gpadls
from vmbusd.bus.lifecycle import Lifecycle
from vmbusd.bus.monitors import Monitors
from vmbusd.bus.outbox import Outbox
from vmbusd.bus.registry import Registry
from vmbusd.bus.saved import SavedAssembly, SavedBus, SavedChannel, SavedGpadl, SavedRecord
from vmbusd.bus.sockets import Sockets
from vmbusd.bus.targets import Targets

PLAIN: Final = SavedChannel.__struct_fields__[: SavedChannel.__struct_fields__.index("opened")]
"""Fields of a channel that are saved as they are."""
_plain: Final[Callable[[Channel], tuple[Any, ...]]] = attrgetter(*PLAIN)


class Parts(NamedTuple):
    """What a bus consists of. `waiting`: guest messages that nobody handled yet."""

    outbox: Outbox
    registry: Registry
    gpadls: Gpadls
    targets: Targets
    lifecycle: Lifecycle
    sockets: Sockets
    connection: Connection
    waiting: deque[tuple[bytes, int, bool]]


def save(parts: Parts, vps: int, ram_pages: int) -> SavedBus:
    """The bus that consists of these parts."""
    registry, sockets = parts.registry, parts.sockets
    bound = registry.bound()
    channels = registry.all()
    channels += [channel for channel in bound if channel.state is State.REMOVED]
    index = {channel: number for number, channel in enumerate(channels)}

    def places(of: list[Channel]) -> tuple[int, ...]:
        # A channel that is gone for its host too can no more be seen by anybody.
        return tuple(index[channel] for channel in of if channel in index)

    gpadls, monitors = parts.gpadls, parts.lifecycle.monitors
    return SavedBus(
        vps=vps,
        ram_pages=ram_pages,
        connection=_connection(parts),
        outbox=_outbox(parts.outbox),
        channels=tuple([_channel(channel, gpadls, monitors) for channel in channels]),
        bound=places(bound),
        ghosts=_lists((host, places(ghosts)) for host, ghosts in parts.lifecycle.ghosts.items()),
        flag_waiters=_lists((flag, places(list(them))) for flag, them in registry.flag_waiters.items()),
        generations=_without_zeros(registry.ids.generations),
        low_relids=registry.ids.low,
        stand_ins=tuple(parts.targets.stand_ins.items()),
        sockets=saved.SavedSockets(
            provider=sockets.provider,
            now=sockets.now,
            last_id=sockets.last_id,
            requests=tuple((number, wire.encode(asked)) for number, (asked, _) in sockets.requests.items()),
            deadlines=tuple(
                (due, index[channel]) for due, channel in sockets.deadlines() if channel in index
            ),
        ),
        waiting=tuple(parts.waiting),
    )


def _lists(pairs: Iterable[tuple[int, tuple[int, ...]]]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    return tuple((number, of) for number, of in pairs if of)


def _without_zeros(generations: list[int]) -> tuple[int, ...]:
    used = len(generations)
    while used and not generations[used - 1]:
        used -= 1
    return tuple(generations[:used])


def _connection(parts: Parts) -> saved.SavedConnection:
    connection, now = parts.connection, parts.connection.now
    contact = now.contact
    return saved.SavedConnection(
        state=now.state,
        plan=now.plan,
        offers_sent=now.offers_sent,
        pages=now.pages,
        modifying=now.modifying,
        unload_asked=now.unload_asked,
        contact=saved.SavedContact(wire.encode(contact.contact), contact.trusted) if contact else None,
        ticket=connection.ticket,
        resets=connection.resets,
        capped=connection.capped,
        spoken=parts.targets.version,
        spoken_features=parts.lifecycle.features,
        client_id=now.client_id,
        trusted=now.trusted,
    )


def _outbox(outbox: Outbox) -> saved.SavedOutbox:
    held = tuple((message.data, message.vp) for message in outbox.held)
    return saved.SavedOutbox(outbox.vp, outbox.blocked, held, outbox.paused)


def _channel(channel: Channel, gpadls: Gpadls, monitors: Monitors) -> SavedChannel:
    more = (
        channel.opened if channel.state is State.OPENING else None,
        monitors.owns(channel),
        _record(channel.filled),
        tuple([_gpadl(gpadl, gpadls) for gpadl in channel.gpadls.values()]),
        tuple([gpadl.handle for gpadl in channel.held]),
    )
    return SavedChannel(*(_plain(channel) + more))


def _record(filled: FillSlot | None) -> SavedRecord | None:
    if filled is None:
        return None
    return SavedRecord(filled.host, filled.connection_id, filled.monitor_id, filled.flags, filled.offer_id)


def _gpadl(gpadl: Gpadl, gpadls: Gpadls) -> SavedGpadl:
    ring, assembly = gpadl.ring, gpadls.assembly(gpadl)
    return SavedGpadl(
        gpadl.handle,
        gpadl.state,
        gpadl.pages,
        (ring.byte_count, ring.byte_offset) if ring else None,
        SavedAssembly(assembly.range_count, assembly.missing, assembly.buffer()) if assembly else None,
    )
