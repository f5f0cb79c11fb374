"""Judging channels: which fields of a saved channel can go together, by state.

`RULES` says what a channel of each state may have; the rest are generators of what is wrong, a field and a
text each, so that nothing is put into words for a channel that is right. A channel that waits must wait for
something that is under way. Source: `channels.TRANSITIONS`, `opening`, `lifecycle`, `gpadls`.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from vmbusd.abi.device_link import encode
from vmbusd.abi.errors import UsageError
from vmbusd.abi.gpadl import MAX_BUFFER, WORD, pages_spanned
from vmbusd.abi.layout import FLAGS, NO_MONITOR, NO_TARGET, PAGE
from vmbusd.bus.channels import GUEST_KNOWS, NO_HOST, SLOT_OPEN, WITHDRAWN, State
from vmbusd.bus.gpadls import GpadlState
from vmbusd.bus.ids import MONITOR_IDS
from vmbusd.bus.negotiation import SINTS
from vmbusd.bus.offering import objection
from vmbusd.bus.saved import SavedChannel, SavedGpadl

Wrong = Iterator[tuple[str, str]]
"""Fields that cannot be, and why."""

USER_DATA: Final = 120
"""Bytes of user data of an open."""
_S: Final = State
_G: Final = GpadlState
_NONE: Final[frozenset[GpadlState]] = frozenset()
_LIVE: Final = frozenset({_G.IN_PROGRESS, _G.OFFERED, _G.ACCEPTED, _G.TEARING_DOWN, _G.HELD})
_NO_DEVICE: Final = frozenset({_G.IN_PROGRESS, _G.ACCEPTED, _G.HELD})
_LEAVING: Final = frozenset({_G.OFFERED_TEARING_DOWN, _G.TEARING_DOWN})


class Rule(NamedTuple):
    """What a channel of one state may have.

    `device_open`: True or False where it must be so, None where it may be either; `claim`: one may be
    watched; `ghosts`: there may be some; `reserved`: it may be; `gpadls`: the states they may be in.
    """

    device_open: bool | None
    claim: bool
    ghosts: bool
    reserved: bool
    gpadls: frozenset[GpadlState]


RULES: Final = {
    _S.CLIENT_RELEASED: Rule(False, False, False, False, _NONE),
    _S.CLOSED: Rule(False, False, False, False, _LIVE),
    _S.OPENING: Rule(True, False, False, True, _LIVE),
    _S.OPEN: Rule(True, False, False, True, _LIVE),
    _S.CLOSING: Rule(None, True, False, True, _LIVE),
    _S.CLOSING_REOPEN: Rule(None, True, False, True, _LIVE),
    _S.REVOKED: Rule(False, True, True, False, _NO_DEVICE),
    _S.REOFFERED: Rule(False, True, True, False, _NO_DEVICE),
    _S.CLOSING_CLIENT_RELEASE: Rule(None, True, True, False, _LEAVING),
    _S.OPENING_CLIENT_RELEASE: Rule(True, True, False, False, _LEAVING),
    _S.REVOKED_CLIENT_RELEASE: Rule(False, True, True, False, _NONE),
    _S.REOFFERED_CLIENT_RELEASE: Rule(False, True, True, False, _NONE),
    _S.REMOVED: Rule(False, False, True, False, _NONE),
}

_NO_RELID: Final = frozenset({_S.CLIENT_RELEASED, _S.REMOVED})
_PARTED: Final = frozenset({_S.REVOKED, _S.REVOKED_CLIENT_RELEASE, _S.REMOVED})
_LETS_GO: Final = frozenset({_S.CLOSING_CLIENT_RELEASE, _S.OPENING_CLIENT_RELEASE, _S.REVOKED_CLIENT_RELEASE})
"""States at whose end the event flag is empty: a reset does not wait for them (case 167)."""
_WITHOUT_GUEST: Final = (GUEST_KNOWS | {_S.REOFFERED_CLIENT_RELEASE}) - {_S.CLOSING}
"""States that only a reserved channel can be in without a connection; one whose open failed is closing."""


class Around(NamedTuple):
    """What a channel is judged by beside itself.

    `connected`: there is a connection; `queues`: a MODIFYCHANNEL may wait for another; `chosen_flags`: the
    guest names flags at open; `generations`: by event flag; `owners`: by event flag, place of the channel;
    `absent`: VPs without worker; `ghosts`, `waits`: by place, host links and event flags; `deadlines`:
    (seconds, place).
    """

    vps: int
    connected: bool
    queues: bool
    chosen_flags: bool
    generations: Sequence[int]
    owners: dict[int, int]
    absent: frozenset[int]
    ghosts: dict[int, set[int]]
    waits: dict[int, set[int]]
    deadlines: set[tuple[float, int]]


def wrong_with(channel: SavedChannel, place: int, around: Around) -> Wrong:
    """All that cannot be with the channel at this place."""
    rule = RULES[channel.state]
    yield from _offer(channel, place, around)
    yield from _numbers(channel, around)
    yield from _open(channel, rule, around)
    yield from _under_way(channel, place, around)
    for number, gpadl in enumerate(channel.gpadls):
        for field, text in _gpadl(gpadl, channel, rule, around.ghosts.get(place)):
            yield f"gpadls[{number}].{field}", text
    if channel.gpadls or channel.held:
        held = {gpadl.handle for gpadl in channel.gpadls if gpadl.state is _G.HELD}
        if len({gpadl.handle for gpadl in channel.gpadls}) != len(channel.gpadls):
            yield "gpadls", "a handle twice"
        if set(channel.held) != held or len(channel.held) != len(held):
            yield "held", f"{channel.held}, held are {sorted(held)}"


def _offer(channel: SavedChannel, place: int, around: Around) -> Wrong:
    offer, host, parted = channel.offer, channel.host, channel.state in _PARTED
    try:
        encode(offer)
    except UsageError as error:
        yield "offer", str(error)
        return
    if text := objection(offer):
        yield "offer.monitor_id", text
    if channel.withdrawn != (parted and host != NO_HOST):
        yield "withdrawn", f"{channel.withdrawn} with host {host} in {channel.state.name}"
    if not parted and host == NO_HOST:
        yield "host", f"none in {channel.state.name}"
    if channel.state is _S.REMOVED and host == NO_HOST:
        yield "state", "a channel that is gone for everybody"
    if channel.withdrawn and host not in around.ghosts.get(place, ()):
        yield "withdrawn", f"nothing is awaited of host {host}"
    if channel.expires is not None:
        if not channel.socket or parted:
            yield "expires", f"no socket that may be opened: {channel.state.name}"
        elif (channel.expires, place) not in around.deadlines:
            yield "expires", f"nobody looks at it at {channel.expires}"


def _numbers(channel: SavedChannel, around: Around) -> Wrong:
    relid, flag, state = channel.relid, channel.flag, channel.state
    if relid >= FLAGS or (relid == 0) != (state in _NO_RELID):
        yield "relid", f"{relid} in {state.name}"
    if flag >= FLAGS or (flag and not relid):
        yield "flag", f"{flag} of relid {relid}"
    if not flag and relid and not around.chosen_flags:
        yield "flag", f"relid {relid} has none"
    if state is _S.CLOSED and flag != (0 if around.chosen_flags else relid):
        yield "flag", f"{flag} of a closed channel"
    if flag not in (0, relid) and not around.chosen_flags and state not in _LETS_GO:
        yield "flag", f"{flag} of relid {relid}, and the guest names none"
    if (channel.record is None) != (flag == 0):
        yield "record", f"of event flag {flag}"
    if channel.target_vp >= around.vps and channel.target_vp != NO_TARGET:
        yield "target_vp", f"VP {channel.target_vp} of {around.vps}"
    if flag and channel.target_vp in around.absent:
        yield "target_vp", f"VP {channel.target_vp} has no worker"
    monitored = channel.monitor_id != NO_MONITOR
    if monitored and (channel.monitor_id >= MONITOR_IDS or not relid):
        yield "monitor_id", f"{channel.monitor_id} of relid {relid}"
    if channel.owns_monitor_id and not monitored:
        yield "owns_monitor_id", "there is none"
    if channel.armed and not (
        monitored and state in SLOT_OPEN and channel.reserved is None and channel.target_vp != NO_TARGET
    ):
        yield "armed", f"monitor id {channel.monitor_id} in {state.name}"


def _open(channel: SavedChannel, rule: Rule, around: Around) -> Wrong:
    state, flag, generation, claim = channel.state, channel.flag, channel.generation, channel.claim
    if rule.device_open not in (None, channel.device_open):
        yield "device_open", f"{channel.device_open} in {state.name}"
    if claim and not (rule.claim and claim == generation and flag):
        yield "claim", f"generation {claim} in {state.name}, the last is {generation}"
    if channel.device_open and not generation:
        yield "generation", f"never opened in {state.name}"
    if state in SLOT_OPEN or claim:
        last = around.generations[flag] if flag < len(around.generations) else 0
        if not flag or last != generation:
            yield "generation", f"{generation}, the last of event flag {flag} is {last}"
    if state in SLOT_OPEN and channel.ring is None:
        yield "ring", f"none in {state.name}"
    opened = channel.opened
    if (opened is not None) != (state is _S.OPENING):
        yield "opened", f"in {state.name}"
    if opened is not None and (opened.ring, opened.reserved) != (channel.ring, channel.reserved):
        yield "opened", "differs from the channel"
    for field, request in (("opened", opened), ("reopen", channel.reopen)):
        if request is not None:
            if len(request.user_data) != USER_DATA:
                yield f"{field}.user_data", f"{len(request.user_data)} bytes"
            yield from _reserved(f"{field}.reserved", request.reserved, around)
    yield from _reserved("reserved", channel.reserved, around)
    if channel.reserved is not None and not rule.reserved:
        yield "reserved", f"in {state.name}"
    if channel.abandoned and state not in (_S.CLOSING_CLIENT_RELEASE, _S.OPENING_CLIENT_RELEASE):
        yield "abandoned", f"in {state.name}"
    if state in _WITHOUT_GUEST and channel.reserved is None and not around.connected:
        yield "state", f"{state.name} without a connection"
    yield from _retarget(channel, around)


def _reserved(field: str, reserved: tuple[int, int] | None, around: Around) -> Wrong:
    if reserved is not None and not (reserved[0] < around.vps and 0 < reserved[1] < SINTS):
        yield field, f"VP {reserved[0]} SINT {reserved[1]}"


def _retarget(channel: SavedChannel, around: Around) -> Wrong:
    vps, follows = channel.retarget, channel.next_target
    if vps is not None and (
        channel.state is not _S.OPEN
        or channel.reserved is not None
        or channel.target_vp == NO_TARGET
        or max(vps) >= around.vps
    ):
        yield "retarget", f"to VP {vps[0]} from {vps[1]} in {channel.state.name}"
    if follows is not None and (
        vps is None or follows >= around.vps or not (around.queues or channel.unasked)
    ):
        yield "next_target", f"VP {follows}"
    if channel.unasked and vps is None:
        yield "unasked", "without a retarget"


def _under_way(channel: SavedChannel, place: int, around: Around) -> Wrong:
    """What the channel waits for must be able to come."""
    state, flag, reopen = channel.state, channel.flag, channel.reopen
    closing = bool(channel.claim) or channel.device_open
    ghosts = bool(around.ghosts.get(place))
    if ghosts and not RULES[state].ghosts:
        yield "state", f"{state.name}, and host {min(around.ghosts[place])} may still be signalling"
    waits = closing or ghosts
    if state is _S.CLOSING:
        waits = closing
    elif state is _S.CLOSING_REOPEN:
        wanted = (reopen.flag or channel.relid) if reopen is not None else 0
        owner = around.owners.get(wanted, place)
        waits = closing if flag else owner != place and wanted in around.waits.get(place, ())
    elif state is _S.CLOSING_CLIENT_RELEASE:
        waits = waits or bool(channel.gpadls)
    elif state in WITHDRAWN:
        waits = waits or not (flag and around.chosen_flags)
    elif state not in (_S.REVOKED_CLIENT_RELEASE, _S.REOFFERED_CLIENT_RELEASE):
        waits = True
    if not waits:
        yield "state", f"{state.name}, and nothing is under way"
    if reopen is not None and state is not _S.CLOSING_REOPEN:
        yield "reopen", f"in {state.name}"
    if reopen is None and state is _S.CLOSING_REOPEN and channel.reserved is None:
        yield "reopen", "nobody asked for it"
    if state is _S.CLOSING_REOPEN and reopen is not None and not around.connected:
        yield "reopen", "without a connection"


def _gpadl(gpadl: SavedGpadl, channel: SavedChannel, rule: Rule, ghosts: set[int] | None) -> Wrong:
    state, assembly = gpadl.state, gpadl.assembly
    if state not in rule.gpadls:
        yield "state", f"{state.name} of a channel in {channel.state.name}"
    if state is _G.HELD and not (
        ghosts or (gpadl.handle == channel.ring and (channel.claim or channel.device_open))
    ):
        yield "state", "HELD, and nobody can touch its memory"
    if (assembly is not None) != (state is _G.IN_PROGRESS):
        yield "assembly", f"in {state.name}"
    if (gpadl.pages == 0) != (state is _G.IN_PROGRESS):
        yield "pages", f"{gpadl.pages} in {state.name}"
    if assembly is not None:
        came, missing = len(assembly.buffer), assembly.missing
        if not missing or missing % WORD or came % WORD or came + missing > MAX_BUFFER:
            yield "assembly", f"{came} bytes came, {missing} are missing"
    if gpadl.ring is not None:
        count, offset = gpadl.ring
        if not count or offset >= PAGE or pages_spanned(count, offset) != gpadl.pages:
            yield "ring", f"{count} bytes at offset {offset} in {gpadl.pages} pages"
