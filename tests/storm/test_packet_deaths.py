"""A worker dies at each place of a callback with packets: what comes again is right, nothing is missing."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.conftest import world
from tests.live.daemon import eventually
from tests.live.guest_support import World, begin
from tests.storm.ledger import FORBIDDEN, Ledger
from tests.storm.lines import Pause
from tests.storm.opens import Opens
from tests.storm.packet_device import PacketDevice
from tests.storm.packet_driver import PacketDriver
from tests.storm.packets import BACK_SENT, NEXT, PLACES
from vmbusd.abi.native import Words

__all__ = ["world"]

ROOT = Path(__file__).resolve().parents[2]
DEATHS = 3
SOME = 60
"""Packets between two deaths: the ring has gone round."""
TIMEOUT = 300

pytestmark = [pytest.mark.live, pytest.mark.timeout(TIMEOUT)]


@pytest.mark.parametrize("place", range(1, PLACES + 1))
def test_a_death_in_a_callback_loses_nothing(world: World, tmp_path: Path, place: int) -> None:
    """Whatever the dead worker had noted, sent or given back; what it had noted comes again."""
    path = tmp_path / "ledger"
    ledger, pause = Ledger.make(path), Pause(on=False)
    device = PacketDevice(ledger, Opens(ledger), pause)
    world.host.offer(device)

    def more() -> None:
        wanted = device.back + SOME

        def is_back() -> bool:
            device.push()
            return device.back >= wanted

        eventually(is_back, "packets come back")

    def died() -> bool:
        """Whether the worker has taken what dooms it; else it is doomed again."""
        device.push()
        if not ledger.pardon():
            return True
        ledger.doom(place)
        return False

    with world.guest(PacketDriver(str(path))) as guest:
        (channel,) = begin(guest, "process")
        for _ in range(DEATHS):
            more()
            ledger.doom(place)
            eventually(died, "a worker dies")
        more()
        pause.obey({"do": "pause", "number": 1})
        eventually(lambda: device.is_even, "all packets are back")
        words, sent = Words(channel.state), device.report()["sent"]
        eventually(lambda: words.load(BACK_SENT) == sent, "the guest has noted the last packet")
        assert words.load(NEXT) == sent
        counts = ledger.counts()
        assert {name: counts[name] for name in FORBIDDEN if counts[name]} == {}
        # Behind the first place nothing was noted yet, so nothing comes again.
        assert (counts["repeats"] > 0) == (place > 1), counts
        assert guest.statistics()["workers"]["died"] == DEATHS


def test_packets_given_back_too_early_are_missed(tmp_path: Path) -> None:
    """With batches given back before the callback has had them the test above fails: a death loses one."""
    copy = tmp_path / "tree"
    for part in ("vmbusd", "guest_client", "host_client", "tests"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    delivery = copy / "vmbusd" / "abi" / "delivery.py"
    taken = "        packets -= len(batch)\n"
    text = delivery.read_text()
    assert text.count(taken) == 1
    delivery.write_text(text.replace(taken, f"{taken}        port.commit()\n"))

    test = f"tests/storm/test_packet_deaths.py::{test_a_death_in_a_callback_loses_nothing.__name__}[1]"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )

    assert done.returncode == 1, done.stdout[-4000:]
    assert "'gap': " in done.stdout or "packets come back" in done.stdout, done.stdout[-4000:]
