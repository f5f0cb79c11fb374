"""What a guest can ask while it is attached: many channels at once, sockets, a pause, a suspension."""

import time
from collections.abc import Iterable
from typing import Final
from uuid import UUID, uuid4

from guest_client.batches import Outcome, pipelined
from guest_client.channel import OPEN_TIMEOUT, Channel
from guest_client.connection import Connection
from guest_client.driver import Driver
from guest_client.probing import PROBE_WINDOW
from guest_client.vps import ONLINE, VpOrders
from guest_client.waiting import answered
from vmbusd.abi.attach import Attached
from vmbusd.abi.errors import ChannelGone, RefusedError, TimedOut, UsageError

SUSPEND_TIMEOUT: Final = 30.0
"""Seconds for the host to take back what it has, or to offer it again; it is given 10 s for either."""
VP_TIMEOUT: Final = 30.0
"""Seconds for a worker to come or to go: an interpreter is started, a callback ends, on a busy machine."""
VP_LOOK: Final = 0.005
"""Seconds between looks whether a VP is served: a process takes some hundred milliseconds to come."""
CONNECT_TIMEOUT: Final = 10.0
"""Seconds for a socket connect and the open of its channel; the protocol's own limit is shorter."""


class Session:
    """An attached guest: its partition's name, its connection and its drivers by interface."""

    partition: str
    _connection: Connection
    _drivers: dict[UUID, Driver]

    _vp_orders: VpOrders

    # -- VPs -----------------------------------------------------------------------------------------------

    def vp_offline(self, vp: int, timeout: float | None = VP_TIMEOUT) -> None:
        """Take a VP offline: its channels are moved to another, its worker leaves, its bits are handed over.

        Channels of pinned drivers whose state its process holds are closed. Raises RefusedError for the last
        VP that has a worker, TimedOut while its worker does not leave: then it goes on. LinkClosed when the
        link ends meanwhile.
        """
        self._ordered(vp, False, timeout)

    def vp_online(self, vp: int, timeout: float | None = VP_TIMEOUT) -> None:
        """Have a VP again, with a new worker; returns when that serves. Channels stay where they are.

        Raises RefusedError for a VP that the partition has not, or that somebody orders offline meanwhile,
        TimedOut when it gets no worker in time, LinkClosed when the link ends meanwhile.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self._ordered(vp, True, timeout)
        while self._vp_state(vp) != ONLINE:
            if (lost := self._connection.lost) is not None:
                raise type(lost)(*lost.args)
            if self._vp_orders.is_unwanted(vp):
                raise RefusedError(f"VP {vp} was ordered offline before it had a worker")
            if deadline is not None and time.monotonic() > deadline:
                raise TimedOut(f"VP {vp} has no worker within {timeout:g} s")
            time.sleep(VP_LOOK)

    def _ordered(self, vp: int, online: bool, timeout: float | None) -> None:
        missing = "no answer to the order to have it online" if online else "its worker has not left"
        answered(self._vp_orders.begin(vp, online=online), timeout, f"VP {vp}: {missing}")

    def _vp_state(self, vp: int) -> int:
        """As everybody sees it in the table."""
        return self._connection.space.table.owner(vp)[1]

    # -- leaving and coming back ---------------------------------------------------------------------------

    def suspend(self, timeout: float | None = SUSPEND_TIMEOUT) -> None:
        """Close every channel, get rid of subchannels and sockets, and leave the host; the workers stay.

        Raises UsageError unless connected, TimedOut when a host does not let go.
        """
        answered(self._connection.suspend(), timeout, f"{self.partition}: a host has not let go")

    def resume(self, timeout: float | None = SUSPEND_TIMEOUT) -> None:
        """Come back with the version of before: each device that is offered again keeps its `Channel`, which
        has another relid perhaps, and its driver is asked to open it if it was open (`Driver.resumed`).

        Raises RefusedError when the host does not speak the version any more, UsageError unless suspended,
        TimedOut as `suspend`.
        """
        answered(
            self._connection.resume(), timeout, f"{self.partition}: the devices of before have not come back"
        )

    def pause(self, timeout: float | None = CONNECT_TIMEOUT) -> None:
        """Have the host send no message until `unpause`; what this side asks waits as well, signals do not.

        Raises UsageError without the feature PAUSE_RESUME of 6.0, TimedOut without an answer.
        """
        answered(self._connection.pause(), timeout, f"{self.partition}: no answer to the pause")

    def unpause(self) -> None:
        """End a pause. Raises UsageError unless paused."""
        self._connection.unpause()

    # -- memory --------------------------------------------------------------------------------------------

    @property
    def attached(self) -> Attached:
        """The link to the daemon and what it maps. Let go of every view before the guest is closed."""
        return self._connection.attached

    def reserve_pages(self, count: int) -> int:
        """The first of `count` contiguous pages of guest memory, which no channel gets from now on.

        Raises ResourceError without room.
        """
        return self._connection.reserve_pages(count)

    # -- channels ------------------------------------------------------------------------------------------

    def connect_socket(
        self,
        service: UUID,
        *,
        endpoint: UUID | None = None,
        silo: UUID | None = None,
        timeout: float | None = CONNECT_TIMEOUT,
    ) -> Channel:
        """Connect to a socket service of the host: the open channel, served by the driver whose interface the
        service is. `endpoint` is this end's name, by default a new one.

        Raises UsageError without such a driver or below 4.0, RefusedError when nobody listens there,
        TimedOut.
        """
        if (driver := self._drivers.get(service)) is None:
            raise UsageError(f"service {service} has no driver here")
        call = self._connection.connect_socket(uuid4() if endpoint is None else endpoint, service, silo)
        channel: Channel | None = answered(call, timeout, f"service {service}: not connected")
        if channel is None:
            raise ChannelGone(f"the socket of service {service} was rescinded at once")
        try:
            opening = driver.probe(channel)
        except Exception:
            self._connection.give_up(channel)
            raise
        if opening is not None:
            answered(opening, timeout, f"service {service}: its channel was not opened")
        return channel

    @property
    def channels(self) -> list[Channel]:
        """The channels that are offered now, by relid."""
        return [channel for _, channel in sorted(self._connection.channels.copy().items())]

    def open_many(self, channels: Iterable[Channel], window: int = PROBE_WINDOW) -> list[Outcome]:
        """Open channels, at most `window` at a time under way. Returns None or the error of each."""
        return list(pipelined((channel.begin_open for channel in channels), window))

    def retarget(self, channel: Channel, vp: int, timeout: float | None = OPEN_TIMEOUT) -> None:
        """Move a channel's interrupts to `vp`; after it no event reaches the old VP."""
        channel.retarget(vp, timeout)

    def retarget_many(self, pairs: Iterable[tuple[Channel, int]], window: int = 64) -> list[Outcome]:
        """Move many channels, at most `window` at a time under way. Returns None or the error of each."""
        moves = (
            lambda channel=channel, vp=vp: self._connection.begin_retarget(channel, vp)
            for channel, vp in pairs
        )
        return list(pipelined(moves, window))
