"""What all channels of one attachment share: its mappings through the native core, and its hosts' ends."""

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, cast

from vmbusd.abi import layout
from vmbusd.abi.attach import Attached
from vmbusd.abi.errors import LinkClosed
from vmbusd.abi.link import Object
from vmbusd.abi.native import Blocks, HostSender, MonitorTrigger, Table

if TYPE_CHECKING:
    from guest_client.feed import Feed

HOST_LINK_TIMEOUT: Final = 5.0
"""Seconds a signal waits for descriptors of its host link, which were sent before the channel's offer."""


class HostEnds:
    """Guest-to-host senders by host link number; a link may still be on its way when a callback needs it."""

    def __init__(self, attached: Attached) -> None:
        self._attached = attached
        self._changed = threading.Condition()
        self._senders = {number: self._sender(number) for number in attached.host_links}

    def _sender(self, number: int) -> HostSender:
        return HostSender(*self._attached.host_links[number], self._attached[Object.TABLE])

    def add(self, packet: bytes, fds: list[int]) -> None:
        """Take over what a HostLink packet grants. Raises as `Attached.add_host_link`."""
        self.renew([self._attached.add_host_link(packet, fds)])

    def renew(self, numbers: Iterable[int]) -> None:
        """These host links were mapped anew."""
        with self._changed:
            for number in numbers:
                self._senders[number] = self._sender(number)
            self._changed.notify_all()

    def signal(self, number: int, flag: int) -> bool:
        """Set `flag` on host link `number` and wake the host if it sleeps. True for 0 -> 1."""
        return self.sender(number).signal(flag)

    def sender(self, number: int) -> HostSender:
        """What signals host link `number`. Raises LinkClosed when its descriptors do not come."""
        sender = self._senders.get(number)
        if sender is None:
            with self._changed:
                if not self._changed.wait_for(lambda: number in self._senders, HOST_LINK_TIMEOUT):
                    raise LinkClosed(f"host link {number} is not known here")
                sender = self._senders[number]
        return sender

    def statistics(self) -> dict[int, dict[str, int]]:
        """Signals, transitions and posts per host link."""
        return {number: sender.statistics() for number, sender in list(self._senders.items())}

    def close(self) -> None:
        """Let go of the host pages."""
        with self._changed:
            self._senders.clear()


class _Left:
    """Stands where a view of shared memory was: whoever still asks hears why there is none."""

    def __getattr__(self, name: str) -> Any:
        raise LinkClosed("this guest has left the daemon, its shared memory is gone")


class Space:
    """What all channels of one attachment share: its mappings, seen through the native core.

    Attributes: `attached`, `table`, `blocks`, `hosts`, `monitor`; `feed`, which whoever makes the space sets.
    """

    feed: "Feed"

    def __init__(self, attached: Attached) -> None:
        self.attached = attached
        self.table = Table(attached[Object.TABLE])
        self.blocks = Blocks(attached[Object.GUEST])
        self.hosts = HostEnds(attached)
        self.monitor = MonitorTrigger(attached[Object.TABLE], attached[Object.RAM])

    def close(self) -> None:
        """Let go of every mapping: while one is held, this process counts as attached."""
        self.hosts.close()
        self.feed = cast("Feed", _Left())
        self.table = cast(Table, _Left())
        self.blocks = cast(Blocks, _Left())
        self.monitor = cast(MonitorTrigger, _Left())

    def relid_of(self, flag: int) -> int:
        """The channel whose event flag this is, 0 if it has none now."""
        slot = self.table.slot(flag)
        offset = (slot & 0xFFFFFFFF) - layout.TABLE_RECORDS_OFFSET
        return offset // layout.RECORD_SIZE if slot and offset >= 0 else 0
