"""The guest library's protocol against a real daemon and host: every version, subchannels, sockets, sleep."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from uuid import UUID

import pytest

from guest_client import Channel, Driver, Guest, suspension
from guest_client.monitor import PAGES
from guest_client.versions import KNOWN, text
from tests.live.daemon import PATIENCE, ROOT, eventually
from tests.live.guest_drivers import COUNTED, Counter
from tests.live.guest_support import MODES, Mode, Signaller, World, begin, callbacks, produce, seen
from tests.live.peers import Device, device
from vmbusd.abi import device_link, layout, messages, wire
from vmbusd.abi.device_link import OfferFlag
from vmbusd.abi.errors import ChannelGone, RefusedError, UsageError
from vmbusd.abi.link import Object
from vmbusd.abi.messages import Feature
from vmbusd.server import requests

pytestmark = pytest.mark.live

SERVICE, ENDPOINT = UUID(int=0x5E), UUID(int=0xE)


class Several(Counter):
    """Opens each subchannel when it is offered; writes down what it saw when it was probed."""

    def __init__(self, config: str = "") -> None:
        super().__init__(config)
        self.slots: list[int] = []
        self.offered: list[tuple[int, int]] = []

    def probe(self, channel: Channel) -> Future[None] | None:
        self.slots.append(channel._space.table.slot(channel.relid))
        return super().probe(channel)

    def on_subchannel(self, channel: Channel, subchannel: Channel) -> Future[None] | None:
        self.offered.append((channel.relid, subchannel.relid))
        return subchannel.begin_open()


class NoDevice(Counter):
    """Cannot make a device of anything."""

    def probe(self, channel: Channel) -> Future[None] | None:
        raise RuntimeError("no memory for a device")


class Socket(Counter):
    """Serves a socket service."""

    interface = SERVICE


@contextlib.contextmanager
def attached(world: World, *drivers: Driver, **options: object) -> Iterator[Guest]:
    with Guest.attach("demo", runtime_dir=world.directory, **options) as guest:  # type: ignore[arg-type]
        for driver in drivers:
            guest.register(driver)
        yield guest


def offers_of(world: World) -> int:
    count = world.daemon.status("demo")["channels"]
    return count if isinstance(count, int) else len(count)


@pytest.mark.parametrize("version", KNOWN, ids=text)
def test_every_version_serves(world: World, version: int) -> None:
    """Signals, close and a new open work in each; a channel moves from 4.1 on (cases 002, 143, 152, 171)."""
    (offer,) = world.offer()
    with attached(world, Counter(), versions=[text(version)]) as guest:
        (channel,) = begin(guest)
        assert guest.statistics()["version"] == text(version)
        eventually(lambda: offer.channel is not None, "the device hears of the open")
        produce(offer)
        eventually(lambda: seen(offer) == 1, "the signal seen")

        if version < wire.V4_1:
            with pytest.raises(UsageError, match=r"from 4\.1"):
                channel.retarget(1)
        else:
            channel.retarget(1)
            eventually(lambda: channel.target_vp == 1, "the channel moves")
            produce(offer)
            eventually(lambda: seen(offer) == 2, "the signal seen on the other VP")
        channel.close()
        channel.open()
        eventually(lambda: offer.channel is not None and offer.device.opens == 2, "opened again")  # type: ignore[attr-defined]
        produce(offer)
        eventually(lambda: seen(offer) == 1, "the signal of the new open seen")
    assert guest.statistics()["memory"]["used"] == PAGES


@pytest.mark.parametrize("mode", MODES)
def test_a_guest_that_chooses_its_event_flags(world: World, mode: Mode) -> None:
    """Flags 1 and 2 for whichever channels are open, given back by a close (cases 062, 236, 237)."""
    offers = world.offer(3)
    features = int(Feature.GUEST_SIGNAL_PARAMETERS)
    with attached(world, Counter(), versions=["6.0"], features=features) as guest:
        first, second, third = begin(guest, mode)
        assert [first.event_flag, second.event_flag, third.event_flag] == [1, 2, 3]
        for channel in (first, second, third):
            channel.close()
        for channel in (third, first, second):
            channel.open()

        assert [third.event_flag, first.event_flag, second.event_flag] == [1, 2, 3]
        eventually(lambda: all(offer.channel for offer in offers), "the devices hear of the opens")
        for offer in offers:
            produce(offer)
        eventually(lambda: all(seen(offer) == 1 for offer in offers), "every signal seen")
        eventually(lambda: all(offer.device.answers for offer in offers), "every answer heard")  # type: ignore[attr-defined]


def test_a_host_that_is_too_old(world: World) -> None:
    """The guest leaves and says which version it needs (case 029)."""
    world.daemon.ask(requests.PartitionAdd("old", max_version="5.1"))

    with pytest.raises(RefusedError, match=r"speaks 5\.1, at least 5\.2 is needed"):
        Guest.attach("old", runtime_dir=world.directory, minimum_version="5.2")
    with Guest.attach("old", runtime_dir=world.directory) as guest:
        assert guest.statistics()["version"] == "5.1"


def test_only_allowed_interfaces_become_channels(world: World) -> None:
    """What is not on the list is not there for the guest (case 052)."""
    world.offer(2)
    world.host.offer(Signaller(UUID(int=77)))
    with attached(world, Counter(), interfaces=[COUNTED]) as guest:
        assert [channel.interface for channel in begin(guest)] == [COUNTED, COUNTED]
        assert guest.statistics()["refused"] == {"Offer": 1}


def test_a_channel_without_a_device_is_given_back(world: World) -> None:
    """A probe that raises leaves no channel, and the relid is free for the host (case 051)."""
    world.offer(2)
    with attached(world, NoDevice()) as guest:
        begin(guest)

        eventually(lambda: not guest.channels, "the channels are given back")
        states = [slot for slot in world.daemon.ask(requests.Table("demo"))["slots"] if slot["flag"]]
        eventually(lambda: not world.daemon.ask(requests.Table("demo"))["slots"], f"no slot left of {states}")


@pytest.mark.parametrize("mode", MODES)
def test_a_device_of_several_channels(world: World, mode: Mode) -> None:
    """Subchannels are attached to their primary, have rings, flags and VPs of their own, are closed first,
    and each slot was there before its probe (cases 053, 116, 117, 120, 121)."""
    instance = UUID(int=5)
    primary = world.host.offer(Signaller(), instance)
    driver = Several()
    with attached(world, driver) as guest:
        (channel,) = begin(guest, mode)
        subs = [world.host.offer(Signaller(), instance, subchannel_index=index) for index in (1, 2)]
        eventually(lambda: len([one for one in channel.subchannels if one.is_open]) == 2, "both are open")
        eventually(lambda: all(offer.channel for offer in (primary, *subs)), "the devices hear of it")
        for offer in (primary, *subs):
            produce(offer)
        eventually(lambda: all(seen(offer) == 1 for offer in (primary, *subs)), "every signal seen")

        assert driver.offered == [(1, 2), (1, 3)]
        assert driver.slots[0] & 0xFFFFFFFF
        first, second = channel.subchannels
        assert {channel.target_vp, first.target_vp} == {0, 1}
        assert len({tuple(one.ring_pages) for one in (channel, first, second)}) == 3
        assert [callbacks(one)[0] for one in (channel, first, second)] == [1, 1, 1]
        with pytest.raises(UsageError, match="closed with it"):
            first.close()

        channel.close()
        assert not any(one.is_open for one in (channel, first, second))
        assert guest.statistics()["memory"]["used"] == PAGES
        eventually(lambda: not channel.subchannels, "the host takes the subchannels back")
        eventually(lambda: sorted(driver.removals) == [2, 3], "and their driver hears of it")


def test_a_dropped_channel_is_closed(world: World) -> None:
    """The device sees the close; nobody can open the channel again until it is a new one (cases 080, 138)."""
    (offer,) = world.offer()
    with attached(world, Counter()) as guest:
        (channel,) = begin(guest)
        eventually(lambda: offer.channel is not None, "the device hears of the open")
        channel.drop()
        eventually(lambda: offer.channel is None, "the device hears of the close")
        eventually(lambda: guest.statistics()["channels"] == {"offered": 1}, "closed")
        with pytest.raises(UsageError, match="let go"):
            channel.open()

        world.host.revoke(offer)
        eventually(lambda: not guest.channels, "released")
        world.offer()
        eventually(lambda: [one.is_open for one in guest.channels] == [True], "the relid is used again")


@pytest.mark.parametrize("mode", MODES)
def test_suspend_and_resume(world: World, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices are found again by their instance and served on, whatever relid they have; one that is not
    offered again is removed after a while (cases 174, 175)."""
    monkeypatch.setattr(suspension, "RESUME_WAIT", 4.0)
    offers = sorted(world.offer(3), key=lambda offer: offer.instance)
    driver = Counter()
    with attached(world, driver) as guest:
        before = {channel.instance: channel for channel in begin(guest, mode)}
        relids = {channel.instance: channel.relid for channel in before.values()}
        guest.suspend()
        assert guest.channels == []
        assert guest.statistics()["state"] == "suspended"
        assert guest.statistics()["memory"]["used"] == PAGES
        assert "disconnected" in str(world.daemon.status("demo")["connection"])
        with pytest.raises(ChannelGone):
            before[offers[0].instance].open()
        with pytest.raises(UsageError, match="suspended, not connected"):
            guest.suspend()
        world.host.revoke(offers.pop(0))

        guest.resume()
        assert {channel.instance: channel for channel in guest.channels} == {
            offer.instance: before[offer.instance] for offer in offers
        }
        assert [channel.relid for channel in guest.channels] == [1, 2]
        assert [relids[channel.instance] for channel in guest.channels] == [2, 3]
        eventually(lambda: len(driver.removals) == 1, "the driver hears of the missing device")
        eventually(lambda: all(channel.is_open for channel in guest.channels), "all are open again")
        eventually(lambda: all(offer.channel for offer in offers), "the devices hear of the opens")
        for offer in offers:
            produce(offer)
        eventually(lambda: all(seen(offer) == 1 for offer in offers), "every signal seen")


def test_a_crashing_guest_unloads(world: World) -> None:
    """Nothing is asked of its drivers; the host closes everything and answers (case 172)."""
    (offer,) = world.offer()
    driver = Counter()
    with attached(world, driver) as guest:
        begin(guest)
        eventually(lambda: offer.channel is not None, "the device hears of the open")
        assert guest.crash()

        eventually(lambda: offer.channel is None, "the device hears of the close")
        assert driver.removals == []


def test_a_pause_holds_everything_up(world: World) -> None:
    """What is asked meanwhile happens afterwards; signals need no message (case 292)."""
    (offer,) = world.offer()
    with attached(world, Counter(), versions=["6.0"], features=int(Feature.PAUSE_RESUME)) as guest:
        (channel,) = begin(guest)
        eventually(lambda: offer.channel is not None, "the device hears of the open")
        guest.pause()
        moved = channel._controlled().begin_retarget(channel, 1)
        produce(offer)
        eventually(lambda: seen(offer) == 1, "the signal seen")
        assert not moved.done()
        guest.unpause()
        moved.result(PATIENCE)
        assert channel.target_vp == 1


class Provider:
    """A host that answers socket connects in a thread, as a provider does: accept, open, and refuse."""

    def __init__(self, peer: Device, *, accept: bool) -> None:
        self.peer = peer
        self.accept = accept
        self.thread = threading.Thread(target=self.run)
        peer.say(device_link.ProvideSockets(1))
        assert peer.hear(device_link.SocketsProvided).status == 0
        self.thread.start()

    def run(self) -> None:
        asked = self.peer.hear(device_link.SocketConnect)
        if not self.accept:
            self.peer.say(device_link.SocketAnswer(asked.request_id, messages.UNSUCCESSFUL, 0))
            return
        self.peer.say(device_link.SocketAnswer(asked.request_id, 0, 9))
        assert self.peer.hear(device_link.OfferResult).status == 0
        gpadl = self.peer.hear(device_link.Gpadl)
        self.peer.say(device_link.GpadlAccepted(9, gpadl.gpadl, 0))
        opening = self.peer.hear(device_link.Open)
        self.peer.say(device_link.Opened(9, opening.generation, 0))


def test_a_socket_of_the_guest(world: World) -> None:
    """The connect ends with an open channel of the service, or with the host's refusal (cases 189, 195)."""
    with attached(world, Socket()) as guest:
        begin(guest)
        with pytest.raises(UsageError, match="no driver"):
            guest.connect_socket(UUID(int=1))
        with device(world.directory, "demo") as peer:
            provider = Provider(peer, accept=False)
            with pytest.raises(RefusedError, match="0xc0000236"):
                guest.connect_socket(SERVICE, endpoint=ENDPOINT)
            provider.thread.join(PATIENCE)
        with device(world.directory, "demo") as peer:
            provider = Provider(peer, accept=True)
            channel = guest.connect_socket(SERVICE, endpoint=ENDPOINT)
            provider.thread.join(PATIENCE)

            assert channel.is_open
            assert (channel.interface, channel.instance) == (SERVICE, ENDPOINT)
        # The host is gone, and its socket with it (case 198).
        eventually(lambda: not guest.channels, "the socket is rescinded and released")


def test_a_socket_of_the_host(world: World) -> None:
    """It is opened by the driver that listens to its service, and by nobody when nobody does (case 199)."""
    wanted = Signaller(SERVICE)
    with attached(world, Socket()) as guest:
        begin(guest)
        offer = world.host.offer(wanted, flags=OfferFlag.SOCKET)
        other = world.host.offer(Signaller(UUID(int=0x5F)), flags=OfferFlag.SOCKET)
        eventually(lambda: offer.channel is not None, "the listener opens it")
        produce(offer)
        eventually(lambda: seen(offer) == 1, "the signal seen")
        assert other.channel is None
        world.host.revoke(other)
        world.host.revoke(offer)
        eventually(lambda: not guest.channels, "both are released")


def test_an_old_signal_meets_nobody(world: World) -> None:
    """A signal of a channel that was released is taken and given to nobody; the channel that has its relid
    next begins without a callback (case 142)."""
    (offer,) = world.offer()
    with attached(world, Counter()) as guest:
        begin(guest, vps=1)
        eventually(lambda: offer.channel is not None, "the device hears of the open")
        world.host.revoke(offer)
        eventually(lambda: not guest.channels, "released")
        shared = guest._connection.attached
        before = guest.statistics()["vps"][0]
        shared[Object.EVENTS][layout.FLAGS_OFFSET] |= 1 << 1
        shared.vp_doorbells[0].ring()
        eventually(lambda: not shared[Object.EVENTS][layout.FLAGS_OFFSET], "the bit is taken")

        (again,) = world.offer()
        eventually(lambda: [channel.is_open for channel in guest.channels] == [True], "opened")
        (channel,) = guest.channels
        assert channel.relid == 1
        assert callbacks(channel)[0] == 0
        assert guest.statistics()["vps"][0]["callbacks"] == before["callbacks"]
        eventually(lambda: again.channel is not None, "the device hears of the open")
        produce(again)
        eventually(lambda: seen(again) == 1, "a new signal is seen")


def test_the_command_takes_versions(world: World) -> None:
    """vmbus-guest asks for the versions it is told, and names one that does not exist (case 025)."""
    (offer,) = world.offer()
    command = [sys.executable, "-m", "guest_client", "run", "tests.live.guest_drivers:Counter"]
    command += ["--partition", "demo", "--runtime-dir", os.fspath(world.directory)]
    wrong = subprocess.run(
        [*command, "--versions", "5.4"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (wrong.returncode, wrong.stderr.splitlines()[-1][:31]) == (1, "vmbus-guest: version 5.4: not o")

    with subprocess.Popen(
        [*command, "--versions", "3.0,2.4", "--minimum-version", "3.0"], cwd=ROOT
    ) as process:
        eventually(lambda: offer.channel is not None, "the device hears of the open")
        assert "3.0" in str(world.daemon.status("demo"))
        process.terminate()
    assert process.returncode == 0
