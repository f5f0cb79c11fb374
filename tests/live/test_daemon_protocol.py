"""The protocol beyond the plain, through a real daemon: versions, chosen flags, reserved ones, sockets."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.live.daemon import Daemon, daemon
from tests.live.peers import CONTACT, INTERFACE, Device, Guest, device, guest
from vmbusd.abi import device_link, gpadl, messages, wire
from vmbusd.server import requests

pytestmark = pytest.mark.live

ENDPOINT, SERVICE = UUID(int=0xE), UUID(int=0x5E)
CONNECT = messages.TlConnect(ENDPOINT, SERVICE)


@pytest.fixture
def running(runtime_dir: Path) -> Iterator[Daemon]:
    """A daemon with partition a."""
    with daemon(runtime_dir, "--partition", "a") as running:
        yield running


@pytest.fixture
def peers(running: Daemon) -> Iterator[tuple[Guest, Device]]:
    """A guest that has not said anything, and a host."""
    with guest(running.runtime_dir) as control, device(running.runtime_dir) as host:
        yield control, host


def lend(control: Guest, host: Device, relid: int) -> None:
    """GPADL 7 of four pages, accepted."""
    for part in gpadl.split(relid, 7, [gpadl.whole_pages(range(16, 20))]):
        control.say(part)
    asked = host.hear(device_link.Gpadl)
    host.say(device_link.GpadlAccepted(asked.offer_id, asked.gpadl, 0))
    assert control.hear(messages.GpadlCreated).creation_status == 0


def test_a_cap_of_a_partition(running: Daemon) -> None:
    """A partition made with max_version 5.2 and relid_offset 9 speaks nothing newer; its first relid is 10
    (cases 004, 307)."""
    running.ask(requests.PartitionAdd("old", max_version="5.2", relid_offset=9))
    with guest(running.runtime_dir, "old") as control, device(running.runtime_dir, "old") as host:
        host.offer()
        control.say(CONTACT)
        assert not control.hear(messages.VersionResponse).version_supported
        control.say(messages.InitiateContact(wire.V5_2, 0, 2, 0, 0, 0, 0))
        assert control.hear(messages.VersionResponse).version_supported
        control.say(messages.RequestOffers())

        assert control.hear(messages.Offer).child_relid == 10


def test_a_flag_that_the_guest_chooses(running: Daemon, peers: tuple[Guest, Device]) -> None:
    """The slot is at the chosen flag while the channel is open, and nowhere before and after (case 062)."""
    control, host = peers
    host.offer()
    control.say(messages.InitiateContact(wire.V6_0, 0, 2, 0, 0x01, 0, 0))
    assert control.hear(messages.VersionResponse).version_supported
    control.say(messages.RequestOffers())
    assert control.hear(messages.Offer).child_relid == 1
    control.hear(messages.AllOffersDelivered)
    lend(control, host, 1)
    control.say(messages.Open2(1, 1, 7, 0, 2, bytes(120), 0x2077, 77, 0))

    opening = host.hear(device_link.Open)
    assert (opening.event_flag, opening.connection_id) == (77, 0x2077)
    host.say(device_link.Opened(1, opening.generation, 0))
    assert control.hear(messages.OpenResult).status == 0
    assert [slot["flag"] for slot in running.ask(requests.Table("a"))["slots"]] == [77]

    control.say(messages.Close(1))
    host.hear(device_link.Close)
    host.say(device_link.Closed(1, opening.generation))
    control.say(messages.GpadlTeardown(1, 7))
    host.hear(device_link.Teardown)
    host.say(device_link.GpadlTornDown(1, 7))
    control.hear(messages.GpadlTorndown)
    assert running.ask(requests.Table("a"))["slots"] == []


def test_a_reserved_channel_outlives_the_connection(peers: tuple[Guest, Device]) -> None:
    """UNLOAD does not wait for it, and it is closed while nobody is connected (cases 181, 182)."""
    control, host = peers
    host.offer()
    control.connect(1)
    lend(control, host, 1)
    control.say(messages.OpenReserved(1, 0, 2, 7, 2))
    opening = host.hear(device_link.Open)
    host.say(device_link.Opened(1, opening.generation, 0))
    assert control.hear(messages.OpenResult).openid == 0
    control.say(messages.Unload())
    control.hear(messages.UnloadResponse)

    control.say(messages.CloseReserved(1, 0, 2))
    host.hear(device_link.Close)
    host.say(device_link.Closed(1, opening.generation))

    assert control.hear(messages.CloseReservedResponse).child_relid == 1
    host.hear(device_link.Teardown)
    host.say(device_link.GpadlTornDown(1, 7))
    assert [offer.child_relid for offer in control.connect(1)] == [1]


def test_sixteen_connects_hold_the_guest_up(peers: tuple[Guest, Device]) -> None:
    """What it says then waits, much of it unread, until the host answers; all is heard (cases 192, 311)."""
    control, host = peers
    host.say(device_link.ProvideSockets(1))
    assert host.hear(device_link.SocketsProvided).status == 0
    control.connect()
    for _ in range(16):
        control.say(CONNECT)
    ids = [host.hear(device_link.SocketConnect).request_id for _ in range(16)]
    for relid in range(200):
        control.say(messages.ModifyChannel(relid, 0))

    host.say(device_link.SocketAnswer(ids[0], messages.UNSUCCESSFUL, 0))

    assert control.hear(messages.TlConnectResult).status == messages.CONNECTION_REFUSED
    answers = [control.hear(messages.ModifyChannelResponse).child_relid for _ in range(200)]
    assert answers == list(range(200))


def test_a_socket_that_is_never_opened(peers: tuple[Guest, Device]) -> None:
    """The daemon withdraws it when its time is over (case 194)."""
    control, host = peers
    control.connect()
    host.say(device_link.Offer(1, SERVICE, ENDPOINT, flags=device_link.OfferFlag.SOCKET))
    assert host.hear(device_link.OfferResult).status == 0
    assert control.hear(messages.Offer).chn_flags == 0x2011

    assert control.hear(messages.Rescind).child_relid == 1
    assert host.hear(device_link.Withdraw).offer_id == 1
    host.say(device_link.Revoke(1))
    host.hear(device_link.Revoked)


def test_subchannels_go_with_their_primary(peers: tuple[Guest, Device]) -> None:
    """Enabled by the open primary's device, rescinded when the guest closes it (cases 111, 114)."""
    control, host = peers
    host.say(device_link.Offer(1, INTERFACE, INTERFACE, max_subchannels=2))
    host.hear(device_link.OfferResult)
    control.connect(1)
    lend(control, host, 1)
    control.say(messages.Open(1, 1, 7, 0, 2, bytes(120)))
    opening = host.hear(device_link.Open)
    host.say(device_link.Opened(1, opening.generation, 0))
    control.hear(messages.OpenResult)
    host.say(device_link.EnableSubchannels(1, opening.generation, 2, 50))
    assert [host.hear(device_link.OfferResult).offer_id for _ in range(2)] == [50, 51]
    assert host.hear(device_link.SubchannelsEnabled).live == 2
    assert [control.hear(messages.Offer).sub_channel_index for _ in range(2)] == [1, 2]

    control.say(messages.Close(1))

    assert [control.hear(messages.Rescind).child_relid for _ in range(2)] == [2, 3]
    host.hear(device_link.Close)
    assert [host.hear(device_link.Withdraw).offer_id for _ in range(2)] == [50, 51]
