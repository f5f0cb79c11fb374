"""Where the runtime directory is and what its sockets are called, for the daemon and its clients.

Source: docs/design.md section 4. The daemon alone creates the directory; a client only computes the path.
"""

import os
from pathlib import Path
from typing import Final

from vmbusd.abi.errors import UsageError

GUEST_SOCKET: Final = "guest.sock"
HOST_SOCKET: Final = "host.sock"
ADMIN_SOCKET: Final = "admin.sock"
LOCK_FILE: Final = "lock"
INSTANCE_FILE: Final = "instance"

MAX_SOCKET_PATH: Final = 107
"""sun_path is 108 bytes with its final zero."""


def runtime_dir(given: str | os.PathLike[str] | None = None) -> Path:
    """The directory given, else /run/vmbusd for uid 0, else $XDG_RUNTIME_DIR/vmbusd.

    Raises UsageError when there is none to choose or a socket in it could not be named.
    """
    if given is not None:
        path = Path(given)
    elif os.geteuid() == 0:
        path = Path("/run/vmbusd")
    elif xdg := os.environ.get("XDG_RUNTIME_DIR"):
        path = Path(xdg) / "vmbusd"
    else:
        raise UsageError("no runtime directory: XDG_RUNTIME_DIR is not set, name one with --runtime-dir")
    longest = len(os.fsencode(path.absolute() / ADMIN_SOCKET))
    if longest > MAX_SOCKET_PATH:
        raise UsageError(
            f"runtime directory {path}: a socket path may have {MAX_SOCKET_PATH} bytes, not {longest}"
        )
    return path.absolute()
