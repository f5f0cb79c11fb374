"""One channel's part of the guest's protocol, sans-IO: open, close, retarget, rescind, release.

The phases and what leads from one to the next stand in `phases`; here is what each step does. CLOSING and
RESCINDED wait for `quiet`: only when the slot is closed and the claim free can no callback run, and only then
is the ring torn down or its memory freed. A rescind ends every operation of its channel: the answer may never
come (case 135). Closing a device closes its subchannels first, one after the other; `devices` knows which
they are. Sources: Linux 6.1 channel.c, channel_mgmt.c.
"""

import abc
from collections.abc import Sequence
from copy import copy
from typing import Any, Final

import msgspec

from guest_client import actions, versions
from guest_client.actions import Action
from guest_client.entries import Entry, State
from guest_client.flags import EventFlags
from guest_client.phases import Event, Phase
from vmbusd.abi import gpadl, link, messages, wire
from vmbusd.abi.errors import ChannelGone, RefusedError, UsageError, VmbusError

FIRST_GPADL: Final = 0xE1E10
"""Linux counts its handles up from here; unique per connection, never 0 (case 107)."""
USER_DATA: Final = 120
_ALIVE: Final = (State.CONNECTED, State.SUSPENDING)


class Operations(abc.ABC):
    """The channels of one connection. Every public call returns the actions it caused.

    Attributes: `state`, of the connection; `version` and `features`, as negotiated, 0 before; `channels`,
    relid -> Entry, to be read only.
    """

    def __init__(self) -> None:
        self.state = State.DISCONNECTED
        self.version = wire.NOT_CONNECTED
        self.features = 0
        self.channels: dict[int, Entry] = {}
        self._connection = link.MESSAGE_CONNECTION_MULTI_CLIENT
        self._keys: set[tuple[Any, ...]] = set()
        self._tearing: dict[int, int] = {}
        self._flags = EventFlags()
        self._next_gpadl = FIRST_GPADL
        self._out: list[Action] = []
        self._lost: VmbusError | None = None

    # -- what a device of several channels adds -------------------------------------------------------------

    @abc.abstractmethod
    def _next_subchannel(self, relid: int) -> bool:
        """Begin or await the close of the next subchannel of `relid`; False when none is left to close."""

    @abc.abstractmethod
    def _rested(self, entry: Entry) -> None:
        """Nothing is under way on this channel any more: closed, or gone."""

    # -- asked by the application ---------------------------------------------------------------------------

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
        ring starts. The handle and the event flag are in `channels[relid]` before anything is sent.

        Raises UsageError for what can never be opened or not now, ChannelGone after a rescind (case 140),
        ResourceError when no event flag is left (case 238).
        """
        entry = self._living(relid)
        if not entry.may(Event.OPEN) or entry.dropped:
            state = "let go for good" if entry.dropped else entry.phase
            raise UsageError(f"relid {relid} is {state} and cannot be opened")
        if len(user_data) > USER_DATA:
            raise UsageError(f"relid {relid}: {len(user_data)} bytes of user data, at most {USER_DATA} fit")
        if not 0 < downstream < len(pfns):
            raise UsageError(f"relid {relid}: ring offset {downstream} in {len(pfns)} pages")
        handle = self._next_gpadl
        parts = gpadl.split(relid, handle, [gpadl.whole_pages(pfns)])
        if self.features & messages.Feature.GUEST_SIGNAL_PARAMETERS:
            entry.event_flag = self._flags.take()
        self._next_gpadl = handle % 0xFFFFFFFF + 1
        padded = user_data.ljust(USER_DATA, b"\0")
        # The open id is the relid, as in Linux.
        request = (relid, relid, handle, target_vp, downstream, padded)
        if self.features & versions.LONG_OPEN:
            flag = entry.event_flag or relid
            entry.opening = messages.Open2(*request, entry.offer.connection_id, flag, 0)
        else:
            entry.opening = messages.Open(*request)
        entry.opener = token
        entry.gpadl = handle
        entry.vp = target_vp
        entry.step(Event.OPEN)
        entry.has_memory = True
        for part in parts:
            self._post(part)
        return self._flush()

    def close(self, relid: int, token: Any) -> list[Action]:
        """Close a device: its open subchannels first, then this channel; a close or rescind that is under way
        is joined.

        Raises UsageError for a channel that is not open, and for a subchannel, which is closed with its
        device (cases 077, 118).
        """
        if self._lost is not None:
            raise copy(self._lost)
        entry = self.channels.get(relid)
        if entry is None or entry.phase is Phase.GONE:
            return [actions.Done(token)]
        if entry.primary in self.channels:
            raise UsageError(f"relid {relid} is a subchannel of relid {entry.primary} and is closed with it")
        joined = (Phase.CLOSING, Phase.TEARING) if entry.opening is None else ()
        if entry.phase in (Phase.RESCINDED, Phase.DRAINING, *joined):
            entry.closers.append(token)
            return []
        if not entry.may(Event.CLOSE):
            raise UsageError(f"relid {relid} is {entry.phase}, not open")
        self._need(State.CONNECTED)
        entry.closers.append(token)
        self._begin_close(relid, entry)
        return self._flush()

    def retarget(self, relid: int, vp: int, token: Any, *, now: int | None = None) -> list[Action]:
        """Move a channel's interrupts; one that comes while another is under way waits for it.

        `now` is the VP it has, by default the last one agreed on: the same again sends nothing. Below 5.3 no
        answer comes, and it is done when it is sent. Raises UsageError below 4.1 and for a channel that is
        not open, ChannelGone after a rescind (case 152).
        """
        entry = self._living(relid)
        if self.version < versions.HAS_MODIFY:
            raise UsageError(
                f"relid {relid}: channels cannot be moved at {versions.text(self.version)}, "
                f"only from {versions.text(versions.HAS_MODIFY)} on"
            )
        if entry.phase is not Phase.OPEN:
            raise UsageError(f"relid {relid} is {entry.phase}, not open")
        if not entry.retargets and vp == (entry.vp if now is None else now):
            return [actions.Done(token)]
        if self.version < versions.HAS_MODIFY_ANSWER:
            entry.vp = vp
            self._post(messages.ModifyChannel(relid, vp))
            self._out.append(actions.Done(token))
        else:
            entry.retargets.append((vp, token))
            if len(entry.retargets) == 1:
                self._post(messages.ModifyChannel(relid, vp))
        return self._flush()

    def quiet(self, relid: int) -> list[Action]:
        """What `Watch` asked for: no callback of this channel runs or will run."""
        entry = self.channels.get(relid)
        # An unload sees to all channels itself.
        if entry is None or self.state not in _ALIVE or not entry.may(Event.QUIET):
            return []
        entry.step(Event.QUIET)
        if entry.phase is Phase.TEARING:
            self._tear_down(relid, entry)
        else:
            self._free(relid, entry)
            self._finish_closers(entry, None)
            released = bool(entry.primary) or entry.dropped
            self._out.append(actions.Gone(relid, released))
            if released:
                self._release(relid)
            self._rested(entry)
        return self._flush()

    def release(self, relid: int) -> list[Action]:
        """The application has let go of a channel, so that the relid may be used again: of one that is gone
        (case 137), or of one that was offered and for which it can make no device (case 051).

        Raises UsageError for any other.
        """
        if self.state not in _ALIVE:
            return []
        entry = self.channels.get(relid)
        if entry is None or not entry.may(Event.RELEASE):
            raise UsageError(f"relid {relid} is {entry.phase if entry else 'unknown'}, not at rest")
        self._release(relid)
        return self._flush()

    # -- told by the host -----------------------------------------------------------------------------------

    def _on_created(self, message: messages.GpadlCreated) -> None:
        entry = self.channels.get(message.child_relid)
        if entry is None or not entry.may(Event.CREATED) or entry.gpadl != message.gpadl:
            self._refuse("GpadlCreated", f"{message} answers nothing")
        elif message.creation_status:
            error = _refusal("GPADL", message.child_relid, message.creation_status)
            self._back_to_offered(message.child_relid, entry, Event.NOT_CREATED, error)
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
            if entry.unwanted:
                self._begin_close(relid, entry)

    def _on_torndown(self, message: messages.GpadlTorndown) -> None:
        relid = self._tearing.pop(message.gpadl, 0)
        entry = self.channels.get(relid)
        if entry is None or not entry.may(Event.TORNDOWN):
            self._refuse("GpadlTorndown", f"{message} answers nothing")
        else:
            self._back_to_offered(relid, entry, Event.TORNDOWN, entry.failure)

    def _on_modified(self, message: messages.ModifyChannelResponse) -> None:
        relid = message.child_relid
        entry = self.channels.get(relid)
        if entry is None or not entry.retargets:
            self._refuse("ModifyChannelResponse", f"{message} answers nothing")
            return
        vp = entry.retargets[0][0]
        error = _refusal(f"move to VP {vp}", relid, message.status) if message.status else None
        self._end_retarget(relid, entry, error)

    # -- steps ----------------------------------------------------------------------------------------------

    def _begin_close(self, relid: int, entry: Entry) -> None:
        entry.step(Event.CLOSE)
        entry.unwanted = False
        self._fail_retargets(entry, ChannelGone(f"relid {relid} was closed"))
        if not self._next_subchannel(relid):
            self._close(relid, entry)

    def _close(self, relid: int, entry: Entry) -> None:
        entry.step(Event.DRAINED)
        if entry.close_sent:
            entry.step(Event.QUIET)
            self._tear_down(relid, entry)
            return
        self._out.append(actions.Detach(relid))
        self._post(messages.Close(relid))
        self._out.append(actions.Watch(relid))

    def _tear_down(self, relid: int, entry: Entry) -> None:
        self._tearing[entry.gpadl] = relid
        self._post(messages.GpadlTeardown(relid, entry.gpadl))

    def _back_to_offered(self, relid: int, entry: Entry, event: Event, error: Exception | None) -> None:
        entry.step(event)
        entry.unwanted = entry.close_sent = False
        # A socket connects once; what is left of it waits for the rescind (case 198).
        entry.dropped = entry.dropped or (entry.is_socket and entry.opening is None)
        self._free(relid, entry)
        self._finish_closers(entry, None)
        if entry.opening is not None:
            self._end_open(entry, error)
        self._rested(entry)

    def _take_away(self, relid: int, entry: Entry) -> None:
        """The channel is rescinded: everything under way on it ends, and nothing is torn down (case 108)."""
        was = entry.phase
        entry.step(Event.REACHED if was is Phase.STRANDED else Event.RESCIND)
        self._keys.discard(entry.key)
        self._tearing.pop(entry.gpadl, None)
        self._out.append(actions.Detach(relid))
        if was in (Phase.OPEN, Phase.DRAINING, Phase.STRANDED):
            # As Linux: what was open is closed all the same.
            self._post(messages.Close(relid))
        self._fail(entry, ChannelGone(f"relid {relid} was rescinded"))
        self._out.append(actions.Watch(relid))

    def _release(self, relid: int) -> None:
        entry = self.channels.pop(relid)
        entry.step(Event.RELEASE)
        self._keys.discard(entry.key)
        self._post(messages.RelidReleased(relid))

    # -- small change ---------------------------------------------------------------------------------------

    def _need(self, state: State) -> None:
        if self._lost is not None:
            raise copy(self._lost)
        if self.state is not state:
            raise UsageError(f"the connection is {self.state}, not {state}")

    def _living(self, relid: int) -> Entry:
        """A channel that an operation may be begun on."""
        if self._lost is None and self.state in (State.UNLOADING, State.DISCONNECTED):
            # Whose channel it was cannot have known.
            raise ChannelGone(f"relid {relid} is gone: the connection is {self.state}")
        self._need(State.CONNECTED)
        entry = self.channels.get(relid)
        if entry is None or not entry.is_living:
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
        """The memory of the rings and the event flag are nobody's any more."""
        self._flags.give_back(entry.event_flag)
        entry.event_flag = 0
        if entry.has_memory:
            entry.has_memory = False
            self._out.append(actions.Free(relid))

    def _end_open(self, entry: Entry, error: Exception | None) -> None:
        token, entry.opener, entry.opening, entry.failure = entry.opener, None, None, None
        self._out.append(actions.Done(token, error))

    def _end_retarget(self, relid: int, entry: Entry, error: VmbusError | None) -> None:
        vp, token = entry.retargets.popleft()
        if error is None:
            entry.vp = vp
        self._out.append(actions.Done(token, error))
        if entry.retargets:
            self._post(messages.ModifyChannel(relid, entry.retargets[0][0]))

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
