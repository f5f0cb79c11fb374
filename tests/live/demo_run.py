"""One run of the demo as a user starts it, for the tests that judge what it says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def run_demo(*arguments: str, root: Path = ROOT, timeout: float = 90) -> tuple[int, dict[str, Any], str]:
    """Exit status, JSON and standard error of one demo."""
    done = subprocess.run(
        [sys.executable, "-m", "vmbusd", "demo", "--json", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr
