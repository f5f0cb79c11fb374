"""The runtime directory is safe, held by one, and clean when its holder is gone."""

import os
import re
import socket
from pathlib import Path

import pytest

from vmbusd.abi.errors import ResourceError
from vmbusd.server.runtime import Runtime, owner_name


def test_it_is_made_private_and_removed_again(runtime_dir: Path) -> None:
    """A directory that we made is 0700 and goes with us."""
    path = runtime_dir / "new"

    runtime = Runtime(path)

    assert path.stat().st_mode & 0o777 == 0o700
    assert sorted(os.listdir(path)) == ["instance", "lock"]
    runtime.close()
    assert not path.exists()


def test_one_that_was_there_stays(runtime_dir: Path) -> None:
    """A service manager's directory is left, empty; a configured mode is given to it."""
    runtime = Runtime(runtime_dir, 0o711)

    assert runtime_dir.stat().st_mode & 0o777 == 0o711
    runtime.close()
    assert os.listdir(runtime_dir) == []


def test_the_instance_is_kept_until_an_orderly_end(runtime_dir: Path) -> None:
    """12 hex digits, in a file before they are used; a new name replaces it."""
    runtime = Runtime(runtime_dir)
    first = runtime.instance

    assert re.fullmatch("[0-9a-f]{12}", first)
    assert (runtime_dir / "instance").read_text().strip() == first
    second = runtime.renew_instance()
    assert second != first
    assert (runtime_dir / "instance").read_text().strip() == second == runtime.instance
    runtime.close()


@pytest.mark.parametrize(("kept", "taken"), [("0123456789ab\n", True), ("../../etc/x!", False), ("", False)])
def test_an_instance_name_that_was_left_is_checked(runtime_dir: Path, kept: str, taken: bool) -> None:
    """What a daemon before us left is resumed if it is a name; anything else is replaced."""
    (runtime_dir / "instance").write_text(kept)

    runtime = Runtime(runtime_dir)

    assert (runtime.instance == kept.strip()) is taken
    assert re.fullmatch("[0-9a-f]{12}", runtime.instance)
    runtime.close()


def test_it_has_one_holder(runtime_dir: Path) -> None:
    """The second is refused with the pid of the first, and may come when the first is gone."""
    first = Runtime(runtime_dir)

    with pytest.raises(ResourceError, match=rf"{runtime_dir}: another vmbusd \(pid {os.getpid()}\)"):
        Runtime(runtime_dir)

    first.close()
    Runtime(runtime_dir).close()


def test_files_in_it_are_never_followed_elsewhere(runtime_dir: Path, tmp_path: Path) -> None:
    """A symbolic link as lock file is an error, as instance file it is replaced; targets stay as they are."""
    target = tmp_path / "target"
    target.write_text("precious")
    (runtime_dir / "lock").symlink_to(target)
    with pytest.raises(ResourceError, match="lock"):
        Runtime(runtime_dir)
    (runtime_dir / "lock").unlink()
    (runtime_dir / "instance").symlink_to(target)

    Runtime(runtime_dir).close()

    assert target.read_text() == "precious"


def test_only_sockets_are_removed(runtime_dir: Path) -> None:
    """A stale socket goes, nothing at all is fine, any other file is an error."""
    runtime = Runtime(runtime_dir)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(runtime_dir / "x.sock"))
    runtime.remove_socket("x.sock")
    runtime.remove_socket("x.sock")
    (runtime_dir / "x.sock").touch()

    with pytest.raises(ResourceError, match=r"x\.sock: is in the way and no socket"):
        runtime.remove_socket("x.sock")

    (runtime_dir / "x.sock").unlink()
    runtime.close()


def test_a_parent_open_to_all_is_refused(runtime_dir: Path) -> None:
    """Where anybody may rename our directory away, it is not safe."""
    parent = runtime_dir / "shared"
    parent.mkdir()
    parent.chmod(0o777)

    with pytest.raises(ResourceError, match=f"{parent} is open to all"):
        Runtime(parent / "run")

    parent.rmdir()


def test_owners_are_named_as_far_as_they_have_a_name() -> None:
    """A uid, and who it is."""
    assert owner_name(0) == "uid 0 (root)"
    assert owner_name(3_999_999_999) == "uid 3999999999"
