"""Leaves the machine as a session of tests found it, also when the session is killed.

Fixtures clean up behind tests, unless the process that runs them dies. So each session has this process
beside it, which waits for its end, then ends whatever bears its mark and removes what that leaves. It has a
session and a process group of its own: a signal to the tests' group does not reach it.

Called as `python -m tests.guardian PID`, with the mark in the environment, by `guarded`.
"""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests import leftovers

ROOT: Final = Path(__file__).resolve().parents[1]
READY: Final = b"ready\n"
PASSES: Final = 5
"""A process may start another in the moment of its end; one that cannot be ended is not waited for."""


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Have a guardian for this process, which has its mark in the environment already."""
    command = [sys.executable, "-m", "tests.guardian", str(os.getpid())]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    ) as guardian:
        try:
            # From here on it knows what was there before.
            if guardian.stdout is None or guardian.stdout.readline() != READY:
                raise RuntimeError("the guardian of this session did not start")
            yield
        finally:
            guardian.kill()


def main(pid: int) -> None:
    """Wait for the end of that process, then clean up behind it."""
    session = os.pidfd_open(pid)
    before = leftovers.snapshot()
    os.write(sys.stdout.fileno(), READY)
    select.select([session], [], [])
    for _ in range(PASSES):
        if not leftovers.remove_leftovers(before):
            break
    leftovers.remove_files()


if __name__ == "__main__":
    main(int(sys.argv[1]))
