"""Registry: which channels exist, by offer key, device, host and offer id, relid and event flag."""

from vmbusd.abi.device_link import Offer
from vmbusd.abi.layout import FLAGS
from vmbusd.bus.channels import GUEST_KNOWS, NO_HOST, Channel, State
from vmbusd.bus.ids import Ids
from vmbusd.bus.refusal import Kind, Refusal

Key = tuple[object, object, int]
Device = tuple[object, object]


class Registry:
    """All channels of a partition.

    Args: `relid_offset`, how many of the lowest relids are never given out.
    Attributes: `ids`, relids and generations; `chosen_flags`, whether the guest names event flags at open
    (6.0 with feature 0x01): then a channel has a flag only from its open to the end of its close;
    `flag_waiters`, by event flag, channels whose open waits until nobody owns it.
    """

    def __init__(self, relid_offset: int = 0) -> None:
        self.ids = Ids(relid_offset)
        self.chosen_flags = False
        self._all: dict[Channel, None] = {}  # a dict as an ordered set: the bus is deterministic
        self._by_key: dict[Key, Channel] = {}
        self._subchannels: dict[Device, dict[Channel, None]] = {}
        self._by_host: dict[int, dict[int, Channel]] = {}
        self._by_relid: list[Channel | None] = [None] * FLAGS
        self._by_flag: list[Channel | None] = [None] * FLAGS
        self._foreign = 0  # bit f is set while flag f belongs to a channel with another relid
        self.flag_waiters: dict[int, dict[Channel, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def all(self) -> list[Channel]:
        """Every channel, in the order of their offers."""
        return list(self._all)

    def full(self) -> bool:
        """No room for another channel: each may need a relid (cases 306, 307)."""
        return len(self._all) >= self.ids.room

    # Offers

    def with_key(self, offer: Offer) -> Channel | None:
        """The channel that has the key of `offer`, unless it is past being offered again."""
        return self._by_key.get((offer.interface_id, offer.instance_id, offer.subchannel_index))

    def subchannels(self, primary: Channel) -> list[Channel]:
        """The subchannels of the same device that are not past being offered again; none of a subchannel."""
        if primary.offer.subchannel_index:
            return []
        return list(self._subchannels.get(_device(primary), ()))

    def primary(self, channel: Channel) -> Channel | None:
        """The primary channel of the same device; a primary's is itself."""
        return self._by_key.get((*_device(channel), 0))

    def of_host(self, host: int) -> list[Channel]:
        """The living offers of a host link."""
        return list(self._by_host.get(host, {}).values())

    def offered(self, host: int, offer_id: int) -> Channel | None:
        """The living offer `offer_id` of a host link."""
        offers = self._by_host.get(host)
        return None if offers is None else offers.get(offer_id)

    def bound(self) -> list[Channel]:
        """Every channel that has a host, of one host in the order in which it got it; also those that are
        gone for everybody else."""
        return [channel for offers in self._by_host.values() for channel in offers.values()]

    def add(self, channel: Channel) -> None:
        """A new channel, bound to its host."""
        self._all[channel] = None
        self._add_key(channel)
        self.bind(channel)

    def _add_key(self, channel: Channel) -> None:
        self._by_key[channel.key] = channel
        if channel.offer.subchannel_index:
            self._subchannels.setdefault(_device(channel), {})[channel] = None

    def reinstate(self, channel: Channel) -> None:
        """A channel of a saved bus, in the order of the offers; what its host has is for `bind`."""
        if channel.state is State.REMOVED:
            return
        self._all[channel] = None
        if channel.state is not State.REVOKED_CLIENT_RELEASE:
            self._add_key(channel)
        if channel.relid:
            self.ids.claim(channel.relid)
            self._by_relid[channel.relid] = channel
        if channel.flag:
            self.take_flag(channel, channel.flag)

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
        if channel.offer.subchannel_index:
            siblings = self._subchannels[_device(channel)]
            del siblings[channel]
            if not siblings:
                del self._subchannels[_device(channel)]

    def remove(self, channel: Channel) -> None:
        """Nothing is left of the channel."""
        del self._all[channel]

    # Relids and event flags

    def with_flag(self, flag: int) -> Channel | None:
        """The channel that owns an event flag."""
        return self._by_flag[flag] if 0 < flag < FLAGS else None

    def find(self, relid: int) -> Channel | None:
        """The channel that the guest means by `relid`, None if it knows none by that number."""
        channel = self._by_relid[relid] if 0 < relid < FLAGS else None
        return channel if channel is not None and channel.state in GUEST_KNOWS else None

    def known(self, relid: int) -> Channel:
        """Like `find`. Raises Refusal when there is none."""
        channel = self.find(relid)
        if channel is None:
            raise Refusal(Kind.UNKNOWN_CHANNEL, f"relid {relid}")
        return channel

    def assign(self, channel: Channel) -> None:
        """Give the channel the lowest free relid and, unless the guest chooses it later, the event flag of
        the same number (case 061)."""
        channel.relid = self.ids.take(0 if self.chosen_flags else self._foreign)
        self._by_relid[channel.relid] = channel
        if not self.chosen_flags:
            self.take_flag(channel, channel.relid)

    def unassign(self, channel: Channel) -> None:
        """Take the relid back; the flag was given up before."""
        self._by_relid[channel.relid] = None
        self.ids.give_back(channel.relid)
        channel.relid = 0

    def take_flag(self, channel: Channel, flag: int) -> None:
        """The channel now owns a flag that nobody owned."""
        self._by_flag[flag] = channel
        channel.flag = flag
        if flag != channel.relid:
            self._foreign |= 1 << flag

    def give_flag_up(self, channel: Channel) -> list[Channel]:
        """Nobody owns the channel's flag any more; returns who waited for it."""
        flag, channel.flag = channel.flag, 0
        self._by_flag[flag] = None
        self._foreign &= ~(1 << flag)
        return list(self.flag_waiters.pop(flag, ()))

    def wait_for_flag(self, channel: Channel, flag: int) -> None:
        """Remember that the channel's open needs this flag."""
        self.flag_waiters.setdefault(flag, {})[channel] = None


def _device(channel: Channel) -> Device:
    return channel.offer.interface_id, channel.offer.instance_id
