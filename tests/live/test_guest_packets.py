"""Packets between hosts and guests through a real daemon: order, checksums, moves, deaths and ends."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from guest_client import Driver
from host_client.channel import Channel as HostChannel
from host_client.device import Device
from tests.live.daemon import PATIENCE
from tests.live.guest_support import Mode, World, begin
from tests.live.ring_devices import (
    Deaf,
    Listener,
    assert_clean,
    both,
    channel_of,
    eventually,
    listener,
    offers,
    send_all,
)
from tests.live.ring_drivers import (
    PACKETS,
    Asker,
    Crosser,
    Direct,
    Echo,
    Frugal,
    Polling,
    Thrower,
    number_of,
    packet,
)
from vmbusd.abi.errors import ChannelGone, RingFull, UsageError
from vmbusd.abi.packets import Packet

pytestmark = pytest.mark.live


@both
@pytest.mark.parametrize("driver", [Echo, Frugal, Polling, Direct])
def test_packets_go_both_ways_in_every_mode(world: World, workers: Mode, driver: type[Driver]) -> None:
    """Every packet comes back whole, once and in order, however callbacks are called (case 280, 287)."""
    made = offers(world, Listener)
    with world.guest(driver()) as guest:
        channels = begin(guest, workers)
        send_all(made, 400)
        assert_clean(made, channels, 400)
        assert listener(made[0]).again == 0


@both
def test_nothing_is_lost_while_channels_move(world: World, workers: Mode) -> None:
    """Channels change their VP all the time; packets stay whole and in order, each once (case 146, 153)."""
    made = offers(world, Listener, 6)
    with world.guest(Echo()) as guest:
        channels = begin(guest, workers)
        stop = threading.Event()
        moved: list[int] = []

        def move() -> None:
            while not stop.is_set():
                pairs = [(channel, 1 - channel.target_vp) for channel in channels]
                moved.append(sum(outcome is None for outcome in guest.retarget_many(pairs)))

        mover = threading.Thread(target=move)
        mover.start()
        try:
            count = 0
            while count < 300 or sum(moved) <= 10:
                send_all(made, 300, first=count)
                count += 300
                assert_clean(made, channels, count)
        finally:
            stop.set()
            mover.join()
        assert sum(listener(offer).again for offer in made) == 0


def test_workers_that_are_killed_lose_nothing(world: World) -> None:
    """What a dead worker had not given back comes again; nothing is missing, mixed or stuck (case 202)."""
    made = offers(world, Listener, 4)
    with world.guest(Echo()) as guest:
        channels = begin(guest, "process")

        def kill(number: int) -> None:
            if number % 100 == 50:
                pids = guest.statistics()["workers"]["pids"]
                os.kill(pids[number // 100 % 2], signal.SIGKILL)

        send_all(made, 400, kill)
        assert_clean(made, channels, 400)
        assert guest.statistics()["workers"]["died"] >= 3


@both
def test_requests_are_answered_both_ways(world: World, workers: Mode) -> None:
    """Any worker takes the completion of a request of the guest; the host's are answered (case 268)."""

    class Answering(Device):
        interface = PACKETS

        def on_packets(self, channel: HostChannel, packets: Sequence[Packet]) -> None:
            for one in packets:
                channel.complete(one, b"by host!")

    made = offers(world, Answering)
    with world.guest(Asker()) as guest:
        channel = begin(guest, workers)[0]
        host = channel_of(made[0])
        for turn in range(20):
            host.send(b"ask me")
            channel.retarget(turn % 2)
        eventually(lambda: int.from_bytes(channel.state[:8], "little") == 20)
        assert host.request(b"a question", timeout=PATIENCE) == b"answered"
        if workers == "process":
            with pytest.raises(UsageError, match="on_completion"):
                channel.request(b"x")
        else:
            assert channel.request(b"x", timeout=PATIENCE) == b"by host!"


def test_the_control_process_sends_beside_its_workers(world: World) -> None:
    """Both write the same ring at once and no packet is torn; only a callback can wait (case 272)."""
    made = offers(world, Listener)
    with world.guest(Echo()) as guest:
        channel = begin(guest, "process")[0]
        mine = 0
        for number in range(300):
            channel_of(made[0]).send(packet(number))
            try:
                channel.send(b"from the control process", timeout=0)
                mine += 1
            except RingFull:
                continue
        eventually(lambda: listener(made[0]).next == 300)
        eventually(lambda: listener(made[0]).all.count(b"from the control process") == mine)
        assert mine
        eventually(lambda: listener(made[0]).corrupt == mine)
        with pytest.raises(UsageError, match="only a callback"):
            channel.receive(0)


def test_the_control_process_cannot_wait(world: World) -> None:
    """With process workers nobody would wake it: it hears so instead of hanging."""
    made = offers(world, Deaf)
    with world.guest(Echo()) as guest:
        channel = begin(guest, "process")[0]
        with pytest.raises(UsageError, match="timeout=0"):
            channel.send_many([bytes(1000)] * 100)
        with pytest.raises(RingFull):
            channel.send(bytes(1000), timeout=0)
        assert made[0].channel is not None


def test_a_thread_of_the_guest_waits_for_packets(world: World) -> None:
    """A driver without callbacks leaves them to any thread; VPs wake it (case 287)."""

    class Plain(Driver):
        interface = PACKETS
        ring_pages = (3, 3)

    made = offers(world, Deaf)
    with world.guest(Plain()) as guest:
        channel = begin(guest)[0]
        got: list[Any] = []

        def read() -> None:
            while len(got) < 200:
                one = channel.receive(PATIENCE)
                assert one is not None
                got.append(number_of(one.payload))

        reader = threading.Thread(target=read)
        reader.start()
        send_all(made, 200)
        reader.join(PATIENCE)
        assert got == list(range(200))


def test_a_ring_that_the_host_broke_ends_that_channel_alone(world: World) -> None:
    """The broken channel's verbs say which field; the other one goes on (case 261)."""
    made = offers(world, Listener, 2)
    with world.guest(Echo()) as guest:
        channels = {channel.relid: channel for channel in begin(guest)}
        broken, sound = made
        host = channel_of(broken)
        memory = host.memory(host.downstream_page)
        memory[0:4] = (12345).to_bytes(4, "little")
        host.signal()
        channel = channels[host.relid]

        def ended() -> bool:
            try:
                channel.send(b"x")
            except ChannelGone as error:
                return "write_index" in str(error)
            return False

        eventually(ended)
        send_all([sound], 50)
        eventually(lambda: listener(sound).next == 50)


def test_a_callback_that_fails_does_not_stop_the_channel(world: World) -> None:
    """Each failure is counted, the packets are given back, the next ones are delivered (case 230)."""
    made = offers(world, Listener)
    with world.guest(Thrower()) as guest:
        begin(guest)
        send_all(made, 100)
        eventually(lambda: listener(made[0]).next == 100)
        eventually(lambda: sum(vp["exceptions"] for vp in guest.statistics()["vps"]) > 0)


@both
def test_nobody_writes_into_rings_that_are_closed(world: World, workers: Mode) -> None:
    """Callbacks of one channel send on another that is closed and opened all the time (case 077, 081).

    Its pages go from ring to ring: a write that came late would be found as a packet that is none.
    """
    made = offers(world, Listener, 3)
    with world.guest(Crosser()) as guest:
        channels = begin(guest, workers)
        by_relid = {channel.relid: channel for channel in channels}
        stop = threading.Event()

        def send() -> None:
            number = 0
            while not stop.is_set():
                for offer in made:
                    number += 1
                    host = offer.channel
                    if host is not None:
                        with contextlib.suppress(ChannelGone, RingFull):
                            host.send(packet(number, number * 4 % 600), timeout=0)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            for turn in range(40):
                channel = by_relid[sorted(by_relid)[turn % 2]]
                channel.close()
                channel.open(target_vp=turn // 2 % 2)
                time.sleep(0.01)
            eventually(lambda: sum(len(listener(offer).all) for offer in made) > 300)
        finally:
            stop.set()
            sender.join()
        assert [listener(offer).corrupt for offer in made] == [0, 0, 0]
        assert world.host.statistics()["dead_rings"] == 0


@both
def test_a_channel_is_opened_again_with_fresh_rings(world: World, workers: Mode) -> None:
    """After close and open packets begin anew; nothing of the first open is left (case 081)."""
    made = offers(world, Listener)
    with world.guest(Echo()) as guest:
        channel = begin(guest, workers)[0]
        for _ in range(3):
            send_all(made, 60)
            eventually(lambda: listener(made[0]).next == 60)
            old = channel_of(made[0])
            channel.close()
            with pytest.raises(ChannelGone):
                old.send(b"late")
            listener(made[0]).next = 0
            channel.open()


def test_a_sleeping_host_is_woken_after_a_recovery(world: World) -> None:
    """The host sleeps on a packet whose signal died with a worker: the recovery rings (case 296)."""
    made = offers(world, Listener)
    with world.guest(Echo()) as guest:
        channel = begin(guest, "process")[0]
        send_all(made, 3)
        eventually(lambda: listener(made[0]).next == 3)
        # A packet that is written and not signalled; the host may still be about to look for the last one.
        writer = channel.rings().writer
        writer.resync()
        number = 3

        def sleeps_on_it() -> bool:
            writer.put(packet(number))
            time.sleep(0.05)
            return listener(made[0]).next == number

        while not sleeps_on_it():
            number += 1
        os.kill(guest.statistics()["workers"]["pids"][0], signal.SIGKILL)
        eventually(lambda: listener(made[0]).next == number + 1)
