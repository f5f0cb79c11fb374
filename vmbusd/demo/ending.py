"""How a scene of many processes ends: by itself, by an error, by Ctrl-C or SIGTERM; what its exit status is.

SIGTERM becomes SystemExit, so that every part is undone in order; a second one changes nothing.
"""

import signal
import sys
from collections.abc import Callable

from vmbusd.abi.errors import VmbusError


def in_order(name: str, scene: Callable[[], int]) -> int:
    """What `scene` returns; 2 when it could not be set up, 128 + the signal's number when one ended it."""
    asked_to_end: list[int] = []

    def end_orderly(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        asked_to_end.append(number)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end_orderly)
    try:
        return scene()
    except VmbusError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        if not asked_to_end:
            raise
        # The signal may come in the middle of a step of starting, whose undoing then fails too.
        print(f"{name}: while ending: {type(error).__name__}: {error}", file=sys.stderr)
        return 128 + asked_to_end[0]
