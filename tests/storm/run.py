"""`./dev storm [--seconds N] [--seed S] [--kills N]`: random programs of everything there is, exactly judged.

Exit status: 0 when nothing was lost, hung, overlapping, stale or leaked; 1 when something was: then seed,
last events, state of the daemon and its log are shown, and everything is kept; 130 after Ctrl-C. What is
attacked and what is judged stands in docs/storm.md.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.storm import nursery  # noqa: E402
from tests.storm.attack import Attack  # noqa: E402
from tests.storm.calm import Calm  # noqa: E402
from tests.storm.grip import gripped  # noqa: E402
from tests.storm.oracle import judge_counts, judge_storminess  # noqa: E402
from tests.storm.program import program  # noqa: E402
from tests.storm.sacrifice import Sacrifice  # noqa: E402
from tests.storm.world import World, make_directory  # noqa: E402
from vmbusd.abi.errors import VmbusError  # noqa: E402
from vmbusd.server import requests  # noqa: E402

LOOK_SECONDS: Final = 0.05
SHOW_SECONDS: Final = 5.0
LOG_SHOWN: Final = 60
"""Lines of the daemon's log shown when a storm fails."""


class Storm:
    """One storm."""

    def __init__(self, world: World, options: argparse.Namespace) -> None:
        self.world = world
        self.seed = options.seed
        self.seconds = options.seconds
        self.kills = options.kills
        self.quiet = options.json
        self.sacrifice = Sacrifice(world)
        self.attack = Attack(world, self.sacrifice.truncate)
        self.calm = Calm(world, self.attack, self.sacrifice)

    async def run(self) -> None:
        """Until the time is over or something is wrong."""
        world, trace = self.world, self.world.trace
        over = False
        try:
            await self._from_calm_to_calm()
            over = not trace.violations
        except Exception:  # noqa: BLE001
            # Whatever it is, seed and events are needed to understand it.
            trace.violation(f"the storm itself failed: {traceback.format_exc()}")
        finally:
            if trace.violations:
                await self._describe()
            await world.stop(judges=over)
        if over:
            await self._judge_end()
        if over and trace.violations:
            await self._describe()
        for text in trace.violations:
            print(f"storm: {text}", file=sys.stderr)

    async def _from_calm_to_calm(self) -> None:
        self.world.start()
        keeper = asyncio.create_task(self.sacrifice.run(), name="sacrifice")
        self.world.watch(keeper)
        try:
            await self.calm.point(silent_first=False)
            with gripped(self.world.storm):
                begun = time.monotonic()
                await self._storm(begun, begun + self.seconds)
                if not self.world.trace.violations:
                    await self.calm.point(silent_first=True)
        finally:
            keeper.cancel()

    async def _judge_end(self) -> None:
        """After an orderly end: nothing is left or was logged, and it was a storm."""
        trace = self.world.trace
        for text in await self._left():
            self.calm.leaked += 1
            trace.violation(f"leaked: {text} is there after the end")
        for text in [
            *self.calm.look_at_logs(),
            *judge_storminess(self.world.ledger.counts(), self.calm.signalled, self.attack.kills, self.kills),
        ]:
            trace.violation(text)

    async def _left(self) -> list[str]:
        """What is still there after an orderly end. Of a partition that was dead when its daemon was killed
        the next start but one removes the objects, so that one is granted."""
        world = self.world
        ours = [name for name in nursery.objects(world.mark) if f"-{world.victim_name}-" not in name]
        if not ours and nursery.objects(world.mark):
            await world.start_once(lambda: not nursery.objects(world.mark))
        processes = [f"process {pid}" for pid in world.living()]
        return sorted({*ours, *nursery.objects(world.mark), *processes, *world.files()})

    async def _storm(self, begun: float, end: float) -> None:
        world, trace = self.world, self.world.trace
        still, shown = 0.0, begun
        for action in program(self.seed):
            due = begun + still + action.at
            while (now := time.monotonic()) < due or trace.violations:
                if trace.violations or now >= end:
                    return
                for text in judge_counts(world.ledger.counts()):
                    trace.violation(text)
                if now >= shown:
                    shown = now + SHOW_SECONDS
                    self.show(now - begun)
                await asyncio.sleep(min(LOOK_SECONDS, max(0.0, due - now)))
            if now >= end:
                return
            if action.what == "calm":
                before = time.monotonic()
                await self.calm.point(silent_first=action.lots[0] < 0.5)
                still += time.monotonic() - before
            else:
                self.attack.begin(action)

    def show(self, elapsed: float) -> None:
        """One line."""
        if self.quiet:
            return
        counts, kills = self.world.ledger.counts(), self.attack.kills
        killed = " ".join(f"{kind}={count}" for kind, count in kills.items())
        print(
            f"{elapsed:6.1f} s: {counts['signals']:,} signals, {counts['callbacks']:,} callbacks, "
            f"{counts['packets_there']:,} packets there, {counts['packets_back']:,} back, "
            f"{counts['opens']:,} opens, {counts['retargets']:,} retargets, kills {killed}, "
            f"calm {self.calm.points}",
            flush=True,
        )

    def result(self, seconds: float) -> dict[str, Any]:
        """What there is to say at the end."""
        counts = self.world.ledger.counts()
        return {
            "seconds": round(seconds, 1),
            "seed": self.seed,
            **{name: counts[name] for name in counts},
            "kills": self.attack.kills,
            "fired": dict(self.attack.mishaps.fired),
            "missed": self.attack.missed + self.attack.mishaps.missed,
            "truncated": self.sacrifice.deaths,
            "reexecs": self.world.trace.counts["reexec"],
            "stops": self.world.trace.counts["stop"],
            "rescinds": self.world.trace.counts["rescind"],
            "revokes": self.world.trace.counts["revoke"],
            "calm_points": self.calm.points,
            "calm_seconds": round(self.calm.spent, 1),
            "lost": self.calm.lost,
            "hung": self.calm.hung,
            "leaked": self.calm.leaked,
            "violations": self.world.trace.violations,
        }

    async def _describe(self) -> None:
        """Everything that helps to understand a failure, before it is torn down."""
        world = self.world
        print(f"storm: seed {self.seed}: FAILED", file=sys.stderr)
        print("\n".join(world.trace.last()), file=sys.stderr)
        try:
            state: object = await asyncio.wait_for(world.ask(requests.Status()), 5.0)
        except (VmbusError, OSError, TimeoutError) as error:
            state = f"the daemon does not answer: {error!r}"
        print(json.dumps(state, default=str), file=sys.stderr)
        for name in ("daemon.log", "processes.log"):
            with contextlib.suppress(FileNotFoundError):
                lines = (world.directory / name).read_text(errors="replace").splitlines()
                print(f"-- {name}", *lines[-LOG_SHOWN:], sep="\n", file=sys.stderr)


def closing_line(result: dict[str, Any]) -> str:
    """The last line."""
    kills = " ".join(f"{kind}={count}" for kind, count in result["kills"].items())
    return (
        f"storm: {result['seconds']:.0f} s, seed {result['seed']}: {result['signals']} signals, "
        f"{result['callbacks']} callbacks, {result['packets_there']} packets there, "
        f"{result['packets_back']} back, {result['repeats']} repeats, kills {kills}, "
        f"lost {result['lost']}, hung {result['hung']}, overlaps {result['overlaps']}, "
        f"stale {result['stale']}, leaked {result['leaked']}"
    )


def summary(result: dict[str, Any]) -> None:
    """The closing table."""
    for key, value in result.items():
        if key not in ("kills", "fired", "violations"):
            print(f"  {key:<15} {value:>14,}" if isinstance(value, int) else f"  {key:<15} {value:>14}")
    for kind, count in result["kills"].items():
        print(f"  {'kills ' + kind:<15} {count:>14,}")
    for name, count in result["fired"].items():
        print(f"  fault {name:<42} {count:>8,}")


def _keep(world: World) -> Path:
    kept = Path(tempfile.mkdtemp(prefix="vmbusd-storm-failed-", dir="/tmp"))
    for file in world.directory.iterdir():
        if file.suffix in (".log", ".jsonl"):
            shutil.copy(file, kept)
    return kept


async def _main(options: argparse.Namespace) -> int:
    directory = make_directory()
    world = World(directory, options.seed)
    storm = Storm(world, options)
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    begun = time.monotonic()
    kept = None
    try:
        await storm.run()
    except asyncio.CancelledError:
        return 128 + signal.SIGINT
    except Exception:  # noqa: BLE001
        # Of the end: what went wrong before it has been told.
        world.trace.violation(f"the storm itself failed: {traceback.format_exc()}")
        print(f"storm: seed {storm.seed}: FAILED\nstorm: {world.trace.violations[-1]}", file=sys.stderr)
    finally:
        if world.trace.violations:
            kept = _keep(world)
        world.close()
        shutil.rmtree(directory, ignore_errors=True)
    result = storm.result(time.monotonic() - begun)
    if kept is not None:
        result["trace"] = str(kept / "trace.jsonl")
        print(f"storm: logs and trace are in {kept}", file=sys.stderr)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        summary(result)
        print(closing_line(result))
    return 1 if world.trace.violations else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one storm; returns the exit status."""
    parser = argparse.ArgumentParser(prog="./dev storm")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--kills", type=int, default=0, help="least kills of each kind of process; fewer are a violation (0)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines and a table")
    return asyncio.run(_main(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
