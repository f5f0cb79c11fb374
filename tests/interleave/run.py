"""Searches every schedule of the signal protocol's small cases, sound and with each seeded mistake.

Called as `./dev explore [WORD ...]`: with words, only searches whose line contains one of them. Two engines:
`model` walks every state of machines written from docs/signal-protocol.md, `real` runs the functions of
vmbusd/abi under every schedule within bounds. A sound search must be clean, a mistake must be found, by its
rule and by both engines. Needs gcc and nothing else; two searches run at a time.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
HEADERS = [HERE.parents[1] / "vmbusd" / part for part in ("abi", "lab")]
FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror")
# Fortified longjmp takes a jump between stacks for an error.
ENGINES = {
    "model": (
        "models.c",
        "model_search.c",
        "model_reduce.c",
        "model_worker.c",
        "model_hosts.c",
        "model_daemon.c",
        "model_moves.c",
    ),
    "real": (
        "-U_FORTIFY_SOURCE",
        "real.c",
        "sched.c",
        "memory.c",
        "search.c",
        "visited.c",
        "trace.c",
        "programs.c",
        "bodies.c",
        "daemon_bodies.c",
        "close_bodies.c",
        "percpu_bodies.c",
        "page_bodies.c",
        "ring_programs.c",
        "shared_ring.c",
        "observe.c",
    ),
}
SOUND = "none"

# Mistake: (the rule that it breaks, where the model shows it, where the real functions do).
MISTAKES = {
    "no_second_look": ("I1", "sleep-wake", "sleep-wake"),
    "idle_not_seq_cst": ("I1", "sleep-wake", "sleep-wake"),
    "shared_mark_after_post": ("I1", "sleep-wake", "sleep-wake"),
    "shared_mark_before_post": ("I1", "two-channels", "two-channels"),
    "already_set_returns": ("I1", "two-hosts", "two-hosts"),
    "new_worker_zeroes": ("I1", "begin", "begin"),
    "claimed_dropped": ("I1", "retarget", "retarget"),
    "plain_let_go": ("I1", "retarget", "retarget"),
    "no_claim": ("I2", "retarget", "retarget"),
    "silent_treated_as_dead": ("I2", "silent", "silent"),
    "table_before_claim": ("I3", "close", "close"),
    "close_does_not_wait": ("I3", "close", "close"),
    "slot_not_seq_cst": ("I3", "close", "close"),
    "claimed_put_back": ("I4", "retarget", "retarget"),
    "admitted_before_recovery": ("I1", "", "death"),
    "no_taken": ("I1", "", "death"),
    "taken_after_clear": ("I1", "", "death"),
    "taken_cleared_early": ("I1", "", "death"),
    "recovery_rings_unless_marked": ("I1", "", "host-death"),
    "no_target_reload": ("I1", "", "offline-vacant"),
    "target_not_seq_cst": ("I1", "", "offline-vacant"),
    "no_sweep_on_host_death": ("I1", "", "host-death-offline"),
    "no_ring_on_host_death": ("I1", "", "host-death"),
    "no_ring_at_start": ("I1", "", "detach-restart"),
    "handover_clears_first": ("I1", "", "offline-vacant-restart"),
    "handover_sets_once": ("I1", "", "host-death-offline"),
    "recovery_clears_taken_first": ("I1", "", "death-restart"),
    "recovery_no_put_back": ("I1", "", "death"),
    "recovery_bits_before_claims": ("I1", "", "death-offline"),
    "page_before_flag": ("I1", "", "interrupt-page"),
    "ring_no_unstick": ("I1", "", "ring-shared-death"),
    "ring_publish_not_seq_cst": ("I1", "", "ring-data"),
    "ring_publish_before_copy": ("I3", "", "ring-data"),
    "ring_stale_read_index": ("I1", "", "ring-data"),
    "ring_no_second_look": ("I1", "", "ring-data"),
    "ring_unmask_not_seq_cst": ("I1", "", "ring-data"),
    "ring_commit_after_unmask": ("I1", "", "ring-data"),
    "ring_commit_not_seq_cst": ("I4", "", "ring-space"),
    "ring_commit_before_copy": ("I3", "", "ring-space"),
    "ring_stale_write_index": ("I4", "", "ring-space"),
    "ring_no_space_look": ("I4", "", "ring-space"),
    "ring_pending_not_seq_cst": ("I4", "", "ring-space"),
}

# The design before the table loses an interrupt in either order of a move (vmbusd/lab/percpu.h).
PERCPU = ("percpu-move-first", "percpu-target-first")

# Bounds of the sound searches of the real functions: preemptions, missed stores, stops.
FULL = (3, 3, 1)
# Where two must die to show it.
DEATHS = {"recovery_clears_taken_first": (2, 3, 2)}
# The daemon's own death multiplies everything before it, so there fewer preemptions are searched.
BOUNDS = {
    "death-restart": ((2, 3, 2),),
    "death-offline-restart": ((1, 3, 2),),
    "adopter-death": ((2, 3, 1),),
    "offline": ((2, 3, 1),),
    "offline-restart": ((1, 3, 2),),
    "offline-vacant-restart": ((2, 3, 1),),
    "offline-online": ((2, 3, 0),),
    "offline-online-restart": ((1, 3, 1),),
    "detach-restart": ((2, 3, 1),),
    "percpu-move-first": ((2, 3, 0),),
    "percpu-target-first": ((2, 3, 0),),
    "ring-shared-death": ((2, 3, 1),),
    "close-death-restart": ((0, 3, 2), (1, 3, 1)),
    "reuse": ((3, 3, 0),),
    "reuse-death": ((1, 3, 1),),
    # Two processes have few schedules: these bounds leave next to none out.
    "ring-data": ((6, 6, 0),),
    "ring-batch": ((6, 6, 0),),
    "ring-space": ((6, 5, 0),),
    "ring-space-eager": ((6, 5, 0),),
}


class Search(NamedTuple):
    engine: str
    case: str
    mistake: str
    bounds: tuple[int, int, int] = FULL


class Result(NamedTuple):
    search: Search
    found: bool
    rule: str
    figures: dict[str, str]
    schedule: str


def build(into: Path) -> None:
    """Compiles both engines; raises CalledProcessError with the compiler's words on standard error."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise SystemExit("a C compiler is needed: apt-get install gcc libc6-dev")
    for engine, parts in ENGINES.items():
        sources = [str(HERE / part) if part.endswith(".c") else part for part in parts]
        command = [compiler, *FLAGS, *(f"-I{folder}" for folder in HEADERS), *sources, "-o", str(into / engine)]
        subprocess.run(command, check=True)


def cases(binaries: Path, engine: str) -> dict[str, str]:
    """Every case of an engine with its story."""
    listed = subprocess.run([binaries / engine, "list"], check=True, capture_output=True, text=True).stdout
    return dict(line.split("\t", 1) for line in listed.splitlines())


def run(binaries: Path, search: Search) -> Result:
    command = [str(binaries / search.engine), search.case, search.mistake]
    if search.engine == "real":
        command += [str(bound) for bound in search.bounds]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    *schedule, verdict = done.stdout.splitlines()
    outcome, *pairs = verdict.split()
    rule = re.match(r"\s*(I\d)", schedule[-1]) if schedule else None
    figures = dict(pair.split("=", 1) for pair in pairs)
    return Result(search, outcome == "found", rule[1] if rule else "", figures, "\n".join(schedule))


def expected_rule(search: Search) -> str:
    if search.mistake in (SOUND, "percpu_lists"):
        return "" if search.mistake == SOUND else "I1"
    return MISTAKES[search.mistake][0]


def passes(result: Result) -> bool:
    return result.rule == expected_rule(result.search)


def searches(binaries: Path) -> Iterator[Search]:
    """The sound ones first, the long ones of those first of all, so that both processors end together."""
    for case in sorted(cases(binaries, "real"), key=lambda case: case not in BOUNDS):
        for bounds in BOUNDS.get(case, (FULL,)):
            yield Search("real", case, SOUND, bounds)
    for case in cases(binaries, "model"):
        yield Search("model", case, SOUND)
    for mistake, (_, model, real) in MISTAKES.items():
        if model:
            yield Search("model", model, mistake)
        yield Search("real", real, mistake, DEATHS.get(mistake, FULL))
    for case in PERCPU:
        yield Search("real", case, "percpu_lists")


def describe(result: Result) -> str:
    search, figures = result.search, result.figures
    count = f"{int(figures['searched']):,}".replace(",", " ")
    what = f"{count} states"
    if search.engine == "real":
        what += f", preemptions <= {figures['preemptions']}"
        if not result.found:
            what += f", stops <= {search.bounds[2]}"
    depth = f"shortest {figures['steps']} steps" if result.found else f"longest {figures['steps']} steps"
    name = search.case if search.mistake == SOUND else f"{search.mistake} in {search.case}"
    outcome = f"found ({result.rule})" if result.found else "clean"
    return f"{search.engine:5}  {name}: {outcome}: {what}, {depth}, {figures['seconds']} s"


def main(words: Sequence[str]) -> int:
    begun = time.monotonic()
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="explore-") as folder:
        binaries = Path(folder)
        print("building the explorer", flush=True)
        build(binaries)
        chosen = [
            s for s in searches(binaries) if not words or any(w in " ".join(map(str, s)) for w in words)
        ]
        with ThreadPoolExecutor(2) as pool:
            for result in pool.map(lambda search: run(binaries, search), chosen):
                good = passes(result)
                print(f"{'ok  ' if good else 'FAIL'}  {describe(result)}", flush=True)
                if result.schedule:
                    print(result.schedule, flush=True)
                if not good:
                    failed.append(describe(result))
    for line in failed:
        print(f"failed: {line}")
    print(f"explore: {time.monotonic() - begun:.0f} s")
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
