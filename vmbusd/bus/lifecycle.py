"""Lifecycle: what happens to one channel from its offer to its removal; opening and closing are in `opening`.

Every method is one event of `channels.TRANSITIONS` with its effects. Memory and relid are given back only
when the device, or the death of its process, said that no signal runs any more (docs/signal-protocol.md
section 6). RESCIND never waits. Source: OpenVMM vmbus_server/src/channels.rs.
"""

from typing import Final

from vmbusd.abi import device_link, messages
from vmbusd.bus import offering
from vmbusd.bus.channels import SLOT_OPEN, TRANSITIONS, WITHDRAWN, Channel, Event, State
from vmbusd.bus.gpadls import Gpadls
from vmbusd.bus.ids import event_connection_id
from vmbusd.bus.opening import Opening
from vmbusd.bus.outbox import Outbox
from vmbusd.bus.refusal import Kind, Refusal
from vmbusd.bus.registry import Registry
from vmbusd.bus.targets import Targets

_GUEST_IS_DONE: Final = frozenset(
    {
        State.CLOSING_CLIENT_RELEASE,
        State.OPENING_CLIENT_RELEASE,
        State.REVOKED_CLIENT_RELEASE,
        State.REOFFERED_CLIENT_RELEASE,
    }
)
_PARTED: Final = frozenset({State.REVOKED, State.REVOKED_CLIENT_RELEASE, State.REMOVED})
"""States of a channel without a device."""


class Lifecycle(Opening):
    """The events of all channels of a partition.

    Attributes: `connected`, whether there is a guest to tell; `offering`, whether it asked for offers;
    `ghosts`, by host link, channels that it is done with and that its process may still be signalling.
    """

    def __init__(self, outbox: Outbox, registry: Registry, gpadls: Gpadls, targets: Targets) -> None:
        super().__init__(outbox, registry, gpadls, targets)
        self.ghosts: dict[int, list[Channel]] = {}
        self.connected = False
        self.offering = False

    # Guest

    def offer(self, channel: Channel) -> None:
        """Let the guest know of a channel it does not know: slot first, then the message."""
        self._registry.assign(channel)
        channel.step(Event.OFFER)
        self._show_offer(channel)

    def close_primary(self, channel: Channel) -> None:
        """CLOSECHANNEL: with a primary go its subchannels (case 114). Raises Refusal like `close`."""
        self.close(channel)
        if channel.state is State.CLOSING:
            for subchannel in self._registry.subchannels(channel):
                self.withdraw(subchannel)

    def release(self, channel: Channel) -> None:
        """RELID_RELEASED. Raises Refusal while the channel opens, is open or reopens (cases 128-130)."""
        withdrawn = channel.state in WITHDRAWN
        channel.step(Event.RELEASE)
        self._released(channel, withdrawn=withdrawn)

    def reset(self, channel: Channel, *, everything: bool = False) -> None:
        """The connection ends: take the channel from the guest, without a message to it (cases 158-160).

        With `everything` also one that is reserved, and without waiting for one that opens (cases 166, 167).
        """
        before = channel.state
        if everything:
            self._keep(channel, None)
            if before in (State.OPENING, State.OPENING_CLIENT_RELEASE) and not channel.abandoned:
                channel.abandoned = True
                self.kept.add(channel)
                self._ask_close(channel)
        elif channel in self.kept:
            channel.reopen = None  # whoever asked for it leaves
            return
        if Event.RESET not in TRANSITIONS[before]:
            return
        channel.step(Event.RESET)
        if before in SLOT_OPEN:
            self.close_slot(channel)
        if before is State.OPEN:
            self._ask_close(channel)
        self._released(channel, withdrawn=before in WITHDRAWN)
        for subchannel in self._registry.subchannels(channel) if before is State.OPEN else ():
            self.reset(subchannel, everything=everything)
            self.withdraw(subchannel)
        if channel.socket:
            self.withdraw(channel)

    # Host

    def revoke(self, channel: Channel, *, acknowledged: bool) -> None:
        """The host withdraws the channel, or its link ended (then nothing is acknowledged; cases 101-102,
        123-127). A primary that is revoked takes its host's subchannels along (case 113)."""
        host = channel.host
        if acknowledged and not channel.withdrawn:
            for subchannel in self._registry.subchannels(channel):
                if subchannel.host == host and not subchannel.withdrawn:
                    self.revoke(subchannel, acknowledged=True)
        self._registry.unbind(channel)
        if channel.withdrawn:
            channel.withdrawn = False
            if acknowledged:
                self.ghosts[host].remove(channel)
                channel.ghosts.discard(host)
                self.settle(channel)
        else:
            has_device = channel.state not in WITHDRAWN | {State.REOFFERED_CLIENT_RELEASE}
            if not acknowledged and has_device and (channel.device_open or self._gpadls.at_device(channel)):
                self._haunt(channel, host)
            self._part(channel)
        if acknowledged:
            self._outbox.ask(host, device_link.Revoked(channel.offer.offer_id))

    def withdraw(self, channel: Channel) -> None:
        """The bus itself takes the channel away: RESCIND at once, and the host is to say Revoke, which also
        acknowledges that nothing of it signals any more (cases 114, 194)."""
        if channel.withdrawn or channel.state in _PARTED:
            return
        host, channel.withdrawn = channel.host, True
        if channel.state is State.OPEN:
            self._ask_close(channel)
        self._haunt(channel, host)
        self._part(channel)
        self._outbox.ask(host, device_link.Withdraw(channel.offer.offer_id))

    def _haunt(self, channel: Channel, host: int) -> None:
        """The host may still signal the channel, until it or its death says otherwise."""
        channel.ghosts.add(host)
        self.ghosts.setdefault(host, []).append(channel)

    def _part(self, channel: Channel) -> None:
        """The channel has no device any more; tell a guest that knows it."""
        before = channel.state
        if before in SLOT_OPEN:
            self.close_slot(channel)
        channel.device_open = channel.abandoned = False
        channel.forget_retarget()
        channel.reopen = channel.expires = None
        if not self.connected and channel in self.kept and Event.RESET in TRANSITIONS[before]:
            channel.step(Event.RESET)  # kept over an unload: there is no guest to tell
        self._keep(channel, None)
        channel.step(Event.REVOKE)
        if channel.state is State.REMOVED:
            self._registry.forget_key(channel)
            self._registry.remove(channel)
        else:
            self._outbox.show(channel)
        if channel.state is State.REVOKED:
            if before is not State.REOFFERED:
                self._gpadls.revoke(channel)
                self._outbox.send(messages.Rescind(channel.relid))
                self.settle(channel)
        elif channel.state is State.REVOKED_CLIENT_RELEASE:
            self._registry.forget_key(channel)
            self._gpadls.forget_all(channel)
            self.settle(channel)

    def reoffer(self, channel: Channel, offer: device_link.Offer, host: int) -> None:
        """A host offers the key of a channel that the guest has not released yet (case 126)."""
        channel.step(Event.REOFFER)
        channel.offer, channel.host = offer, host
        self._registry.bind(channel)
        self._outbox.show(channel)

    def host_dead(self, host: int) -> None:
        """The process is gone: nothing it did is still running."""
        for channel in self.ghosts.pop(host, []):
            channel.ghosts.discard(host)
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
            self.complete_close(channel)
            if channel.state is State.CLOSED and not self.connected:
                self.reset(channel)  # it was open as reserved, and its guest has left (case 187)
        elif channel.ghosts:
            return
        elif state in _GUEST_IS_DONE:
            if not channel.gpadls:
                self._drained(channel)
        elif state in WITHDRAWN and self._registry.chosen_flags and channel.flag:
            self.empty_slot(channel)

    def _drained(self, channel: Channel) -> None:
        """Guest, device and workers are done with the channel."""
        if channel.flag:
            self.empty_slot(channel)
        channel.step(Event.SETTLED)
        channel.ring = None
        if channel.state is State.CLOSED:
            if not self._registry.chosen_flags:
                self._registry.take_flag(channel, channel.relid)
            self._show_offer(channel)
            return
        self.kept.discard(channel)
        self.monitors.release(channel)
        self._registry.unassign(channel)
        if channel.state is State.REMOVED:
            self._registry.remove(channel)
        elif channel.abandoned:
            channel.abandoned = False
            if self.offering:
                self.offer(channel)

    def _released(self, channel: Channel, *, withdrawn: bool) -> None:
        self._outbox.show(channel)
        channel.forget_retarget()
        channel.reopen = None
        if withdrawn:
            self._gpadls.forget_all(channel)
        else:
            self._gpadls.release(channel)
        if channel.state is State.REVOKED_CLIENT_RELEASE:
            self._registry.forget_key(channel)
        self.settle(channel)

    def _show_offer(self, channel: Channel) -> None:
        """Slot, then OFFERCHANNEL."""
        self.monitors.assign(channel)
        channel.connection_id = event_connection_id(channel.relid)
        if channel.flag:
            self._fill_slot(channel)
        self._outbox.show(channel)
        self._outbox.send(offering.offer_message(channel, self.features))
