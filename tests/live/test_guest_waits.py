"""Callbacks that wait for room in a ring: what wakes them, what ends their wait, and what does not."""

import time
from pathlib import Path

import pytest

from tests.live.daemon import PATIENCE
from tests.live.guest_support import Mode, World, begin
from tests.live.ring_devices import Deaf, both, channel_of, eventually, offers
from tests.live.ring_drivers import Flooder, Talker, number_of
from vmbusd.abi.errors import ChannelGone, TimedOut

pytestmark = pytest.mark.live


@both
@pytest.mark.parametrize("end", ["close", "rescind"])
def test_a_callback_that_waits_for_room_hears_of_the_end(
    world: World, workers: Mode, end: str, tmp_path: Path
) -> None:
    """A send on a full ring ends in ChannelGone when the channel is closed or rescinded (case 291)."""
    note = tmp_path / "note"
    made = offers(world, Deaf)
    with world.guest(Flooder(str(note))) as guest:
        channel = begin(guest, workers)[0]
        channel_of(made[0]).send(b"go")
        eventually(lambda: int.from_bytes(channel.state[:8], "little") > 5)
        begun = time.monotonic()
        if end == "close":
            channel.close()
        else:
            world.host.revoke(made[0])
        eventually(lambda: note.exists() and note.read_bytes() != b"")
        assert time.monotonic() - begun < PATIENCE
        assert "closed" in note.read_text() or "rescinded" in note.read_text()
        with pytest.raises(ChannelGone):
            channel.send(b"late")


@both
def test_a_full_ring_goes_on_when_the_host_reads(world: World, workers: Mode, tmp_path: Path) -> None:
    """The waiting callback is woken by the host's reads and sends on (case 282)."""
    made = offers(world, Deaf)
    with world.guest(Flooder(str(tmp_path / "note"))) as guest:
        channel = begin(guest, workers)[0]
        host = channel_of(made[0])
        host.send(b"go")
        for _ in range(100):
            got = host.receive(PATIENCE)
            assert got is not None
            assert len(got.payload) == 1000
        # The callback counts a packet after it has sent it.
        eventually(lambda: int.from_bytes(channel.state[:8], "little") >= 100)


@both
def test_a_callback_that_waits_for_room_outlasts_the_order_to_leave(world: World, workers: Mode) -> None:
    """Its VP goes offline once it has sent everything: nothing of what it was doing is lost (case 155)."""
    made = offers(world, Deaf)
    with world.guest(Talker()) as guest:
        channel = begin(guest, workers)[0]
        host, vp = channel_of(made[0]), channel.target_vp
        host.send(b"go")
        eventually(lambda: int.from_bytes(channel.state[:8], "little") > 5)
        with pytest.raises(TimedOut, match="its worker has not left"):
            guest.vp_offline(vp, timeout=0.5)
        got = [host.receive(PATIENCE) for _ in range(64)]
        assert [number_of(one.payload) for one in got if one is not None] == list(range(64))
        eventually(lambda: guest.statistics()["vp_states"][vp] == "offline")
        assert channel.target_vp != vp
        assert sum(each["exceptions"] for each in guest.statistics()["vps"]) == 0
