"""The examples as their READMEs say: the commands typed there, until each side has said what it should."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.daemon import PATIENCE, ROOT, daemon, eventually

pytestmark = pytest.mark.live


class Side:
    """One command of an example, in its folder."""

    def __init__(self, example: str, runtime_dir: Path, module: str, what: str) -> None:
        self.output = os.memfd_create("output", os.MFD_CLOEXEC)
        command = [sys.executable, "-m", module, "run", what, "--partition", "demo"]
        self.process = subprocess.Popen(
            [*command, "--runtime-dir", str(runtime_dir)],
            cwd=ROOT / "examples" / example,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )

    def text(self) -> str:
        """What it has said so far."""
        return os.pread(self.output, 1 << 20, 0).decode()

    def says(self, pattern: str) -> None:
        """Wait until it has said something."""
        try:
            eventually(lambda: re.search(pattern, self.text()), f"says {pattern}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it said: {self.text()}") from None

    def stop(self) -> None:
        """End it in order."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, self.text()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        os.close(self.output)


@contextlib.contextmanager
def example(name: str, runtime_dir: Path, device: str, driver: str) -> Iterator[tuple[Side, Side]]:
    """Daemon, device and driver of an example."""
    with daemon(runtime_dir, "--partition", "demo:2"), contextlib.ExitStack() as stack:
        host = Side(name, runtime_dir, "host_client", device)
        stack.callback(host.close)
        host.says("offered")
        guest = Side(name, runtime_dir, "guest_client", driver)
        stack.callback(guest.close)
        yield host, guest


def test_echo(runtime_dir: Path) -> None:
    """Packets come back, requests are answered, and the end of the device is told to the driver."""
    with example("echo", runtime_dir, "echo_device:Echo", "echo_driver:EchoDriver") as (host, guest):
        guest.says("heard from relid 1: hello 2\n")
        guest.says(r"answered after \d+ us: and how are you\?\n")
        host.says("sent back to relid 1\n")
        host.stop()
        guest.says("relid 1")
        guest.stop()
        assert "Traceback" not in host.text() + guest.text()


@pytest.mark.parametrize("size", [8, 4096])
def test_throughput(runtime_dir: Path, size: int) -> None:
    """Packets arrive in order, none is missing, and either side may be stopped in the middle."""
    driver = f"source_driver:Source={size}"
    with example("throughput", runtime_dir, "sink_device:Sink", driver) as (host, guest):
        host.says(r"million packets/s.*\n.*million packets/s")
        guest.stop()
        host.says("the guest closed it")
        host.stop()
        assert "in place of" not in host.text()
        assert "Traceback" not in host.text() + guest.text()
