"""`vmbusd demo`: an interrupt storm with continuous retargeting, judged by counters that a loss cannot fool.

Exit status: 0 when nothing was lost, hung, overlapped, stale or rescued; 1 when something was; others are
`ending`'s. Options and JSON keys: docs/demo.md.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from vmbusd.abi import layout
from vmbusd.demo.arguments import seconds, whole
from vmbusd.demo.ending import in_order
from vmbusd.demo.oracle import percentile
from vmbusd.demo.packets import CHANNELS_PER_HOST
from vmbusd.demo.processes import own_daemon
from vmbusd.demo.storm import MUST_BE_ZERO, PERCENTILES, Storm, as_json, result_of, storm
from vmbusd.demo.view import Snapshot, View, summary

PARTITION: Final = "demo"
LOOK_SECONDS: Final = 0.25
LATENCY_SAMPLE: Final = 64
"""Channels whose histograms the live view sums; the summary sums all."""
MAX_HOSTS: Final = 16


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vmbusd demo", description="interrupt storm with retargeting")
    parser.add_argument("--seconds", type=seconds, default=10.0, help="storm time once all channels are open")
    parser.add_argument("--vps", type=whole(1, layout.MAX_VPS), default=layout.DEFAULT_VPS)
    parser.add_argument("--channels", type=whole(1, layout.MAX_RELID), default=256)
    parser.add_argument("--hosts", type=whole(1, MAX_HOSTS), default=2, help="host processes")
    parser.add_argument(
        "--packets", action="store_true", help=f"exchange packets too, on {CHANNELS_PER_HOST} channels a host"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    return parser


def _snapshot(scene: Storm, elapsed: float) -> Snapshot:
    verdict = scene.oracle.verdict()
    sample = [relid for relid, _ in scene.oracle.cells[:LATENCY_SAMPLE]]
    histogram = scene.oracle.latencies(sample)
    totals = {
        **scene.host_totals(),
        "retargets": scene.retargets,
        "overlaps": verdict.overlaps,
        "stale": verdict.stale,
    }
    return Snapshot(
        elapsed,
        scene.vp_counters(),
        totals,
        {name: percentile(histogram, share) for name, share in PERCENTILES.items()},
        len(verdict.behind),
        sorted(scene.oracle.hung),
    )


def _storm(options: argparse.Namespace) -> dict[str, Any]:
    with (
        own_daemon(PARTITION, options.vps) as runtime_dir,
        storm(
            runtime_dir,
            PARTITION,
            vps=options.vps,
            channels=options.channels,
            host_processes=options.hosts,
            packet_channels=CHANNELS_PER_HOST if options.packets else 0,
        ) as scene,
    ):
        begun = time.monotonic()
        end = begun + options.seconds
        scene.start()
        with View(enabled=not options.json) as view:
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(LOOK_SECONDS, left))
                scene.look()
                view.show(_snapshot(scene, time.monotonic() - begun))
        scene.stop_retargeting()
        scene.stop_hosts()
        took = time.monotonic() - begun
        scene.settle()
        return result_of(scene, seconds=took, hosts=options.hosts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    options.hosts = min(options.hosts, options.channels)
    extra = CHANNELS_PER_HOST * options.hosts if options.packets else 0
    if options.channels + extra > layout.MAX_RELID:
        parser.error(
            f"--packets: with {options.hosts} hosts --channels is at most {layout.MAX_RELID - extra}"
        )
    return in_order("vmbusd demo", lambda: _play(options))


def _play(options: argparse.Namespace) -> int:
    if not options.json:
        print(
            f"opening {options.channels} channels of {options.hosts} host processes for {options.vps} VPs "
            f"(runtime directory and shared memory of this demo alone, pid {os.getpid()})",
            flush=True,
        )
    result = _storm(options)
    if options.json:
        print(as_json(result))
    else:
        summary(result)
    for relid in result["hung_relids"]:
        print(f"vmbusd demo: relid {relid} is hung: seen < produced", file=sys.stderr)
    return 1 if any(result[key] for key in MUST_BE_ZERO) else 0
