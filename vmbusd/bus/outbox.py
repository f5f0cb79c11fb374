"""Outbox: the effects of the input that is being handled, in the order in which they must happen."""

import msgspec

from vmbusd.abi import wire
from vmbusd.abi.device_link import ToHost
from vmbusd.abi.layout import SINT
from vmbusd.bus.channels import Channel
from vmbusd.bus.effects import AskHost, CloseSlot, Effect, SendToGuest, SetState


class Outbox:
    """Effects being collected. Attribute: `vp`, the virtual processor that gets the guest's messages."""

    __slots__ = ("_effects", "vp")

    def __init__(self) -> None:
        self._effects: list[Effect] = []
        self.vp = 0

    def add(self, effect: Effect) -> None:
        """Append an effect."""
        self._effects.append(effect)

    def send(self, message: msgspec.Struct, *, vp: int | None = None, sint: int = SINT) -> None:
        """Send the guest a message, on the connection's VP unless another is named."""
        self._effects.append(SendToGuest(wire.encode(message), self.vp if vp is None else vp, sint))

    def ask(self, host: int, message: ToHost) -> None:
        """Send a host link a device message."""
        self._effects.append(AskHost(host, message))

    def show(self, channel: Channel) -> None:
        """Let the record show the channel's state."""
        self._effects.append(SetState(channel.relid, channel.state))

    def close_slot(self, channel: Channel) -> None:
        """End the callbacks of the current generation; from now on its claim is watched."""
        channel.claim = channel.generation
        self._effects.append(CloseSlot(channel.flag, channel.relid, channel.generation))

    def take(self) -> list[Effect]:
        """All effects so far; the outbox is empty again."""
        effects, self._effects = self._effects, []
        return effects
