"""Restoring: the parts of a new bus take over what a `SavedBus` holds.

`judging` has found nothing wrong with it before the first part is touched, and the bus is nobody's until all
of it is done: there is no half state to be seen. What can be told from something else is not saved but told
again: counts, who owns which number, what is kept over an unload.
"""

import msgspec

from vmbusd.abi.gpadl import Assembly, Range
from vmbusd.abi.layout import SINT
from vmbusd.abi.messages import GpadlHeader
from vmbusd.bus.channels import Channel
from vmbusd.bus.connection import ConnectionState, Current, Waiting
from vmbusd.bus.effects import FillSlot, SendToGuest
from vmbusd.bus.gpadls import Gpadl, Gpadls
from vmbusd.bus.judging import socket_request_in
from vmbusd.bus.judging_connection import contact_in
from vmbusd.bus.saved import SavedBus, SavedChannel, SavedConnection, SavedGpadl
from vmbusd.bus.saving import PLAIN, Parts


def restore(saved: SavedBus, parts: Parts) -> None:
    """Make the parts of a new bus those of the saved one, which was judged."""
    registry, lifecycle, sockets = parts.registry, parts.lifecycle, parts.sockets
    for relid in saved.low_relids:
        registry.ids.lower(relid)
    channels = []
    for each in saved.channels:
        channel = _channel(each, parts.gpadls)
        registry.ids.lower(channel.relid)
        registry.reinstate(channel)
        lifecycle.monitors.reinstate(channel, owned=each.owns_monitor_id)
        if channel.reserved is not None or channel.abandoned:
            lifecycle.kept.add(channel)
        channels.append(channel)
    for number in saved.bound:
        registry.bind(channels[number])
    for host, places in saved.ghosts:
        lifecycle.ghosts[host] = [channels[number] for number in places]
        for number in places:
            channels[number].ghosts.add(host)
    for flag, places in saved.flag_waiters:
        for number in places:
            registry.wait_for_flag(channels[number], flag)
    registry.ids.generations[: len(saved.generations)] = saved.generations
    parts.targets.stand_ins.update(saved.stand_ins)
    _connection(saved.connection, parts)
    parts.outbox.vp, parts.outbox.blocked = saved.outbox.vp, saved.outbox.blocked
    parts.outbox.paused = saved.outbox.paused
    parts.outbox.held = [SendToGuest(data, vp, SINT) for data, vp in saved.outbox.held]
    sockets.provider, sockets.now = saved.sockets.provider, saved.sockets.now
    sockets.last_id = saved.sockets.last_id
    version = parts.connection.now.version
    for number, data in saved.sockets.requests:
        sockets.requests[number] = socket_request_in(data, version), version
    for due, number in saved.sockets.deadlines:
        sockets.remember(due, channels[number])
    parts.waiting.extend(saved.waiting)


def _connection(saved: SavedConnection, parts: Parts) -> None:
    connection, lifecycle, plan = parts.connection, parts.lifecycle, saved.plan
    connected = saved.state is ConnectionState.CONNECTED
    connection.now = Current(
        state=saved.state,
        plan=plan,
        version=plan.version if connected else 0,
        features=plan.features if connected else 0,
        trusted=saved.trusted,
        client_id=saved.client_id,
        offers_sent=saved.offers_sent,
        pages=saved.pages,
        modifying=saved.modifying,
        unload_asked=saved.unload_asked,
        contact=Waiting(contact_in(saved.contact.data), saved.contact.trusted) if saved.contact else None,
    )
    connection.ticket, connection.resets = saved.ticket, saved.resets
    connection.capped |= saved.capped  # a cap that this daemon begins with holds at once
    connection.speak(saved.spoken, saved.spoken_features)
    lifecycle.connected, lifecycle.offering = connected, connected and saved.offers_sent
    lifecycle.monitors.active = saved.pages.child_to_parent != 0


def _channel(saved: SavedChannel, gpadls: Gpadls) -> Channel:
    channel = Channel(saved.offer, saved.host)
    for name in PLAIN:
        setattr(channel, name, getattr(saved, name))
    channel.opened = saved.opened
    channel.filled = _filled(saved)
    for each in saved.gpadls:
        ring = Range(*each.ring, ()) if each.ring else None
        gpadl, assembly = Gpadl(each.handle, each.state, each.pages, ring), _assembly(each)
        gpadls.reinstate(channel, gpadl, assembly)
    channel.held = [channel.gpadls[handle] for handle in saved.held]
    return channel


def _filled(saved: SavedChannel) -> FillSlot | None:
    record, offer = saved.record, saved.offer
    if record is None:
        return None
    return FillSlot(
        flag=saved.flag,
        relid=saved.relid,
        host=record.host,
        connection_id=record.connection_id,
        monitor_id=record.monitor_id,
        flags=record.flags,
        interface_id=offer.interface_id,
        instance_id=offer.instance_id,
        subchannel_index=offer.subchannel_index,
        offer_id=record.offer_id,
    )


def _assembly(saved: SavedGpadl) -> Assembly | None:
    if saved.assembly is None:
        return None
    # As if all that came had come in the header.
    count, missing, buffer = msgspec.structs.astuple(saved.assembly)
    return Assembly(GpadlHeader(0, saved.handle, len(buffer) + missing, count, buffer))
