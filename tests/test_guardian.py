"""A session of tests that is killed leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import leftovers
from tests.live.daemon import eventually

ROOT = Path(__file__).resolve().parents[1]
SESSION = f"""
import os, secrets, subprocess, sys, time
from tests import leftovers
from tests.guardian import guarded

os.environ["{leftovers.MARK}"] = secrets.token_hex(8)
with guarded():
    directory, (log, name) = leftovers.make_directory(), leftovers.make_log()
    command = [sys.executable, "-m", "vmbusd", "run", "--runtime-dir", str(directory), "--partition", "p:1"]
    print(directory, name, subprocess.Popen(command, start_new_session=True, stderr=log).pid, flush=True)
    time.sleep(60)
"""
"""What a session does whose first test starts a daemon, in a process group of its own."""


@pytest.mark.live
def test_nothing_is_left_of_a_session_that_is_killed() -> None:
    """kill -9 of the process that runs the tests ends its daemons and removes their objects and files."""
    before = leftovers.snapshot().objects
    with subprocess.Popen(
        [sys.executable, "-c", SESSION], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as session:
        assert session.stdout is not None
        directory, log, pid = session.stdout.readline().split()
        try:
            eventually(lambda: os.path.exists(f"{directory}/admin.sock"), "the daemon listens")
            objects = leftovers.snapshot().objects - before
            assert objects
        finally:
            session.kill()
    eventually(lambda: not leftovers.runs(int(pid)), "the daemon is ended")
    eventually(lambda: not objects & leftovers.snapshot().objects, "its objects are removed")
    eventually(lambda: not os.path.exists(directory) and not os.path.exists(log), "its files are removed")
