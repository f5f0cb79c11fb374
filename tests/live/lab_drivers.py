"""Drivers for the lab's live tests, in a module of their own so that worker processes can import them."""

from guest_client import Channel
from vmbusd.lab.driver import LabDriver

FORGETS = 50


class Forgetful(LabDriver):
    """Loses one callback in FORGETS: the core has called, the driver has seen nothing."""

    def __init__(self, config: str = "") -> None:
        super().__init__(config)
        self._calls = 0

    def on_interrupt(self, channel: Channel) -> None:
        self._calls += 1
        if self._calls % FORGETS:
            super().on_interrupt(channel)
