"""The whole daemon in a thread of the test's own process, so that a test can let the machine fail it."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from vmbusd.server.config import Config, PartitionSpec
from vmbusd.server.daemon import Daemon
from vmbusd.server.runtime import Runtime

PATIENCE = 20.0
T = TypeVar("T")


class InProcess:
    """A daemon whose event loop runs in another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, daemon: Daemon) -> None:
        self.loop = loop
        self.daemon = daemon

    def call(self, function: Callable[[], T]) -> T:
        """What `function` returns, run between two steps of the daemon; raises what it raises."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(PATIENCE)


@contextlib.contextmanager
def in_process(runtime_dir: Path, **partitions: PartitionSpec) -> Iterator[InProcess]:
    """A running daemon with these partitions; every fault it reported meanwhile fails the test."""
    loop = asyncio.new_event_loop()
    faults: list[str] = []
    loop.set_exception_handler(lambda _, context: faults.append(str(context)))
    daemon = Daemon(loop, Config(partitions=partitions), Runtime(runtime_dir))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    running = InProcess(loop, daemon)
    try:
        yield running
    finally:
        running.call(daemon.stop)
        # One more turn: what was closed just now is let go of.
        running.call(lambda: None)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    assert faults == []
