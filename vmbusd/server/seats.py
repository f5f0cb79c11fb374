"""A VP as the daemon knows it: its seat, who sits there, and what its guest is told of orders.

What a guest is told follows from the inputs alone, so that a replay numbers the same packets again. Source:
docs/signal-protocol.md section 5, docs/sockets.md.
"""

import asyncio
import enum
from dataclasses import dataclass
from typing import Protocol

from vmbusd.abi import link
from vmbusd.server.inputs import SeatSet, VpOrdered
from vmbusd.server.peer import Peer


class VpState(enum.IntEnum):
    """State of a VP, as the owner words of the table show it (enum vmb_vp_state)."""

    VACANT = 0
    """No worker; bits wait for one."""
    ONLINE = 1
    OFFLINE = 2
    """Retired: no channel targets it, its bits were handed over."""
    LEAVING = 3
    """Its worker was asked to leave, or lost its link, and its process still lives."""


class Occupant(Protocol):
    """The worker link of a VP."""

    peer: Peer

    def catch_up(self) -> None:
        """Take in what has happened to the link already and nobody has looked at yet."""

    def ask_to_detach(self) -> None:
        """Send Detach."""


@dataclass(slots=True)
class Seat:
    """One VP. `asked`: its worker was asked to leave; `told_offline`: the bus was told that it has none, or
    will have none; `unplugged`: it is to be offline, by order; `overdue`: it is to be retired as soon as a VP
    can take its bits; `handed_over`: it is offline, and its channels and bits are at another."""

    vp: int
    state: VpState = VpState.VACANT
    worker: Occupant | None = None
    incarnation: int = 0
    grace: asyncio.TimerHandle | None = None
    overdue: bool = False
    recoveries: int = 0
    redelivered: int = 0
    asked: bool = False
    told_offline: bool = False
    unplugged: bool = False
    handed_over: bool = False

    def record(self) -> SeatSet:
        """What of it must survive the daemon."""
        occupied = self.worker is not None
        return SeatSet(
            self.vp,
            self.state,
            self.incarnation,
            occupied,
            self.asked,
            self.recoveries,
            self.redelivered,
            self.handed_over,
        )


def changed_by(order: VpOrdered, seat: SeatSet | None) -> link.VpChanged:
    """What the guest is told of an order to a VP with this seat, None if there is no such VP."""
    state = VpState(seat.state) if seat is not None else VpState.VACANT
    if not order.refused:
        if order.online:
            state = VpState.ONLINE
        elif seat is None or not seat.handed_over:
            state = VpState.LEAVING
    return link.VpChanged(order.vp, state, order.tag, order.refused.encode())
