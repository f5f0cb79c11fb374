"""Shared words scribbled, and names removed, in a storm: at most the partition they belong to suffers."""

import mmap
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.live.daemon import PATIENCE, daemon, eventually
from tests.live.storms import bystander, judge, let_pass
from tests.live.vandal import SPARE_VP, STORM_VPS, Vandal, expect_processes_to_leave, stormy_partition
from vmbusd.abi import layout
from vmbusd.abi.attach import attach
from vmbusd.abi.errors import LinkClosed
from vmbusd.abi.link import Object, Role
from vmbusd.abi.native import Words
from vmbusd.demo.storm import storm
from vmbusd.server import requests

pytestmark = pytest.mark.live

SCRIBBLING = 0.4
"""Seconds of each kind: thousands of scribbles on each word."""
FULL = (1 << 64) - 1
Scribble = Callable[[random.Random], None]


def words_of(vandal: Vandal, what: Object, index: int = 0) -> Words:
    """The whole object, mapped; the mapping goes with the words."""
    fd = vandal.fds[what, index]
    return Words(mmap.mmap(fd, os.fstat(fd).st_size))


@contextmanager
def scribbling(scribble: Scribble) -> Iterator[None]:
    """Scribble without pause in a thread."""
    stop = Event()
    dice = random.Random(7)

    def run() -> None:
        while not stop.is_set():
            scribble(dice)

    thread = Thread(target=run, name="scribbler")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def random_semaphores(vandal: Vandal) -> Scribble:
    """Any 32 bytes, count, waiters and what glibc calls private among them."""
    fds = [vandal.fds[key] for key in vandal.fds if key[0] in (Object.VP_SEMAPHORE, Object.HOST_SEMAPHORE)]

    def scribble(dice: random.Random) -> None:
        sample = (dice.randbytes(32), bytes(32), b"\xff" * 32, dice.randbytes(4) + bytes(28))
        os.pwrite(dice.choice(fds), dice.choice(sample), 0)

    return scribble


def random_pages(vandal: Vandal) -> Scribble:
    """Any bit of the interrupt pages and of a host's page, of any SINT, comes or goes."""
    pages = [words_of(vandal, Object.EVENTS), words_of(vandal, Object.HOST_PAGE)]

    def scribble(dice: random.Random) -> None:
        words = dice.choice(pages)
        change = dice.choice((words.or_, words.and_))
        change(dice.randrange(len(words)), dice.getrandbits(64))

    return scribble


def idle_words(value: int) -> Callable[[Vandal], Scribble]:
    """The idle words of the storm's VPs always say the same."""

    def make(vandal: Vandal) -> Scribble:
        work = words_of(vandal, Object.VPWORK)

        def scribble(dice: random.Random) -> None:
            for vp in range(STORM_VPS):
                work.store(vp * layout.VPWORK_SIZE // 8, value)

        return scribble

    return make


def random_vpwork(vandal: Vandal) -> Scribble:
    """Idle words, heartbeats, counters and taken bits of all VPs."""
    work = words_of(vandal, Object.VPWORK)
    return lambda dice: work.store(dice.randrange(len(work)), dice.getrandbits(64))


def random_claims(vandal: Vandal) -> Scribble:
    """The claims of all channels."""
    blocks = words_of(vandal, Object.GUEST)

    def scribble(dice: random.Random) -> None:
        claim = dice.choice((0, dice.getrandbits(32), layout.CLAIM_RUN | dice.randrange(64)))
        blocks.store(dice.randrange(1, 33) * layout.BLOCK_SIZE // 8, claim)

    return scribble


KINDS = {
    "semaphores": random_semaphores,
    "interrupt pages": random_pages,
    "idle words odd": idle_words(1),
    "idle words even": idle_words(2),
    "vpwork": random_vpwork,
    "claims": random_claims,
}


def test_scribbled_words_harm_their_own_partition_only(
    runtime_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Semaphores, pages, idle words, vpwork and claims filled with anything in a storm: nobody dies of it."""
    with (
        daemon(runtime_dir, "--partition", "a:3", "--partition", "b:2") as running,
        bystander(runtime_dir) as other,
    ):
        for name, make in KINDS.items():
            with stormy_partition(runtime_dir) as (scene, vandal):
                with scribbling(make(vandal)):
                    end = time.monotonic() + SCRIBBLING
                    while time.monotonic() < end:
                        let_pass(other, 50)
                        assert running.status("a")["state"] == "running", name
                assert scene.hosts[0].process.poll() is None, name
                running.ask(requests.PartitionRemove("a"))
                with pytest.raises(LinkClosed, match="partition a was removed"):
                    scene.guest.wait()
                expect_processes_to_leave(scene)
            running.ask(requests.PartitionAdd("a", vps=3))
        assert "internal error" not in running.text()
    assert "Traceback" not in capfd.readouterr().err


def test_random_bits_without_a_channel_are_spurious_and_nothing_more(runtime_dir: Path) -> None:
    """Bits of every flag and SINT set at random by a peer in a storm: counted, and not one signal lost."""
    with daemon(runtime_dir, "--partition", "a:3"), stormy_partition(runtime_dir) as (scene, vandal):
        pages = words_of(vandal, Object.EVENTS)

        def scribble(dice: random.Random) -> None:
            pages.or_(dice.randrange(layout.PAGE * STORM_VPS // 8), dice.getrandbits(64))

        with scribbling(scribble):
            let_pass(scene, 20_000)
        assert scene.vp_totals()["spurious"] > 0
        judge(scene)


def test_claims_that_nobody_lets_go_of_cost_the_daemon_little(runtime_dir: Path) -> None:
    """Closes that wait for ever on scribbled claims are polled, not spun on, and end with the partition."""
    with daemon(runtime_dir, "--partition", "a:3") as running:
        with stormy_partition(runtime_dir) as (scene, vandal):
            blocks = words_of(vandal, Object.GUEST)

            def scribble(_: random.Random) -> None:
                for channel in scene.channels:
                    blocks.store(channel.event_flag * layout.BLOCK_SIZE // 8, layout.CLAIM_RUN | SPARE_VP)

            with scribbling(scribble):
                closing = [channel.begin_close() for channel in scene.channels]
                eventually(lambda: running.status("a")["closing"] > len(closing) / 2, "most closes wait")
                scene.stop_hosts()

            begun, since = running.processor_seconds(), time.monotonic()
            time.sleep(1)
            assert running.processor_seconds() - begun < 0.2 * (time.monotonic() - since)

            running.ask(requests.PartitionRemove("a"))
            ends = [close.exception(PATIENCE) for close in closing]
            assert {type(end) for end in ends} <= {LinkClosed, type(None)}
            assert LinkClosed in {type(end) for end in ends}
        running.ask(requests.PartitionAdd("a"))


def test_names_removed_in_a_storm_are_a_warning_and_no_more(runtime_dir: Path) -> None:
    """Each name unlinked in a storm is named in log and status; all goes on, and the stop leaves nothing."""
    with daemon(runtime_dir, "--partition", "a:2") as running:
        with storm(runtime_dir, "a", vps=2, channels=32, host_processes=1) as scene:
            scene.start()
            names = running.objects()
            assert len(names) == 9
            for name in names:
                os.unlink(f"/dev/shm/{name}")
                let_pass(scene, 200)
            eventually(lambda: len(running.status("a")["warnings"]) == len(names), "every name is missed")
            assert sorted(running.status("a")["warnings"]) == sorted(
                f"/dev/shm/{name} was removed or renamed; those who have it go on" for name in names
            )
            assert all(f'"/dev/shm/{name}"' in running.text() for name in names)
            with attach(Role.HOST, "a", runtime_dir=runtime_dir) as late:
                assert late.welcome.link == 1
            scene.stop_retargeting()
            judge(scene)
        instance = names[0].split("-")[1]
        assert running.stop() == 0
        assert [name for name in os.listdir("/dev/shm") if instance in name] == []
