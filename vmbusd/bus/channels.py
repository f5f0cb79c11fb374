"""A channel as the host sees it: its states, what each event does to them, and the data that goes with it.

`TRANSITIONS` decides what is legal; an event without an entry is refused. The first ten states are OpenVMM's
(vmbus_server/src/channels.rs). The last two exist because a relid is reused only when the
claim of its last open was seen free and the host that could still be signalling has answered or is dead
(docs/signal-protocol.md section 6): between the guest's release and that moment a withdrawn channel waits in
them.
"""

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from vmbusd.abi.device_link import Offer
from vmbusd.abi.layout import NO_MONITOR, NO_TARGET
from vmbusd.bus.effects import FillSlot
from vmbusd.bus.refusal import Kind, Refusal

if TYPE_CHECKING:
    from vmbusd.bus.gpadls import Gpadl

NO_HOST: Final = -1
"""`Channel.host` of a withdrawn channel."""


class State(enum.IntEnum):
    """What the host knows about a channel; the numbers stand in the shared record."""

    CLIENT_RELEASED = 0  # the guest does not know it; no relid, no slot
    CLOSED = 1  # offered
    OPENING = 2  # the device was asked to open
    OPEN = 3
    CLOSING = 4  # the device lets go, the claim becomes free
    CLOSING_REOPEN = 5  # the same, or its event flag is still another's, and the guest asked to open
    REVOKED = 6  # withdrawn, the guest has not released it
    REOFFERED = 7  # the device is back, the guest has not released it
    CLOSING_CLIENT_RELEASE = 8  # the guest is done, device or claim are not
    OPENING_CLIENT_RELEASE = 9  # the guest is done, the device still owes its answer to open
    REVOKED_CLIENT_RELEASE = 10  # withdrawn and released, claim or old host are not done
    REOFFERED_CLIENT_RELEASE = 11  # the same, and the device is back
    REMOVED = 12  # gone


class Event(enum.IntEnum):
    """What can happen to a channel."""

    OFFER = enum.auto()  # it is offered to the guest
    OPEN = enum.auto()  # guest
    WAIT = enum.auto()  # the guest opens it, and the last open of the event flag is not complete
    CLOSE = enum.auto()  # guest
    RELEASE = enum.auto()  # guest: RELID_RELEASED
    RESET = enum.auto()  # the connection ends
    OPENED = enum.auto()  # device
    OPEN_FAILED = enum.auto()  # device
    SETTLED = enum.auto()  # nothing of the last open is left
    REVOKE = enum.auto()  # the host withdraws it
    REOFFER = enum.auto()  # a host offers the same key again


_S: Final = State
_E: Final = Event

TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    _S.CLIENT_RELEASED: {_E.OFFER: _S.CLOSED, _E.REVOKE: _S.REMOVED},
    _S.CLOSED: {
        _E.OPEN: _S.OPENING,
        _E.WAIT: _S.CLOSING_REOPEN,
        _E.RELEASE: _S.CLOSING_CLIENT_RELEASE,
        _E.RESET: _S.CLOSING_CLIENT_RELEASE,
        _E.REVOKE: _S.REVOKED,
    },
    _S.OPENING: {
        _E.OPENED: _S.OPEN,
        _E.OPEN_FAILED: _S.CLOSING,
        _E.RESET: _S.OPENING_CLIENT_RELEASE,
        _E.REVOKE: _S.REVOKED,
    },
    _S.OPEN: {_E.CLOSE: _S.CLOSING, _E.RESET: _S.CLOSING_CLIENT_RELEASE, _E.REVOKE: _S.REVOKED},
    _S.CLOSING: {
        _E.OPEN: _S.CLOSING_REOPEN,
        _E.SETTLED: _S.CLOSED,
        _E.RELEASE: _S.CLOSING_CLIENT_RELEASE,
        _E.RESET: _S.CLOSING_CLIENT_RELEASE,
        _E.REVOKE: _S.REVOKED,
    },
    _S.CLOSING_REOPEN: {
        _E.SETTLED: _S.CLOSED,
        _E.RESET: _S.CLOSING_CLIENT_RELEASE,
        _E.REVOKE: _S.REVOKED,
    },
    _S.REVOKED: {
        _E.OPEN: _S.REVOKED,
        _E.CLOSE: _S.REVOKED,
        _E.RELEASE: _S.REVOKED_CLIENT_RELEASE,
        _E.RESET: _S.REVOKED_CLIENT_RELEASE,
        _E.REOFFER: _S.REOFFERED,
    },
    _S.REOFFERED: {
        _E.OPEN: _S.REOFFERED,
        _E.CLOSE: _S.REOFFERED,
        _E.RELEASE: _S.REOFFERED_CLIENT_RELEASE,
        _E.RESET: _S.CLOSING_CLIENT_RELEASE,
        _E.REVOKE: _S.REVOKED,
    },
    _S.CLOSING_CLIENT_RELEASE: {_E.SETTLED: _S.CLIENT_RELEASED, _E.REVOKE: _S.REVOKED_CLIENT_RELEASE},
    _S.OPENING_CLIENT_RELEASE: {
        _E.OPENED: _S.CLOSING_CLIENT_RELEASE,
        _E.OPEN_FAILED: _S.CLOSING_CLIENT_RELEASE,
        _E.REVOKE: _S.REVOKED_CLIENT_RELEASE,
    },
    _S.REVOKED_CLIENT_RELEASE: {_E.SETTLED: _S.REMOVED},
    _S.REOFFERED_CLIENT_RELEASE: {
        _E.SETTLED: _S.CLOSED,
        _E.RESET: _S.CLOSING_CLIENT_RELEASE,
        _E.REVOKE: _S.REVOKED_CLIENT_RELEASE,
    },
    _S.REMOVED: {},
}

GUEST_KNOWS: Final = frozenset(State(number) for number in range(State.CLOSED, State.REOFFERED + 1))
"""States in which a relid in a guest's message means this channel."""
WITHDRAWN: Final = frozenset({State.REVOKED, State.REOFFERED})
"""States in which the guest still knows the channel and no device stands behind it."""
SLOT_OPEN: Final = frozenset({State.OPENING, State.OPEN})


class OpenRequest(msgspec.Struct, frozen=True):
    """An open as the guest asked for it, whichever message it used.

    `flag` and `connection_id` are 0 where the guest named none; `reserved` is the (VP, SINT) to answer when
    the channel is opened as reserved.
    """

    openid: int
    ring: int
    target_vp: int
    downstream_page: int
    user_data: bytes = bytes(120)
    flag: int = 0
    connection_id: int = 0
    flags: int = 0
    reserved: tuple[int, int] | None = None


@dataclass(slots=True, eq=False)
class Channel:
    """One offer, from the host's Offer to its removal. All times are counted in messages, not seconds."""

    offer: Offer
    host: int
    state: State = State.CLIENT_RELEASED
    relid: int = 0
    flag: int = 0
    """The event flag whose slot is the channel's; 0: none now."""
    filled: FillSlot | None = None
    """What the slot was last filled with, while the channel has one."""
    connection_id: int = 0
    monitor_id: int = NO_MONITOR
    armed: bool = False
    """The monitor bit signals the device."""
    generation: int = 0
    target_vp: int = NO_TARGET
    opened: OpenRequest | None = None
    """The current or last open."""
    ring: int | None = None
    """GPADL handle of the rings of the current or last open."""
    claim: int = 0
    """Generation whose claim the server still watches; 0: none."""
    device_open: bool = False
    """The device was asked to open and has neither refused nor closed."""
    ghosts: set[int] = field(default_factory=set)
    """Host links that are done with the channel while their processes may still be signalling it."""
    reserved: tuple[int, int] | None = None
    """VP and SINT of who opened, or now closes, the channel as reserved."""
    reserved_in: tuple[int, int] | None = None
    """Version and features of the connection in which it was: it outlives that."""
    abandoned: bool = False
    """The bus was reset while the device owed its answer to open: that answer counts for nothing."""
    withdrawn: bool = False
    """The bus withdrew it; its host has not said Revoke yet."""
    socket: bool = False
    """A socket: it does not outlive the connection."""
    expires: float | None = None
    """When the guest must have opened it."""
    reopen: OpenRequest | None = None
    retarget: tuple[int, int] | None = None
    """A retarget under way: new VP, old VP."""
    unasked: bool = False
    """The guest did not ask for it: the retarget under way is the administrator's."""
    next_target: int | None = None
    """The newest VP that the guest asked for meanwhile: below 5.3 (case 150), or while `unasked`."""
    gpadls: "dict[int, Gpadl]" = field(default_factory=dict)
    held: "list[Gpadl]" = field(default_factory=list)
    """GPADLs whose GPADL_TORNDOWN waits for the claim or for the host."""

    @property
    def key(self) -> tuple[UUID, UUID, int]:
        """What makes an offer unique (case 040)."""
        return self.offer.interface_id, self.offer.instance_id, self.offer.subchannel_index

    @property
    def order(self) -> tuple[int, int, int, int]:
        """The order in which offers are listed and given relids; GUIDs compare as numbers (case 037)."""
        offer = self.offer
        return offer.interface_id.int, offer.order, offer.instance_id.int, offer.subchannel_index

    @property
    def absolute_order(self) -> tuple[int, int, int, int]:
        """The same with the order first (case 038)."""
        offer = self.offer
        return offer.order, offer.interface_id.int, offer.instance_id.int, offer.subchannel_index

    def step(self, event: Event) -> None:
        """Take the transition. Raises Refusal when the event is not legal in this state."""
        try:
            self.state = TRANSITIONS[self.state][event]
        except KeyError:
            raise Refusal(
                Kind.WRONG_STATE, f"{event.name} of channel {self.relid}: {self.state.name}"
            ) from None

    def forget_retarget(self) -> None:
        """Whatever moves the channel, its open is over: nobody is answered."""
        self.retarget = self.next_target = None
        self.unasked = False

    def memory_in_use(self, handle: int) -> bool:
        """May somebody still touch the memory of this GPADL although its device gave it back?"""
        return bool(self.ghosts) or (handle == self.ring and (self.claim != 0 or self.device_open))

    def view(self) -> "ChannelView":
        """The channel for status."""
        return ChannelView(
            relid=self.relid,
            flag=self.flag,
            state=self.state.name.lower(),
            target_vp=self.target_vp,
            host=self.host,
            interface=self.offer.interface_id,
            instance=self.offer.instance_id,
            subchannel=self.offer.subchannel_index,
            generation=self.generation,
        )


class ChannelView(msgspec.Struct, frozen=True):
    """A channel for status: relid and flag are 0 while the guest has none, host is -1 if withdrawn."""

    relid: int
    flag: int
    state: str
    target_vp: int
    host: int
    interface: UUID
    instance: UUID
    subchannel: int
    generation: int
