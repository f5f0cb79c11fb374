"""Builds and runs the C core's own tests, without Python and under the compiler's sanitizers.

Called as `./dev sanitize [WORD ...]`: with words, only runs whose name contains one of them. Every program is
also built as shipped, -O2 with warnings as errors, by gcc and by clang where it is there. The storm must fail
when an order or a rule is taken away: those runs show that it looks. Needs gcc and its sanitizer libraries.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
HEADERS = HERE.parents[1] / "vmbusd" / "abi"
WARNINGS = ("-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror")
BUILDS = {
    "plain": ("-O2",),
    "address": (
        "-O1",
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
    ),
    "thread": ("-O1", "-g", "-fsanitize=thread"),
}
# What a sanitizer is told: memory that a test still holds at its end is no finding here.
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "exitcode=66",
}
RINGS = ("ring", "ring_hostile", "ring_storm")
FINDINGS = ("SUMMARY: ThreadSanitizer", "SUMMARY: AddressSanitizer", "lost")
TIME_LIMIT = 120
SECONDS = "3"


class Run(NamedTuple):
    """One program in one build; it must fail where `broken` takes an order or a rule away."""

    program: str
    build: str
    arguments: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    compiler: str = "gcc"

    @property
    def name(self) -> str:
        compiler = "" if self.compiler == "gcc" else f" by {self.compiler}"
        broken = f", broken by {self.broken[-1].removeprefix('-D').removesuffix('=1')}" if self.broken else ""
        return f"{self.program} ({self.build}{compiler}){broken}"


def mutant(name: str) -> tuple[str, ...]:
    return (f"-DVMB_MUTANT_{name}=1",)


def weak(name: str) -> tuple[str, ...]:
    return ("-include", str(HERE / "weak.h"), f"-DWEAK_{name}")


def runs() -> Iterator[Run]:
    for build in BUILDS:
        for program in ("unit", "handover", "doorbell", "packets", "ring", "faults", "faults_live"):
            yield Run(program, build)
    yield Run("hostile", "address", (SECONDS,))
    yield Run("hostile", "plain", (SECONDS,))
    yield Run("storm", "thread", (SECONDS,))
    yield Run("storm", "plain", (SECONDS,))
    for flags in (weak("SET"), weak("CLAIM"), mutant("close_does_not_wait"), mutant("plain_let_go")):
        yield Run("storm", "thread", (SECONDS,), flags)
    yield Run("pages", "thread", (SECONDS,))
    yield Run("pages", "plain", (SECONDS,))
    yield Run("pages", "plain", (SECONDS,), ("-DPAGE_BEFORE_FLAG",))
    yield from ring_runs()
    if shutil.which("clang"):
        for program in (
            "unit",
            "handover",
            "doorbell",
            "packets",
            "hostile",
            "storm",
            "pages",
            "faults",
            "faults_live",
            *RINGS,
        ):
            yield Run(program, "plain", (SECONDS,), compiler="clang")


def ring_runs() -> Iterator[Run]:
    yield Run("ring_hostile", "address", (SECONDS,))
    yield Run("ring_hostile", "plain", (SECONDS,))
    yield Run("ring_hostile", "address", (SECONDS,), mutant("ring_double_fetch"))
    yield Run("ring_storm", "thread", (SECONDS,))
    yield Run("ring_storm", "plain", (SECONDS,))
    for flags in (weak("RING"), mutant("ring_publish_before_copy")):
        yield Run("ring_storm", "thread", (SECONDS,), flags)
    for name in ("ring_stale_read_index", "ring_stale_write_index"):
        yield Run("ring_storm", "plain", (SECONDS,), mutant(name))


def fixed_addresses() -> list[str]:
    """How to start a program without address randomization, which old sanitizers need on new kernels."""
    setarch = shutil.which("setarch")
    return [setarch, os.uname().machine, "-R"] if setarch else []


def compile_program(run: Run, into: Path) -> Path:
    target = into / f"{run.program}-{len(list(into.iterdir()))}"
    source = str(HERE / f"{run.program}.c")
    # A build that is broken on purpose may compare with a constant; all others must be free of warnings.
    flags = [flag for flag in WARNINGS if flag != "-Werror"] if run.broken else list(WARNINGS)
    command = [run.compiler, *flags, *BUILDS[run.build], *run.broken, f"-I{HEADERS}", source]
    subprocess.run([*command, "-o", str(target), "-pthread"], check=True)
    return target


def execute(run: Run, program: Path) -> tuple[int, str]:
    """Exit status and output; 124 stands for a program that did not come back."""
    status, output = start([str(program), *run.arguments])
    if "unexpected memory mapping" in output:
        status, output = start([*fixed_addresses(), str(program), *run.arguments])
    return status, output


def start(command: list[str]) -> tuple[int, str]:
    with subprocess.Popen(
        command,
        env={**os.environ, **OPTIONS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            output, _ = process.communicate(timeout=TIME_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            return 124, output
    return process.returncode, output


def judge(run: Run, status: int, output: str) -> tuple[bool, str]:
    """Whether the run is as it must be, and a line about it."""
    lines = output.strip().splitlines()
    if not run.broken:
        return status == 0, lines[-1] if lines else ""
    shown = [line for line in lines if line.startswith(FINDINGS)]
    found = status in (1, 66) and bool(shown)
    return found, f"must be found: {shown[0].replace(str(HERE) + os.sep, '') if shown else 'was not'}"


def main(words: Sequence[str]) -> int:
    if shutil.which("gcc") is None:
        print("gcc is needed: apt-get install gcc libc6-dev", file=sys.stderr)
        return 2
    passed, failed = 0, 0
    with tempfile.TemporaryDirectory(prefix="sanitize-") as folder:
        for run in runs():
            if words and not any(word in run.name for word in words):
                continue
            begun = time.monotonic()
            try:
                status, output = execute(run, compile_program(run, Path(folder)))
                good, line = judge(run, status, output)
            except subprocess.CalledProcessError:
                good, line, status, output = False, "does not compile", 2, ""
            print(
                f"{'ok  ' if good else 'FAIL'}  {run.name}: {line} [{time.monotonic() - begun:.1f} s]",
                flush=True,
            )
            if good:
                passed += 1
            else:
                failed += 1
                print(f"{output}\nexit status {status}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
