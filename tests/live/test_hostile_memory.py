"""A /dev/shm that is full for real: whoever needs more hears which object and how much, no other notices."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from guest_client import Channel, Guest
from host_client.host import Host
from tests.live.daemon import PATIENCE, Daemon, eventually
from tests.live.guest_drivers import Counter
from tests.live.guest_support import Signaller, produce, seen
from tests.live.peers import Device, device, guest, open_channel, refused
from tests.live.peers import Guest as RawGuest
from vmbusd.abi import device_link, gpadl, layout, messages
from vmbusd.abi.attach import attach
from vmbusd.abi.errors import RefusedError
from vmbusd.abi.link import Code, Role
from vmbusd.server import requests

pytestmark = [pytest.mark.live, pytest.mark.root]


@contextmanager
def cramped(runtime_dir: Path, size: str, *partitions: str) -> Iterator[Daemon]:
    """A daemon that sees a /dev/shm of this size and nobody else's."""
    running = Daemon(runtime_dir, *(word for name in partitions for word in ("--partition", name)), shm=size)
    try:
        yield running.wait_ready()
        assert running.stop() == 0
        assert "internal error" not in running.text()
    finally:
        running.close()


def test_a_start_without_room_is_refused(runtime_dir: Path) -> None:
    """256 KiB hold no partition: the error names object and size, the exit status is 1, nothing stays."""
    running = Daemon(runtime_dir, "--partition", "a", shm="256k")
    try:
        assert running.process.wait(PATIENCE) == 1
        (line,) = running.text().splitlines()
        assert line.endswith(f"-a-table: no space left in /dev/shm for {layout.TABLE_SIZE} bytes")
        assert os.listdir(runtime_dir) == []
    finally:
        running.close()


def test_a_partition_without_room_is_refused_until_there_is_some(runtime_dir: Path) -> None:
    """1 MiB holds three partitions: the fourth is refused by object and size and made once one is gone."""
    with cramped(runtime_dir, "1m", "a", "b", "c") as running:
        with pytest.raises(RefusedError, match=r"-d-\w+: no space left in /dev/shm for \d+ bytes"):
            running.ask(requests.PartitionAdd("d"))
        with guest(runtime_dir) as control:
            control.connect()
        running.ask(requests.PartitionRemove("b"))
        running.ask(requests.PartitionAdd("d"))
        with guest(runtime_dir, "d") as control:
            control.connect()


def describe(control: RawGuest, host: Device, relid: int, handle: int, pages: range) -> bool:
    """Describe pages of guest memory in a GPADL; whether it was created."""
    for part in gpadl.split(relid, handle, [gpadl.whole_pages(pages)]):
        control.say(part)
    created = control.attached.wait_readable(0)
    while not created and not host.attached.wait_readable(0.01):
        created = control.attached.wait_readable(0.01)
    if not created:
        asked = host.hear(device_link.Gpadl)
        host.say(device_link.GpadlAccepted(asked.offer_id, asked.gpadl, 0))
    return control.hear(messages.GpadlCreated).creation_status == messages.SUCCESS


def test_promises_without_memory_are_refused_one_by_one(runtime_dir: Path) -> None:
    """With 16 MiB full a GPADL fails, an offer is taken back, a host is refused; what is there goes on."""
    with (
        cramped(runtime_dir, "16m", "a") as running,
        guest(runtime_dir) as control,
        device(runtime_dir) as host,
    ):
        host.offer()
        relid = open_channel(control, host).child_relid
        page, handle, count = 64, 100, 4096
        while count:
            handle += 1
            if describe(control, host, relid, handle, range(page, page + count)):
                page += count
            else:
                count //= 2

        host.say(device_link.Offer(2, UUID(int=1), UUID(int=2)))
        assert host.hear(device_link.OfferResult).status == 0
        assert host.hear(device_link.Revoked).offer_id == 2
        text = refused(Code.LIMIT, lambda: attach(Role.HOST, "a", runtime_dir=runtime_dir))
        assert "-host1: no space left in /dev/shm" in text
        assert "4096 bytes" in running.text()
        control.say(messages.ModifyChannel(relid, 1))
        asked = host.hear(device_link.Retarget)
        host.say(device_link.Retargeted(asked.offer_id, asked.generation, asked.vp, 0))
        while not isinstance(heard := control.hear_any(), messages.ModifyChannelResponse):
            assert isinstance(heard, messages.Offer | messages.Rescind)
        assert heard.status == 0


class Large(Counter):
    """Rings of 2 MiB, opened by hand."""

    ring_pages = (256, 256)

    def probe(self, channel: Channel) -> None:
        """Leaves it to the test."""


def test_an_open_without_memory_fails_and_the_others_go_on(runtime_dir: Path) -> None:
    """Ring pages that a full /dev/shm does not have fail the open with an error; nobody dies of SIGBUS."""
    with (
        cramped(runtime_dir, "16m", "a:2"),
        Host.connect("a", runtime_dir=runtime_dir) as host,
        host.serving(),
        Guest.attach("a", runtime_dir=runtime_dir) as running,
    ):
        offers = host.offer_many([Signaller() for _ in range(10)])
        running.register(Large())
        running.start(workers="process")
        assert running.wait_ready(PATIENCE)
        channels = running.channels
        assert len(channels) == 10
        outcomes = running.open_many(channels, window=1)
        opened = [channel for channel in channels if channel.is_open]
        texts = {str(outcome) for outcome in outcomes if outcome is not None}
        assert texts == {"no room for 512 pages of guest memory: /dev/shm or a memory limit is full"}
        assert 4 <= len(opened) < 8

        for offer in offers:
            if offer.channel is not None:
                produce(offer)
                eventually(lambda offer=offer: seen(offer) == 1, "its signal is seen")  # type: ignore[misc]
        opened[0].close()
        channels[-1].open()
        assert channels[-1].is_open
