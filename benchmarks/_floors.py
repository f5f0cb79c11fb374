"""Compiles a C program against the headers of this checkout and runs it; and says what machine this is."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks._peer import LIMIT, BenchError

HERE = Path(__file__).resolve().parent
HEADERS = HERE.parent / "vmbusd" / "abi"
# Those of setup.py, so that floor and core are the same C.
FLAGS = ["-O3", "-std=gnu11", "-Wall", "-Wextra", "-fno-strict-aliasing", "-pthread"]


class Floors:
    """The compiled program, one measurement in ns per run; without it every run is a BenchError."""

    def __init__(self, program: Path | None, reason: str = "") -> None:
        self.program = program
        self.reason = reason

    def run(self, mode: str, *numbers: int) -> float:
        if self.program is None:
            raise BenchError(self.reason)
        command = [str(self.program), mode, *map(str, numbers)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=2 * LIMIT)
        except subprocess.SubprocessError as error:
            raise BenchError(
                f"{self.program.name} {mode}: {error} {getattr(error, 'stderr', '') or ''}".strip()
            ) from error
        return float(done.stdout)


@contextmanager
def compiled(source: str = "floors.c", *more: str) -> Iterator[Floors]:
    """A program of this folder, compiled for this run with $CC or gcc and `more` arguments."""
    with tempfile.TemporaryDirectory(prefix="vmbusd-bench-") as folder:
        program = Path(folder) / Path(source).stem
        compiler = shlex.split(os.environ.get("CC", "gcc"))
        command = [*compiler, *FLAGS, f"-I{HEADERS}", "-o", str(program), str(HERE / source), *more]
        try:
            subprocess.run(command, capture_output=True, text=True, check=True)
        except OSError as error:
            yield Floors(None, f"{compiler[0]}: {error.strerror}")
        except subprocess.CalledProcessError as error:
            yield Floors(None, f"{source} does not compile: {error.stderr}")
        else:
            yield Floors(program)


def machine(cores: tuple[int, int]) -> dict[str, Any]:
    """CPU model, cores, kernel and Python of this run."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "measured_on": list(cores),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": os.getloadavg()[0],
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
