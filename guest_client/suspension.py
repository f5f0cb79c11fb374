"""Suspend and resume of a guest, sans-IO: what Linux does for hibernation.

Suspending closes every device, gets rid of subchannels and sockets, and unloads; resuming asks for the
version it had, requests the offers, and finds its devices among them again by their instance, whatever relid
and connection id they have now (cases 174, 175). Both wait a while for the host and no longer.
Source: Linux 6.1 vmbus_drv.c vmbus_bus_suspend and vmbus_bus_resume, channel_mgmt.c vmbus_onoffer.
"""

import abc
from typing import Any, Final
from uuid import UUID

from guest_client import actions, versions
from guest_client.actions import Action
from guest_client.entries import Entry, State
from guest_client.phases import Phase
from guest_client.requests import Requests
from vmbusd.abi import layout, messages
from vmbusd.abi.errors import UsageError

RESUME_WAIT: Final = 10.0
"""Seconds for the host to offer all devices again; what it does not offer is gone, as under Linux."""
SUSPEND_WAIT: Final = 10.0
"""Seconds for the host to rescind the subchannels of devices that were closed; then we take them away."""


class Suspension(Requests, abc.ABC):
    """A connection that can be suspended."""

    def __init__(self, options: versions.Options) -> None:
        super().__init__(options)
        self._trying: tuple[int, ...] = options.versions
        self._waiting: Any = None
        self._deadline: float | None = None
        self._kept: dict[UUID, tuple[int, Entry]] = {}
        """Instance -> relid it had, and what it was, of the devices to be found again."""
        self._suspending = self._resuming = False

    @abc.abstractmethod
    def _ask(self) -> None:
        """Ask for the version whose turn it is."""

    def suspend(self, token: Any) -> list[Action]:
        """Close every device and leave the host, to come back by `resume`; from now on no offer is heard.

        Raises UsageError unless connected, during a pause, and before a resume has ended.
        """
        self._need(State.CONNECTED)
        if self._held is not None or self._resuming:
            state = "still being resumed" if self._resuming else "paused"
            raise UsageError(f"the connection is {state} and cannot be suspended")
        self.state = State.SUSPENDING
        self._waiting = token
        self._deadline = self.now + SUSPEND_WAIT
        for relid, entry in list(self.channels.items()):
            if entry.is_socket and entry.is_living:
                entry.dropped = True
                self._take_away(relid, entry)
            elif entry.primary in self.channels and self.channels[entry.primary].phase is Phase.OFFERED:
                self._remove(relid, entry)
        for relid, entry in list(self.channels.items()):
            if entry.primary not in self.channels and entry.phase is Phase.OPEN:
                self._begin_close(relid, entry)
            elif entry.phase in (Phase.CREATING, Phase.OPENING):
                entry.unwanted = True
        self._leave_if_ready()
        return self._flush()

    def resume(self, token: Any) -> list[Action]:
        """Come back from `suspend`: done when every device is there again, or has been waited for. Raises
        UsageError unless suspended."""
        self._need(State.SUSPENDED)
        self.state = State.CONTACTING
        self._waiting = token
        self._resuming = True
        self._ask()
        return self._flush()

    # -- leaving --------------------------------------------------------------------------------------------

    def _rested(self, entry: Entry) -> None:
        super()._rested(entry)
        if self.state is State.SUSPENDING:
            self._leave_if_ready()

    def _remove(self, relid: int, entry: Entry) -> None:
        """Get rid of a channel that the host has not rescinded."""
        entry.dropped = True
        if entry.is_living:
            self._take_away(relid, entry)

    def _leave_if_ready(self) -> None:
        """UNLOAD once nothing is left but devices that are closed, and such as are gone."""
        for entry in self.channels.values():
            if entry.primary in self.channels or entry.phase not in (Phase.OFFERED, Phase.STUCK, Phase.GONE):
                return
        self._kept = {
            entry.offer.if_instance: (relid, entry)
            for relid, entry in self.channels.items()
            if entry.phase is Phase.OFFERED and not entry.is_socket and not entry.offer.sub_channel_index
        }
        self._deadline = None
        self._suspending = True
        if self.version < versions.HAS_UNLOAD:
            self._left()
        else:
            self.state = State.UNLOADING
            self._post(messages.Unload())

    @abc.abstractmethod
    def _forget(self) -> None:
        """Nothing of the connection is left."""

    def _left(self) -> None:
        """The host has been left, for good or to come back with the same version."""
        token, suspending, version = self._waiting, self._suspending, self.version
        kept = tuple(was for was, _ in self._kept.values())
        if suspending:
            # Who is GONE has been told so.
            self._out += [
                actions.Gone(relid, released=True)
                for relid, entry in self.channels.items()
                if relid not in kept and entry.phase is not Phase.GONE
            ]
        self._forget()
        if suspending:
            self.state = State.SUSPENDED
            self._trying = (version,)
            self._out.append(actions.Suspended(kept))
        self._out.append(actions.Done(token))

    # -- coming back ----------------------------------------------------------------------------------------

    def _came_back(self) -> None:
        self._deadline = self.now + RESUME_WAIT
        self._resume_if_ready()

    def _offered_again(self, message: messages.Offer) -> bool:
        """Whether this is a device that we had; it has another relid now, perhaps."""
        if not self._resuming or message.sub_channel_index or message.if_instance not in self._kept:
            return False
        if message.child_relid in self.channels or not 1 <= message.child_relid <= layout.MAX_RELID:
            return False
        was, entry = self._kept.pop(message.if_instance)
        entry.offer = message
        entry.subchannels = []
        self.channels[message.child_relid] = entry
        self._keys.add(entry.key)
        self._devices[entry.device] = message.child_relid
        self._out.append(actions.Resumed(was, message))
        self._resume_if_ready()
        return True

    def _resume_if_ready(self) -> None:
        if not self._kept:
            self._resuming = False
            self._deadline = None
            self._out.append(actions.Done(self._waiting))

    def _waited_enough(self) -> None:
        """The host had its time, to rescind or to offer again."""
        if self.state is State.SUSPENDING:
            for relid, entry in list(self.channels.items()):
                if entry.primary in self.channels:
                    self._remove(relid, entry)
        elif self._resuming and self.state is State.CONNECTED:
            for was, _ in self._kept.values():
                self._out.append(actions.Missing(was))
            self._kept.clear()
            self._resume_if_ready()
