"""Registry: which channels exist, by offer key, by host and offer id, by relid and by event flag."""

from vmbusd.abi.device_link import Offer
from vmbusd.abi.layout import FLAGS, MAX_RELID
from vmbusd.bus.channels import GUEST_KNOWS, NO_HOST, Channel
from vmbusd.bus.ids import Ids
from vmbusd.bus.refusal import Kind, Refusal

Key = tuple[object, object, int]


class Registry:
    """All channels of a partition.

    Attribute: `ids`, relids and generations.
    """

    def __init__(self) -> None:
        self.ids = Ids()
        self._all: dict[Channel, None] = {}  # a dict as an ordered set: the bus is deterministic
        self._by_key: dict[Key, Channel] = {}
        self._by_host: dict[int, dict[int, Channel]] = {}
        self._by_flag: list[Channel | None] = [None] * FLAGS

    def __len__(self) -> int:
        return len(self._all)

    def all(self) -> list[Channel]:
        """Every channel, in the order of their offers."""
        return list(self._all)

    def full(self) -> bool:
        """No room for another channel: each may need a relid (case 306)."""
        return len(self._all) >= MAX_RELID

    def with_key(self, offer: Offer) -> Channel | None:
        """The channel that has the key of `offer`, unless it is past being offered again."""
        return self._by_key.get((offer.interface_id, offer.instance_id, offer.subchannel_index))

    def of_host(self, host: int) -> list[Channel]:
        """The living offers of a host link."""
        return list(self._by_host.get(host, {}).values())

    def offered(self, host: int, offer_id: int) -> Channel | None:
        """The living offer `offer_id` of a host link."""
        return self._by_host.get(host, {}).get(offer_id)

    def with_flag(self, flag: int) -> Channel | None:
        """The channel that owns an event flag."""
        return self._by_flag[flag] if 0 < flag < FLAGS else None

    def find(self, relid: int) -> Channel | None:
        """The channel that the guest means by `relid`, None if it knows none by that number."""
        channel = self._by_flag[relid] if 0 < relid < FLAGS else None
        return channel if channel is not None and channel.state in GUEST_KNOWS else None

    def known(self, relid: int) -> Channel:
        """Like `find`. Raises Refusal when there is none."""
        channel = self.find(relid)
        if channel is None:
            raise Refusal(Kind.UNKNOWN_CHANNEL, f"relid {relid}")
        return channel

    def add(self, channel: Channel) -> None:
        """A new channel, bound to its host."""
        self._all[channel] = None
        self._by_key[channel.key] = channel
        self.bind(channel)

    def bind(self, channel: Channel) -> None:
        """The channel's host and offer id now mean this channel."""
        self._by_host.setdefault(channel.host, {})[channel.offer.offer_id] = channel

    def unbind(self, channel: Channel) -> None:
        """The host withdrew the offer; its id is free for the host."""
        offers = self._by_host[channel.host]
        del offers[channel.offer.offer_id]
        if not offers:
            del self._by_host[channel.host]
        channel.host = NO_HOST

    def forget_key(self, channel: Channel) -> None:
        """The channel can not be offered again: an offer with its key is a new channel."""
        del self._by_key[channel.key]

    def remove(self, channel: Channel) -> None:
        """Nothing is left of the channel."""
        del self._all[channel]

    def assign(self, channel: Channel) -> None:
        """Give the channel the lowest free relid and the event flag of the same number (case 061)."""
        channel.relid = channel.flag = self.ids.take()
        self._by_flag[channel.flag] = channel

    def unassign(self, channel: Channel) -> None:
        """Take relid and event flag back."""
        self._by_flag[channel.flag] = None
        self.ids.give_back(channel.relid)
        channel.relid = channel.flag = 0
