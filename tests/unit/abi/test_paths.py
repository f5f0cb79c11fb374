"""Where the runtime directory is."""

import os
from pathlib import Path

import pytest

from vmbusd.abi import paths
from vmbusd.abi.errors import UsageError


def test_a_directory_that_is_named_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks and whatever the environment says; the answer is absolute."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/elsewhere")
    for given in ("/tmp/x", Path("/tmp/x")):
        assert paths.runtime_dir(given) == Path("/tmp/x")
    assert paths.runtime_dir("x") == Path.cwd() / "x"


@pytest.mark.parametrize(
    ("uid", "xdg", "expected"),
    [
        (0, None, "/run/vmbusd"),
        (0, "/run/user/0", "/run/vmbusd"),
        (1000, "/run/user/1000", "/run/user/1000/vmbusd"),
    ],
)
def test_without_a_name_the_user_decides(
    uid: int, xdg: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root has one place, others their own."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    if xdg is None:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", xdg)

    assert paths.runtime_dir() == Path(expected)


@pytest.mark.parametrize("xdg", [None, ""])
def test_a_user_without_a_place_is_told_what_to_do(xdg: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable and the option."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    if xdg is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", xdg)
    with pytest.raises(UsageError, match="XDG_RUNTIME_DIR is not set, name one with --runtime-dir"):
        paths.runtime_dir()


def test_a_socket_in_it_must_have_a_name_that_fits() -> None:
    """The longest path that a socket address holds is fine, one byte more is refused; bytes count."""
    room = paths.MAX_SOCKET_PATH - len("/" + paths.ADMIN_SOCKET)
    longest = "/" + "d" * (room - 1)

    assert paths.runtime_dir(longest) == Path(longest)
    assert len(paths.ADMIN_SOCKET) >= max(len(paths.GUEST_SOCKET), len(paths.HOST_SOCKET))
    for wrong in (longest + "d", "/" + "ä" * (room // 2 + 1)):
        with pytest.raises(UsageError, match="a socket path may have 107 bytes, not 1"):
            paths.runtime_dir(wrong)
