"""The servers of the control benchmark, each a process of its own: `python -m benchmarks._servers KIND ...`.

daemon RUNTIME_DIR CORE PARTITIONS CHANNELS   the real daemon; its devices answer inside it, at once
echo PATH CORE                                uvloop and recvmsg, every packet goes back
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import Any
from uuid import UUID

import uvloop

from vmbusd.abi import device_link, native, paths
from vmbusd.server import config, limits, log
from vmbusd.server.daemon import Daemon
from vmbusd.server.links import HostLink
from vmbusd.server.partition import Partition
from vmbusd.server.runtime import Runtime

RAM = "16M"
BACKLOG = 128
LARGEST = 4096


class LocalDevice(HostLink):
    """A host without a process: what the bus asks is answered before anything else is looked at."""

    def __init__(self, partition: Partition) -> None:
        nobody: Any = None
        super().__init__(partition, nobody, nobody, partition.log, 0)
        # No link: it has no page, and nothing is said to it when the daemon stops.
        self.linked = False
        self._reply = {
            device_link.Open: lambda ask: device_link.Opened(ask.offer_id, ask.generation, 0),
            device_link.Close: lambda ask: device_link.Closed(ask.offer_id, ask.generation),
            device_link.Gpadl: lambda ask: device_link.GpadlAccepted(ask.offer_id, ask.gpadl, 0),
            device_link.Teardown: lambda ask: device_link.GpadlTornDown(ask.offer_id, ask.gpadl),
        }
        self._hear = partition.bus.host_message
        partition.hosts[0] = self

    def offer(self, channels: int) -> None:
        """Offer this many channels."""
        for number in range(1, channels + 1):
            self.say(device_link.Offer(number, UUID(int=1), UUID(int=number)))

    def say(self, message: device_link.FromHost) -> None:
        self.partition.feed(self, self.partition.bus.host_message, self.number, message)

    def tell(self, message: device_link.ToHost) -> None:
        answer: Any = self._reply.get(type(message))
        if answer is not None:
            self.partition.feed(self, self._hear, self.number, answer(message))


class _Nobody:
    """The process of a local device, which has none."""

    def close(self) -> None:
        pass


async def _daemon(directory: str, partitions: int, channels: int) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    specs = {f"p{number}": config.PartitionSpec(ram_size=RAM) for number in range(partitions)}
    daemon = Daemon(loop, config.Config(partitions=specs), Runtime(paths.runtime_dir(directory), None))
    try:
        for partition in daemon.partitions.values():
            device = LocalDevice(partition)
            device.peer = _Nobody()  # type: ignore[assignment]
            device.offer(channels)
        limits.calm_collector()
        print("ready", flush=True)
        await stop.wait()
    finally:
        daemon.stop()


def daemon(directory: str, partitions: int, channels: int) -> None:
    """Run the daemon until it is asked to stop."""
    os.umask(0o077)
    limits.raise_descriptor_limit()
    with open(os.devnull, "w") as nowhere:
        log.configure(nowhere)
        uvloop.run(_daemon(directory, partitions, channels))


async def _echo(path: str) -> None:
    loop = asyncio.get_running_loop()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    listener.bind(path)
    listener.listen(BACKLOG)

    def accept() -> None:
        sock, _ = listener.accept()
        sock.setblocking(False)
        loop.add_reader(sock, answer, sock)

    def answer(sock: socket.socket) -> None:
        try:
            packet = sock.recv(LARGEST)
        except OSError:
            packet = b""
        if packet:
            sock.send(packet)
        else:
            loop.remove_reader(sock)
            sock.close()

    loop.add_reader(listener, accept)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    native.exit_with_parent(signal.SIGTERM)
    kind, place, core, *numbers = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    if kind == "daemon":
        daemon(place, *map(int, numbers))
    else:
        uvloop.run(_echo(place))
