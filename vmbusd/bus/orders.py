"""Orders: what the administrator of a partition may do to a channel, and why he sometimes may not.

An order that cannot be carried out changes nothing; whoever gives it asks for the objection first and passes
it on. The guest learns of a rescind by RESCIND, of a retarget not at all: no message of the host says so.
"""

from vmbusd.bus.channels import WITHDRAWN, Channel
from vmbusd.bus.effects import Refused
from vmbusd.bus.lifecycle import Lifecycle
from vmbusd.bus.outbox import Outbox
from vmbusd.bus.refusal import Kind
from vmbusd.bus.registry import Registry
from vmbusd.bus.targets import Targets


class Orders:
    """The administrator's orders to one partition."""

    def __init__(self, outbox: Outbox, registry: Registry, targets: Targets, lifecycle: Lifecycle) -> None:
        self._outbox = outbox
        self._registry = registry
        self._targets = targets
        self._lifecycle = lifecycle

    def objection_to_retarget(self, relid: int, vp: int) -> str:
        """Why `retarget` would be refused; empty if it would not."""
        channel = self._registry.find(relid)
        return _unknown(relid) if channel is None else self._targets.objection(channel, vp)

    def retarget(self, relid: int, vp: int) -> None:
        """Move an open channel's interrupts: the table first, then its host is asked."""
        channel = self._registry.find(relid)
        if channel is None or self._targets.objection(channel, vp):
            self._outbox.add(Refused(Kind.WRONG_STATE, self.objection_to_retarget(relid, vp)))
        else:
            self._targets.move(channel, vp)

    def is_moving(self, relid: int) -> bool:
        """Whether the host still owes its answer to a retarget of this channel."""
        channel = self._registry.find(relid)
        return channel is not None and channel.retarget is not None

    def target(self, relid: int) -> int | None:
        """The VP that the channel's interrupts go to now, None when there is no such channel."""
        channel = self._registry.find(relid)
        return None if channel is None else channel.target_vp

    def stand_in(self, vp: int) -> int | None:
        """The VP that has the channels of an offline one, None if it is not offline."""
        return self._targets.stand_ins.get(vp)

    def objection_to_rescind(self, relid: int) -> str:
        """Why `rescind` would be refused; empty if it would not."""
        channel = self._registry.find(relid)
        if channel is None:
            return _unknown(relid)
        return f"relid {relid} is rescinded already" if _is_withdrawn(channel) else ""

    def rescind(self, relid: int) -> None:
        """Take a channel from the guest, and a primary's subchannels before it: RESCIND at once, and the host
        is to revoke the offer."""
        channel = self._registry.find(relid)
        if channel is None or _is_withdrawn(channel):
            self._outbox.add(Refused(Kind.WRONG_STATE, self.objection_to_rescind(relid)))
            return
        for subchannel in self._registry.subchannels(channel):
            self._lifecycle.withdraw(subchannel)
        self._lifecycle.withdraw(channel)


def _unknown(relid: int) -> str:
    return f"relid {relid}: the guest knows no such channel"


def _is_withdrawn(channel: Channel) -> bool:
    return channel.withdrawn or channel.state in WITHDRAWN
