"""What the control plane costs: requests against echoes, the bus alone, the lives of many channels.

Every server is loaded by the same C program. Between two measurements what the last one made is taken back,
unmeasured. Results in ns.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from benchmarks._peer import LIMIT, BenchError
from vmbusd.abi import device_link, gpadl, link, messages, wire
from vmbusd.abi.attach import Attached, attach
from vmbusd.abi.link import Role
from vmbusd.bus.bus import Bus
from vmbusd.bus.effects import AskHost

ROOT = Path(__file__).resolve().parent.parent
CONTACT = messages.InitiateContact(wire.V5_3, 0, 2, 0, 0, 0, 0)
HANDLE_AT = link.HEADER.size + wire.HEADER_SIZE + 4
"""Where the handle stands in a packet with a GPADL_HEADER; the echoes do not care."""
RING_PAGES = 4
PAGE = 5
FIRST = 1 << 20
"""Handles of the load begin here, above those of the rings."""


@contextlib.contextmanager
def server(*command: str | Path) -> Iterator[int]:
    """A server that says when it is ready; its pid. It is stopped at the end, and must have ended well."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise BenchError(f"{command[0]}: the server did not start")
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(LIMIT)


def python(kind: str, place: Path, core: int, *numbers: int) -> list[str]:
    """The command of a server of `_servers`."""
    words = [sys.executable, "-P", "-m", "benchmarks._servers", kind, str(place), str(core)]
    return [*words, *map(str, numbers)]


def connected(path: Path, count: int) -> list[socket.socket]:
    """Connections to an echo."""
    sockets = []
    for _ in range(count):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(str(path))
        sockets.append(sock)
    return sockets


def request(relid: int) -> bytes:
    """The packet of the load: a GPADL_HEADER of one page."""
    (header,) = gpadl.split(relid, 0, [gpadl.whole_pages([PAGE])])
    return link.encode_message(wire.encode(header), where=link.MESSAGE_CONNECTION_OLD)


def load(program: Path, core: int, turns: int, fds: Sequence[int], packet: bytes) -> float:
    """ns per request of so many turns on each connection."""
    words = [str(program), "load", str(core), str(turns), str(HANDLE_AT), str(FIRST), packet.hex()]
    try:
        done = subprocess.run(
            [*words, *map(str, fds)],
            pass_fds=fds,
            capture_output=True,
            text=True,
            check=True,
            timeout=2 * LIMIT,
        )
    except subprocess.SubprocessError as error:
        raise BenchError(f"load: {error} {getattr(error, 'stderr', '') or ''}".strip()) from error
    return float(done.stdout)


class Guest:
    """The control link of one partition, its channels offered."""

    def __init__(self, directory: Path, partition: str, channels: int) -> None:
        self.link: Attached = attach(Role.GUEST_CONTROL, partition, runtime_dir=directory)
        self.say(CONTACT, messages.RequestOffers())
        self.hear(messages.VersionResponse, 1)
        offers = self.hear(messages.Offer, channels)
        self.hear(messages.AllOffersDelivered, 1)
        self.relids: list[int] = [offer.child_relid for offer in offers]

    def say(self, *said: msgspec.Struct) -> None:
        for message in said:
            self.link.send(link.encode_message(wire.encode(message), where=link.MESSAGE_CONNECTION_OLD))

    def hear(self, cls: type[msgspec.Struct], count: int) -> list[Any]:
        """The next messages, which must be of this class."""
        heard = []
        for _ in range(count):
            if not self.link.wait_readable(LIMIT):
                raise BenchError(f"no {cls.__name__} for {LIMIT} s")
            packet, _ = self.link.receive()
            message = wire.decode(packet[link.HEADER.size :], wire.V5_3, sender=wire.Sender.HOST)
            if not isinstance(message, cls) or getattr(message, "status", None):
                raise BenchError(f"{message} where {cls.__name__} was due")
            heard.append(message)
        return heard

    def forget(self, turns: int) -> None:
        """Take back what the load made."""
        for handle in range(FIRST, FIRST + turns):
            self.say(messages.GpadlTeardown(self.relids[0], handle))
            self.hear(messages.GpadlTorndown, 1)

    def open(self, count: int) -> None:
        """Memory for the rings, and open, of so many channels, each step for all before the next."""
        relids = self.relids[:count]
        pages = [gpadl.whole_pages(range(RING_PAGES))]
        for relid in relids:
            self.say(*gpadl.split(relid, relid, pages))
        self.hear(messages.GpadlCreated, count)
        for relid in relids:
            self.say(messages.Open(relid, relid, relid, 0, RING_PAGES // 2, bytes(120)))
        self.hear(messages.OpenResult, count)

    def close(self, count: int) -> None:
        """Close them and take the memory back."""
        relids = self.relids[:count]
        for relid in relids:
            self.say(messages.Close(relid), messages.GpadlTeardown(relid, relid))
        self.hear(messages.GpadlTorndown, count)

    def life(self, count: int) -> float:
        """ns per channel of open and close."""
        begun = time.perf_counter_ns()
        self.open(count)
        self.close(count)
        return (time.perf_counter_ns() - begun) / count


def bus_alone(turns: int) -> float:
    """ns per input of a bus without a daemon: GPADL_HEADER, TEARDOWN and the device's answers."""
    bus = Bus(vps=4, ram_pages=1 << 12)
    bus.host_message(0, device_link.Offer(1, UUID(int=1), UUID(int=1)))
    for message in (CONTACT, messages.RequestOffers()):
        bus.guest_message(wire.encode(message), 1)
    create = request(1)[link.HEADER.size :]
    teardown = wire.encode(messages.GpadlTeardown(1, 0))
    begun = time.perf_counter_ns()
    for _ in range(turns):
        _asked(bus.guest_message(create, 1), device_link.Gpadl)
        bus.host_message(0, device_link.GpadlAccepted(1, 0, 0))
        _asked(bus.guest_message(teardown, 1), device_link.Teardown)
        bus.host_message(0, device_link.GpadlTornDown(1, 0))
    spent = time.perf_counter_ns() - begun
    if bus.statistics().gpadls:
        raise BenchError("the bus did not do what was measured")
    return spent / turns / 4


def _asked(effects: list[Any], cls: type[msgspec.Struct]) -> None:
    if not isinstance(effects[-1], AskHost) or not isinstance(effects[-1].message, cls):
        raise BenchError(f"the bus says {effects}")


def processor_time(pid: int) -> int:
    """ns that the first thread of a process has run so far; the servers have no other that works."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def resident(pid: int) -> float:
    """MiB of a process that are its own and in memory."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return float(fields["RssAnon"].split()[0]) / 1024
