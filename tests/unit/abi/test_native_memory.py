"""The core and the interpreter's memory: nothing leaks, nothing is kept, the checking modes find nothing."""

import gc
import mmap
import os
import subprocess
import sys
import tracemalloc
import weakref
from pathlib import Path

import pytest

from tests.unit.abi.world import World
from vmbusd.abi import native

ROOT = Path(__file__).resolve().parents[3]
ROUNDS = 100_000


def test_a_hundred_thousand_callbacks_leak_nothing(world: World) -> None:
    """References and memory after are those before, also with results, errors and missing bindings."""

    class Argument:
        pass

    argument = Argument()

    def give(value: object) -> object:
        return [value]

    def fail(value: object) -> None:
        raise ValueError(value)

    registry = native.Registry(lambda _flag, _generation: None, lambda _flag, _error: None)
    for relid, call in ((1, give), (2, fail)):
        world.open(relid)
        registry.bind(relid, 1, call, argument)
    world.open(3)
    worker = world.worker(registry=registry)
    page = world.pages[0]

    def some(rounds: int) -> None:
        for _ in range(rounds):
            page.set_many((1, 2, 3))
            worker.dispatch()

    some(100)
    watched = (argument, give, fail, registry, worker, None, True, 1, 2, 3)
    gc.collect()
    before = [sys.getrefcount(thing) for thing in watched]
    tracemalloc.start()
    size = tracemalloc.get_traced_memory()[0]
    some(2000)
    grown = tracemalloc.get_traced_memory()[0] - size
    tracemalloc.stop()
    some(ROUNDS // 3)
    gc.collect()
    after = [sys.getrefcount(thing) for thing in watched]

    assert grown < 2000
    assert all(abs(one - other) < 50 for one, other in zip(before, after, strict=True))


def test_taking_and_signalling_leak_nothing(world: World) -> None:
    """Lists of flags and batches are given back."""
    routes = [world.open(relid) for relid in range(1, 600)]
    page = world.pages[0]
    for _ in range(20):
        world.sender.signal_many(routes)
        page.take()
    tracemalloc.start()
    size = tracemalloc.get_traced_memory()[0]
    for _ in range(500):
        world.sender.signal_many(tuple(routes))
        page.pending()
        page.take()
    grown = tracemalloc.get_traced_memory()[0] - size
    tracemalloc.stop()

    assert grown < 4000


def test_a_registry_in_a_cycle_is_collected(world: World) -> None:
    """Drivers hold their registry and the registry holds their methods; so do workers and senders."""

    class Driver:
        def __init__(self) -> None:
            self.registry = native.Registry(self.missing, self.failed)
            self.registry.bind(5, 1, self.interrupt, self)
            self.worker = world.worker(registry=self.registry)

        def missing(self, flag: int, generation: int) -> None: ...
        def failed(self, flag: int, error: BaseException) -> None: ...
        def interrupt(self, argument: object) -> None: ...

    class Channel(native.Route):
        owner: object

    gone = weakref.ref(Driver())
    channel = Channel()
    channel.bind(world.sender, 5, 5)
    channel.owner = channel
    channel_gone = weakref.ref(channel)
    del channel
    gc.collect()

    assert gone() is None
    assert channel_gone() is None


def test_mappings_can_be_closed_when_their_users_are_gone() -> None:
    """Every buffer is let go, by a failed construction too."""
    world = World()
    mappings = [world.table, world.events, world.vpwork, world.blocks]
    worker = world.worker()
    guard = native.Guard(world.events, "events")
    with pytest.raises(ValueError, match="is not aligned"):
        native.Table(memoryview(world.blocks)[8:])
    del worker, guard, world
    gc.collect()
    for mapping in mappings:
        mapping.close()


CHECKED = [
    f"tests/unit/abi/test_native_{topic}.py" for topic in ("worker", "sender", "daemon", "table", "buffers")
]


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        (["-X", "dev"], {}),
        ([], {"PYTHONMALLOC": "debug"}),
        ([], {"MALLOC_CHECK_": "3", "PYTHONMALLOC": "malloc"}),
    ],
    ids=["dev", "debug", "malloc"],
)
def test_the_checking_modes_find_nothing(options: list[str], environment: dict[str, str]) -> None:
    """Tests of the core pass in the interpreter's developer mode and with checked memory."""
    command = [sys.executable, *options, "-m", "pytest", "-q", "-p", "no:cacheprovider", *CHECKED]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=110
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Warning" not in done.stderr


def test_anonymous_memory_is_enough() -> None:
    """The core knows no file: any aligned writable buffer will do."""
    assert native.EventFlags(mmap.mmap(-1, 4096)).set(1)
