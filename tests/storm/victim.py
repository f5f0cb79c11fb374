"""Guest and host of the partition whose memory is truncated, in one process: it has to end by itself.

A thread plays its one VP. What it has to see is the end of its links with the reason, however busy it is;
any other end, by a signal above all, is a violation.
"""

import logging
import threading
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from guest_client import Guest
from tests.storm.driver import CellDriver
from tests.storm.guest import attach
from tests.storm.host import CellDevice, connect
from tests.storm.ledger import Ledger
from tests.storm.lines import Line, Lines
from tests.storm.opens import Opens
from vmbusd.abi.errors import LinkClosed, ObjectDead, RefusedError, VmbusError

READY_SECONDS: Final = 60.0
PASS_SECONDS: Final = 0.001


def main(spec: dict[str, Any], lines: Lines) -> int:
    """Storm until the partition dies (0), or until told to quit (0); 1 with a reason for any other end."""
    logging.disable(logging.CRITICAL)
    quitting = threading.Event()

    def obey(line: Line) -> None:
        if line["do"] == "quit":
            quitting.set()

    lines.follow(obey)
    try:
        _storm(spec, lines, quitting)
    except (LinkClosed, ObjectDead, RefusedError) as error:
        # Refused: by a daemon that could not go on with a partition whose memory is gone.
        lines.tell(event="over", text=str(error))
        return 0
    except VmbusError as error:
        lines.tell(event="failed", text=f"{type(error).__name__}: {error}")
        return 1
    return 0


def _storm(spec: dict[str, Any], lines: Lines, quitting: threading.Event) -> None:
    ledger = Ledger(Path(spec["ledger"]))
    with connect(spec["partition"], spec["runtime_dir"]) as host, host.serving():
        device = CellDevice(ledger, Opens(ledger))
        for number in range(spec["devices"]):
            host.offer(device, UUID(int=number + 1))
        with attach(spec["partition"], spec["runtime_dir"]) as guest:
            guest.register(CellDriver(spec["ledger"]))
            guest.start(1, "thread")
            if not guest.wait_ready(READY_SECONDS):
                lines.tell(event="failed", text="its channels do not open")
                return
            lines.tell(event="ready")
            ended = threading.Thread(target=_wait, args=(guest,), name="end", daemon=True)
            ended.start()
            while ended.is_alive() and not quitting.wait(PASS_SECONDS):
                device.storm(host)
            if not quitting.is_set():
                guest.wait()


def _wait(guest: Guest) -> None:
    try:
        guest.wait()
    except VmbusError:
        return
