"""The README's first device and its driver, taken from the page as they stand there."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live.daemon import ROOT, daemon, eventually

pytestmark = pytest.mark.live
DEVICE, DRIVER = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@contextmanager
def running(program: str, output: Path, runtime_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One of the programs, told where the daemon is; Ctrl-C ends it."""
    told = re.sub(r"((?:connect|attach)\([^)]*)\)", rf"\1, runtime_dir={str(runtime_dir)!r})", program)
    with output.open("wb") as file:
        # Whoever was started in the background has Ctrl-C ignored, and would hand that on.
        command = ["env", "--default-signal=INT", sys.executable, "-u", "-c", told]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def test_each_hears_when_the_other_goes(runtime_dir: Path, tmp_path: Path) -> None:
    """The driver prints ticks; Ctrl-C ends it and the device notices, and the other way round."""
    device, first, second = (tmp_path / name for name in ("device", "first", "second"))
    with daemon(runtime_dir, "--partition", "demo"):
        with running(DEVICE, device, runtime_dir):
            with running(DRIVER, first, runtime_dir):
                eventually(lambda: first.read_text().count("tick from relid 1") > 1, "two ticks")
            eventually(lambda: "closed: relid 1" in device.read_text(), "the device hears of the close")
        with running(DRIVER, second, runtime_dir):
            with running(DEVICE, device, runtime_dir):
                eventually(lambda: "tick from relid 1" in second.read_text(), "a tick")
            eventually(lambda: "gone: relid 1" in second.read_text(), "the driver hears of the rescind")
