"""Devices of several channels, sans-IO: which offers are taken, subchannels, and what an application drops.

A subchannel belongs to the device whose interface and instance it has. It is closed with its device, before
the primary (case 117); a rescind removes it at once if it is not open, else when the close of the primary
reaches it (case 119), and nobody is asked before its relid is released. An offer with an index whose device
nobody knows is a device of its own (case 122).
Sources: Linux 6.1 channel_mgmt.c vmbus_process_offer and vmbus_onoffer_rescind, channel.c
vmbus_disconnect_ring; OpenVMM vmbus_client for what is dropped.
"""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from guest_client import actions, versions
from guest_client.actions import Action
from guest_client.entries import Entry
from guest_client.operations import Operations
from guest_client.phases import Event, Phase
from guest_client.spread import Spread
from vmbusd.abi import layout, messages
from vmbusd.abi.errors import ChannelGone, VmbusError


class Devices(Operations):
    """The devices of one connection."""

    def __init__(self, options: versions.Options) -> None:
        super().__init__()
        self.options = options
        self._spread = Spread(options.vps, options.slow)
        self._devices: dict[tuple[Any, ...], int] = {}
        """(interface, instance) -> relid of the primary."""

    def spread_over(self, vps: int, slow: Collection[UUID] = ()) -> None:
        """Channels offered from now on go to VPs 0 .. `vps` - 1, those of `slow` interfaces to VP 0."""
        self._spread = Spread(vps, slow)

    def subchannels(self, relid: int) -> list[int]:
        """The relids of the subchannels of `relid`, in the order of their offers."""
        return list(self.channels[relid].subchannels) if relid in self.channels else []

    def drop(self, relid: int) -> list[Action]:
        """The application has let go of this channel for good: it is closed on its behalf, once it is open if
        it is being opened, and released as soon as it is rescinded (cases 080, 138)."""
        entry = self.channels.get(relid)
        if entry is None or self._lost is not None:
            return []
        entry.dropped = True
        if entry.phase is Phase.GONE:
            self._release(relid)
        elif entry.phase is Phase.OPEN:
            self._begin_close(relid, entry)
        elif entry.phase in (Phase.CREATING, Phase.OPENING):
            entry.unwanted = True
        return self._flush()

    def close_once_open(self, relid: int) -> bool:
        """Close a channel that is being opened as soon as it is open. False for any other."""
        entry = self.channels.get(relid)
        if entry is None or entry.phase not in (Phase.CREATING, Phase.OPENING):
            return False
        entry.unwanted = True
        return True

    # -- offers ---------------------------------------------------------------------------------------------

    def _take_offer(self, message: messages.Offer, *, answers: bool = False) -> bool:
        """A channel exists now, unless the offer cannot be or is not wanted; then it is refused."""
        relid = message.child_relid
        entry = Entry(message)
        primary = 0 if entry.is_socket else self._primary_of(entry)
        allowed = self.options.interfaces
        wrong = (
            (not 1 <= relid <= layout.MAX_RELID, "out of range"),
            (relid in self.channels, "in use"),
            # Sockets are for whoever asks or listens for them.
            (allowed is not None and message.if_type not in allowed and not entry.is_socket, "not allowed"),
            (entry.key in self._keys, f"and {message.if_instance} exists already"),
            (primary and not message.sub_channel_index, f"and {message.if_instance} has a primary"),
        )
        for is_so, why in wrong:
            if is_so:
                self._refuse("Offer", f"relid {relid} was offered {why}")
                return False
        siblings = [primary, *self.subchannels(primary)] if primary else []
        entry.primary = primary
        entry.vp = self._spread.choose(message.if_type, [self.channels[other].vp for other in siblings])
        self.channels[relid] = entry
        if primary:
            self.channels[primary].subchannels.append(relid)
        elif not entry.is_socket:
            self._devices[entry.device] = relid
        self._keys.add(entry.key)
        self._out.append(actions.Offered(message, primary, entry.vp, answers))
        return True

    def _primary_of(self, new: Entry) -> int:
        """The relid of the living device that a new channel belongs to, 0 if there is none."""
        relid = self._devices.get(new.device, 0)
        return relid if relid and self.channels[relid].is_living else 0

    def _release(self, relid: int) -> None:
        self._unlink(relid, self.channels[relid])
        super()._release(relid)

    def _unlink(self, relid: int, entry: Entry) -> None:
        """The relid may soon mean another channel: nothing of the device points to it any more."""
        if self._devices.get(entry.device) == relid:
            del self._devices[entry.device]
        if entry.primary in self.channels:
            self.channels[entry.primary].subchannels.remove(relid)
        for other in entry.subchannels:
            self.channels[other].primary = 0

    # -- subchannels ----------------------------------------------------------------------------------------

    def _next_subchannel(self, relid: int) -> bool:
        for other in self.subchannels(relid):
            entry = self.channels[other]
            if entry.phase in (Phase.OFFERED, Phase.GONE, Phase.STUCK):
                continue
            if entry.phase is Phase.OPEN:
                self._begin_close(other, entry)
            elif entry.phase is Phase.STRANDED:
                self._take_away(other, entry)
            else:
                entry.unwanted = True
            return True
        return False

    def _rested(self, entry: Entry) -> None:
        primary = self.channels.get(entry.primary)
        if primary is None or primary.phase is not Phase.DRAINING:
            return
        if not self._next_subchannel(entry.primary):
            self._close(entry.primary, primary)

    def _on_rescind(self, message: messages.Rescind) -> None:
        relid = message.child_relid
        entry = self.channels.get(relid)
        if entry is None or not entry.is_living:
            self._refuse("Rescind", f"{message} names no channel of this guest")
            return
        primary = self.channels.get(entry.primary)
        if (
            entry.phase is Phase.OPEN
            and primary is not None
            and primary.phase in (Phase.OPEN, Phase.DRAINING)
        ):
            entry.step(Event.STRAND)
            self._keys.discard(entry.key)
            self._out.append(actions.Detach(relid))
            self._fail_retargets(entry, ChannelGone(f"relid {relid} was rescinded"))
            return
        for other in self.subchannels(relid):
            if self.channels[other].phase is Phase.STRANDED:
                self._take_away(other, self.channels[other])
        self._take_away(relid, entry)

    # -- messages that could not be sent --------------------------------------------------------------------

    def _open_unposted(self, message: Any, error: VmbusError) -> None:
        """A part of the GPADL, or the open itself: the open fails, and what the host has of it goes."""
        relid, entry = self._with_gpadl(getattr(message, "ringbuffer_gpadlhandle", 0) or message.gpadl)
        if entry is not None and entry.phase is Phase.CREATING:
            self._back_to_offered(relid, entry, Event.UNSENT, error)
        elif entry is not None and entry.phase is Phase.OPENING:
            entry.failure = error
            entry.step(Event.UNSENT)
            self._tear_down(relid, entry)

    def _close_unposted(self, message: Any, error: VmbusError) -> None:
        """A close or its teardown: the host still has the rings, so their memory is kept (case 078)."""
        entry = self.channels.get(message.child_relid)
        if entry is None or entry.phase not in (Phase.CLOSING, Phase.TEARING):
            return
        entry.close_sent = entry.phase is Phase.TEARING
        entry.step(Event.UNSENT)
        self._tearing.pop(entry.gpadl, None)
        self._fail(entry, error)
        self._finish_closers(entry, error)
        self._rested(entry)

    def _retarget_unposted(self, message: messages.ModifyChannel, error: VmbusError) -> None:
        entry = self.channels.get(message.child_relid)
        if entry is not None and entry.retargets:
            self._end_retarget(message.child_relid, entry, error)

    def _with_gpadl(self, handle: int) -> tuple[int, Entry | None]:
        found = ((relid, entry) for relid, entry in self.channels.items() if entry.gpadl == handle)
        return next(found, (0, None))
