"""What the storm's daemon and processes have at a calm point, against what they must have: nothing more."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.storm import nursery
from tests.storm.world import HOSTS, World
from vmbusd.abi import paths

MEMORY_GROWTH: Final = 32 << 20
"""Bytes by which the daemon's own memory may differ: a heap has pieces, a leak of 600 s has more."""
_ANON: Final = re.compile(r"^RssAnon:\s+(\d+) kB", re.MULTILINE)
_THREADS: Final = re.compile(r"^Threads:\s+(\d+)", re.MULTILINE)


class Footprint(msgspec.Struct, frozen=True):
    """What can be counted from outside, with every process back and nobody else connected.

    `inside`: the daemon's descriptors but for two for each link, its socket and its process.
    """

    inside: int
    threads: int
    memory: int
    links: int
    processes: int
    objects: tuple[str, ...]
    files: tuple[str, ...]

    def differs(self, other: "Footprint") -> list[str]:
        """What there is here and is not in `other`, or the other way round; nothing is said of memory."""
        found = []
        for name in ("inside", "threads", "links", "processes"):
            if (now := getattr(self, name)) != (then := getattr(other, name)):
                found.append(f"{name}: {now}, must be {then}")
        for name in ("objects", "files"):
            now, then = set(getattr(self, name)), set(getattr(other, name))
            found += [f"{name}: {one} is there" for one in sorted(now - then)]
            found += [f"{name}: {one} is missing" for one in sorted(then - now)]
        return found


def look(world: World, status: Mapping[str, Any]) -> Footprint:
    """The footprint of now; `status` is the daemon's own. A daemon that has just ended has none."""
    daemon = world.daemon
    pid = daemon.pid if daemon is not None else 0
    try:
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        descriptors, text = 0, ""
    anon, threads = _ANON.search(text), _THREADS.search(text)
    links = status["daemon"]["links"]
    return Footprint(
        descriptors - 2 * links,
        int(threads[1]) if threads else 0,
        int(anon[1]) << 10 if anon else 0,
        links,
        len(world.living()),
        tuple(_without_instance(name) for name in nursery.objects(world.mark)),
        tuple(sorted(os.listdir(world.runtime_dir))),
    )


def expected(world: World, status: Mapping[str, Any], *, inside: int, threads: int) -> Footprint:
    """What there must be. Host links have the lowest numbers that were free when they came; the inside of the
    daemon is known from the first calm point."""
    objects = []
    online = 0
    for view in status["partitions"]:
        name, links = view["name"], [host["link"] for host in view["hosts"]]
        if name == world.storm:
            online = sum(worker["state"] == "online" for worker in view["workers"])
        objects += [f"{name}-{what}" for what in ("events", "table", "vpwork", "guest", "ram")]
        objects += [f"{name}-host{number}" for number in links]
        objects += [f"sem.{name}-host{number}" for number in links]
        objects += [f"sem.{name}-vp{vp}" for vp in range(view["vps"])]
    files = [paths.GUEST_SOCKET, paths.HOST_SOCKET, paths.ADMIN_SOCKET, paths.LOCK_FILE, paths.INSTANCE_FILE]
    names = (world.storm, world.victim_name)
    files += [f"{name}.{what}" for name in names for what in ("journal", "snapshot")]
    return Footprint(
        inside,
        threads,
        0,
        # Guest, workers, hosts; control, worker and host of the victim.
        1 + online + HOSTS + 3,
        # The same, the daemon, and the victim is one process.
        1 + 1 + online + HOSTS + 1,
        tuple(sorted(objects)),
        tuple(sorted(files)),
    )


def _without_instance(name: str) -> str:
    """The set's instance may change after a daemon died beside a dead partition; what it has may not."""
    kind = "sem." if name.startswith("sem.") else ""
    return kind + name.removeprefix("sem.").split("-", 2)[2]
