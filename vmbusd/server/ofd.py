"""Open-file-description locks: liveness that the kernel frees, whoever dies however.

A lock belongs to the open file description, so it lives exactly as long as somebody holds that description:
a descriptor passed to a peer carries it along, a mapping keeps it. Source: fcntl(2), "Open file description
locks"; docs/design.md section 2 for which byte means what.
"""

import fcntl
import os
import struct
from typing import Final

from vmbusd.abi import layout
from vmbusd.abi.errors import ResourceError

_FLOCK: Final = struct.Struct("hhqqi4x")
"""struct flock on 64-bit Linux: type, whence, start, length, pid (0 for these locks)."""


def lock(fd: int, kind: int, start: int, length: int = 1) -> bool:
    """Take F_RDLCK or F_WRLCK on bytes of `fd` without waiting; False when another lock is in the way."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
    except BlockingIOError:
        return False
    except PermissionError:
        # POSIX lets a conflict be EACCES as well as EAGAIN.
        return False
    return True


def hold_for_peer(fd: int, path: str) -> None:
    """Mark a description of a table as attached, before it is passed to a peer.

    Raises ResourceError when somebody is about to reclaim the set, which nobody does while its daemon lives.
    """
    if not lock(fd, fcntl.F_RDLCK, layout.LOCK_BYTE_PEER):
        raise ResourceError(f"{path}: somebody else has locked it for removal")
