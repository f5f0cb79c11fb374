"""The daemon's process: its event loop, what ends it in order, and what it becomes next.

SIGTERM, SIGINT and SIGHUP end it with exit status 0 when everything of ours is removed; `vmbusctl reexec`
makes it a new daemon. Source: docs/design.md section 4, docs/daemon.md.
"""

import asyncio
import os
import signal
from typing import Any, Final

import uvloop

from vmbusd.abi import paths
from vmbusd.abi.errors import ResourceError
from vmbusd.server import limits, log, reexec
from vmbusd.server.config import Config
from vmbusd.server.daemon import Daemon
from vmbusd.server.notify import Notifier
from vmbusd.server.reexec import HandedOver
from vmbusd.server.runtime import Runtime

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What ends the daemon in order. A terminal that is closed is as good as Ctrl-C."""


async def _serve(config: Config, runtime: Runtime, notifier: Notifier, handed_over: HandedOver) -> None:
    loop = asyncio.get_running_loop()
    # What is to be done next: True to end, False to become a new daemon.
    orders: asyncio.Queue[bool] = asyncio.Queue()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, orders.put_nowait, True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    logger = log.get()

    def fault(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        logger.error("internal error", message=context.get("message"), exc_info=context.get("exception"))

    loop.set_exception_handler(fault)
    daemon = Daemon(loop, config, runtime, notifier, handed_over, lambda: orders.put_nowait(False))
    limits.calm_collector()
    try:
        logger.info("ready", runtime_dir=str(runtime.path), instance=runtime.instance, pid=os.getpid())
        while not await orders.get():
            await _become(daemon, orders)
        logger.info("stopping")
    finally:
        # For good: whoever asks once more gets what he asked for already.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        daemon.stop()


async def _become(daemon: Daemon, orders: "asyncio.Queue[bool]") -> None:
    """Make the daemon a new one; returns when that failed, or when it is to stop instead."""
    # A stop that is asked for from now on waits for the new daemon; one that came before counts here.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        for _ in range(2):
            await asyncio.sleep(0)
        if orders.empty():
            daemon.log.info("reexec")
            daemon.become()
    except ResourceError as error:
        daemon.log.error("reexec", reason=str(error))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def run(config: Config) -> None:
    """Run a daemon until SIGTERM or SIGINT. Raises UsageError or ResourceError when it cannot start."""
    # Whatever the caller's mask is, our modes are meant as they are written.
    os.umask(0o077)
    limits.raise_descriptor_limit()
    log.configure()
    notifier = Notifier()
    # From the first file that we make on, until the loop can take them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        given = reexec.handed_over()
        runtime = Runtime(paths.runtime_dir(config.runtime.directory), config.runtime.mode, given)
        uvloop.run(_serve(config, runtime, notifier, given))
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
