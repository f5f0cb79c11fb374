"""Death and departure of workers, hosts and guests: only known death counts, and nothing is lost."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.daemon import PATIENCE, ROOT, Daemon, daemon, eventually
from tests.live.peers import device, farewell, guest, open_channel, receive, refused, worker
from vmbusd.abi import device_link, layout, link, messages
from vmbusd.abi.attach import attach
from vmbusd.abi.link import Code, Object, Role
from vmbusd.abi.native import EventFlags
from vmbusd.server import requests
from vmbusd.server.limits import VP_VACANT_GRACE

pytestmark = pytest.mark.live


class Peer:
    """A process of its own that is attached and does what it is told."""

    def __init__(self, runtime_dir: Path, role: Role, vp: int = 0) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.live.attached_process",
            str(runtime_dir),
            "a",
            role.name,
            str(vp),
        ]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def do(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        assert self._line() == "done"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


@contextlib.contextmanager
def peer(runtime_dir: Path, role: Role, vp: int = 0) -> Iterator[Peer]:
    """An attached process, killed at the end if it still lives."""
    made = Peer(runtime_dir, role, vp)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def running(runtime_dir: Path) -> Iterator[Daemon]:
    """A daemon with a partition of two VPs."""
    with daemon(runtime_dir, "--partition", "a:2") as running:
        yield running


def seat(running: Daemon, vp: int) -> dict[str, Any]:
    """The status of one VP."""
    view: dict[str, Any] = running.status("a")["workers"][vp]
    return view


def slot(running: Daemon, flag: int) -> dict[str, Any]:
    """The slot of one event flag, with the record it names."""
    slots: list[dict[str, Any]] = running.ask(requests.Table("a"))["slots"]
    return next(slot for slot in slots if slot["flag"] == flag)


def test_a_dead_worker_gives_back_what_it_held(running: Daemon) -> None:
    """kill -9 inside a callback: claim free, bit on the page again, the next worker admitted at once."""
    directory = running.runtime_dir
    with (
        guest(directory) as control,
        device(directory) as host,
        peer(directory, Role.GUEST_WORKER, 1) as dying,
    ):
        host.offer()
        flag = open_channel(control, host, vp=1).child_relid
        dying.do(f"claim {flag}")
        assert slot(running, flag)["claim"] == layout.CLAIM_RUN | 1
        dying.kill()

        with worker(directory, vp=1) as successor:
            # Recovery was complete before the admission.
            page = EventFlags(successor[Object.EVENTS], layout.EVENT_PAGE_SIZE)
            assert page.pending() == [flag]
            assert slot(running, flag)["claim"] == 0
            assert successor.welcome.incarnation == 2
            view = seat(running, 1)
            assert (view["state"], view["recoveries"], view["redelivered"]) == ("online", 1, 1)


def test_a_vp_without_worker_is_retired_and_comes_back(running: Daemon) -> None:
    """Soon after a death its channels and bits go to a live VP; a new worker brings it online again."""
    directory = running.runtime_dir
    with guest(directory) as control, device(directory) as host, worker(directory, vp=0) as survivor:
        host.offer()
        with peer(directory, Role.GUEST_WORKER, 1) as dying:
            flag = open_channel(control, host, vp=1).child_relid
            dying.do(f"claim {flag}")
            begun = time.monotonic()
            dying.kill()
            # Not retired before its grace time is over.
            assert slot(running, flag)["target_vp"] == 1 or time.monotonic() - begun > VP_VACANT_GRACE

            eventually(lambda: seat(running, 1)["state"] == "offline", "VP 1 is retired")

        assert slot(running, flag)["target_vp"] == 0
        assert EventFlags(survivor[Object.EVENTS], 0).pending() == [flag]
        # A channel cannot be moved there now (case 148) ...
        control.say(messages.ModifyChannel(flag, 1))
        assert control.hear(messages.ModifyChannelResponse).status != 0
        with worker(directory, vp=1):
            # ... and can when somebody plays it.
            control.say(messages.ModifyChannel(flag, 1))
            move = host.hear(device_link.Retarget)
            assert move.vp == 1
            host.say(device_link.Retargeted(move.offer_id, move.generation, move.vp, 0))
            assert control.hear(messages.ModifyChannelResponse).status == 0
            assert slot(running, flag)["target_vp"] == 1


def test_a_closed_link_is_not_death(running: Daemon) -> None:
    """A worker that lives without its link keeps claim and VP until its process is gone."""
    directory = running.runtime_dir
    with (
        guest(directory) as control,
        device(directory) as host,
        peer(directory, Role.GUEST_WORKER, 1) as silent,
    ):
        host.offer()
        flag = open_channel(control, host, vp=1).child_relid
        silent.do(f"claim {flag}")
        silent.do("close")
        eventually(lambda: seat(running, 1)["state"] == "leaving", "the link is gone")

        assert slot(running, flag)["claim"] == layout.CLAIM_RUN | 1
        text = refused(Code.VP_TAKEN, lambda: attach(Role.GUEST_WORKER, "a", runtime_dir=directory, vp=1))
        assert text == f"VP 1 of partition a has pid {silent.process.pid}"
        silent.kill()
        with worker(directory, vp=1):
            assert slot(running, flag)["claim"] == 0


def test_a_close_waits_for_a_stopped_worker_and_for_nothing_else(running: Daemon) -> None:
    """The claim of a stopped worker holds up its channel's close only; its death completes it."""
    directory = running.runtime_dir
    with (
        guest(directory) as control,
        device(directory) as host,
        peer(directory, Role.GUEST_WORKER, 1) as stopped,
    ):
        host.offer()
        flag = open_channel(control, host, vp=1).child_relid
        stopped.do(f"claim {flag}")
        stopped.process.send_signal(signal.SIGSTOP)
        control.say(messages.Close(flag))
        closing = host.hear(device_link.Close)
        host.say(device_link.Closed(closing.offer_id, closing.generation))

        assert running.status("a")["closing"] == 1
        assert not slot(running, flag)["open"]
        host.offer(2)
        control.hear(messages.Offer)
        control.say(messages.GpadlTeardown(flag, 7))
        stopped.process.send_signal(signal.SIGKILL)

        teardown = host.hear(device_link.Teardown)
        host.say(device_link.GpadlTornDown(teardown.offer_id, teardown.gpadl))
        assert control.hear(messages.GpadlTorndown).gpadl == 7
        assert running.status("a")["closing"] == 0


def test_a_worker_that_leaves_in_order_hands_its_bits_over(running: Daemon) -> None:
    """Detached: what is pending goes to a live VP at once, and the VP is free."""
    directory = running.runtime_dir
    with guest(directory), worker(directory, vp=0) as stays:
        pages = stays[Object.EVENTS]
        with worker(directory, vp=1):
            EventFlags(pages, layout.EVENT_PAGE_SIZE).set(77)
            begun = time.monotonic()
        state = eventually(lambda: {seat(running, 1)["state"]} - {"online"}, "VP 1 has left")
        assert state == {"vacant"} or time.monotonic() - begun > VP_VACANT_GRACE

        assert EventFlags(pages, 0).pending() == [77]
        assert stays.vp_doorbells[0].wait(0)


def test_a_dead_host_takes_its_offers_along(running: Daemon) -> None:
    """Rescind at once, every VP rung, its page and doorbell gone (case 177)."""
    directory = running.runtime_dir
    with guest(directory) as control, peer(directory, Role.HOST) as dying:
        dying.do("offer 1")
        control.connect(1)
        assert any(name.endswith("-host0") for name in running.objects())
        dying.kill()

        control.hear(messages.Rescind)
        eventually(lambda: running.status("a")["hosts"] == [], "the host is forgotten")
        assert not any(name.endswith("-host0") for name in running.objects())
        assert all(bell.wait(0) for bell in control.attached.vp_doorbells)


def test_a_host_without_link_is_waited_for(running: Daemon) -> None:
    """Its offers go at once, its number is used again only when its process is gone."""
    directory = running.runtime_dir
    with guest(directory) as control, peer(directory, Role.HOST) as silent:
        silent.do("offer 1")
        control.connect(1)
        silent.do("close")
        control.hear(messages.Rescind)
        with device(directory) as other:
            assert other.attached.welcome.link == 1
        silent.kill()
        eventually(lambda: running.status("a")["hosts"] == [], "both are gone")
        with device(directory) as other:
            assert other.attached.welcome.link == 0


def test_a_dead_guest_is_unloaded(running: Daemon) -> None:
    """Hosts see the close, workers are asked to leave, and the next guest starts anew (case 176)."""
    directory = running.runtime_dir
    with (
        device(directory) as host,
        peer(directory, Role.GUEST_CONTROL) as dying,
        worker(directory, vp=1) as left,
    ):
        host.offer()
        dying.kill()
        packet, _ = receive(left)
        assert link.decode_body(link.decode_header(packet), packet) == link.Detach(1)

        text = refused(Code.RECOVERING, lambda: attach(Role.GUEST_CONTROL, "a", runtime_dir=directory))
        assert text == "workers of the guest before still run: VP 1"
        left.send(link.encode(link.Detached(1)))
        with guest(directory) as control:
            open_channel(control, host)


def test_a_removed_partition_says_so(running: Daemon) -> None:
    """Every link hears it, nothing of the partition stays, and its name can be used again."""
    directory = running.runtime_dir
    with guest(directory) as control, device(directory) as host, worker(directory) as vp:
        running.ask(requests.PartitionRemove("a"))

        for attached in (control.attached, host.attached, vp):
            assert farewell(attached) == "partition a was removed"
        assert running.objects() == []
    running.ask(requests.PartitionAdd("a", vps=1))
    with guest(directory) as control:
        assert control.attached.welcome.vps == 1


def test_a_daemon_with_nothing_to_do_uses_no_processor_time(running: Daemon) -> None:
    """One look per second at the objects is all: well below one percent of a processor while idle."""
    with guest(running.runtime_dir) as control, worker(running.runtime_dir):
        control.connect()
        begun = running.processor_seconds()
        time.sleep(2)
        # Counted in hundredths: two of them, which the difference of two floats may exceed.
        assert round(running.processor_seconds() - begun, 2) <= 0.02
