"""What an administrator is shown of a partition, as plain dictionaries for JSON; reads, never changes."""

from typing import Any
from uuid import UUID

from vmbusd.abi import layout
from vmbusd.server.links import Attached
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
        "connection": partition.bus.state,
        "version": version_text(partition.bus.version),
        "guest": _link_view(partition.control) if partition.control else None,
        "workers": [_vp_view(partition, vp) for vp in range(partition.spec.vps)],
        "hosts": [_link_view(host) | {"link": number} for number, host in sorted(partition.hosts.items())],
        "channels": len(partition.bus.channels()),
        "closing": len(partition.closing),
        "guest_pages": partition.pages.statistics(),
        "warnings": partition.warnings,
        "counters": dict(partition.counters),
    }


def _link_view(attached: Attached) -> dict[str, Any]:
    peer = attached.peer
    return {
        "pid": peer.pid,
        "uid": peer.uid,
        "linked": attached.linked,
        "refused": attached.refused.counts,
        **attached.traffic(),
    }


def _vp_view(partition: Partition, vp: int) -> dict[str, Any]:
    seat = partition.vps.seats[vp]
    return {
        "vp": vp,
        "state": seat.state.name.lower(),
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
