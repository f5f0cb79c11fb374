"""A worker process of the lab: the shipped one, with passes that can play either design.

`python -m vmbusd.lab.worker PAGE`, where PAGE is the first page of guest memory that the lists lie in. Both
designs are played by the same process, so what differs between them is the lookup alone.
"""

import sys
from typing import Any

from guest_client import process
from vmbusd.abi import layout
from vmbusd.abi.attach import Attached
from vmbusd.abi.link import Object
from vmbusd.abi.native import PassWorker, Worker
from vmbusd.lab.percpu import SIZE, Lists


def lists_at(attached: Attached, page: int) -> Lists:
    """The lists that begin at a page of guest memory."""
    first = page * layout.PAGE
    return Lists(memoryview(attached[Object.RAM])[first : first + SIZE])


def command(page: int) -> tuple[str, ...]:
    """What the supervisor runs for each VP."""
    return (sys.executable, "-P", "-m", "vmbusd.lab.worker", str(page))


def main() -> int:
    """Run by the supervisor alone."""
    page = int(sys.argv[1])

    def make(attached: Attached, **arguments: Any) -> Worker:
        worker = PassWorker(**arguments)
        worker.use(lists_at(attached, page).passes())
        return worker

    return process.main(make)


if __name__ == "__main__":
    sys.exit(main())
