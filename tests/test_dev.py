"""The task runner decides rightly before it acts: what it offers, what it rebuilds, what it refuses."""

import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a space in its path and as good as nothing in it."""
    path = tmp_path / "a checkout"
    (path / "vmbusd" / "abi").mkdir(parents=True)
    (path / "tools").mkdir()
    for name in ("dev", "pyproject.toml", "setup.py", "tools/set_up.py"):
        shutil.copy2(ROOT / name, path / name)
    (path / "vmbusd" / "abi" / "core.h").write_text("#define ONE 1\n")
    return path


@pytest.fixture
def dev(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What the task runner of that checkout sets up, as a module."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("dev_under_test", str(checkout / "tools" / "set_up.py"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, loader.name, module)
    loader.exec_module(module)
    return module


def run(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(checkout / "dev"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd="/")


def test_only_what_the_tree_has_is_offered(checkout: Path) -> None:
    """A command appears with the part of the tree that it runs."""
    before = run(checkout)
    (checkout / "vmbusd" / "demo").mkdir()
    after = run(checkout, "help")

    assert (before.returncode, after.returncode) == (0, 0)
    assert "\n  lint " in before.stdout
    assert "\n  demo " not in before.stdout
    assert "\n  demo " in after.stdout


def test_an_unknown_command_is_named(checkout: Path) -> None:
    """Nothing is set up for a mistyped word."""
    done = run(checkout, "lnit")

    assert done.returncode == 2
    assert "no command 'lnit'" in done.stderr
    assert not (checkout / ".venv").exists()


def test_an_environment_of_somebody_else_is_not_removed(checkout: Path) -> None:
    """A .venv that we did not make and cannot use stops the set-up."""
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "theirs").touch()
    done = run(checkout, "lint", PATH=os.environ["PATH"])

    assert done.returncode == 1
    assert "was not made by ./dev" in done.stderr
    assert (checkout / ".venv" / "theirs").exists()


def test_missing_tools_are_named(checkout: Path, tmp_path: Path) -> None:
    """Without a compiler and without a way to install one, it says what to install and leaves nothing."""
    (tmp_path / "empty").mkdir()
    done = run(checkout, "lint", PATH=str(tmp_path / "empty"))

    assert done.returncode == 1
    assert "gcc libc6-dev" in done.stderr
    assert not (checkout / ".venv").exists()


def test_an_older_python_is_refused_by_name(checkout: Path, tmp_path: Path) -> None:
    """What VMBUSD_PYTHON names must be able to run this project."""
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = run(checkout, "lint", PATH=os.environ["PATH"], VMBUSD_PYTHON=str(old))

    assert done.returncode == 1
    assert f"{old} is not Python 3.11 or newer" in done.stderr


def test_the_core_is_rebuilt_for_its_sources_and_flags(
    checkout: Path, dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed header, a new file and other flags each ask for a build; the same content does not."""
    header = checkout / "vmbusd" / "abi" / "core.h"
    seen = [dev.native_digest()]
    header.write_text("#define ONE 2\n")
    seen.append(dev.native_digest())
    (checkout / "vmbusd" / "abi" / "more.pxi").touch()
    seen.append(dev.native_digest())
    monkeypatch.setenv("VMBUSD_CFLAGS", "-DONE=3")
    seen.append(dev.native_digest())

    assert len(set(seen)) == 4

    header.touch()
    (checkout / "vmbusd" / "abi" / "wire.py").touch()

    assert dev.native_digest() == seen[-1]


def test_the_environment_is_renewed_for_its_description(checkout: Path, dev: ModuleType) -> None:
    """pyproject.toml decides it, the native core's sources do not."""
    before = dev.environment_digest()
    (checkout / "vmbusd" / "abi" / "core.h").write_text("")

    assert dev.environment_digest() == before

    with open(checkout / "pyproject.toml", "a") as file:
        file.write("# changed\n")

    assert dev.environment_digest() != before


@pytest.mark.parametrize(
    ("content", "stamp"),
    [(None, None), ("", {}), ('{"ro', {}), ("[]", {}), ('{"root": "/x"}', {"root": "/x"})],
)
def test_a_torn_stamp_is_an_unfinished_set_up(
    dev: ModuleType, content: str | None, stamp: dict[str, str] | None
) -> None:
    """None only if there never was a set-up: that is how somebody else's environment is told from ours."""
    dev.VENV.mkdir()
    if content is not None:
        dev.STAMP.write_text(content)

    assert dev.read_stamp() == stamp
