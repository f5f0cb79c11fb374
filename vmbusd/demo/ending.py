"""How a scene of many processes ends: by itself, by an error, by a signal; what its exit status is.

Ctrl-C, SIGTERM and the end of the terminal become exceptions in the main thread, so that every part is undone
in order; a second one changes nothing. One that was ignored when this process started stays so (nohup).
"""

import contextlib
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Final

from vmbusd.abi.errors import VmbusError

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FAILED: Final = 2
"""It could not be set up, or could not go on."""
MISTAKEN: Final = 3
"""An error that nobody expected: a mistake of the program's."""


def in_order(name: str, scene: Callable[[], int]) -> int:
    """What `scene` returns; FAILED with the error in one line, MISTAKEN with a traceback, 128 + the signal's
    number when one ended it, whatever then went wrong in undoing it."""
    asked_to_end: list[int] = []

    def end_orderly(number: int, _frame: object) -> None:
        for one in SIGNALS:
            signal.signal(one, signal.SIG_IGN)
        asked_to_end.append(number)
        raise SystemExit(128 + number)

    for one in SIGNALS:
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, end_orderly)
    try:
        return scene()
    except (Exception, SystemExit) as error:
        if asked_to_end:
            return _ended_by(name, asked_to_end[0], error)
        if isinstance(error, VmbusError):
            print(f"{name}: {error}", file=sys.stderr)
            return FAILED
        if isinstance(error, SystemExit):
            raise
        traceback.print_exc()
        return MISTAKEN


def _ended_by(name: str, number: int, error: BaseException) -> int:
    """The signal may come in the middle of a step of starting, whose undoing then fails too."""
    if not isinstance(error, SystemExit):
        # The terminal may be what has gone.
        with contextlib.suppress(OSError):
            print(f"{name}: while ending: {type(error).__name__}: {error}", file=sys.stderr)
    return 128 + number
