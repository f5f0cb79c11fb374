"""Coverage-guided fuzzing of the codecs, the bus and the ring: `./dev fuzz [--seconds N] [--target NAME]`.

Each target runs in its own process, one after the other, from the inputs in corpus/TARGET. What the fuzzer
finds interesting is kept only with `--grow`. A finding is written to the folder of `--keep` and told with the
command that runs it again. The closing line counts inputs and findings.

The ring's reader is C: where clang is, the target `ring` is ring.c under libFuzzer and the sanitizers, which
sees its branches; elsewhere it goes through Python, which does not. Both read the same inputs.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CORPUS = HERE / "corpus"
SECONDS = 20
TIMEOUT = 10
"""Seconds that one input may take."""
MAX_LENGTH = {"wire": 256, "gpadl": 4096, "decoders": 8192, "bus": 1024, "saved": 1024, "ring": 5120}
"""Bytes of an input: as much as the target can make something of."""
HEADERS = ROOT / "vmbusd" / "abi"
IN_C = {"ring": HERE / "ring.c"}
"""Targets that are a C program too."""
SANITIZED = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-fno-sanitize-recover=all", "-Wall", "-Wextra")
LINES_SHOWN = 40


class Outcome(NamedTuple):
    """One target's run: inputs tried, and what was found, if anything."""

    inputs: int
    finding: str = ""


def clang() -> str | None:
    """The newest clang, also where only a versioned one is installed."""
    versions = [f"clang-{number}" for number in range(30, 13, -1)]
    return next(filter(None, map(shutil.which, ["clang", *versions])), None)


def compile_target(target: str, compiler: str, sanitizers: str, into: Path, *flags: str) -> Path:
    """The C program of a target. Raises CalledProcessError when the compiler is not able to."""
    program = into / f"fuzz-{target}"
    command = [compiler, *SANITIZED, f"-fsanitize={sanitizers}", *flags, f"-I{HEADERS}", str(IN_C[target])]
    subprocess.run([*command, "-o", str(program)], check=True, capture_output=True, text=True)
    return program


def program_of(target: str, into: Path) -> list[str]:
    """What runs a target under libFuzzer: a program of its own, or atheris."""
    compiler = clang()
    if target in IN_C and compiler is not None:
        try:
            return [str(compile_target(target, compiler, "fuzzer,address,undefined", into))]
        except subprocess.CalledProcessError as error:
            print(f"{target}: {compiler} cannot build it, Python alone is fuzzed:\n{error.stderr}")
    return [sys.executable, "-P", "-m", "tests.fuzz.one", target]


def fuzz(target: str, seconds: int, keep: Path, *, grow: bool) -> Outcome:
    """Fuzz one target for so many seconds."""
    with tempfile.TemporaryDirectory(prefix="vmbusd-fuzz-") as scratch:
        fresh = CORPUS / target if grow else Path(scratch) / "fresh"
        fresh.mkdir(exist_ok=True)
        command = [
            *program_of(target, Path(scratch)),
            *(f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH[target]}", f"-timeout={TIMEOUT}"),
            *("-print_final_stats=1", f"-artifact_prefix={keep}/{target}-", "-rss_limit_mb=2048"),
            *(str(fresh), str(CORPUS / target)),
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command,
            cwd=scratch,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    found = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    inputs = int(found.group(1)) if found else 0
    if done.returncode:
        # The traceback is on standard output; a crash of the interpreter is on standard error only.
        lines = (done.stdout.strip() or done.stderr.strip()).splitlines()[-LINES_SHOWN:]
        return Outcome(inputs, "\n".join(lines) or f"ended with status {done.returncode}")
    return Outcome(inputs)


def again(target: str, file: Path) -> int:
    """Run one input through its target, without a fuzzer: the traceback is the finding."""
    from tests.fuzz.targets import TARGETS

    TARGETS[target](file.read_bytes())
    print(f"{file}: nothing found")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 when something was found."""
    targets = sorted(MAX_LENGTH)
    parser = argparse.ArgumentParser(
        prog="./dev fuzz", description="Fuzz codecs, bus and ring, coverage-guided."
    )
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"per target, default {SECONDS}")
    parser.add_argument("--target", choices=targets, action="append", help="default: all")
    parser.add_argument("--keep", type=Path, default=Path.cwd(), metavar="DIR", help="where findings go")
    parser.add_argument("--grow", action="store_true", help="add new inputs to the corpus of the tree")
    parser.add_argument("--again", type=Path, metavar="FILE", help="run one input through --target")
    options = parser.parse_args(arguments)
    if options.again is not None:
        if not options.target:
            parser.error("--again needs --target")
        return again(options.target[0], options.again)
    keep = options.keep.resolve()
    keep.mkdir(parents=True, exist_ok=True)
    total = findings = 0
    chosen = options.target or targets
    for target in chosen:
        begun = time.monotonic()
        outcome = fuzz(target, options.seconds, keep, grow=options.grow)
        total += outcome.inputs
        took = time.monotonic() - begun
        print(f"{target:<9} {outcome.inputs:>9} inputs in {took:.0f} s{': FOUND' * bool(outcome.finding)}")
        if outcome.finding:
            findings += 1
            print(f"{outcome.finding}\nrun again: ./dev fuzz --target {target} --again {keep}/{target}-...")
    print(f"{len(chosen)} targets, {total} inputs, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
