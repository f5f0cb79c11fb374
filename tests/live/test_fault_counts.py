"""`times` of a fault is the whole of it: a host that takes another's number goes on with its counts."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guest_client import Guest
from tests.live.daemon import PATIENCE, ROOT, Daemon, eventually
from tests.live.guest_drivers import Counter
from tests.live.guest_support import callbacks
from vmbusd.testing.faults import Faults, Kind

pytestmark = pytest.mark.live

HOST = """
import contextlib, sys, threading, time
from host_client import Device, Host
from tests.live.guest_drivers import COUNTED

class Ringer(Device):
    interface = COUNTED

    def on_open(self, channel):
        threading.Thread(target=self.ring, args=(channel,)).start()

    def ring(self, channel):
        while channel.live:
            channel.signal()
            time.sleep(0.001)

with Host.connect(partition="demo", runtime_dir=sys.argv[1]) as host:
    host.offer(Ringer())
    with contextlib.suppress(KeyboardInterrupt):
        host.run()
"""


class Scene:
    """A daemon with partition "demo" of 2 VPs, which may be killed and started again."""

    def __init__(self, runtime_dir: Path) -> None:
        self.runtime_dir = runtime_dir
        self._arguments = ("--partition", "demo:2", "--grace", "3600")
        self.daemon = Daemon(runtime_dir, *self._arguments).wait_ready()

    def is_killed(self) -> None:
        """The next daemon goes on."""
        self.daemon.kill()
        self.daemon.log.unlink()
        self.daemon = Daemon(self.runtime_dir, *self._arguments).wait_ready()

    @contextlib.contextmanager
    def host(self) -> Iterator["subprocess.Popen[bytes]"]:
        """A host process; it leaves in order."""
        command = ["env", "--default-signal=INT", sys.executable, "-c", HOST, str(self.runtime_dir)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)

    def no_host(self) -> bool:
        """Whether the last host's link is known to be over."""
        return not self.daemon.status("demo")["hosts"]


@pytest.fixture
def scene(runtime_dir: Path) -> Iterator[Scene]:
    made = Scene(runtime_dir)
    try:
        yield made
    finally:
        made.daemon.close()


def nothing(_scene: Scene) -> None:
    """The daemon lives on."""


@pytest.mark.parametrize("meanwhile", [nothing, Scene.is_killed])
def test_of_three_hosts_in_turn_one_dies(scene: Scene, meanwhile: Callable[[Scene], None]) -> None:
    """A kill comes once to a host's number: its successors signal on, also after a restart of the daemon."""
    with (
        Guest.attach("demo", runtime_dir=scene.runtime_dir) as guest,
        Faults("demo", runtime_dir=scene.runtime_dir) as faults,
    ):
        guest.register(Counter())
        guest.start()
        assert guest.wait_ready(PATIENCE)
        faults.add(Kind.KILL, step="signal.between-bit-and-post")
        with scene.host() as first:
            assert first.wait(PATIENCE) == -signal.SIGKILL
        for _ in range(2):
            eventually(scene.no_host, "the host is gone")
            meanwhile(scene)
            with scene.host() as successor:
                eventually(lambda: any(callbacks(each)[0] > 100 for each in guest.channels), "it signals", 30)
                assert successor.poll() is None
                assert [rule["fired_by"] for rule in faults.rules()] == [{"host 0": 1}]
            eventually(scene.no_host, "the host is gone")
            assert faults.fired() == 1


def test_what_came_to_guests_is_kept_for_the_next_host_too(scene: Scene) -> None:
    """Doorbells that guests doubled towards a host count against the next one of its number."""
    with (
        Guest.attach("demo", runtime_dir=scene.runtime_dir) as guest,
        Faults("demo", runtime_dir=scene.runtime_dir) as faults,
    ):
        guest.register(Counter())
        guest.start()
        assert guest.wait_ready(PATIENCE)
        faults.add(Kind.DUPLICATE_DOORBELL, who="guests", times=2)
        for _ in range(3):
            with scene.host():
                eventually(lambda: any(callbacks(each)[0] > 100 for each in guest.channels), "it answers", 30)
                eventually(lambda: faults.fired() >= 2, "both have come")
            eventually(scene.no_host, "the host is gone")
            assert [rule["fired_by"] for rule in faults.rules()] == [{"guest to host 0": 2}]
