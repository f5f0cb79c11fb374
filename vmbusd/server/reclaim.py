"""Removes what dead daemons and dead peers left in /dev/shm, and never touches what anybody still uses.

A set is the objects of one partition of one daemon. It is dead when both bytes of its table can be locked
for writing: byte 0 is the daemon's, byte 1 is read-locked by every peer. The locks are held while the set is
removed, members first and the table last, so two daemons that start at once do not meet in it and an
interrupted removal is found again. A set without lockable table may still be under construction: it has to be
older than `limits.YOUNG_SET`, unless it bears our own instance name, which nobody else uses while we hold its
runtime directory. Sets of other users are none of our business. Source: docs/design.md section 2.
"""

import contextlib
import fcntl
import os
import re
import stat
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from vmbusd.abi import layout
from vmbusd.server import ofd
from vmbusd.server.limits import YOUNG_SET
from vmbusd.server.objects import SHM

_NAME: Final = re.compile(r"(?:sem\.)?vmbusd-([0-9a-f]{12})-([a-z0-9][a-z0-9-]{0,31})-([a-z]+[0-9]*)")
_BOTH: Final = layout.LOCK_BYTE_PEER - layout.LOCK_BYTE_DAEMON + 1

Key = tuple[str, str]
"""Instance and partition."""


@dataclass(slots=True)
class Reclaimed:
    """What a look at /dev/shm led to: names removed, sets in use, sets too young to judge."""

    removed: list[str] = field(default_factory=list)
    living: set[Key] = field(default_factory=set)
    young: set[Key] = field(default_factory=set)


def _sets() -> dict[Key, list[str]]:
    """The names of this user's sets."""
    found: dict[Key, list[str]] = defaultdict(list)
    for name in os.listdir(SHM):
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(f"{SHM}/{name}", follow_symlinks=False)
            if status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode):
                found[match[1], match[2]].append(name)
    return found


def _is_young(names: list[str]) -> bool:
    """Whether any of the objects was made, sized or renamed a moment ago."""
    newest = 0.0
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            newest = max(newest, os.stat(f"{SHM}/{name}", follow_symlinks=False).st_ctime)
    # A clock that was set back makes everything look young; then it is judged by a later start.
    return newest > time.time() - YOUNG_SET


def reclaim(own: str) -> Reclaimed:
    """Remove this user's dead sets. `own`: the instance name of the runtime directory that we hold."""
    report = Reclaimed()
    for key, names in _sets().items():
        instance, partition = key
        table = f"vmbusd-{instance}-{partition}-table"
        fd = -1
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(f"{SHM}/{table}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if fd >= 0 and not ofd.lock(fd, fcntl.F_WRLCK, layout.LOCK_BYTE_DAEMON, _BOTH):
                report.living.add(key)
            elif instance != own and _is_young(names):
                report.young.add(key)
            else:
                for name in sorted(names, key=lambda name: name == table):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(f"{SHM}/{name}")
                        report.removed.append(name)
        finally:
            if fd >= 0:
                os.close(fd)
    return report
