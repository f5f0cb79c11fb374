"""Lifecycle: what happens to one channel from its offer to its removal.

Every method is one event of `channels.TRANSITIONS` with its effects. Two rules hold throughout (spec/07
section 6): a slot that was closed is opened, emptied or given another channel only after the server saw its
claim free, and memory and relid are given back only when the device, or the death of its process, said that
no signal runs any more. RESCIND never waits.
"""

from typing import Final

from vmbusd.abi import device_link, messages
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.layout import NO_MONITOR
from vmbusd.bus.channels import SLOT_OPEN, TRANSITIONS, WITHDRAWN, Channel, Event, State
from vmbusd.bus.effects import EmptySlot, FillSlot, OpenSlot
from vmbusd.bus.gpadls import Gpadls
from vmbusd.bus.ids import event_connection_id
from vmbusd.bus.outbox import Outbox
from vmbusd.bus.refusal import Kind, Refusal
from vmbusd.bus.registry import Registry
from vmbusd.bus.targets import Targets

FLAGS_THAT_NEED: Final = {
    0x0002: int(messages.Feature.CONFIDENTIAL_CHANNELS),
    0x0004: int(messages.Feature.CONFIDENTIAL_CHANNELS),
    0x0008: int(messages.Feature.GPA_PINNING),
}
"""Offer flags that are only shown to a guest that negotiated the feature (case 042)."""

_DEVICE_OPENS: Final = frozenset({State.OPENING, State.OPENING_CLIENT_RELEASE})
_DEVICE_CLOSES: Final = frozenset({State.CLOSING, State.CLOSING_REOPEN, State.CLOSING_CLIENT_RELEASE})
_GUEST_IS_DONE: Final = frozenset(
    {
        State.CLOSING_CLIENT_RELEASE,
        State.OPENING_CLIENT_RELEASE,
        State.REVOKED_CLIENT_RELEASE,
        State.REOFFERED_CLIENT_RELEASE,
    }
)


class Lifecycle:
    """The events of all channels of a partition."""

    def __init__(self, outbox: Outbox, registry: Registry, gpadls: Gpadls, targets: Targets) -> None:
        self._outbox = outbox
        self._registry = registry
        self._gpadls = gpadls
        self._targets = targets
        self._ghosts: dict[int, list[Channel]] = {}
        self.features = 0

    # Guest

    def offer(self, channel: Channel) -> None:
        """Let the guest know of a channel it does not know: slot first, then the message."""
        self._registry.assign(channel)
        channel.step(Event.OFFER)
        self._show_offer(channel)

    def open(self, channel: Channel, message: messages.Open) -> None:
        """OPENCHANNEL (cases 054-066). Raises Refusal when the channel is not closed or closing."""
        if channel.state is not State.CLOSED:
            channel.step(Event.OPEN)
            if channel.state is State.CLOSING_REOPEN:
                channel.reopen = message
                self._outbox.show(channel)
            return
        try:
            if not self._targets.usable(message.target_vp):
                raise ProtocolError(f"VP {message.target_vp}")
            ring, downstream = message.ringbuffer_gpadlhandle, message.downstream_ringbuffer_pageoffset
            self._gpadls.ring(channel, ring, downstream)
        except ProtocolError:
            self._opened(channel, message.openid, messages.UNSUCCESSFUL)
            return
        channel.step(Event.OPEN)
        channel.openid, channel.ring = message.openid, ring
        channel.generation = self._registry.ids.new_generation(channel.flag)
        channel.device_open = True
        self._targets.set(channel, message.target_vp)
        self._outbox.add(OpenSlot(channel.flag, channel.relid, channel.generation))
        self._outbox.show(channel)
        request = device_link.Open(
            offer_id=channel.offer.offer_id,
            generation=channel.generation,
            relid=channel.relid,
            event_flag=channel.flag,
            connection_id=event_connection_id(channel.relid),
            target_vp=channel.target_vp,
            ring_gpadl=ring,
            downstream_page=downstream,
            user_data=message.userdata,
        )
        self._outbox.ask(channel.host, request)

    def close(self, channel: Channel) -> None:
        """CLOSECHANNEL; there is no answer. Raises Refusal unless the channel is open (cases 069, 070)."""
        channel.step(Event.CLOSE)
        if channel.state is State.CLOSING:
            channel.retarget = channel.next_target = None
            self._outbox.close_slot(channel)
            self._outbox.show(channel)
            self._ask_close(channel)

    def release(self, channel: Channel) -> None:
        """RELID_RELEASED. Raises Refusal while the channel opens, is open or reopens (cases 128-130)."""
        withdrawn = channel.state in WITHDRAWN
        channel.step(Event.RELEASE)
        self._released(channel, withdrawn=withdrawn)

    def reset(self, channel: Channel) -> None:
        """The connection ends: take the channel from the guest, without a message to it (cases 158-160)."""
        before = channel.state
        if Event.RESET not in TRANSITIONS[before]:
            return
        channel.step(Event.RESET)
        if before in SLOT_OPEN:
            self._outbox.close_slot(channel)
        if before is State.OPEN:
            self._ask_close(channel)
        self._released(channel, withdrawn=before in WITHDRAWN)

    # Host

    def opened(self, channel: Channel, message: device_link.Opened) -> None:
        """The device's answer to Open. Raises Refusal when it was not asked (cases 054, 055, 071)."""
        failed = bool(message.status & messages.FAILED_BIT)
        if channel.state not in _DEVICE_OPENS or message.generation != channel.generation:
            raise Refusal(Kind.STALE_ANSWER, f"Opened on relid {channel.relid}: {channel.state.name}")
        channel.step(Event.OPEN_FAILED if failed else Event.OPENED)
        channel.device_open = not failed
        if channel.state is State.CLOSING_CLIENT_RELEASE:
            self._outbox.show(channel)
            if not failed:
                self._ask_close(channel)
            self.settle(channel)
            return
        if failed:
            self._outbox.close_slot(channel)
        self._outbox.show(channel)
        self._opened(channel, channel.openid, messages.UNSUCCESSFUL if failed else messages.SUCCESS)

    def closed(self, channel: Channel, message: device_link.Closed) -> None:
        """The device's answer to Close. Raises Refusal when it was not asked (case 071)."""
        asked = channel.device_open and channel.state in _DEVICE_CLOSES
        if not asked or message.generation != channel.generation:
            raise Refusal(Kind.STALE_ANSWER, f"Closed on relid {channel.relid}: {channel.state.name}")
        channel.device_open = False
        self.settle(channel)

    def revoke(self, channel: Channel, *, acknowledged: bool) -> None:
        """The host withdraws the channel, or its link ended (then nothing is acknowledged; cases 101-102,
        123-127)."""
        before, host = channel.state, channel.host
        has_device = before not in WITHDRAWN and before is not State.REOFFERED_CLIENT_RELEASE
        if not acknowledged and has_device and (channel.device_open or self._gpadls.at_device(channel)):
            channel.ghost = host
            self._ghosts.setdefault(host, []).append(channel)
        if before in SLOT_OPEN:
            self._outbox.close_slot(channel)
        channel.device_open = False
        channel.retarget = channel.next_target = channel.reopen = None
        self._registry.unbind(channel)
        channel.step(Event.REVOKE)
        if channel.state is State.REMOVED:
            self._registry.forget_key(channel)
            self._registry.remove(channel)
        else:
            self._outbox.show(channel)
        if channel.state is State.REVOKED:
            if has_device:
                self._gpadls.revoke(channel)
                self._outbox.send(messages.Rescind(channel.relid))
        elif channel.state is State.REVOKED_CLIENT_RELEASE:
            self._registry.forget_key(channel)
            self._gpadls.forget_all(channel)
            self.settle(channel)
        if acknowledged:
            self._outbox.ask(host, device_link.Revoked(channel.offer.offer_id))

    def reoffer(self, channel: Channel, offer: device_link.Offer, host: int) -> None:
        """A host offers the key of a channel that the guest has not released yet (case 126)."""
        channel.step(Event.REOFFER)
        channel.offer, channel.host = offer, host
        self._registry.bind(channel)
        self._outbox.show(channel)

    def host_dead(self, host: int) -> None:
        """The process is gone: nothing it did is still running."""
        for channel in self._ghosts.pop(host, []):
            channel.ghost = None
            self.settle(channel)

    # Server

    def claim_free(self, channel: Channel, generation: int) -> None:
        """No callback of `generation` runs any more. Raises Refusal when nobody waited for it."""
        if not generation or channel.claim != generation:
            raise Refusal(Kind.STALE_ANSWER, f"claim of flag {channel.flag} in generation {generation}")
        channel.claim = 0
        self.settle(channel)

    def settle(self, channel: Channel) -> None:
        """Something that was waited for has happened: go on where nothing is left to wait for."""
        if channel.held:
            self._gpadls.retry(channel)
        if channel.claim or channel.device_open:
            return
        state = channel.state
        if state is State.CLOSING or state is State.CLOSING_REOPEN:
            self._closed(channel)
        elif state in _GUEST_IS_DONE and channel.ghost is None and not channel.gpadls:
            self._drained(channel)

    def _closed(self, channel: Channel) -> None:
        channel.step(Event.SETTLED)
        channel.ring = None
        self._outbox.show(channel)
        if channel.reopen is not None:
            request, channel.reopen = channel.reopen, None
            self.open(channel, request)

    def _drained(self, channel: Channel) -> None:
        """Guest, device and workers are done with the channel."""
        self._outbox.add(EmptySlot(channel.flag, channel.relid))
        channel.step(Event.SETTLED)
        channel.ring = None
        if channel.state is State.CLOSED:
            self._show_offer(channel)
            return
        self._registry.unassign(channel)
        if channel.state is State.REMOVED:
            self._registry.remove(channel)

    def _released(self, channel: Channel, *, withdrawn: bool) -> None:
        self._outbox.show(channel)
        channel.retarget = channel.next_target = channel.reopen = None
        if withdrawn:
            self._gpadls.forget_all(channel)
        else:
            self._gpadls.release(channel)
        if channel.state is State.REVOKED_CLIENT_RELEASE:
            self._registry.forget_key(channel)
        self.settle(channel)

    def _show_offer(self, channel: Channel) -> None:
        """Slot, then OFFERCHANNEL."""
        offer = channel.offer
        flags = offer.chn_flags
        for flag, feature in FLAGS_THAT_NEED.items():
            if not self.features & feature:
                flags &= ~flag
        connection_id = event_connection_id(channel.relid)
        slot = FillSlot(
            flag=channel.flag,
            relid=channel.relid,
            host=channel.host,
            connection_id=connection_id,
            monitor_id=NO_MONITOR,
            flags=flags,
            interface_id=offer.interface_id,
            instance_id=offer.instance_id,
            subchannel_index=offer.subchannel_index,
        )
        message = messages.Offer(
            if_type=offer.interface_id,
            if_instance=offer.instance_id,
            reserved1=0,
            reserved2=0,
            chn_flags=flags,
            mmio_megabytes=offer.mmio_megabytes,
            user_defined=offer.user_defined,
            sub_channel_index=offer.subchannel_index,
            mmio_megabytes_optional=offer.mmio_megabytes_optional,
            child_relid=channel.relid,
            monitorid=NO_MONITOR,
            monitor_allocated=0,
            is_dedicated_interrupt=1,
            connection_id=connection_id,
        )
        self._outbox.add(slot)
        self._outbox.show(channel)
        self._outbox.send(message)

    def _ask_close(self, channel: Channel) -> None:
        self._outbox.ask(channel.host, device_link.Close(channel.offer.offer_id, channel.generation))

    def _opened(self, channel: Channel, openid: int, status: int) -> None:
        self._outbox.send(messages.OpenResult(channel.relid, openid, status))
