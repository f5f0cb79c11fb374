"""The whole scene, for the demo and for tests: daemon, hosts, guest, workers, retargeter, oracle.

`Storm` opens every channel through the real protocol before it lets the hosts signal, and at the end stops
the hosts first: no extra signal helps a channel that lost one. The guest's control half runs in this process,
its VPs in processes of their own.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from guest_client import Channel, Guest
from vmbusd.abi.native import Words
from vmbusd.demo import cell
from vmbusd.demo.cell import DemoError
from vmbusd.demo.driver import StormDriver
from vmbusd.demo.oracle import Oracle, percentile
from vmbusd.demo.packets import Judged, PacketDriver, noted
from vmbusd.demo.processes import STOP_SECONDS, HostProcess, hosts
from vmbusd.demo.retarget import IN_FLIGHT, Retargeter

PERCENTILES: Final = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
MUST_BE_ZERO: Final = ("lost", "hung", "overlaps", "stale", "rescued", "corrupt", "disordered")
REST_LOOK_SECONDS: Final = 0.02
OPEN_SECONDS: Final = 60.0
"""2047 channels take a few seconds; a machine twenty times slower is still fine."""


class Storm:
    """A running scene. Made by `storm()`; tests may reach for its parts and kill them."""

    def __init__(self, guest: Guest, hosts: list[HostProcess], channels: Sequence[Channel]) -> None:
        self.guest = guest
        self.hosts = hosts
        self.channels = list(channels)
        self.packet_channels = [
            channel for channel in self.channels if channel.interface == PacketDriver.interface
        ]
        self.oracle = Oracle(
            (channel.relid, Words(channel.memory(cell.CELL_PAGE)))
            for channel in self.channels
            if channel.interface == StormDriver.interface
        )
        self.retargeter = Retargeter(
            self.channels, guest.vps, lambda moves: guest.retarget_many(moves, window=IN_FLIGHT)
        )

    @property
    def retargets(self) -> int:
        """MODIFYCHANNELs answered with success."""
        return self.retargeter.moved

    @property
    def refused_retargets(self) -> int:
        """MODIFYCHANNELs of channels that went away meanwhile."""
        return self.retargeter.refused

    def start(self, *, retarget: bool = True) -> None:
        """Let the hosts signal and the retargeter move channels."""
        for host in self.hosts:
            host.tell("start")
        if retarget:
            self.retargeter.start()

    def look(self) -> None:
        """Take the hosts' reports and let the oracle look."""
        for host in self.hosts:
            host.read()
        self.oracle.look(time.monotonic())

    def stop_retargeting(self) -> None:
        """End the retargeter; what it has sent is answered first. Raises what ended it before."""
        self.retargeter.stop()

    def leave(self) -> None:
        """Let go of ring memory, whatever state the scene is in."""
        self.retargeter.close()
        self.oracle.cells.clear()

    def stop_hosts(self) -> None:
        """No signal after this. A host that was killed has stopped as well."""
        living = [host for host in self.hosts if host.process.poll() is None]
        for host in living:
            host.tell("stop")
        for host in living:
            host.expect("stopped", STOP_SECONDS)

    def settle(self) -> None:
        """Wait until every channel has caught up, or is hung."""
        while True:
            self.oracle.look(time.monotonic())
            if set(self.oracle.behind()) <= self.oracle.hung:
                return
            time.sleep(REST_LOOK_SECONDS)

    def host_totals(self) -> dict[str, int]:
        """signals, transitions, posts over all hosts."""
        return {
            key: sum(host.latest.get(key, 0) for host in self.hosts)
            for key in ("signals", "transitions", "posts")
        }

    def packet_totals(self) -> dict[str, int]:
        """packets that came, at either end; lost, corrupt, disordered; hung, channels that stand still."""
        guest = Judged()
        for channel in self.packet_channels:
            guest = guest.plus(noted(channel))
        said = {
            key: sum(host.latest.get(f"packets_{key}", 0) for host in self.hosts)
            for key in ("sent", "back", "corrupt", "disordered", "behind")
        }
        return {
            "packets": guest.received + said["back"],
            "lost": said["sent"] - said["back"],
            "corrupt": guest.corrupt + said["corrupt"],
            "disordered": guest.disordered + said["disordered"],
            "hung": said["behind"],
        }

    def vp_totals(self) -> dict[str, int]:
        """The workers' counters, summed over the VPs."""
        per_vp = self.vp_counters()
        return {key: sum(counters[key] for counters in per_vp) for key in per_vp[0]}

    def vp_counters(self) -> list[dict[str, int]]:
        """The counters of each VP's worker, or of its predecessors too if it was replaced."""
        counters: list[dict[str, int]] = self.guest.statistics()["vps"]
        return counters


@contextmanager
def storm(
    runtime_dir: Path,
    partition: str,
    *,
    vps: int,
    channels: int,
    host_processes: int,
    workers: Literal["thread", "process"] = "process",
    packet_channels: int = 0,
    relook: bool = False,
    prepare: Callable[[Guest], None] = lambda _guest: None,
    driver: type[StormDriver] = StormDriver,
) -> Iterator[Storm]:
    """A scene with all channels open and nothing signalled yet. Everything is gone when it is left.

    Each host has `packet_channels` besides its share of `channels`; `prepare` has the guest before it starts;
    `relook` is as of `Guest.start`.
    """
    shares = [channels // host_processes + (n < channels % host_processes) for n in range(host_processes)]
    with ExitStack() as stack:
        # Hosts first: their offers are there when the guest asks, and they leave after the guest has.
        running = stack.enter_context(hosts(runtime_dir, partition, shares, packet_channels))
        guest = stack.enter_context(Guest.attach(partition, runtime_dir=runtime_dir))
        guest.register(driver())
        guest.register(PacketDriver())
        prepare(guest)
        guest.start(vps, workers, relook=relook)
        if not guest.wait_ready(OPEN_SECONDS):
            raise DemoError(f"{channels} channels were not open within {OPEN_SECONDS:g} s")
        opened = [channel for channel in guest.channels if channel.is_open]
        wanted = channels + packet_channels * host_processes
        if len(opened) != wanted:
            raise DemoError(f"{len(opened)} of {wanted} channels could be opened; the log says why")
        scene = Storm(guest, running, opened)
        try:
            yield scene
        finally:
            scene.leave()


def result_of(scene: Storm, *, seconds: float, hosts: int) -> dict[str, Any]:
    """The demo's JSON, from the cells and the counters."""
    verdict = scene.oracle.verdict()
    host, vp, packets = scene.host_totals(), scene.vp_totals(), scene.packet_totals()
    histogram = scene.oracle.latencies()
    per_mode: dict[str, dict[str, int]] = {}
    for mode, wanted in (("credit", True), ("burst", False)):
        words = [words for relid, words in scene.oracle.cells if cell.is_credit(relid) is wanted]
        per_mode[mode] = {
            "channels": len(words),
            "signals": sum(w.load(cell.PRODUCED) for w in words),
            "callbacks": sum(w.load(cell.CALLBACKS) for w in words),
            "lost": sum(max(0, w.load(cell.PRODUCED) - w.load(cell.SEEN)) for w in words),
        }
    return {
        "lost": verdict.lost + packets["lost"],
        "hung": len(scene.oracle.hung) + packets["hung"],
        "hung_relids": sorted(scene.oracle.hung),
        "overlaps": verdict.overlaps,
        "stale": verdict.stale,
        "rescued": vp["rescued"],
        "corrupt": packets["corrupt"],
        "disordered": packets["disordered"],
        "packets": packets["packets"],
        "signals": host["signals"],
        "transitions": host["transitions"],
        "posts": host["posts"],
        "callbacks": vp["callbacks"],
        "spurious": vp["spurious"],
        "retargets": scene.retargets,
        "off_target": vp["off_target"],
        "per_mode": per_mode,
        "latency_us": {name: percentile(histogram, share) for name, share in PERCENTILES.items()},
        "seconds": round(seconds, 3),
        "vps": scene.guest.vps,
        "channels": len(scene.channels),
        "hosts": hosts,
    }


def as_json(result: dict[str, Any]) -> str:
    """One object, keys in the order of the documentation."""
    return json.dumps(result, indent=2)
