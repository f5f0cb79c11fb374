"""Copies of the project for tests that break one, and a core of it in which any one mistake can be made.

The mistakes are those of vmbusd/abi/vmbus_steps.h. The core with all of them is built once for a session of
tests, which takes most of a minute; the environment of a process says which of them it makes.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
MISTAKE: Final = "VMBUSD_MISTAKE"
"""In the environment: the name of the mistake that a process makes."""
BUILD_SECONDS: Final = 300
"""A build on the busiest machine."""
FLAGS: Final = f"-O1 -include {shlex.quote(str(ROOT / 'tests' / 'native' / 'mistakes.h'))}"


def copy_project(copy: Path, *, built: bool) -> Path:
    """Everything that runs, and the tests, with the native core as it is built here, or without."""
    leave = ("__pycache__",) if built else ("__pycache__", "*.so")
    for part in ("vmbusd", "guest_client", "host_client", "tests"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns(*leave))
    for part in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, copy / part)
    return copy


def build_with_mistakes(copy: Path) -> Path:
    """A copy of the project whose core makes the mistake that `MISTAKE` names, or none."""
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=copy_project(copy, built=False),
        env={**os.environ, "VMBUSD_CFLAGS": FLAGS},
        check=True,
        capture_output=True,
        timeout=BUILD_SECONDS,
    )
    return copy
