"""Targets: which VP a channel's interrupts go to: by open, MODIFYCHANNEL, order or loss of a VP.

The table is changed first and the device asked after it; MODIFYCHANNEL_RESPONSE waits for the device,
because it promises that no event reaches the old VP any more (case 144, docs/signal-protocol.md section 5). A
retarget that the device refuses is taken back. What the administrator moves, the guest is not told: no
message says so, it finds its interrupts on another VP as it does when a VP goes offline. Sources: OpenVMM
channels.rs, Linux 6.1 channel.c.
"""

from collections.abc import Iterable

from vmbusd.abi import device_link, messages, wire
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.layout import NO_TARGET
from vmbusd.bus.channels import Channel, State
from vmbusd.bus.effects import SetTarget
from vmbusd.bus.outbox import Outbox
from vmbusd.bus.refusal import Kind, Refusal


class Targets:
    """The virtual processors of a partition and the channels that point at them.

    Args: `outbox`, where effects go; `vps`, how many virtual processors there are.
    Attributes: `version`, the one spoken last: what an open names and MODIFYCHANNEL answers depend on it;
    `stand_ins`, by VP without worker, the VP that has its channels.
    """

    def __init__(self, outbox: Outbox, vps: int) -> None:
        self._outbox = outbox
        self._vps = vps
        self.stand_ins: dict[int, int] = {}
        self.version = wire.NOT_CONNECTED

    def resolve(self, vp: int) -> int:
        """The VP that an open means by `vp`. Raises ProtocolError for one the guest does not have.

        NO_TARGET is an open without interrupts (case 064). Below 2.4 the word is something else, and every
        interrupt goes to VP 0 (OpenVMM channels.rs).
        """
        if vp != NO_TARGET and wire.NOT_CONNECTED < self.version < wire.V2_4:
            return 0
        if vp >= self._vps and vp != NO_TARGET:
            raise ProtocolError(f"VP {vp}, the guest has {self._vps}")
        return vp

    def set(self, channel: Channel, vp: int) -> None:
        """Point the channel at a VP, or at the one that stands in for it."""
        channel.target_vp = self.stand_ins.get(vp, vp)
        self._outbox.add(SetTarget(channel.relid, channel.target_vp))

    def modify(self, channel: Channel | None, message: messages.ModifyChannel) -> None:
        """MODIFYCHANNEL. Raises Refusal where no answer is due: a second one while one is under way, and
        every failure below 5.3 (cases 145-150)."""
        vp, answered = message.target_vp, self.version >= wire.V5_3
        if (
            channel is None
            or channel.state is not State.OPEN
            or channel.reserved is not None
            or channel.target_vp == NO_TARGET
            or vp >= self._vps
            or vp in self.stand_ins
        ):
            if not answered:
                raise Refusal(Kind.WRONG_STATE, f"MODIFYCHANNEL of relid {message.child_relid} to VP {vp}")
            self._respond(message.child_relid, messages.UNSUCCESSFUL)
        elif channel.retarget is None:
            self._start(channel, vp)
        elif not answered or (channel.unasked and channel.next_target is None):
            # The guest cannot know of one that it did not ask for, so its own is no violation: it waits.
            channel.next_target = vp
        else:
            raise Refusal(Kind.WRONG_STATE, f"MODIFYCHANNEL of relid {channel.relid} while one is under way")

    def retargeted(self, channel: Channel, message: device_link.Retargeted) -> None:
        """The device's answer to Retarget. Raises Refusal when it was not asked, or asked in another open."""
        under_way = channel.retarget
        if under_way is None or message.generation != channel.generation or message.vp != under_way[0]:
            raise Refusal(Kind.STALE_ANSWER, f"Retargeted on relid {channel.relid} to VP {message.vp}")
        unasked, channel.retarget, channel.unasked = channel.unasked, None, False
        failed = bool(message.status & messages.FAILED_BIT)
        if failed:
            self.set(channel, under_way[1])
        if self.version >= wire.V5_3 and not unasked:
            self._respond(channel.relid, messages.UNSUCCESSFUL if failed else messages.SUCCESS)
        if channel.next_target is not None:
            self._start(channel, channel.next_target)

    def objection(self, channel: Channel, vp: int) -> str:
        """Why the administrator cannot move a channel to a VP; empty if he can."""
        relid = channel.relid
        if channel.state is not State.OPEN:
            return f"relid {relid} is {channel.state.name.lower().replace('_', ' ')}, not open"
        if channel.target_vp == NO_TARGET:
            return f"relid {relid} is open without interrupts"
        if not 0 <= vp < self._vps:
            return f"VP {vp}: the partition has {self._vps}"
        if vp in self.stand_ins:
            return f"VP {vp} is offline"
        if self.version < wire.V2_4 and vp != self.stand_ins.get(0, 0):
            return f"at version {self.version >> 16}.{self.version & 0xFFFF} every interrupt goes to VP 0"
        if channel.retarget is not None:
            return f"relid {relid} is being moved to VP {channel.retarget[0]} already"
        return ""

    def move(self, channel: Channel, vp: int) -> None:
        """The administrator's retarget, to which there is no objection."""
        if channel.target_vp != vp:
            self._start(channel, vp)
            channel.unasked = True

    def offline(self, vp: int, live: int, channels: Iterable[Channel]) -> None:
        """VP `vp` has no worker any more and `live` stands in for it."""
        for absent, stand_in in self.stand_ins.items():
            if stand_in == vp:
                self.stand_ins[absent] = live
        self.stand_ins[vp] = live
        for channel in channels:
            if channel.flag and channel.target_vp == vp:
                self.set(channel, live)

    def online(self, vp: int) -> None:
        """VP `vp` is served again; channels that were moved away stay where they are."""
        self.stand_ins.pop(vp, None)

    def _start(self, channel: Channel, vp: int) -> None:
        channel.retarget = vp, channel.target_vp
        channel.next_target = None
        self.set(channel, vp)
        request = device_link.Retarget(channel.offer.offer_id, channel.generation, vp)
        self._outbox.ask(channel.host, request)

    def _respond(self, relid: int, status: int) -> None:
        self._outbox.send(messages.ModifyChannelResponse(relid, status))
