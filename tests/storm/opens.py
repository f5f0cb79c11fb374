"""What the devices of one host process were asked to open and to close: each open once, each close once."""

from host_client import Channel
from tests.storm.ledger import Ledger


class Opens:
    """The opens that have no close yet; what is asked twice goes into the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._open: set[tuple[int, int]] = set()

    def begin(self, channel: Channel) -> None:
        """A device is asked to open this."""
        if not self._ledger.note_open(channel.event_flag, channel.generation):
            self._ledger.add("twice")
        self._open.add((channel.relid, channel.generation))
        self._ledger.add("opens")

    def end(self, channel: Channel) -> None:
        """A device is told that this is closed."""
        if (channel.relid, channel.generation) not in self._open:
            self._ledger.add("twice")
        self._open.discard((channel.relid, channel.generation))
        self._ledger.add("closes")
