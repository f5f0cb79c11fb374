"""Fixtures for every test: a place for sockets, and the rule that a test leaves nothing behind."""

import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from tests import leftovers
from tests.guardian import guarded


def pytest_configure(config: pytest.Config) -> None:
    """Refuses processes that share the work and one /dev/shm, and lets all that tests start hear of Ctrl-C.

    On one /dev/shm a daemon of one process would remove, at its start, what a test of another has abandoned,
    and a test be blamed for what it never had. A shell has what it starts in the background ignore SIGINT,
    and so would every process that a test starts.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("numprocesses", None):
        raise pytest.UsageError("-n: processes side by side need a /dev/shm each: ./dev test without options")


@pytest.fixture(scope="session", autouse=True)
def nothing_left_by_the_session() -> Iterator[None]:
    """Marks every process of this session and looks once more when all fixtures are gone."""
    os.environ[leftovers.MARK] = secrets.token_hex(8)
    # The event loop's library makes two process-wide pipes with its first loop and keeps them.
    uvloop.new_event_loop().close()
    with guarded():
        before = leftovers.snapshot()
        yield
        found = leftovers.remove_leftovers(before)
    del os.environ[leftovers.MARK]
    if found:
        pytest.fail("the session left behind:\n  " + "\n  ".join(found), pytrace=False)


@pytest.fixture(autouse=True)
def nothing_left_behind(nothing_left_by_the_session: None) -> Iterator[None]:
    """Fails a test that leaves an object, a process, a thread or a descriptor; removes what it left."""
    before = leftovers.snapshot()
    yield
    found = leftovers.remove_leftovers(before)
    if found:
        pytest.fail("the test left behind:\n  " + "\n  ".join(found), pytrace=False)


@pytest.fixture
def runtime_dir(nothing_left_behind: None) -> Iterator[Path]:
    """An empty directory with a path short enough for a socket's name; it must be empty again at the end."""
    path = leftovers.make_directory()
    yield path
    found = sorted(os.listdir(path))
    shutil.rmtree(path)
    if found:
        pytest.fail(f"the test left in its runtime directory: {', '.join(found)}", pytrace=False)
