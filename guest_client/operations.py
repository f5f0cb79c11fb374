"""One channel's part of the guest's protocol, sans-IO: open, close, retarget, rescind, release.

The phases and what leads from one to the next stand in `phases`; here is what each step does. CLOSING
and RESCINDED wait for `quiet`: only when the slot is closed and the claim free can no callback run, and only
then is the ring torn down or its memory freed. A rescind ends every operation of its channel: the answer may
never come (case 135). Sources: Linux 6.1 channel.c, channel_mgmt.c.
"""

import enum
from collections import deque
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from guest_client import actions
from guest_client.actions import Action
from guest_client.phases import PHASES, Event, Phase
from vmbusd.abi import gpadl, link, messages, wire
from vmbusd.abi.errors import ChannelGone, RefusedError, UsageError, VmbusError

FIRST_GPADL: Final = 0xE1E10
"""Linux counts its handles up from here; unique per connection, never 0 (case 107)."""
USER_DATA: Final = 120


class State(enum.StrEnum):
    """Of the connection."""

    DISCONNECTED = "disconnected"
    CONTACTING = "contacting"
    CONNECTED = "connected"
    UNLOADING = "unloading"


RESCINDED: Final = (Phase.RESCINDED, Phase.GONE)
_CLOSING: Final = (Phase.CLOSING, Phase.TEARING)


@dataclass(slots=True)
class Entry:
    """One channel. `opening` is set from an open's begin to its end, `failure` while it is being undone."""

    offer: messages.Offer
    phase: Phase = Phase.OFFERED
    gpadl: int = 0
    has_memory: bool = False
    opening: messages.Open | None = None
    opener: Any = None
    failure: Exception | None = None
    closers: list[Any] = field(default_factory=list)
    retargets: deque[tuple[int, Any]] = field(default_factory=deque)

    @property
    def key(self) -> tuple[Any, ...]:
        """What no two living channels share."""
        return (self.offer.if_type, self.offer.if_instance, self.offer.sub_channel_index)

    def may(self, event: Event) -> bool:
        """Can this happen to the channel now?"""
        return event in PHASES[self.phase]

    def step(self, event: Event) -> None:
        """It happened. Raises UsageError when it cannot."""
        if not self.may(event):
            raise UsageError(f"relid {self.offer.child_relid} is {self.phase}: no {event.name}")
        self.phase = PHASES[self.phase][event]


class Operations:
    """The channels of one connection. Every public call returns the actions it caused.

    Attributes: `state`, of the connection; `channels`, relid -> Entry, to be read only.
    """

    def __init__(self) -> None:
        self.state = State.DISCONNECTED
        self.channels: dict[int, Entry] = {}
        self._connection = link.MESSAGE_CONNECTION_MULTI_CLIENT
        self._keys: set[tuple[Any, ...]] = set()
        self._tearing: dict[int, int] = {}
        self._next_gpadl = FIRST_GPADL
        self._out: list[Action] = []
        self._lost: VmbusError | None = None

    # -- asked by the application --------------------------------------------------------------------------

    def open(
        self,
        relid: int,
        token: Any,
        *,
        pfns: Sequence[int],
        downstream: int,
        target_vp: int,
        user_data: bytes,
    ) -> list[Action]:
        """Create a GPADL of `pfns`, then open the channel on it; `downstream` is the page where its second
        ring starts. The handle is in `channels[relid].gpadl` before anything is sent.

        Raises UsageError for what can never be opened or not now, ChannelGone after a rescind (case 140).
        """
        entry = self._living(relid)
        if not entry.may(Event.OPEN):
            raise UsageError(f"relid {relid} is {entry.phase} and cannot be opened")
        if len(user_data) > USER_DATA:
            raise UsageError(f"relid {relid}: {len(user_data)} bytes of user data, at most {USER_DATA} fit")
        if not 0 < downstream < len(pfns):
            raise UsageError(f"relid {relid}: ring offset {downstream} in {len(pfns)} pages")
        handle = self._next_gpadl
        parts = gpadl.split(relid, handle, [gpadl.whole_pages(pfns)])
        self._next_gpadl = handle % 0xFFFFFFFF + 1
        padded = user_data.ljust(USER_DATA, b"\0")
        # The open id is the relid, as in Linux.
        entry.opening = messages.Open(relid, relid, handle, target_vp, downstream, padded)
        entry.opener = token
        entry.gpadl = handle
        entry.step(Event.OPEN)
        entry.has_memory = True
        for part in parts:
            self._post(part)
        return self._flush()

    def close(self, relid: int, token: Any) -> list[Action]:
        """Close an open channel; a close or rescind that is under way is joined.

        Raises UsageError for a channel that is not open (case 077).
        """
        if self._lost is not None:
            raise copy(self._lost)
        entry = self.channels.get(relid)
        if entry is None or entry.phase is Phase.GONE:
            return [actions.Done(token)]
        if entry.phase is Phase.RESCINDED or (entry.phase in _CLOSING and entry.opening is None):
            entry.closers.append(token)
            return []
        if not entry.may(Event.CLOSE):
            raise UsageError(f"relid {relid} is {entry.phase}, not open")
        self._need(State.CONNECTED)
        entry.closers.append(token)
        entry.step(Event.CLOSE)
        self._fail_retargets(entry, ChannelGone(f"relid {relid} was closed"))
        self._out.append(actions.Detach(relid))
        self._post(messages.Close(relid))
        self._out.append(actions.Watch(relid))
        return self._flush()

    def retarget(self, relid: int, vp: int, token: Any) -> list[Action]:
        """Move a channel's interrupts; one that comes while another is under way waits for it.

        Raises UsageError for a channel that is not open, ChannelGone after a rescind.
        """
        entry = self._living(relid)
        if entry.phase is not Phase.OPEN:
            raise UsageError(f"relid {relid} is {entry.phase}, not open")
        entry.retargets.append((vp, token))
        if len(entry.retargets) == 1:
            self._post(messages.ModifyChannel(relid, vp))
        return self._flush()

    def quiet(self, relid: int) -> list[Action]:
        """What `Watch` asked for: no callback of this channel runs or will run."""
        entry = self.channels.get(relid)
        # An unload sees to all channels itself.
        if entry is None or self.state is not State.CONNECTED or not entry.may(Event.QUIET):
            return []
        entry.step(Event.QUIET)
        if entry.phase is Phase.TEARING:
            self._tearing[entry.gpadl] = relid
            self._post(messages.GpadlTeardown(relid, entry.gpadl))
        else:
            self._free(relid, entry)
            self._finish_closers(entry, None)
            self._out.append(actions.Gone(relid))
        return self._flush()

    def release(self, relid: int) -> list[Action]:
        """The driver has let go of a channel that is gone: the relid may be used again (case 137)."""
        if self.state is not State.CONNECTED:
            return []
        entry = self.channels.get(relid)
        if entry is None or not entry.may(Event.RELEASE):
            raise UsageError(f"relid {relid} was not rescinded, or is not at rest")
        entry.step(Event.RELEASE)
        del self.channels[relid]
        self._post(messages.RelidReleased(relid))
        return self._flush()

    # -- told by the host ----------------------------------------------------------------------------------

    def _on_created(self, message: messages.GpadlCreated) -> None:
        entry = self.channels.get(message.child_relid)
        if entry is None or not entry.may(Event.CREATED) or entry.gpadl != message.gpadl:
            self._refuse("GpadlCreated", f"{message} answers nothing")
        elif message.creation_status:
            entry.step(Event.NOT_CREATED)
            self._free(message.child_relid, entry)
            self._end_open(entry, _refusal("GPADL", message.child_relid, message.creation_status))
        else:
            assert entry.opening is not None
            entry.step(Event.CREATED)
            self._post(entry.opening)

    def _on_open_result(self, message: messages.OpenResult) -> None:
        relid = message.child_relid
        entry = self.channels.get(relid)
        if entry is None or not entry.may(Event.OPENED) or message.openid != relid:
            self._refuse("OpenResult", f"{message} answers nothing")
        elif message.status:
            entry.step(Event.NOT_OPENED)
            entry.failure = _refusal("open", relid, message.status)
            self._out += [actions.Detach(relid), actions.Watch(relid)]
        else:
            entry.step(Event.OPENED)
            self._out.append(actions.Opened(relid))
            self._end_open(entry, None)

    def _on_torndown(self, message: messages.GpadlTorndown) -> None:
        relid = self._tearing.pop(message.gpadl, 0)
        entry = self.channels.get(relid)
        if entry is None or not entry.may(Event.TORNDOWN):
            self._refuse("GpadlTorndown", f"{message} answers nothing")
            return
        entry.step(Event.TORNDOWN)
        self._free(relid, entry)
        self._finish_closers(entry, None)
        if entry.opening is not None:
            self._end_open(entry, entry.failure)

    def _on_modified(self, message: messages.ModifyChannelResponse) -> None:
        relid = message.child_relid
        entry = self.channels.get(relid)
        if entry is None or not entry.retargets:
            self._refuse("ModifyChannelResponse", f"{message} answers nothing")
            return
        vp, token = entry.retargets.popleft()
        error = _refusal(f"move to VP {vp}", relid, message.status) if message.status else None
        self._out.append(actions.Done(token, error))
        if entry.retargets:
            self._post(messages.ModifyChannel(relid, entry.retargets[0][0]))

    def _on_rescind(self, message: messages.Rescind) -> None:
        relid = message.child_relid
        entry = self.channels.get(relid)
        if entry is None or not entry.may(Event.RESCIND):
            self._refuse("Rescind", f"{message} names no channel of this guest")
            return
        was = entry.phase
        entry.step(Event.RESCIND)
        self._keys.discard(entry.key)
        self._tearing.pop(entry.gpadl, None)
        self._out.append(actions.Detach(relid))
        if was is Phase.OPEN:
            # As Linux: what was open is closed, but nothing is torn down any more (case 108).
            self._post(messages.Close(relid))
        self._fail(entry, ChannelGone(f"relid {relid} was rescinded"))
        self._out.append(actions.Watch(relid))

    # -- small change --------------------------------------------------------------------------------------

    def _need(self, state: State) -> None:
        if self._lost is not None:
            raise copy(self._lost)
        if self.state is not state:
            raise UsageError(f"the connection is {self.state}, not {state}")

    def _living(self, relid: int) -> Entry:
        """A channel that an operation may be begun on."""
        self._need(State.CONNECTED)
        entry = self.channels.get(relid)
        if entry is None or entry.phase in RESCINDED:
            raise ChannelGone(f"relid {relid} is gone")
        return entry

    def _post(self, message: msgspec.Struct) -> None:
        self._out.append(actions.Post(self._connection, wire.encode(message)))

    def _refuse(self, kind: str, reason: str) -> None:
        self._out.append(actions.Refused(kind, reason))

    def _flush(self) -> list[Action]:
        out, self._out = self._out, []
        return out

    def _free(self, relid: int, entry: Entry) -> None:
        if entry.has_memory:
            entry.has_memory = False
            self._out.append(actions.Free(relid))

    def _end_open(self, entry: Entry, error: Exception | None) -> None:
        token, entry.opener, entry.opening, entry.failure = entry.opener, None, None, None
        self._out.append(actions.Done(token, error))

    def _fail_retargets(self, entry: Entry, error: VmbusError) -> None:
        self._out += [actions.Done(token, error) for _, token in entry.retargets]
        entry.retargets.clear()

    def _fail(self, entry: Entry, error: VmbusError) -> None:
        """End an open and the retargets of a channel that is being taken away."""
        if entry.opening is not None:
            self._end_open(entry, entry.failure or error)
        self._fail_retargets(entry, error)

    def _finish_closers(self, entry: Entry, error: VmbusError | None) -> None:
        self._out += [actions.Done(token, error) for token in entry.closers]
        entry.closers.clear()


def _refusal(what: str, relid: int, status: int) -> RefusedError:
    return RefusedError(f"relid {relid}: {what} refused with status {status:#x}", status)
