"""Opening: a channel's way from closed to open and back, also as reserved and with flags the guest chose.

One rule stands above all (docs/signal-protocol.md section 6): a slot that was closed is opened, emptied or
given another channel only after the server saw its claim free and the device answered. An open that names an
event flag whose last open is not complete therefore waits for it. Sources: OpenVMM channels.rs, cases
054-072, 179-188.
"""

import abc
from typing import Final

from vmbusd.abi import device_link, messages
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.layout import FLAGS, NO_TARGET
from vmbusd.bus import offering
from vmbusd.bus.channels import SLOT_OPEN, Channel, Event, OpenRequest, State
from vmbusd.bus.effects import EmptySlot, OpenSlot
from vmbusd.bus.gpadls import Gpadls
from vmbusd.bus.ids import event_connection_id
from vmbusd.bus.monitors import Monitors
from vmbusd.bus.outbox import Outbox
from vmbusd.bus.refusal import Kind, Refusal
from vmbusd.bus.registry import Registry
from vmbusd.bus.targets import Targets

_DEVICE_OPENS: Final = frozenset({State.OPENING, State.OPENING_CLIENT_RELEASE})
_DEVICE_CLOSES: Final = frozenset({State.CLOSING, State.CLOSING_REOPEN, State.CLOSING_CLIENT_RELEASE})
_SIGNALS: Final = int(messages.Feature.GUEST_SIGNAL_PARAMETERS)
_REDIRECTS: Final = int(messages.Feature.INTERRUPT_REDIRECTION)


def open_request(message: messages.Open | messages.Open2, features: int) -> OpenRequest:
    """What OPENCHANNEL asks; the added words count only with their feature (cases 061-063)."""
    flag = connection_id = flags = 0
    if isinstance(message, messages.Open2):
        if features & _SIGNALS:
            flag, connection_id = message.event_flag, message.connection_id
        if features & _REDIRECTS:
            flags = message.open_flags & device_link.REDIRECT_INTERRUPT
    return OpenRequest(
        openid=message.openid,
        ring=message.ringbuffer_gpadlhandle,
        target_vp=message.target_vp,
        downstream_page=message.downstream_ringbuffer_pageoffset,
        user_data=message.userdata,
        flag=flag,
        connection_id=connection_id,
        flags=flags,
    )


class Opening(abc.ABC):
    """Open and close of all channels of a partition.

    Attributes: `features`, of the connection; `kept`, channels that an unload does not wait for.
    """

    def __init__(self, outbox: Outbox, registry: Registry, gpadls: Gpadls, targets: Targets) -> None:
        self._outbox = outbox
        self._registry = registry
        self._gpadls = gpadls
        self._targets = targets
        self.monitors = Monitors(outbox)
        self.features = 0
        self.kept: set[Channel] = set()

    @abc.abstractmethod
    def settle(self, channel: Channel) -> None:
        """Something that was waited for has happened."""

    # Guest

    def open(self, channel: Channel, request: OpenRequest) -> None:
        """OPENCHANNEL (cases 054-066). Raises Refusal when the channel is not closed or closing."""
        if channel.state is not State.CLOSED:
            channel.step(Event.OPEN)
            if channel.state is State.CLOSING_REOPEN:
                channel.reopen = request
                self._outbox.show(channel)
            return
        flag = request.flag or channel.relid
        try:
            target = self._targets.resolve(request.target_vp)
            self._gpadls.ring(channel, request.ring, request.downstream_page)
            owner = self._owner(flag)
        except ProtocolError:
            self._result(channel, request, messages.UNSUCCESSFUL)
            return
        if owner is not None and owner is not channel:
            channel.step(Event.WAIT)
            channel.reopen = request
            self._registry.wait_for_flag(channel, flag)
            return
        channel.step(Event.OPEN)
        self._keep(channel, request.reserved)
        channel.expires = None
        channel.opened, channel.ring = request, request.ring
        channel.connection_id = request.connection_id or event_connection_id(channel.relid)
        if owner is None:
            self._registry.take_flag(channel, flag)
            self._fill_slot(channel)
        channel.generation = self._registry.ids.new_generation(flag, channel.generation)
        channel.device_open = True
        self._targets.set(channel, target)
        self._outbox.add(OpenSlot(flag, channel.relid, channel.generation))
        self.monitors.arm(channel)
        self._outbox.show(channel)
        self._ask_open(channel, request)

    def _owner(self, flag: int) -> Channel | None:
        """Who has an event flag. Raises ProtocolError for one that is no flag or in use."""
        if not 0 < flag < FLAGS:
            raise ProtocolError(f"event flag {flag}")
        owner = self._registry.with_flag(flag)
        if owner is not None and owner.state in SLOT_OPEN:
            raise ProtocolError(f"event flag {flag} is in use")
        return owner

    def _ask_open(self, channel: Channel, request: OpenRequest) -> None:
        message = device_link.Open(
            offer_id=channel.offer.offer_id,
            generation=channel.generation,
            relid=channel.relid,
            event_flag=channel.flag,
            connection_id=channel.connection_id,
            target_vp=channel.target_vp,
            ring_gpadl=request.ring,
            downstream_page=request.downstream_page,
            user_data=request.user_data,
            flags=request.flags,
        )
        self._outbox.ask(channel.host, message)

    def open_reserved(self, channel: Channel, message: messages.OpenReserved) -> None:
        """A debugger opens the channel, without interrupts (case 179). Raises Refusal unless it is closed."""
        if channel.state is not State.CLOSED:
            raise Refusal(Kind.WRONG_STATE, f"OPEN_RESERVED of channel {channel.relid}: {channel.state.name}")
        request = OpenRequest(
            openid=0,
            ring=message.ringbuffer_gpadlhandle,
            target_vp=NO_TARGET,
            downstream_page=message.downstream_ringbuffer_pageoffset,
            reserved=(message.target_vp, message.target_sint),
        )
        self.open(channel, request)

    def close(self, channel: Channel) -> None:
        """CLOSECHANNEL; there is no answer. Raises Refusal unless the channel is open, and for a reserved one
        (cases 069, 070, 180)."""
        if channel.reserved is not None:
            raise Refusal(Kind.WRONG_STATE, f"CLOSECHANNEL of reserved channel {channel.relid}")
        channel.step(Event.CLOSE)
        if channel.state is State.CLOSING:
            self._close(channel)

    def close_reserved(self, channel: Channel, message: messages.CloseReserved) -> None:
        """The debugger is done; it is answered where it says now (case 182). Raises Refusal unless the
        channel is open as reserved."""
        if channel.reserved is None or channel.state is not State.OPEN:
            raise Refusal(Kind.WRONG_STATE, f"CLOSE_RESERVED of channel {channel.relid}: not reserved")
        channel.step(Event.CLOSE)
        channel.reserved = message.target_vp, message.target_sint
        self._close(channel)

    def _close(self, channel: Channel) -> None:
        channel.forget_retarget()
        self.close_slot(channel)
        self._outbox.show(channel)
        self._ask_close(channel)

    # Device

    def opened(self, channel: Channel, message: device_link.Opened) -> None:
        """The device's answer to Open. Raises Refusal when it was not asked (cases 054, 055, 071)."""
        failed = bool(message.status & messages.FAILED_BIT)
        if channel.state not in _DEVICE_OPENS or message.generation != channel.generation:
            raise Refusal(Kind.STALE_ANSWER, f"Opened on relid {channel.relid}: {channel.state.name}")
        if channel.abandoned and not failed:
            return  # it was asked to close meanwhile, and that answer counts (case 167)
        channel.step(Event.OPEN_FAILED if failed else Event.OPENED)
        channel.device_open = not failed
        if channel.state is State.CLOSING_CLIENT_RELEASE:
            self._outbox.show(channel)
            if not failed:
                self._ask_close(channel)
            self.settle(channel)
            return
        if failed:
            self.close_slot(channel)
        self._outbox.show(channel)
        assert channel.opened is not None
        self._result(channel, channel.opened, messages.UNSUCCESSFUL if failed else messages.SUCCESS)
        if failed:
            self._keep(channel, None)

    def closed(self, channel: Channel, message: device_link.Closed) -> None:
        """The device's answer to Close. Raises Refusal when it was not asked (case 071)."""
        asked = channel.device_open and (channel.state in _DEVICE_CLOSES or channel.abandoned)
        if not asked or message.generation != channel.generation:
            raise Refusal(Kind.STALE_ANSWER, f"Closed on relid {channel.relid}: {channel.state.name}")
        if channel.state in _DEVICE_OPENS:
            channel.step(Event.OPEN_FAILED)
            self._outbox.show(channel)
        channel.device_open = False
        self.settle(channel)

    # Ends

    def close_slot(self, channel: Channel) -> None:
        """No callback and no monitor bit of this open any more."""
        self.monitors.disarm(channel)
        self._outbox.close_slot(channel)

    def _fill_slot(self, channel: Channel) -> None:
        """The channel's record and slot as they are now; nobody is interrupted until an open names a VP."""
        channel.target_vp = NO_TARGET
        channel.filled = offering.fill_slot(channel, self.features)
        self._outbox.add(channel.filled)

    def empty_slot(self, channel: Channel) -> None:
        """Nothing is left of the open: the flag is free, and whoever waited for it may go on."""
        channel.filled = None
        self._outbox.add(EmptySlot(channel.flag, channel.relid))
        for waiter in self._registry.give_flag_up(channel):
            self.settle(waiter)

    def complete_close(self, channel: Channel) -> None:
        """Device and workers are done with the open."""
        channel.step(Event.SETTLED)
        channel.ring = None
        self._outbox.show(channel)
        if channel.reserved is not None:
            vp, sint = channel.reserved
            self._keep(channel, None)
            response = messages.CloseReservedResponse(channel.relid)
            self._outbox.send_to(response, vp, sint, may_drop=True)
        if self._registry.chosen_flags and channel.flag:
            self.empty_slot(channel)
        if channel.reopen is not None:
            request, channel.reopen = channel.reopen, None
            self.open(channel, request)

    def _keep(self, channel: Channel, reserved: tuple[int, int] | None) -> None:
        channel.reserved = reserved
        if reserved is None:
            channel.reserved_in = None
            self.kept.discard(channel)
        else:
            channel.reserved_in = self._targets.version, self.features
            self.kept.add(channel)

    def _ask_close(self, channel: Channel) -> None:
        self._outbox.ask(channel.host, device_link.Close(channel.offer.offer_id, channel.generation))

    def _result(self, channel: Channel, request: OpenRequest, status: int) -> None:
        message = messages.OpenResult(channel.relid, request.openid, status)
        if request.reserved is None:
            self._outbox.send(message)
        else:
            self._outbox.send_to(message, *request.reserved, may_drop=True)
