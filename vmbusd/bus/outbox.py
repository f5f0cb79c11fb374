"""Outbox: the effects of the input that is being handled, in the order in which they must happen.

Messages to the guest are held back, in order, while the guest paused them or the transport cannot take them
(cases 291, 292). Nothing else is: memory and devices do not wait for a slow guest. What can be held back is
bounded: guest messages are refused or wait meanwhile, and a channel cannot be offered twice without them.
"""

import msgspec

from vmbusd.abi import wire
from vmbusd.abi.device_link import ToHost
from vmbusd.abi.layout import SINT
from vmbusd.bus.channels import Channel
from vmbusd.bus.effects import AskHost, CloseSlot, Effect, SendToGuest, SetState


class Outbox:
    """Effects being collected.

    Attributes: `vp`, the virtual processor that gets the guest's messages; `paused`, the guest asked for
    silence; `blocked`, the transport is full.
    """

    __slots__ = ("_effects", "_held", "blocked", "paused", "vp")

    def __init__(self) -> None:
        self._effects: list[Effect] = []
        self._held: list[Effect] = []
        self.vp = 0
        self.paused = False
        self.blocked = False

    def add(self, effect: Effect) -> None:
        """Append an effect."""
        self._effects.append(effect)

    def send(self, message: msgspec.Struct) -> None:
        """Send the guest a message on the connection's VP."""
        effects = self._held if self.paused or self.blocked else self._effects
        effects.append(SendToGuest(wire.encode(message), self.vp, SINT))

    def send_to(self, message: msgspec.Struct, vp: int, sint: int, *, may_drop: bool = False) -> None:
        """Send a message to a VP and SINT of its own; it neither waits nor is it waited for (case 185)."""
        self._effects.append(SendToGuest(wire.encode(message), vp, sint, may_drop))

    def flow(self) -> None:
        """Let out what was held back, unless there is still a reason to hold it."""
        if self._held and not (self.paused or self.blocked):
            self._effects += self._held
            self._held = []

    def drop_held(self) -> None:
        """Nobody is there any more to get what was held back."""
        self._held.clear()

    def ask(self, host: int, message: ToHost, pages: tuple[int, ...] = ()) -> None:
        """Send a host link a device message that names these pages of guest memory."""
        self._effects.append(AskHost(host, message, pages))

    def show(self, channel: Channel) -> None:
        """Let the record show the channel's state, if it has one."""
        if channel.flag:
            self._effects.append(SetState(channel.relid, channel.state))

    def close_slot(self, channel: Channel) -> None:
        """End the callbacks of the current generation; from now on its claim is watched."""
        channel.claim = channel.generation
        self._effects.append(CloseSlot(channel.flag, channel.relid, channel.generation))

    def take(self) -> list[Effect]:
        """All effects so far; the outbox is empty again."""
        effects = self._effects
        self._effects = []
        return effects
