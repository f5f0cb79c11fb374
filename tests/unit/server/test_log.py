"""Log lines are JSON unless a person looks, and no peer decides how many there are."""

import io
import json

import pytest
import structlog

from vmbusd.server import limits, log
from vmbusd.server.log import Once, Throttle


@pytest.fixture(autouse=True)
def _restored() -> object:
    yield
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_file_gets_json_lines() -> None:
    """One object per line with event, level, time and values; a traceback is a string in it."""
    out = io.StringIO()
    log.configure(out)

    log.get(partition="a").info("link attached", pid=5)
    try:
        raise ValueError("seven")
    except ValueError:
        log.get().exception("internal error")

    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert (first["event"], first["level"], first["partition"], first["pid"]) == (
        "link attached",
        "info",
        "a",
        5,
    )
    assert first["timestamp"].endswith("Z")
    assert "ValueError: seven" in second["exception"]


def test_a_terminal_gets_text() -> None:
    """A person reads words, not JSON."""
    out = Terminal()
    log.configure(out)

    log.get().warning("refused", code="LIMIT")

    assert "refused" in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_a_reader_that_went_away_ends_nothing() -> None:
    """A closed terminal or pipe loses lines, not the daemon."""
    log.configure(Broken())

    log.get().info("ready")


def test_the_first_of_each_kind_counts_as_news() -> None:
    """Later ones are only counted; kinds beyond the bound share one counter."""
    once = Once()

    assert [once.first("a"), once.first("a"), once.first("b")] == [True, False, True]
    for number in range(2 * limits.REMEMBERED_KINDS):
        once.first(f"kind {number}")

    assert once.counts["a"] == 2
    assert len(once.counts) == limits.REMEMBERED_KINDS + 1
    assert sum(once.counts.values()) == 3 + 2 * limits.REMEMBERED_KINDS
    assert not once.first("yet another")


def test_a_flood_of_one_event_is_cut_and_counted() -> None:
    """So many lines per event and interval; other events and the next interval are free, with a count."""
    now = 100.0
    throttle = Throttle(lambda: now)

    def passes(event: str) -> dict[str, object] | None:
        try:
            return dict(throttle(None, "info", {"event": event}))
        except structlog.DropEvent:
            return None

    passed = [passes("link attached") for _ in range(3 * limits.LOG_LINES)]

    assert sum(each is not None for each in passed) == limits.LOG_LINES
    assert passes("ready") == {"event": "ready"}
    now += limits.LOG_INTERVAL
    assert passes("link attached") == {"event": "link attached", "suppressed": 2 * limits.LOG_LINES}
    assert passes("link attached") == {"event": "link attached"}
