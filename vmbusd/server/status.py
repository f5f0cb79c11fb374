"""What an administrator is shown of a partition, as plain dictionaries for JSON; reads, never changes."""

import time
from typing import Any
from uuid import UUID

from vmbusd.abi import layout
from vmbusd.bus.gpadls import MAX_GPADLS, MAX_TOTAL_PAGES
from vmbusd.bus.options import MAX_UNFINISHED_GPADLS
from vmbusd.server import limits
from vmbusd.server.attached import Attached
from vmbusd.server.door import Door
from vmbusd.server.partition import Partition


def version_text(version: int) -> str | None:
    """A protocol version as people write it, None when there is none."""
    return f"{version >> 16}.{version & 0xFFFF}" if version else None


def partition_view(partition: Partition) -> dict[str, Any]:
    """State, VPs, links and counters of a partition."""
    return {
        "name": partition.name,
        "state": "running" if partition.dead is None else "dead",
        "reason": partition.dead,
        "vps": partition.spec.vps,
        "ram_size": partition.memory.ram_size,
        "doorbell": partition.spec.doorbell,
        "epoch": partition.memory.epoch,
        "journal": partition.keeper.statistics(),
        "connection": partition.bus.state,
        "version": version_text(partition.bus.version),
        "guest": _link_view(partition.control) if partition.control else None,
        "workers": [_vp_view(partition, vp) for vp in range(partition.spec.vps)],
        "hosts": [_link_view(host) | {"link": number} for number, host in sorted(partition.hosts.items())],
        "channels": len(partition.bus.channels()),
        "closing": len(partition.closing),
        "guest_pages": partition.pages.statistics(),
        "warnings": [*partition.warnings, *([partition.keeper.trouble] if partition.keeper.trouble else [])],
        "faults": partition.faults.view(),
        "limits": _limits_view(partition),
        "counters": {name: count for name, count in partition.counters.items() if count},
    }


def _limit(used: int | None, limit: float, hit: int) -> dict[str, float | None]:
    """How much of a limit is used (None: it is no amount of anything), what it is, how often it was met."""
    return {"used": used, "limit": limit, "hit": hit}


def daemon_limits(door: Door, *, partitions: int, admin_links: int) -> dict[str, Any]:
    """The limits of the whole daemon; their reasons stand in `limits`."""
    hits = door.hits
    return {
        "links": _limit(door.links, limits.MAX_LINKS, hits["links"]),
        "admin_links": _limit(admin_links, limits.MAX_ADMIN_LINKS, hits["admin_links"]),
        "partitions": _limit(partitions, limits.MAX_PARTITIONS, hits["partitions"]),
        "descriptors": _limit(None, limits.descriptors(), hits["descriptors"]),
        "hello_seconds": _limit(None, limits.HELLO_TIMEOUT, hits["hello_seconds"]),
        "wrong_tokens": _limit(None, limits.WRONG_TOKENS, hits["wrong_tokens"]),
    }


def _limits_view(partition: Partition) -> dict[str, Any]:
    """The limits of one partition."""
    held, counters = partition.bus.statistics(), partition.counters
    gpadls = held.gpadls_at_limit
    kept = partition.control.backlog if partition.control else 0
    return {
        "channels": _limit(held.relids, layout.MAX_RELID, 0),
        "gpadls": _limit(held.gpadls, MAX_GPADLS, gpadls),
        "gpadl_pages": _limit(held.gpadl_pages, MAX_TOTAL_PAGES, gpadls),
        "unfinished_gpadls": _limit(held.unfinished_gpadls, MAX_UNFINISHED_GPADLS, gpadls),
        "host_links": _limit(len(partition.hosts), limits.MAX_HOST_LINKS, counters["host links at limit"]),
        "guest_output": _limit(kept, limits.OUTPUT_HIGH, counters["guest output full"]),
        "queue_bytes": _limit(None, limits.MAX_QUEUE_BYTES, counters["queue at limit"]),
    }


def _link_view(attached: Attached) -> dict[str, Any]:
    peer = attached.peer
    return {
        "pid": peer.pid,
        "uid": peer.uid,
        "linked": attached.linked,
        "away": attached.linked and attached.wire is None,
        "resumed": attached.resumed,
        "refused": attached.refused.counts,
        **attached.traffic(),
    }


def _vp_view(partition: Partition, vp: int) -> dict[str, Any]:
    seat = partition.vps.seats[vp]
    stuck_since = partition.vps.heartbeats.stuck_since(vp) if seat.worker is not None else None
    return {
        "vp": vp,
        "state": seat.state.name.lower(),
        "by_order": seat.unplugged,
        "stuck": stuck_since is not None,
        "stuck_seconds": round(time.monotonic() - stuck_since, 1) if stuck_since is not None else 0.0,
        "pid": seat.worker.peer.pid if seat.worker else None,
        "incarnation": seat.incarnation,
        "recoveries": seat.recoveries,
        "redelivered": seat.redelivered,
        "pending": partition.memory.pending(vp),
        "asleep": partition.memory.vpwork.is_idle(vp),
        "statistics": partition.memory.vpwork.statistics(vp),
    }


def channels_view(partition: Partition) -> list[dict[str, Any]]:
    """The bus's channels, one dictionary each."""
    views = []
    for channel in partition.bus.channels():
        view = {name: getattr(channel, name) for name in channel.__struct_fields__}
        view["interrupts"] = partition.memory.blocks.interrupts(channel.flag) if channel.flag else 0
        views.append(view)
    return views


def table_view(partition: Partition) -> list[dict[str, Any]]:
    """Every non-empty slot with the record it names."""
    table = partition.memory.table
    views = []
    for flag, slot in table.slots():
        relid = (slot & 0xFFFFFFFF) - layout.TABLE_RECORDS_OFFSET
        record = table.record(relid // layout.RECORD_SIZE)
        record["interface_id"] = str(UUID(bytes_le=record["interface_id"]))
        record["instance_id"] = str(UUID(bytes_le=record["instance_id"]))
        record["open"] = bool(slot & layout.SLOT_OPEN)
        record["slot_generation"] = layout.slot_generation(slot)
        record["flag"] = flag
        record["claim"] = partition.memory.blocks.claim(flag)
        views.append(record)
    return views
