"""Types of the held passes; the code is stepped.pyx over percpu.h and vmbus_core.h."""

from collections.abc import Callable

from typing_extensions import Buffer

class SteppedPasses:
    """Passes of the design that the lists in `buffer` name, held before each step."""

    def __init__(self, buffer: Buffer, at_step: Callable[[str], None]) -> None:
        """`at_step(name)` runs before each named access to a shared word, with the GIL, and may wait. What it
        raises is written to standard error and changes nothing. Raises UsageError for too small a buffer."""
    def passes(self) -> object:
        """What `native.PassWorker.use` takes; this object must live as long as the worker."""
