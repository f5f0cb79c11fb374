"""What both flavours of a host show of their link: its offers, its channels, its numbers."""

from collections.abc import Sequence

from host_client.channel import Channel
from host_client.core import Core
from host_client.offer import Offer


class HostView:
    """A host link as seen from outside.

    Attributes: `partition`, its name; `vps`, how many virtual processors it has; `link`, this link's number.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self.partition = core.attached.partition
        self.vps = core.attached.welcome.vps
        self.link = core.attached.welcome.link

    @property
    def offers(self) -> list[Offer]:
        """Everything offered now, also what the daemon has not answered yet."""
        return list(self._core.offers.values())

    @property
    def channels(self) -> list[Channel]:
        """The channels that are open now."""
        return [channel for offer in self.offers if (channel := offer.channel) is not None]

    def signal_many(self, channels: Sequence[Channel]) -> int:
        """Signal each live channel in one native call; returns how many bits went from 0 to 1."""
        return self._core.signal_many(channels)

    def statistics(self) -> dict[str, int]:
        """Counters since the start of the link, also after its end.

        offers and open are what there is now; opens, open_failures, closes, retargets count requests;
        guest_signals and unrouted what the guest signalled; device_errors callbacks that raised; dead_rings
        opens that the guest ended by breaking a ring; unstuck guests that had missed a wake-up; signals,
        transitions, posts and moved are the sender's.
        """
        return self._core.statistics()
