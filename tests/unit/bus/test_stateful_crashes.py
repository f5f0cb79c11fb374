"""The random walks of the bus once more, with a daemon that dies at almost every input."""

from random import Random
from typing import cast

from tests.unit.bus.daemon import Daemon
from tests.unit.bus.script import RAM_PAGES, VPS
from tests.unit.bus.test_stateful import OPTIONS, BusMachine, many
from vmbusd.bus.bus import Bus


class CrashMachine(BusMachine):
    """The daemon dies before an input, after it, or between its effects."""

    def new_bus(self) -> Bus:
        return cast(Bus, Daemon(OPTIONS, vps=VPS, ram_pages=RAM_PAGES, dice=Random(7)))


TestCrashes = CrashMachine.TestCase
TestCrashes.settings = many(100)
