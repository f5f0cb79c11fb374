"""The control process's connection: what a guest and its channels ask of it, each call a future.

How it is carried out stands in `machine`.
"""

import contextlib
from collections import Counter
from copy import copy
from typing import Any
from uuid import UUID

from guest_client import versions
from guest_client.actions import Action
from guest_client.calls import Call, begun, finished
from guest_client.channel import Channel
from guest_client.machine import Machine
from guest_client.phases import Phase
from vmbusd.abi import layout, link
from vmbusd.abi.errors import ChannelGone, LinkClosed, UsageError, VmbusError


class Connection(Machine):
    """One guest's control link. Attributes as `Machine`."""

    # -- the connection ------------------------------------------------------------------------------------

    def contact(self) -> Call:
        """Negotiate; the future fails with RefusedError when there is no common version."""
        return self._begin(self._client.contact)

    def request_offers(self, vps: int) -> None:
        """Ask for the offers; channels are spread over VPs 0 .. `vps` - 1."""
        slow = [driver.interface for driver in self._drivers.values() if driver.slow]
        self._client.spread_over(vps, slow)
        self._perform(self._client.request_offers)

    def unload(self) -> Call:
        """End the connection: when the future is done no callback runs and the host has closed everything.

        Below 3.0 the host is not told, so that only closing every channel first makes that true.
        """
        return self._begin(self._client.unload)

    @property
    def everything(self) -> list[Channel]:
        """Every channel, also those of a suspended guest."""
        with self._lock:
            return [*self.channels.values(), *(channel for channel, _ in self._asleep.values())]

    @property
    def tells_of_its_end(self) -> bool:
        """Whether the host is told by `unload`."""
        return self._client.version >= versions.HAS_UNLOAD

    def crash(self) -> Call:
        """As `unload`, from any state and at most for CRASH_WAIT; the result is whether the host answered."""
        return self._begin(self._client.unload, crash=True)

    def close_devices(self) -> list[Call]:
        """Begin to close every device that is open, and its subchannels with it."""
        busy = (Phase.OPEN, Phase.DRAINING)
        with self._lock:
            entries = self._client.channels.items()
            found = [relid for relid, entry in entries if not entry.primary and entry.phase in busy]
        calls = []
        for relid in found:
            # One that another thread closes at this moment is closed all the same.
            with contextlib.suppress(UsageError):
                calls.append(self._begin(self._client.close, relid))
        return calls

    def suspend(self) -> Call:
        """Close everything and leave the host, to come back by `resume`."""
        with self._lock:
            entries = self._client.channels.items()
            self._open_before = {relid for relid, entry in entries if entry.phase is Phase.OPEN}
        return self._begin(self._client.suspend)

    def resume(self) -> Call:
        """Come back: done when the devices are there again, or were waited for."""
        return self._begin(self._client.resume)

    def pause(self) -> Call:
        """Have the host send nothing until `unpause` (6.0)."""
        return self._begin(self._client.pause)

    def unpause(self) -> None:
        """End a pause."""
        self._perform(self._client.unpause)

    def connect_socket(self, endpoint: UUID, service: UUID, silo: UUID | None) -> Call:
        """Connect to a service of the host; the result is the channel, which is yet to be opened."""
        return self._begin(self._client.connect_socket, endpoint, service, silo=silo)

    def release(self, channel: Channel) -> None:
        """The driver of a rescinded channel has let go."""
        self._perform(self._release, channel)

    def give_up(self, channel: Channel) -> None:
        """No device can be made of this channel: its relid is given back, now or once it is rescinded (case
        051)."""
        self._perform(self._give_up, channel)

    def close(self) -> None:
        """End the link. Channels that are open are closed by the daemon."""
        self._link.close(link.encode(link.Detached(0)))
        self._perform(self._client.lost, LinkClosed("this guest has let go of its link"))
        for channel in self.channels.values():
            channel.end(f"relid {channel.relid}: this guest has left")
        self.space.close()
        self.attached.close()

    def post(self, packet: bytes) -> None:
        """Send a packet of the link that is no channel message."""
        self._link.post(packet)

    # -- channels (channel.Control) ------------------------------------------------------------------------

    def begin_open(self, channel: Channel, target_vp: int | None, user_data: bytes) -> Call:
        """See `Channel.open`."""
        if channel.driver is None:
            raise UsageError(f"{channel!r} has no driver that says how large its rings are")
        if target_vp is not None and target_vp != layout.NO_TARGET:
            self._check_vp(target_vp)
        upstream, downstream = channel.driver.ring_pages
        count = upstream + downstream
        first = self._rings.make(upstream, downstream)
        call = begun()
        with self._lock:
            try:
                entry = self._known(channel)
                chosen = entry.vp if entry.vp != layout.NO_TARGET else 0
                happened = self._client.open(
                    channel.relid,
                    call,
                    pfns=range(first, first + count),
                    downstream=upstream,
                    target_vp=chosen if target_vp is None else target_vp,
                    user_data=user_data,
                )
            except BaseException:
                self._rings.memory.free(first)
                raise
            self._rings.give(channel.relid, first)
            channel.event_flag = entry.event_flag or channel.relid
            self.space.blocks.set_ring(channel.event_flag, first, count, upstream, entry.gpadl)
            channel.close_reason = ""
            channel.begin()
            channel.locate_ring()
            self._attached_callbacks.add(channel.relid)
            self._carry_out(happened)
        return call

    def begin_close(self, channel: Channel, reason: str) -> Call:
        """See `Channel.close`."""
        with self._lock:
            if self.channels.get(channel.relid) is not channel:
                return finished()
            before = channel.close_reason
            # First: whoever sees that the slot is closed may ask why.
            channel.close_reason = before or reason
            try:
                return self._begin(self._client.close, channel.relid)
            except VmbusError:
                channel.close_reason = before
                raise

    def end_soon(self, channel: Channel, reason: str) -> None:
        """Close a channel without waiting for it; one that is being opened, as soon as it is open."""
        with self._lock:
            if self._is_current(channel) and self._client.close_once_open(channel.relid):
                channel.close_reason = channel.close_reason or reason
            else:
                self.begin_close(channel, reason)

    def begin_retarget(self, channel: Channel, vp: int) -> Call:
        """See `Channel.retarget`. The same VP again sends nothing (case 152)."""
        self._check_vp(vp)
        if channel.driver is not None and channel.driver.pinned:
            raise UsageError(f"{channel!r}: its driver is pinned, it cannot be moved")
        with self._lock:
            self._known(channel)
            return self._begin(self._client.retarget, channel.relid, vp, now=channel.target_vp)

    def reserve_pages(self, count: int) -> int:
        """See `Guest.reserve_pages`."""
        return self._rings.memory.allocate(count)

    def drop(self, channel: Channel) -> None:
        """See `Channel.drop`."""
        self._perform(self._drop, channel)

    def is_inside(self, channel: Channel) -> bool:
        """Whether the calling thread is running a callback of this very channel."""
        return self.space.feed.is_inside(channel)

    def open_channels(self) -> list[Channel]:
        """The channels that are open now."""
        with self._lock:
            opened = [relid for relid, entry in self._client.channels.items() if entry.phase is Phase.OPEN]
            return [self.channels[relid] for relid in opened]

    def callable_channels(self) -> list[Channel]:
        """The channels whose callbacks may run: the slot is open before we hear that the open is done, and
        until the daemon has heard of the close."""
        phases = (Phase.OPENING, Phase.OPEN, Phase.DRAINING, Phase.CLOSING)
        with self._lock:
            entries = self._client.channels.items()
            return [self.channels[relid] for relid, entry in entries if entry.phase in phases]

    def statistics(self) -> dict[str, Any]:
        """Version, channels by phase, packets, refused messages by kind, guest memory, host links."""
        with self._lock:
            phases = Counter(str(entry.phase) for entry in self._client.channels.values())
            return {
                "resumed": self._link.statistics()["resumed"],
                "state": str(self._client.state),
                "version": versions.text(self._client.version),
                "features": self._client.features,
                "channels": dict(phases),
                "refused": dict(self._refused),
                "link": self._link.statistics(),
                "memory": self._rings.memory.statistics(),
                "hosts": self.space.hosts.statistics(),
            }

    # -- the machine ---------------------------------------------------------------------------------------

    def _check_vp(self, vp: int) -> None:
        if not 0 <= vp < self.attached.welcome.vps:
            raise UsageError(f"VP {vp} is not one of the {self.attached.welcome.vps} of this partition")

    def _known(self, channel: Channel) -> Any:
        """The client's entry of a channel object that is not one of a relid's former lives."""
        if self.lost is not None:
            raise copy(self.lost)
        entry = self._client.channels.get(channel.relid)
        if entry is None or self.channels.get(channel.relid) is not channel:
            raise ChannelGone(f"relid {channel.relid} is gone")
        return entry

    def _is_current(self, channel: Channel) -> bool:
        return self.lost is None and self.channels.get(channel.relid) is channel

    def _release(self, channel: Channel) -> list[Action]:
        if not self._is_current(channel):
            return []
        happened = self._client.release(channel.relid)
        self._forget(channel.relid)
        return happened

    def _drop(self, channel: Channel) -> list[Action]:
        if not self._is_current(channel):
            return []
        happened = self._client.drop(channel.relid)
        if channel.relid not in self._client.channels:
            self._forget(channel.relid)
        return happened

    def _give_up(self, channel: Channel) -> list[Action]:
        entry = self._client.channels.get(channel.relid)
        unused = entry is not None and entry.phase is Phase.OFFERED
        return self._release(channel) if unused else self._drop(channel)
