"""Faults of the data path, in storms and with packets: what hangs without a second look, what survives."""

from pathlib import Path
from typing import Any

import pytest

from tests.live.daemon import daemon, eventually
from tests.live.guest_support import World, begin
from tests.live.ring_devices import Listener, assert_clean, offers, send_all
from tests.live.ring_drivers import Echo
from tests.live.storms import judge, let_pass
from vmbusd.demo.storm import Storm, storm
from vmbusd.testing.faults import Faults, Kind

pytestmark = pytest.mark.live

VPS = 2
CHANNELS = 16
WORKER_STEPS = (
    "drain.between-taken-and-clear",
    "dispatch.between-claim-and-callback",
    "dispatch.before-let-go",
    "drain.before-done",
    "sleep.between-announce-and-look",
)
RING_STEPS = (
    "signal-host.between-bit-and-post",
    "ring.between-copy-and-publish",
    "ring.between-keep-and-publish",
    "ring.between-publish-and-signal",
    "ring.between-copy-and-commit",
    "ring.between-keep-and-commit",
)
HOST_STEPS = ("signal.between-bit-and-post", "signal.between-post-and-reload")


def hung(scene: Storm) -> bool:
    scene.look()
    return bool(scene.oracle.hung)


@pytest.mark.parametrize("relook", [False, True])
def test_a_dropped_doorbell_hangs_unless_somebody_looks_again(runtime_dir: Path, relook: bool) -> None:
    """Every doorbell of the storm is dropped: channels hang; with `relook` none does, and each is rescued."""
    with (
        daemon(runtime_dir, "--partition", f"storm:{VPS}"),
        storm(runtime_dir, "storm", vps=VPS, channels=CHANNELS, host_processes=2, relook=relook) as scene,
        Faults("storm", runtime_dir=runtime_dir) as faults,
    ):
        faults.add(Kind.DROP_DOORBELL, who="hosts")
        scene.start(retarget=False)
        eventually(lambda: faults.fired() >= VPS, "doorbells are dropped")
        if relook:
            let_pass(scene, 3)
        scene.stop_hosts()
        scene.settle()
        verdict = scene.oracle.verdict()
        if relook:
            assert (verdict.lost, verdict.overlaps, scene.oracle.hung) == (0, 0, set())
            assert scene.vp_totals()["rescued"] > 0
        else:
            assert verdict.lost > 0
            assert scene.oracle.hung
            assert scene.vp_totals()["rescued"] == 0


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Kind.DELAY_DOORBELL, {"delay": 500}),
        (Kind.DUPLICATE_DOORBELL, {}),
        (Kind.REORDER_DOORBELL, {"delay": 1000}),
        (Kind.DELAY_DISPATCH, {"delay": 200}),
        (Kind.STUCK_VP, {"delay": 20_000, "times": 20}),
    ],
)
def test_what_comes_late_or_twice_loses_nothing(
    runtime_dir: Path, kind: Kind, options: dict[str, Any]
) -> None:
    """A storm with retargeting under one fault: lost 0, hung 0, and no second look was needed."""
    with (
        daemon(runtime_dir, "--partition", f"storm:{VPS}"),
        storm(runtime_dir, "storm", vps=VPS, channels=CHANNELS, host_processes=2) as scene,
        Faults("storm", runtime_dir=runtime_dir) as faults,
    ):
        faults.add(kind, probability=0.3, seed=11, **options)
        scene.start()
        let_pass(scene, 500)
        eventually(lambda: faults.fired() >= 5, f"{kind} happens")
        scene.stop_retargeting()
        judge(scene)


@pytest.mark.parametrize("step", WORKER_STEPS)
def test_a_worker_that_dies_at_a_step_loses_nothing(runtime_dir: Path, step: str) -> None:
    """Each VP's worker ends itself at the step, some passes on; another takes over, and nothing is lost."""
    with (
        daemon(runtime_dir, "--partition", f"storm:{VPS}"),
        storm(runtime_dir, "storm", vps=VPS, channels=CHANNELS, host_processes=1) as scene,
        Faults("storm", runtime_dir=runtime_dir) as faults,
    ):
        scene.start()
        let_pass(scene, 100)
        faults.add(Kind.KILL, step=step, after=20, times=1)
        eventually(lambda: scene.guest.statistics()["workers"]["died"] >= VPS, "both workers have died")
        assert faults.fired() == VPS
        let_pass(scene, 200)
        scene.stop_retargeting()
        judge(scene)


@pytest.mark.parametrize("step", HOST_STEPS)
def test_a_host_that_dies_at_a_step_takes_only_its_own_channels(runtime_dir: Path, step: str) -> None:
    """A host ends itself in the middle of a signal: its channels are rescinded, all others lose nothing."""
    with (
        daemon(runtime_dir, "--partition", f"storm:{VPS}"),
        storm(runtime_dir, "storm", vps=VPS, channels=CHANNELS, host_processes=2) as scene,
        Faults("storm", runtime_dir=runtime_dir) as faults,
    ):
        scene.start(retarget=False)
        let_pass(scene, 100)
        doomed = scene.channels[0].host_link
        lost = {channel.relid for channel in scene.channels if channel.host_link == doomed}
        scene.oracle.cells = [(relid, words) for relid, words in scene.oracle.cells if relid not in lost]
        faults.add(Kind.KILL, step=step, host=doomed, after=50, times=1)
        host = next(host for host in scene.hosts if host.latest["link"] == doomed)
        eventually(lambda: host.process.poll() is not None, "the host has ended itself")
        eventually(
            lambda: not {channel.relid for channel in scene.guest.channels} & lost, "its channels are gone"
        )
        let_pass(scene, 100)
        judge(scene)


@pytest.mark.parametrize("step", RING_STEPS)
def test_a_worker_that_dies_over_a_ring_loses_no_packet(world: World, step: str) -> None:
    """A worker ends itself between two stores of a ring: every packet comes back, in order (case 202)."""
    made = offers(world, Listener, 2)
    with (
        world.guest(Echo()) as guest,
        Faults("demo", runtime_dir=world.directory) as faults,
    ):
        channels = begin(guest, "process")
        faults.add(Kind.KILL, step=step, who="guests", after=2, times=2)

        def caught_up(number: int) -> None:
            # A ring that is never empty needs no signal, and a host that is always busy no doorbell.
            if number % 5 == 4:
                eventually(lambda: all(device_of(one).next > number for one in made), "packets come back")

        send_all(made, 60, caught_up)
        assert_clean(made, channels, 60)
        assert faults.fired() == 2
        eventually(lambda: guest.statistics()["workers"]["died"] >= 2, "workers have ended themselves")


def test_delayed_dispatches_and_reads_keep_every_packet_in_order(world: World) -> None:
    """Up to 1000 us before callbacks and reads of one device: nothing is lost or reordered (case 295). Of the
    two rules of a kind the first that comes decides, so packets go on until each has."""
    made = offers(world, Listener, 2)
    with (
        world.guest(Echo()) as guest,
        Faults("demo", runtime_dir=world.directory) as faults,
    ):
        channels = begin(guest, "process")
        relid = channels[0].relid
        for kind in (Kind.DELAY_DISPATCH, Kind.DELAY_READ):
            faults.add(kind, relid=relid, delay=1000, probability=0.5, seed=3)
            faults.add(kind, relid=relid, delay=1, seed=4)
        sent = 0

        def each_came() -> bool:
            nonlocal sent
            # Many packets are one dispatch: how many of those there are is for timing to say.
            send_all(made, 100, first=sent)
            sent += 100
            return all(rule["fired"] for rule in faults.rules())

        eventually(each_came, "each rule comes")
        assert_clean(made, channels, sent)
        assert [listener.again for listener in map(device_of, made)] == [0, 0]


def device_of(offer: Any) -> Listener:
    assert isinstance(offer.device, Listener)
    return offer.device
