"""Monitor ids: which channel has which bit of the monitor page, and which bits are armed.

A channel gets an id when it is offered and pages are in use; the bit is armed only while the channel is open
with interrupts and not reserved (cases 299-302). Sources: OpenVMM vmbus_server/src/monitor.rs, Linux
6.1 hyperv_vmbus.h.
"""

from vmbusd.abi.device_link import OfferFlag
from vmbusd.abi.layout import NO_MONITOR, NO_TARGET
from vmbusd.bus.channels import Channel
from vmbusd.bus.effects import ArmMonitor, DisarmMonitor
from vmbusd.bus.ids import MonitorIds
from vmbusd.bus.outbox import Outbox

_MONITORED = int(OfferFlag.MONITORED)


class Monitors:
    """Monitor ids of a partition.

    Attributes: `active`, monitor pages are in use; `armed`, how many bits signal a device.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._ids = MonitorIds()
        self._ours: set[Channel] = set()
        self.active = False
        self.armed = 0

    def assign(self, channel: Channel) -> None:
        """Give a channel that is offered now the id it asks for, or any; without pages or ids none."""
        self.release(channel)
        offer = channel.offer
        if not self.active or not offer.flags & _MONITORED:
            return
        if offer.monitor_id != NO_MONITOR:
            channel.monitor_id = offer.monitor_id  # a relay's: not ours to count (case 300)
            return
        taken = self._ids.take()
        if taken is not None:
            channel.monitor_id = taken
            self._ours.add(channel)

    def release(self, channel: Channel) -> None:
        """The guest does not know the channel any more."""
        if channel in self._ours:
            self._ours.remove(channel)
            self._ids.give_back(channel.monitor_id)
        channel.monitor_id = NO_MONITOR

    def owns(self, channel: Channel) -> bool:
        """Is its monitor id one of ours to give to somebody else, once the channel is gone?"""
        return channel in self._ours

    def reinstate(self, channel: Channel, *, owned: bool) -> None:
        """A channel of a saved bus."""
        if owned:
            self._ids.claim(channel.monitor_id)
            self._ours.add(channel)
        self.armed += channel.armed

    def arm(self, channel: Channel) -> None:
        """The channel opens."""
        wanted = channel.monitor_id != NO_MONITOR and self.active
        if not wanted or channel.reserved is not None or channel.target_vp == NO_TARGET:
            return
        channel.armed = True
        self.armed += 1
        self._outbox.add(ArmMonitor(channel.monitor_id, channel.flag, channel.host, channel.connection_id))

    def disarm(self, channel: Channel) -> None:
        """The channel's open ends."""
        if channel.armed:
            channel.armed = False
            self.armed -= 1
            self._outbox.add(DisarmMonitor(channel.monitor_id))
