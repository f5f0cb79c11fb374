"""The control half of a storm's guest in a process of its own, so that it can be killed.

Prints the pids of its workers once every channel is open.
"""

import sys

from guest_client import Guest
from vmbusd.demo.driver import StormDriver
from vmbusd.demo.storm import OPEN_SECONDS


def main() -> None:
    directory, partition, vps = sys.argv[1:]
    with Guest.attach(partition, runtime_dir=directory) as guest:
        guest.register(StormDriver())
        guest.start(int(vps), "process")
        if guest.wait_ready(OPEN_SECONDS):
            print(*guest.statistics()["workers"]["pids"].values(), flush=True)
            guest.wait()


if __name__ == "__main__":
    main()
