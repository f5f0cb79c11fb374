"""What other packages offer for packets between two processes: pipes, ZeroMQ, iceoryx2.

Packages come with the `bench` extra; one that is missing is a BenchError of its rows alone. One that has
threads of its own may use both cores for them.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count as numbers
from itertools import repeat
from typing import Any

from benchmarks._peer import BenchError
from benchmarks._streams import Move, Pair

NAMES = numbers()
# Samples that an iceoryx2 subscriber keeps: as many bytes as our ring, within what its memory is made for.
SAMPLES = 256
SAMPLE_BYTES = 1 << 19


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BenchError(f"{name}: {error}") from error


def pipe(size: int, count: int) -> Pair:
    """multiprocessing.Pipe: send_bytes, recv_bytes."""
    reader, writer = multiprocessing.Pipe(False)

    @contextmanager
    def put() -> Iterator[Move]:
        payload, send = bytes(size), writer.send_bytes

        def move() -> None:
            for _ in repeat(None, count):
                send(payload)

        yield move

    @contextmanager
    def take() -> Iterator[Move]:
        receive = reader.recv_bytes

        def move() -> None:
            for _ in repeat(None, count):
                receive()

        yield move

    return Pair(put, take)


def pipe_trips(size: int, count: int) -> Pair:
    """A two-way multiprocessing.Pipe; both ends sleep in read()."""
    one, other = multiprocessing.Pipe()
    return Pair(
        lambda: _asks(one.send_bytes, one.recv_bytes, size, count),
        lambda: _answers(other.recv_bytes, other.send_bytes, size, count),
    )


@contextmanager
def _asks(
    send: Callable[[bytes], object], receive: Callable[[], object], size: int, count: int
) -> Iterator[Move]:
    payload = bytes(size)

    def move() -> None:
        for _ in repeat(None, count):
            send(payload)
            receive()

    yield move


@contextmanager
def _answers(
    receive: Callable[[], object], send: Callable[[bytes], object], size: int, count: int
) -> Iterator[Move]:
    payload = bytes(size)

    def move() -> None:
        for _ in repeat(None, count):
            receive()
            send(payload)

    yield move


@contextmanager
def _socket(zmq: Any, kind: str, address: str, binds: bool) -> Iterator[Any]:
    """A ZeroMQ socket whose own thread may run on any core."""
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    context = zmq.Context()
    try:
        socket = context.socket(getattr(zmq, kind))
        os.sched_setaffinity(0, pinned)
        (socket.bind if binds else socket.connect)(address)
        yield socket
    finally:
        context.destroy(linger=0)


def _address() -> str:
    return f"ipc://{tempfile.gettempdir()}/vmbusd-bench-{os.getpid()}-{next(NAMES)}"


def zeromq(size: int, count: int) -> Pair:
    """PUSH to PULL over ipc, a bytes object for each packet."""
    zmq, address = _package("zmq"), _address()

    @contextmanager
    def put() -> Iterator[Move]:
        with _socket(zmq, "PUSH", address, False) as socket:
            payload, send = bytes(size), socket.send

            def move() -> None:
                for _ in repeat(None, count):
                    send(payload)

            yield move

    @contextmanager
    def take() -> Iterator[Move]:
        with _socket(zmq, "PULL", address, True) as socket:
            receive = socket.recv

            def move() -> None:
                for _ in repeat(None, count):
                    receive()

            yield move

    return Pair(put, take)


def zeromq_trips(size: int, count: int) -> Pair:
    """PAIR over ipc; both ends sleep."""
    zmq, address = _package("zmq"), _address()

    @contextmanager
    def ask() -> Iterator[Move]:
        with (
            _socket(zmq, "PAIR", address, False) as socket,
            _asks(socket.send, socket.recv, size, count) as move,
        ):
            yield move

    @contextmanager
    def answer() -> Iterator[Move]:
        with (
            _socket(zmq, "PAIR", address, True) as socket,
            _answers(socket.recv, socket.send, size, count) as move,
        ):
            yield move

    return Pair(ask, answer)


class _Node:
    """One process's iceoryx2 node, with services of byte slices that lose nothing."""

    def __init__(self, package: Any, size: int) -> None:
        self.package = package
        self.size = size
        package.set_log_level(package.LogLevel.Error)
        self.node = package.NodeBuilder.new().create(package.ServiceType.Ipc)

    def _service(self, name: str) -> Any:
        package = self.package
        # Its slices are typed by ctypes, which it imports itself.
        of_bytes = package.Slice[package.slice.ctypes.c_uint8]
        service = self.node.service_builder(package.ServiceName.new(name)).publish_subscribe(of_bytes)
        service = service.enable_safe_overflow(False).history_size(0)
        return service.subscriber_max_buffer_size(
            max(2, min(SAMPLES, SAMPLE_BYTES // self.size))
        ).open_or_create()

    def sender(self, name: str) -> Callable[[bytes], object]:
        """Tries again while the subscriber has no room: told to wait itself, 0.10 comes back at once."""
        publisher = self._service(name).publisher_builder().initial_max_slice_len(self.size)
        retry = self.package.BackpressureStrategy.RetryUntilDelivered
        publisher = publisher.backpressure_strategy(retry).create()
        loan, size = publisher.loan_slice_uninit, self.size

        def send_once(payload: bytes) -> int:
            sample = loan(size)
            sample.payload().as_memory_view().cast("B")[:] = payload
            reached: int = sample.assume_init().send()
            return reached

        def send(payload: bytes) -> None:
            while not send_once(payload):
                os.sched_yield()

        return send

    def receiver(self, name: str) -> Callable[[], object]:
        """Looks until a sample is there and copies it."""
        receive = self._service(name).subscriber_builder().create().receive
        buffer = memoryview(bytearray(self.size))

        def look() -> None:
            sample = receive()
            while sample is None:
                os.sched_yield()
                sample = receive()
            buffer[:] = sample.payload().as_memory_view().cast("B")
            sample.delete()

        return look


def iceoryx(size: int, count: int) -> Pair:
    """A publisher and a subscriber of byte slices, copied in and out."""
    package = _package("iceoryx2")
    name = f"vmbusd-bench-{os.getpid()}-{next(NAMES)}"

    @contextmanager
    def put() -> Iterator[Move]:
        send, payload = _Node(package, size).sender(name), bytes(size)

        def move() -> None:
            for _ in repeat(None, count):
                send(payload)

        yield move

    @contextmanager
    def take() -> Iterator[Move]:
        receive = _Node(package, size).receiver(name)

        def move() -> None:
            for _ in repeat(None, count):
                receive()

        yield move

    return Pair(put, take)


def iceoryx_trips(size: int, count: int) -> Pair:
    """Two such services, one each way, both ends looking."""
    package = _package("iceoryx2")
    name = f"vmbusd-bench-{os.getpid()}-{next(NAMES)}"

    @contextmanager
    def ask() -> Iterator[Move]:
        node = _Node(package, size)
        back = node.receiver(f"{name}-back")
        with _asks(node.sender(f"{name}-there"), back, size, count) as move:
            yield move

    @contextmanager
    def answer() -> Iterator[Move]:
        node = _Node(package, size)
        there = node.receiver(f"{name}-there")
        with _answers(there, node.sender(f"{name}-back"), size, count) as move:
            yield move

    return Pair(ask, answer)
