"""The unit files are ones that systemd accepts without a word, as narrow as they were meant to be."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parent.parent / "systemd"


@pytest.fixture(scope="module")
def systemd_analyze() -> str:
    """Path of systemd-analyze, installed if we may. Under CI its absence is a failure, elsewhere a skip."""
    name = "systemd-analyze"
    if shutil.which(name) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "--no-install-recommends", "systemd"]
        for command in (["apt-get", "update"], install):
            subprocess.run(command, check=False, capture_output=True, env=environment)
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not installed and cannot be installed by this user"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here: verify complains about missing ones, and rightly so."""
    text = (UNITS / "vmbusd.service").read_text()
    text, replaced = re.subn(r"(?m)^ExecStart=\S+", f"ExecStart={shutil.which('true')}", text)
    assert replaced == 1
    copy = tmp_path / "vmbusd.service"
    copy.write_text(text)
    return copy


@pytest.mark.timeout(600)  # an installation may be part of it
def test_the_unit_is_clean(systemd_analyze: str, unit: Path) -> None:
    """verify says nothing about our unit; what it says about other units of this machine is not ours."""
    done = subprocess.run([systemd_analyze, "verify", unit], capture_output=True, text=True, check=False)

    assert [line for line in (done.stdout + done.stderr).splitlines() if "vmbusd" in line] == []
    assert done.returncode == 0


def test_verify_would_notice(systemd_analyze: str, unit: Path) -> None:
    """The check above can fail: an unknown directive is named."""
    unit.write_text(unit.read_text().replace("RestartSec=", "RestartSecs="))
    done = subprocess.run([systemd_analyze, "verify", unit], capture_output=True, text=True, check=False)

    assert "RestartSecs" in done.stderr


def test_the_unit_stays_narrow(systemd_analyze: str, unit: Path) -> None:
    """systemd's own measure of exposure stays below 1.0 of 10."""
    command = [systemd_analyze, "security", "--offline=true", "--threshold=10", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_user_is_created(systemd_analyze: str, tmp_path: Path) -> None:
    """sysusers would create the system user that the unit runs as."""
    program = shutil.which("systemd-sysusers")
    assert program, f"{systemd_analyze} without systemd-sysusers"
    command = [program, "--dry-run", f"--root={tmp_path}", str(UNITS / "vmbusd.sysusers")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert "Creating user 'vmbusd'" in done.stdout + done.stderr
    assert done.returncode == 0


def test_the_unit_says_what_the_daemon_relies_on() -> None:
    """Directives whose loss no tool would notice."""
    lines = (UNITS / "vmbusd.service").read_text().splitlines()

    for line in (
        "Type=notify",
        "NotifyAccess=main",
        "User=vmbusd",
        "RuntimeDirectory=vmbusd",
        "RuntimeDirectoryPreserve=restart",
        "RemoveIPC=no",
    ):
        assert line in lines
