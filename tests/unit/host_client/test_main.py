"""`vmbus-host`: which devices it loads, what it says when it cannot, and that a signal ends it in order."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_client import Device
from host_client.__main__ import EXIT_ERROR, load, main
from tests.unit.host_client.fake_daemon import FakeDaemon
from tests.unit.host_client.probe import Probe
from vmbusd.abi import device_link, link, paths
from vmbusd.abi.errors import UsageError
from vmbusd.abi.link import Role

NAME = "tests.unit.host_client.probe:Probe"
INSTANCE = "8b8d0a3e-6a51-4a4e-9c6f-2f1b9a9f7c11"


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """The command sets signal handlers; put back what was there."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(runtime_dir: Path, *devices: str) -> int:
    return main(["run", *devices, "--partition", "demo", "--runtime-dir", str(runtime_dir)])


def test_a_device_is_loaded_by_name() -> None:
    """MODULE:CLASS is an instance of that class."""
    assert type(load(NAME)).__qualname__ == Probe.__qualname__


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("echo", "MODULE:CLASS"),
        (":Echo", "MODULE:CLASS"),
        ("no_such_module:Echo", "no module named no_such_module"),
        ("tests.no_such_module:Echo", "no module named tests.no_such_module"),
        ("os:path", "path is no subclass of host_client.Device"),
        ("os:nothing", "nothing is no subclass of host_client.Device"),
    ],
)
def test_what_is_no_device_is_named(name: str, message: str) -> None:
    """A missing module, a missing class and a class that is no device are told apart."""
    with pytest.raises(UsageError, match=message):
        load(name)
    assert issubclass(Probe, Device)


def test_without_a_daemon_it_says_so(runtime_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No daemon: one line with the socket's path on standard error and status 1."""
    assert run(runtime_dir, NAME) == EXIT_ERROR
    assert capsys.readouterr().err == f"vmbus-host: no vmbusd at {runtime_dir}/host.sock: is it running?\n"


def test_one_instance_names_one_device(runtime_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--instance with several devices is refused before anything is connected."""
    arguments = ["run", NAME, NAME, "--partition", "demo", "--runtime-dir", str(runtime_dir)]

    assert main([*arguments, "--instance", INSTANCE]) == EXIT_ERROR
    assert "--instance names one device" in capsys.readouterr().err


def test_it_offers_serves_and_leaves_on_sigterm(runtime_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The devices are offered in order with the instance given; SIGTERM ends with Detached and status 0."""
    caplog.set_level(logging.INFO)
    seen: list[object] = []

    with FakeDaemon() as daemon, daemon.listening(runtime_dir, paths.HOST_SOCKET, Role.HOST):

        def accept() -> None:
            while not daemon.peers:
                accepted.wait(0.01)
            peer = daemon.peers[0]
            peer.expect(link.Hello)
            seen.append(peer.expect(device_link.Offer).instance_id)
            peer.ask(device_link.OfferResult(1, 0, b""))
            # A request that only a running host answers.
            peer.ask(device_link.Retarget(1, 1, 0))
            peer.expect(device_link.Retargeted)
            os.kill(os.getpid(), signal.SIGTERM)
            seen.append(peer.expect(link.Detached))

        accepted = threading.Event()
        thread = threading.Thread(target=accept)
        thread.start()
        arguments = ["run", NAME, "--partition", "demo", "--runtime-dir", str(runtime_dir)]
        status = main([*arguments, "--instance", INSTANCE])
        thread.join()

    assert status == 0
    assert [str(item) for item in seen] == [INSTANCE, str(link.Detached(0))]
    assert f"offered Probe {Probe.interface} as instance {INSTANCE}" in caplog.text
