"""What Python offers for the same job: posix_ipc semaphores, multiprocessing's Event, Queue and SimpleQueue.

Ping-pong results are ns one way (half a round trip), streams ns per item. Objects are made before the fork.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from time import perf_counter_ns as now

from benchmarks._peer import peer
from benchmarks._world import semaphore

CONTEXT = multiprocessing.get_context("fork")


def _timed(
    trips: int, cores: tuple[int, int], turn: Callable[[], object], answer: Callable[[], object]
) -> float:
    """`turn` is one round trip of the first process, `answer` the second's part in it."""

    def other() -> None:
        for _ in range(trips + 1):
            answer()

    with peer(other, cores):
        turn()
        begun = now()
        for _ in range(trips):
            turn()
        return (now() - begun) / trips / 2


def semaphores(cores: tuple[int, int], trips: int) -> float:
    first, second = semaphore(), semaphore()

    def turn() -> None:
        second.release()
        first.acquire()

    def answer() -> None:
        second.acquire()
        first.release()

    try:
        return _timed(trips, cores, turn, answer)
    finally:
        first.close()
        second.close()


def events(cores: tuple[int, int], trips: int) -> float:
    first, second = CONTEXT.Event(), CONTEXT.Event()

    def turn() -> None:
        second.set()
        first.wait()
        first.clear()

    def answer() -> None:
        second.wait()
        second.clear()
        first.set()

    return _timed(trips, cores, turn, answer)


def simple_queues(cores: tuple[int, int], trips: int) -> float:
    first, second = CONTEXT.SimpleQueue(), CONTEXT.SimpleQueue()

    def turn() -> None:
        second.put(1)
        first.get()

    try:
        return _timed(trips, cores, turn, lambda: first.put(second.get()))
    finally:
        first.close()
        second.close()


def queues(cores: tuple[int, int], trips: int) -> float:
    first, second = CONTEXT.Queue(), CONTEXT.Queue()

    def turn() -> None:
        second.put(1)
        first.get()

    def other() -> None:
        for _ in range(trips + 1):
            first.put(second.get())
        first.close()
        first.join_thread()

    try:
        with peer(other, cores):
            turn()
            begun = now()
            for _ in range(trips):
                turn()
            return (now() - begun) / trips / 2
    finally:
        for queue in (first, second):
            queue.close()
            queue.join_thread()


def simple_queue_stream(cores: tuple[int, int], items: int) -> float:
    """One process puts small integers as fast as it can, the other gets them: ns per item."""
    queue = CONTEXT.SimpleQueue()

    def put() -> None:
        for item in range(items + 1):
            queue.put(item)

    try:
        with peer(put, cores):
            queue.get()
            begun = now()
            for _ in range(items):
                queue.get()
            return (now() - begun) / items
    finally:
        queue.close()


def queue_stream(cores: tuple[int, int], items: int) -> float:
    """As simple_queue_stream, with the queue that has a feeder thread."""
    queue = CONTEXT.Queue()

    def put() -> None:
        for item in range(items + 1):
            queue.put(item)
        queue.close()
        queue.join_thread()

    try:
        with peer(put, cores):
            queue.get()
            begun = now()
            for _ in range(items):
                queue.get()
            return (now() - begun) / items
    finally:
        queue.close()
        queue.join_thread()
