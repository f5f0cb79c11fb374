"""DPDK's VMBus library, a stranger who knows nothing of us, at the other end of our rings."""

import mmap
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.dpdk.payload import Payloads
from vmbusd.abi import native

pytestmark = [pytest.mark.dpdk, pytest.mark.build]

HERE: Final = Path(__file__).parent
HEADERS: Final = HERE.parents[1] / "vmbusd" / "abi"
LIBRARIES: Final = ("librte_bus_vmbus.so.23", "librte_eal.so.23")
HEADER: Final = 4096
PACKETS: Final = 1_000_000
STEPS: Final = 100_000
STOPS: Final = 10
"""Of a reader: between two of them there is more than any of the rings holds."""
WAIT_TURNS: Final = 200
"""Looks at a ring before the processor is offered to the other end."""


def build(name: str, folder: Path) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler, "a C compiler is needed: apt-get install gcc libc6-dev"
    program = folder / name
    command = [compiler, "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{HEADERS}"]
    command += [str(HERE / f"{name}.c"), "-o", str(program), *(f"-l:{library}" for library in LIBRARIES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{done.stderr}\nDPDK's library is needed: apt-get install librte-bus-vmbus23")
    return program


@pytest.fixture(scope="module")
def lockstep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("lockstep", tmp_path_factory.mktemp("lockstep"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("stranger", tmp_path_factory.mktemp("stranger"))


class SharedRing:
    """A ring in a file, mapped the way our channels map theirs."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        path.write_bytes(bytes(HEADER + size))
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.view = native.RingView.mapped(fd, range((HEADER + size) // mmap.PAGESIZE))
        finally:
            os.close(fd)
        self.view.format()


@pytest.fixture
def ring(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SharedRing]:
    shared = SharedRing(tmp_path / "ring", request.param)
    yield shared
    shared.view.release()


@pytest.mark.parametrize("size", [4096, 8192, 28672, 131072])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_call_does_what_dpdk_does(lockstep: Path, size: int, seed: int) -> None:
    """Bytes, answers and signals of both ends are DPDK's (case 244, case 278, case 283)."""
    command = [str(lockstep), str(STEPS), str(seed), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    counted = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    assert counted["steps"] == STEPS
    assert all(counted[name] for name in ("written", "full", "read", "signals", "room"))


def start(stranger: Path, what: str, ring: SharedRing, seed: int, largest: int) -> "subprocess.Popen[str]":
    words = [what, ring.path, ring.size, PACKETS, seed, largest]
    return subprocess.Popen(
        [str(stranger), *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: "subprocess.Popen[str]") -> None:
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert out.startswith(f"packets {PACKETS} ")


RINGS = pytest.mark.parametrize(
    ("ring", "largest"), [(16384, 300), (65536, 4000), (1 << 20, 60000)], indirect=["ring"]
)


@pytest.mark.timeout(300)
@RINGS
def test_a_million_packets_of_dpdk_are_read(stranger: Path, ring: SharedRing, largest: int) -> None:
    """DPDK writes at full speed into a ring that is full again and again; nothing is lost (case 247)."""
    payloads = Payloads(11, largest)
    reader = native.RingReader(ring.view)
    number = turns = 0
    with start(stranger, "send", ring, 11, largest) as process:
        while number < PACKETS:
            batch = reader.get_many()
            if batch is None:
                turns += 1
                if turns % WAIT_TURNS == 0:
                    assert process.poll() in (None, 0), process.communicate()[1]
                    os.sched_yield()
                continue
            for index in range(len(batch)):
                kind, flags, transaction_id, payload, extra = batch[index]
                assert (kind, flags, transaction_id, extra) == (6, 0, number, b"")
                assert payload == payloads.padded(number)
                number += 1
        finish(process)
    assert reader.get() is None
    assert reader.reason is None


@pytest.mark.timeout(300)
@RINGS
def test_a_million_packets_are_read_by_dpdk(stranger: Path, ring: SharedRing, largest: int) -> None:
    """DPDK reads what we write, checks every byte, through a ring that is full again and again (case 245)."""
    payloads = Payloads(12, largest)
    writer = native.RingWriter(ring.view, announce=True)
    full = turns = 0
    stopped = False
    with start(stranger, "receive", ring, 12, largest) as process:
        for number in range(PACKETS):
            payload = payloads.make(number)
            # However fast it reads: now and then it stands still until the ring is full.
            if number % (PACKETS // STOPS) == 0:
                process.send_signal(signal.SIGSTOP)
                stopped = True
            while writer.put(payload, 6, 0, number) is None:
                full += 1
                if stopped:
                    process.send_signal(signal.SIGCONT)
                    stopped = False
                if writer.ask(len(payload)):
                    # DPDK rings a monitor bit of its own process: here the room itself is looked for.
                    while writer.room <= len(payload) + 32:
                        turns += 1
                        if turns % WAIT_TURNS == 0:
                            assert process.poll() in (None, 0), process.communicate()[1]
                            os.sched_yield()
                    writer.withdraw()
        finish(process)
    assert full >= STOPS
    assert writer.reason is None
