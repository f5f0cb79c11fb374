"""Searches every schedule of the signal protocol's small cases, sound and with each seeded mistake.

Called as `./dev explore [WORD ...]`: with words, only searches whose line contains one of them. Two engines:
`model` walks every state of machines written from docs/signal-protocol.md, `real` runs the functions of
vmbusd/abi under every schedule within bounds. A sound search must be clean, a mistake must be found, by its
rule and by both engines; all searches of the model together may visit MOST_STATES. Needs gcc and nothing
else; two searches run at a time.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
HEADERS = [HERE.parents[1] / "vmbusd" / part for part in ("abi", "lab")]
# Injected faults are no step of the protocol: their hooks are left out.
FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-DVMB_NO_FAULTS", "-O2", "-Wall", "-Wextra", "-Werror")
# Fortified longjmp takes a jump between stacks for an error.
ENGINES = {
    "model": (
        "models.c",
        "model_search.c",
        "model_moves.c",
        "model_reduce.c",
        "model_hosts.c",
        "model_worker.c",
        "model_daemon.c",
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

MOST_STATES = 5_000_000
"""Of all models together: seconds on a laptop, so that nobody minds to run them with each change."""

# Mistake: (the rule that it breaks, the models that show it, the programs of the real functions that do).
MISTAKES = {
    "no_second_look": ("I1", "sleep-wake", "sleep-wake nap"),
    "idle_not_seq_cst": ("I1", "sleep-wake", "sleep-wake nap"),
    "shared_mark_after_post": ("I1", "sleep-wake", "sleep-wake"),
    "shared_mark_before_post": ("I1", "two-channels", "two-channels"),
    "already_set_returns": ("I1", "two-hosts", "two-hosts signal-many-stop"),
    "new_worker_zeroes": ("I1", "begin", "begin"),
    "claimed_dropped": ("I1", "silent", "retarget"),
    "plain_let_go": ("I1", "silent", "retarget"),
    "no_claim": ("I2", "retarget", "retarget"),
    "silent_treated_as_dead": ("I2", "silent", "silent"),
    "table_before_claim": ("I3", "close", "close"),
    "close_does_not_wait": ("I3", "close", "close"),
    "slot_not_seq_cst": ("I3", "close", "close"),
    "claimed_put_back": ("I4", "silent", "retarget"),
    "admitted_before_recovery": ("I1", "death offline-death death-close", "death"),
    "no_taken": ("I1", "death", "death"),
    "taken_after_clear": ("I1", "death", "death"),
    "taken_cleared_early": ("I1", "death", "death"),
    "recovery_rings_unless_marked": ("I1", "host-death", "host-death"),
    "no_target_reload": ("I1", "adoption", "offline-vacant signal-many-offline interrupt-page-offline"),
    "target_not_seq_cst": ("I1", "adoption", "offline-vacant"),
    "no_sweep_on_host_death": ("I1", "host-death-vacant", "host-death-offline"),
    "no_ring_on_host_death": ("I1", "host-death", "host-death"),
    "no_ring_at_start": ("I1", "daemon-host-death", "detach-restart"),
    "handover_clears_first": ("I1", "daemon-adoption", "offline-vacant-restart"),
    "recovery_clears_taken_first": ("I1", "daemon-death", "death-restart"),
    "recovery_no_put_back": ("I1", "death", "death"),
    "recovery_bits_before_claims": ("I1", "death", "death-offline"),
    "percpu_lists": ("I1", "percpu-1 percpu-2 percpu-answer", "percpu-move-first percpu-target-first"),
    "handover_sets_once": ("I1", "host-death-vacant", "host-death-offline"),
    "claimed_waited": ("I1", "two-channels-stop", "two-channels-stop"),
    "drain_clears_all": ("I1", "begin", "neighbours"),
    "sweep_clears_all": ("I1", "neighbours-vacant", "neighbours-vacant"),
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

OTHER_RULES = {
    ("admitted_before_recovery", "offline-death"): "I2",
    ("admitted_before_recovery", "death-close"): "I3",
}
"""Mistake and case: the rule that it breaks there, where that is not the one it is listed by."""

# Bounds of the sound searches of the real functions: preemptions, missed stores, stops.
FULL = (3, 3, 1)
# Where two must die to show it.
DEATHS = {"recovery_clears_taken_first": (2, 3, 2)}
# The daemon's own death multiplies everything before it, so there fewer preemptions are searched.
BOUNDS = {
    "death-neighbours": ((1, 3, 1),),
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
    """Of the real functions."""
    reduced: bool = True
    """The model: states that behave alike are one, a step that nobody can see is tried alone."""


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
        command = [
            compiler,
            *FLAGS,
            *(f"-I{folder}" for folder in HEADERS),
            *sources,
            "-o",
            str(into / engine),
        ]
        subprocess.run(command, check=True)


def cases(binaries: Path, engine: str) -> dict[str, str]:
    """Every case of an engine with its story."""
    listed = subprocess.run([binaries / engine, "list"], check=True, capture_output=True, text=True).stdout
    return dict(line.split("\t", 1) for line in listed.splitlines())


def run(binaries: Path, search: Search) -> Result:
    command = [str(binaries / search.engine), search.case, search.mistake]
    if search.engine == "real":
        command += [str(bound) for bound in search.bounds]
    elif not search.reduced:
        command.append("full")
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    *schedule, verdict = done.stdout.splitlines()
    outcome, *pairs = verdict.split()
    rule = re.match(r"\s*(I\d)", schedule[-1]) if schedule else None
    figures = dict(pair.split("=", 1) for pair in pairs)
    return Result(search, outcome == "found", rule[1] if rule else "", figures, "\n".join(schedule))


def expected_rule(search: Search) -> str:
    if search.mistake == SOUND:
        return ""
    return OTHER_RULES.get((search.mistake, search.case), MISTAKES[search.mistake][0])


def passes(result: Result) -> bool:
    return result.rule == expected_rule(result.search)


def searches(binaries: Path) -> Iterator[Search]:
    """The sound ones first, the long ones of those first of all, so that both processors end together."""
    for case in sorted(cases(binaries, "real"), key=lambda case: case not in BOUNDS):
        for bounds in BOUNDS.get(case, (FULL,)):
            yield Search("real", case, SOUND, bounds)
    for case in cases(binaries, "model"):
        yield Search("model", case, SOUND)
    for mistake, (_, models, reals) in MISTAKES.items():
        for case in models.split():
            yield Search("model", case, mistake)
        for case in reals.split():
            yield Search("real", case, mistake, DEATHS.get(mistake, FULL))


def grouped(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def describe(result: Result) -> str:
    search, figures = result.search, result.figures
    what = f"{grouped(int(figures['searched']))} states"
    if search.engine == "real":
        what += f", preemptions <= {figures['preemptions']}"
        if not result.found:
            what += f", stops <= {search.bounds[2]}"
    depth = f"shortest {figures['steps']} steps" if result.found else f"longest {figures['steps']} steps"
    name = search.case if search.mistake == SOUND else f"{search.mistake} in {search.case}"
    outcome = f"found ({result.rule})" if result.found else "clean"
    return f"{search.engine:5}  {name}: {outcome}: {what}, {depth}, {figures['seconds']} s"


def total(results: Iterable[Result], engine: str) -> tuple[int, float]:
    """What an engine searched in all, and the seconds that it took."""
    ours = [result.figures for result in results if result.search.engine == engine]
    return sum(int(figures["searched"]) for figures in ours), sum(float(f["seconds"]) for f in ours)


def closing(results: Sequence[Result], failed: int, seconds: float) -> str:
    """The last line."""
    states, of_model = total(results, "model")
    real, of_real = total(results, "real")
    return (
        f"explore: {len(results)} searches, {failed} failed, {seconds:.0f} s;"
        f" model: {grouped(states)} states, {of_model:.1f} s;"
        f" real: {grouped(real)} states, {of_real:.1f} s"
    )


def failures(results: Iterable[Result], most: int = MOST_STATES) -> list[str]:
    """What was not as it has to be: outcomes, and models that grew too large."""
    results = list(results)
    failed = [describe(result) for result in results if not passes(result)]
    states, _ = total(results, "model")
    if states > most:
        failed.append(f"the models have {grouped(states)} states, more than {grouped(most)}")
    return failed


def main(words: Sequence[str]) -> int:
    begun = time.monotonic()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="explore-") as folder:
        binaries = Path(folder)
        print("building the explorer", flush=True)
        build(binaries)
        chosen = [
            s for s in searches(binaries) if not words or any(w in " ".join(map(str, s)) for w in words)
        ]
        with ThreadPoolExecutor(2) as pool:
            for result in pool.map(lambda search: run(binaries, search), chosen):
                results.append(result)
                print(f"{'ok  ' if passes(result) else 'FAIL'}  {describe(result)}", flush=True)
                if result.schedule:
                    print(result.schedule, flush=True)
    failed = failures(results)
    for line in failed:
        print(f"failed: {line}")
    print(closing(results, len(failed), time.monotonic() - begun))
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
