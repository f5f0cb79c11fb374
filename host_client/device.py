"""What the author of a device writes: a class with an interface GUID and the callbacks it cares about.

Callbacks run while `Host.run` (or `AsyncHost.serve`) runs, on its threads, and never overlap within one host,
except that others may run while a callback itself waits in `offer` or `revoke`. A callback that raises is
logged; only in `on_open` does it change the outcome: the open fails.
"""

from uuid import UUID

from host_client.channel import Channel


class Device:
    """Base of every device. One instance may be offered several times; the channel says which one it is."""

    interface: UUID
    """The interface (class) GUID that guests' drivers match."""

    def on_open(self, channel: Channel) -> None:
        """The guest opened `channel`; signalling it works already. Raise to refuse."""

    def on_close(self, channel: Channel) -> None:
        """`channel` is closed: signals do nothing any more, ring memory is released when this returns."""

    def on_retarget(self, channel: Channel, vp: int) -> None:
        """The guest moved the channel's interrupts to VP `vp`; nothing needs to be done."""

    def on_signal(self, channel: Channel) -> None:
        """The guest signalled `channel` at least once since the last call."""
