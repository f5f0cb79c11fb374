"""Faults of the data path as a user sees them: what is lost, late or dead, and that nothing else is."""

import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from guest_client import Channel
from host_client.offer import Offer
from tests.live.daemon import Daemon, daemon, eventually
from tests.live.guest_drivers import COUNTED, Counter
from tests.live.guest_support import Signaller, World, begin, produce, relid_of, seen
from tests.live.storms import judge, let_pass
from vmbusd.abi.faults import STEPS
from vmbusd.demo.storm import storm
from vmbusd.testing.faults import Faults, Kind

pytestmark = pytest.mark.live

HANGS = 2.5
"""Seconds after which a signal that was not seen hangs: a worker's wait is cut into slices of one."""
NOW = 0.2
"""Seconds in which a signal is seen that does not hang."""


def produced_by(offer: Offer) -> int:
    """What the device has produced."""
    assert offer.channel is not None
    return int.from_bytes(offer.channel.memory(1)[:8], "little")


def has_arrived(offer: Offer) -> bool:
    """Whether the guest has seen all of it."""
    return seen(offer) == produced_by(offer)


def test_a_lost_doorbell_hangs_its_channel_and_relook_rescues_it(world: World) -> None:
    """The bit is set, nobody is told, and its sender has rung for this sleep, so its next signal is no help:
    whoever else rings does. With relook it is found within a second or so, and counted."""
    (offer,) = world.offer()
    for relook in (False, True):
        with world.guest(Counter()) as guest, Faults("demo", runtime_dir=world.directory) as faults:
            guest.start(relook=relook)
            assert guest.wait_ready(20)
            eventually(lambda: offer.channel is not None, "the device hears of the open")
            eventually(lambda: all(each["asleep"] for each in world.daemon.status("demo")["workers"]), "rest")
            lost = faults.add(Kind.DROP_DOORBELL, relid=relid_of(offer), who="hosts", times=1)
            produced = produce(offer)
            assert faults.fired(lost) == 1
            if relook:
                eventually(partial(has_arrived, offer), "it is rescued")
                assert sum(vp["rescued"] for vp in guest.statistics()["vps"]) == 1
            else:
                time.sleep(HANGS)
                assert seen(offer) < produced
                faults.remove(lost)
                assert produce(offer) == produced + 1
                time.sleep(NOW)
                assert seen(offer) < produced
                faults.add(Kind.SPURIOUS_BIT, rate=1000, times=20)
                eventually(partial(has_arrived, offer), "another doorbell takes it along")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Kind.DELAY_DOORBELL, {"delay": 1000, "probability": 0.3}),
        (Kind.DUPLICATE_DOORBELL, {"every": 3}),
        (Kind.REORDER_DOORBELL, {"delay": 1000, "probability": 0.3}),
        (Kind.DELAY_DISPATCH, {"delay": 1000, "probability": 0.1}),
        (Kind.DELAY_READ, {"delay": 1000, "probability": 0.1}),
        (Kind.STUCK_VP, {"delay": 300_000, "vp": 1, "times": 3, "every": 100}),
    ],
)
def test_what_is_late_is_not_lost(runtime_dir: Path, kind: Kind, fields: dict[str, Any]) -> None:
    """Signals and packets in a storm: none lost, hung, corrupt or out of order (case 295)."""
    with (
        daemon(runtime_dir, "--partition", "storm:2"),
        storm(runtime_dir, "storm", vps=2, channels=8, host_processes=1, packet_channels=2) as scene,
        Faults("storm", runtime_dir=runtime_dir) as faults,
    ):
        faults.add(kind, seed=5, **fields)
        scene.start()
        let_pass(scene, 1000)
        eventually(faults.fired, "it came")
        faults.close()
        scene.stop_retargeting()
        judge(scene)
        packets = scene.packet_totals()
        assert packets["packets"] > 0
        assert [packets[name] for name in ("lost", "hung", "corrupt", "disordered")] == [0, 0, 0, 0]


class Multi(Counter):
    """Opens each subchannel when it is offered."""

    def on_subchannel(self, channel: Channel, subchannel: Channel) -> Future[None] | None:
        return subchannel.begin_open()


def test_a_rule_for_a_device_covers_its_subchannels(world: World) -> None:
    """Those there are and those offered later; a rule for one of them covers that one, and no rule covers
    another device (case 295)."""
    instance, other = UUID(int=1), UUID(int=2)
    primary = world.host.offer(Signaller(), instance)
    stranger = world.host.offer(Signaller(), other)
    with world.guest(Multi()) as guest, Faults("demo", runtime_dir=world.directory) as faults:
        begin(guest)
        eventually(lambda: primary.channel and stranger.channel, "the devices hear of it")
        first = world.host.offer(Signaller(), instance, subchannel_index=1)
        eventually(lambda: first.channel is not None, "the first is open")
        of_device = faults.add(Kind.DELAY_DISPATCH, relid=relid_of(primary), who="guests", delay=1)
        of_first = faults.add(Kind.DELAY_DISPATCH, relid=relid_of(first), who="guests", delay=1)
        of_answers = faults.add(Kind.DELAY_DEVICE_MESSAGE, relid=relid_of(primary), delay=1)
        second = world.host.offer(Signaller(), instance, subchannel_index=2)
        eventually(lambda: second.channel is not None, "the second is open")
        assert faults.fired(of_answers) > 0

        def counts() -> tuple[int, int]:
            return faults.fired(of_device), faults.fired(of_first)

        for offer, expected in ((stranger, (0, 0)), (first, (1, 0)), (second, (2, 0)), (primary, (3, 0))):
            produce(offer)
            eventually(partial(has_arrived, offer), "it arrives")
            assert counts() == expected
        faults.remove(of_device)
        for offer in (primary, second, first):
            produce(offer)
            eventually(partial(has_arrived, offer), "it arrives")
        assert faults.fired(of_first) == 1
    assert primary.device.interface == COUNTED


@pytest.mark.parametrize("step", ["dispatch.between-claim-and-callback", "drain.between-taken-and-clear"])
def test_a_worker_that_is_killed_at_a_step_is_replaced(runtime_dir: Path, step: str) -> None:
    """Its VP is played again and nothing is lost; the count is that of its VP, and outlives it."""
    assert step in STEPS
    with (
        daemon(runtime_dir, "--partition", "storm:2"),
        storm(runtime_dir, "storm", vps=2, channels=8, host_processes=1) as scene,
        Faults("storm", runtime_dir=runtime_dir) as faults,
    ):
        scene.start()
        before = scene.guest.statistics()["workers"]["pids"][1]
        kill = faults.add(Kind.KILL, step=step, vp=1, after=5)
        eventually(lambda: scene.guest.statistics()["workers"]["pids"].get(1, before) != before, "a new one")
        let_pass(scene, 1000)
        (rule,) = faults.rules()
        assert (rule["id"], rule["fired_by"]) == (kill, {"vp 1": 1})
        scene.stop_retargeting()
        judge(scene)


def test_rules_of_the_data_path_outlive_the_daemon(runtime_dir: Path) -> None:
    """They hold while none runs; the next one knows them, with their counts, and can take them back."""
    arguments = ("--partition", "storm:2", "--grace", "3600")
    running = Daemon(runtime_dir, *arguments).wait_ready()
    try:
        with (
            storm(runtime_dir, "storm", vps=2, channels=8, host_processes=1) as scene,
            Faults("storm", runtime_dir=runtime_dir) as faults,
        ):
            scene.start()
            rule = faults.add(Kind.DELAY_DISPATCH, delay=1, seed=9)
            eventually(lambda: faults.fired(rule) > 100, "it comes")
            running.kill()
            let_pass(scene, 100)
            running.log.unlink()
            running = Daemon(runtime_dir, *arguments).wait_ready()
            before = faults.fired(rule)
            assert before > 100
            eventually(lambda: faults.fired(rule) > before, "it goes on")
            faults.remove(rule)
            assert faults.rules() == []
            eventually(lambda: not running.status("storm")["guest"]["away"], "the guest is back")
            scene.stop_retargeting()
            judge(scene)
    finally:
        running.close()
