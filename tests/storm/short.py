"""One short storm as a user starts it, for the tests that judge what it says and keeps."""

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
SECONDS: Final = 8
TIMEOUT: Final = 300
"""What a storm takes besides its seconds on the busiest machine: its calm points wait for everybody."""


def command(seconds: float, root: Path = ROOT, *arguments: str) -> list[str]:
    storm = str(root / "tests" / "storm" / "run.py")
    return [sys.executable, storm, "--json", "--seconds", str(seconds), "--seed", "3", *arguments]


def run(root: Path = ROOT, seconds: float = SECONDS, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, JSON and standard error of a storm."""
    words = command(seconds, root, *arguments)
    done = subprocess.run(
        words, cwd=root, capture_output=True, text=True, timeout=seconds + TIMEOUT, check=False
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


@contextlib.contextmanager
def failed(root: Path, seconds: float, *arguments: str) -> Iterator[tuple[dict[str, Any], str]]:
    """JSON and standard error of a storm that fails as it must: with seed and trace."""
    status, result, errors = run(root, seconds, *arguments)
    try:
        assert status == 1, errors[-4000:]
        assert "seed 3: FAILED" in errors
        events = [json.loads(line) for line in Path(result["trace"]).read_text().splitlines()]
        assert any(event["what"] == "violation" for event in events)
        yield result, errors
    finally:
        if "trace" in result:
            shutil.rmtree(Path(result["trace"]).parent)
