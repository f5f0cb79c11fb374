"""The guest client against a real daemon and host: open, close, retarget, rescind, refusals, ends."""

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from guest_client import Channel, Driver, Guest, monitor
from guest_client import guest as guest_module
from tests.live.daemon import PATIENCE, ROOT, eventually
from tests.live.guest_drivers import HELD, PINNED, CannotBeMade, Counter, Failing, Held
from tests.live.guest_support import (
    MODES,
    Mode,
    Signaller,
    Storm,
    World,
    begin,
    callbacks,
    produce,
    relid_of,
    seen,
)
from vmbusd.abi import layout
from vmbusd.abi.errors import ChannelGone, RefusedError, TimedOut, UsageError, VmbusError
from vmbusd.testing.faults import Faults, Kind

pytestmark = pytest.mark.live


@pytest.mark.parametrize("mode", MODES)
def test_a_signal_becomes_a_callback_and_its_answer_a_signal(world: World, mode: Mode) -> None:
    """Host to guest, callback, guest to host, on every channel (cases 054, 218, 233)."""
    offers = world.offer(5)
    with world.guest(Counter()) as guest:
        channels = begin(guest, mode)
        for offer in offers:
            produce(offer)
        eventually(lambda: all(seen(offer) == 1 for offer in offers), "every signal seen")
        eventually(lambda: all(offer.device.answers for offer in offers), "every answer heard")  # type: ignore[attr-defined]

        assert [channel.relid for channel in channels] == [1, 2, 3, 4, 5]
        assert {channel.target_vp for channel in channels} == {0, 1}
        assert all((pid == os.getpid()) == (mode == "thread") for _, pid in map(callbacks, channels))


@pytest.mark.parametrize("mode", MODES)
def test_close_and_reopen_make_a_new_generation(world: World, mode: Mode) -> None:
    """After close nothing is called and the memory is back; an open begins anew (cases 076, 223, 236)."""
    (offer,) = world.offer()
    with world.guest(Counter()) as guest:
        (channel,) = begin(guest, mode)
        for generation in range(1, 5):
            assert (channel.generation, channel.is_open) == (generation, True)
            eventually(lambda: offer.channel is not None, "the device hears of the open")
            produce(offer)
            eventually(lambda: callbacks(channel)[0] == 1, "its callback")
            kept = channel.memory(0)
            channel.close()

            assert not channel.is_open
            assert guest.statistics()["memory"]["used"] == monitor.PAGES
            with pytest.raises(ValueError, match="released"):
                kept[0] = 1
            with pytest.raises(ChannelGone):
                channel.memory(0)
            with pytest.raises(UsageError, match="not open"):
                channel.close()
            channel.open()


def test_the_rings_are_ready_before_the_host_sees_them(world: World) -> None:
    """Both rings are zero but for feature bit 0 of their control pages (case 067)."""
    (offer,) = world.offer()
    with world.guest(Counter()) as guest:
        (channel,) = begin(guest)
        eventually(lambda: offer.channel is not None, "the device hears of the open")
        ring = offer.channel
        assert ring is not None
        header = bytes(64) + b"\x01" + bytes(layout.PAGE - 65)

        assert ring.ring_pages == channel.ring_pages
        assert ring.downstream_page == channel.downstream_page == 2
        pages = [bytes(ring.memory(index)) for index in range(4)]
        assert pages == [header, bytes(layout.PAGE), header, bytes(layout.PAGE)]


@pytest.mark.parametrize("mode", MODES)
def test_a_retarget_moves_the_callbacks(world: World, mode: Mode) -> None:
    """After MODIFYCHANNEL's answer callbacks run on the new VP only (cases 143, 144, 152)."""
    offers = world.offer(8)
    with world.guest(Counter()) as guest:
        channels = begin(guest, mode)
        assert guest.retarget_many([(channel, 1) for channel in channels], window=3) == [None] * 8
        before = guest.statistics()["vps"][0]["callbacks"]
        for offer in offers:
            produce(offer)
        eventually(lambda: all(seen(offer) == 1 for offer in offers), "every signal seen")

        assert guest.statistics()["vps"][0]["callbacks"] == before
        assert {channel.target_vp for channel in channels} == {1}
        sent = guest.statistics()["link"]["sent"]
        guest.retarget(channels[0], 1)
        assert guest.statistics()["link"]["sent"] == sent
        with pytest.raises(UsageError, match="VP 2 is not one of the 2"):
            channels[0].retarget(2)
        channels[0].close()
        with pytest.raises(UsageError, match="not open"):
            channels[0].retarget(0)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_lost_while_channels_move(world: World, mode: Mode) -> None:
    """Whatever is retargeted in a storm of signals, the last thing produced is seen (cases 154, 232)."""
    offers = world.offer(16)
    with world.guest(Counter()) as guest:
        channels = begin(guest, mode)
        with Storm(offers) as storm:
            for turn in range(20):
                outcomes = guest.retarget_many(
                    [(channel, (channel.relid + turn) % 2) for channel in channels]
                )
                assert outcomes == [None] * 16
        eventually(storm.all_seen, "the last signal of every channel seen")
        assert storm.rounds > 0


@pytest.mark.parametrize("mode", MODES)
def test_a_rescind_removes_an_open_channel(world: World, mode: Mode) -> None:
    """The driver hears of it, the memory is back, the relid is used again (cases 123, 124, 136, 137)."""
    offers = world.offer(3)
    driver = Counter()
    with world.guest(driver) as guest:
        channels = begin(guest, mode)
        eventually(lambda: all(offer.channel for offer in offers), "the devices hear of the opens")
        first, second, third = sorted(offers, key=relid_of)
        with Storm([first, third]) as storm:
            world.host.revoke(second)
            eventually(lambda: driver.removals == [2], "its driver hears of the rescind")
            with pytest.raises(ChannelGone):
                channels[1].open()
            # The driver hears of it before the relid is given back.
            eventually(lambda: len(guest.channels) == 2, "it is released")
            guest.statistics()
            world.offer()
            eventually(lambda: [channel.relid for channel in guest.channels] == [1, 2, 3], "relid 2 again")
            eventually(lambda: guest.channels[1].is_open, "the new channel opens by itself")
        eventually(storm.all_seen, "the other channels lost nothing")

        assert channels[1] is not guest.channels[1]
        channels[1].close()
        assert guest.channels[1].is_open


def test_a_rescind_waits_for_the_callback(world: World) -> None:
    """A callback that runs when RESCIND comes ends first, then the channel is removed (case 136)."""
    offer = world.host.offer(Signaller(HELD))
    driver = Held()
    with world.guest(driver) as guest:
        (channel,) = begin(guest)
        eventually(lambda: offer.channel is not None, "the device hears of the open")
        produce(offer)
        eventually(lambda: guest._connection.space.blocks.claim(channel.event_flag), "the callback runs")
        state = channel.state
        revoking = threading.Thread(target=world.host.revoke, args=(offer,))
        revoking.start()
        eventually(lambda: not channel.is_open, "the slot is closed")
        assert driver.removals == []
        state[-1] = 1
        eventually(lambda: driver.removals == [1], "it is removed")
        assert channel.interrupts in (0, 1)
        revoking.join()


def test_a_refused_open_can_be_tried_again(world: World) -> None:
    """A device that refuses costs the guest no memory, and the next open works (cases 055, 079)."""
    world.host.offer(Signaller(refuse=2))
    with world.guest(Counter()) as guest:
        (channel,) = begin(guest)
        assert not channel.is_open
        with pytest.raises(RefusedError, match="open refused"):
            channel.open()
        assert guest.statistics()["memory"]["used"] == monitor.PAGES
        channel.open()
        assert channel.is_open


def test_a_callback_may_close_its_own_channel(world: World) -> None:
    """The close returns inside the callback and completes after it (docs/signal-protocol.md section 6)."""

    class Closing(Counter):
        def on_interrupt(self, channel: Channel) -> None:
            channel.close("enough")
            super().on_interrupt(channel)

    (offer,) = world.offer()
    with world.guest(Closing()) as guest:
        (channel,) = begin(guest)
        eventually(lambda: offer.channel is not None, "the device hears of the open")
        produce(offer)
        eventually(lambda: guest.statistics()["channels"] == {"offered": 1}, "the close completes")
        assert channel.close_reason == "enough"
        assert guest.statistics()["memory"]["used"] == monitor.PAGES


@pytest.mark.parametrize("mode", MODES)
def test_a_callback_that_raises_is_called_again(world: World, mode: Mode) -> None:
    """An exception is counted and logged; the channel goes on (docs/signal-protocol.md section 4)."""
    (offer,) = world.offer()
    with world.guest(Failing()) as guest:
        (channel,) = begin(guest, mode, vps=1)
        for count in (1, 2):
            eventually(lambda: offer.channel is not None, "the device hears of the open")
            produce(offer)
            eventually(lambda count=count: callbacks(channel)[0] == count, "its callback")  # type: ignore[misc]
        eventually(lambda: guest.statistics()["vps"][0]["exceptions"] == 1, "the exception is counted")


# -- refusals and ends --------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused_with_its_name(world: World) -> None:
    """Unknown partition, a second guest, too many VPs, a driver without a name: each a clear error."""
    with pytest.raises(RefusedError, match="nowhere"):
        Guest.attach("nowhere", runtime_dir=world.directory)
    with pytest.raises(UsageError, match="a/b"):
        Guest.attach("a/b", runtime_dir=world.directory)
    with world.guest(Counter()) as guest:
        with pytest.raises(RefusedError):
            Guest.attach("demo", runtime_dir=world.directory)
        with pytest.raises(UsageError, match="3 VPs: partition demo has 2"):
            guest.start(vps=3)
        with pytest.raises(UsageError, match="has a driver already"):
            guest.register(Counter())
        with pytest.raises(UsageError, match="CPU 4096 is not one of"):
            guest.start(cpus=[4096])

        class Local(Driver):
            interface = PINNED

        guest.register(Local())
        with pytest.raises(UsageError, match="defined in a function"):
            guest.start(workers="process")
        assert len(begin(guest)) == 0


def test_a_driver_that_fails_in_the_workers_fails_the_start(world: World) -> None:
    """What goes wrong in a worker process is raised by `start`, and no process is left."""
    with world.guest(CannotBeMade("here")) as guest, pytest.raises(VmbusError, match="not in this process"):
        guest.start(workers="process")


def test_cancelling_serve_ends_in_order(world: World) -> None:
    """The asyncio flavour serves until it is cancelled, then unloads and lets every driver go."""
    (offer,) = world.offer()
    driver = Counter()

    async def scenario(guest: Guest) -> None:
        serving = asyncio.create_task(guest.serve(vps=1))
        await asyncio.to_thread(eventually, lambda: offer.channel is not None, "the device hears of the open")
        produce(offer)
        await asyncio.to_thread(eventually, lambda: seen(offer) == 1, "the signal is seen")
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

    with world.guest(driver) as guest:
        asyncio.run(scenario(guest))
    assert driver.removals == [1]
    eventually(lambda: offer.channel is None, "the device hears of the end")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_the_command_ends_in_order(world: World, mode: Mode, number: signal.Signals, status: int) -> None:
    """vmbus-guest serves until Ctrl-C or SIGTERM and leaves nothing, whoever plays the VPs."""
    (offer,) = world.offer()
    command = [sys.executable, "-m", "guest_client", "run", "tests.live.guest_drivers:Counter"]
    command += ["--partition", "demo", "--runtime-dir", os.fspath(world.directory), "--workers", mode]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: offer.channel is not None, "the device hears of the open")
        produce(offer)
        eventually(lambda: seen(offer) == 1, "the signal is seen")
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE)

    assert (process.returncode, "Traceback" in errors) == (status, False), errors
    eventually(lambda: offer.channel is None, "the device hears of the end")


def test_the_command_names_what_is_wrong(world: World) -> None:
    """A bad argument is one line on standard error and status 1."""
    command = [sys.executable, "-m", "guest_client", "run", "tests.live.guest_drivers:Nobody"]
    command += ["--partition", "demo", "--runtime-dir", os.fspath(world.directory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert done.returncode == 1
    assert done.stderr.startswith("vmbus-guest: driver tests.live.guest_drivers:Nobody: ")
    assert "Traceback" not in done.stderr


def test_an_unanswered_contact_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest whose first contact is not answered in time is told which partition, and has left it."""
    monkeypatch.setattr(guest_module, "CONTACT_TIMEOUT", 0.1)
    with Faults("demo", runtime_dir=world.directory) as faults:
        faults.add(Kind.DROP_MESSAGE, messages=["VERSION_RESPONSE"])
        with pytest.raises(TimedOut, match="demo: no answer to the first contact"):
            Guest.attach("demo", runtime_dir=world.directory)
    eventually(lambda: world.daemon.status("demo")["guest"] is None, "it has left")
