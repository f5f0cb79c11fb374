"""A hold on a partition's set of objects, as a peer has one.

When everybody of a partition is dead at once, its set looks abandoned to the start of any other daemon of the
machine (docs/design.md section 2), and two storms side by side would take each other's. The storm's own
daemons do not look at it. By descriptor, not by mapping: the table may be truncated meanwhile.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vmbusd.abi.errors import ResourceError
from vmbusd.abi.mapped import hold

_SHM: Final = Path("/dev/shm")


@contextlib.contextmanager
def gripped(partition: str) -> Iterator[None]:
    """Inside, nobody takes the set for abandoned; a set that is gone already is not there to be held."""
    with contextlib.ExitStack() as files:
        for path in _SHM.glob(f"vmbusd-*-{partition}-table"):
            with contextlib.suppress(FileNotFoundError, ResourceError):
                table = files.enter_context(path.open("rb"))
                hold(table.fileno(), str(path))
        yield
