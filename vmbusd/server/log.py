"""One logger: a human console on a terminal, one JSON object per line otherwise.

No peer can fill a disk with it: what a link does wrong goes through `Once` (the first of each kind is a line,
the rest are counters in the status), and whatever comes too often goes through `Throttle`.
"""

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger

from vmbusd.server import limits


class _Lenient:
    """A text stream whose reader may have gone: the daemon outlives the terminal or pipe it logs to."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure(stream: TextIO | None = None) -> None:
    """Log to `stream` (standard error by default), in the form that suits it."""
    out = sys.stderr if stream is None else stream
    form: list[Any]
    if out.isatty():
        form = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        form = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    structlog.configure(
        processors=[
            Throttle(),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *form,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.PrintLoggerFactory(_Lenient(out)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )


def get(**values: object) -> FilteringBoundLogger:
    """A logger that adds `values` to each line."""
    logger: FilteringBoundLogger = structlog.get_logger(**values)
    return logger


class Once:
    """Counts trouble by kind and says whether this is the first of its kind.

    Attributes: `counts`, how often each kind came; kinds beyond the bound share one counter.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def first(self, kind: str) -> bool:
        """Count one; True when it deserves a line in the log."""
        if kind not in self.counts and len(self.counts) >= limits.REMEMBERED_KINDS:
            kind = "other"
        seen = self.counts.get(kind, 0)
        self.counts[kind] = seen + 1
        return not seen


class Throttle:
    """A processor that lets a number of lines per event and interval through and counts the rest.

    Event names are words of this program, so there are only so many; peers choose how often each comes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._lines: dict[str, int] = {}

    def __call__(self, _logger: object, _method: str, event: EventDict) -> EventDict:
        name = str(event["event"])
        now = self._clock()
        if now - self._since.get(name, float("-inf")) >= limits.LOG_INTERVAL:
            self._since[name] = now
            suppressed = self._lines.get(name, 0) - limits.LOG_LINES
            if suppressed > 0:
                event["suppressed"] = suppressed
            self._lines[name] = 0
        self._lines[name] += 1
        if self._lines[name] > limits.LOG_LINES:
            raise structlog.DropEvent
        return event
