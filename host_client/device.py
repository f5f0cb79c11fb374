"""What the author of a device writes: a class with an interface GUID and the callbacks it cares about.

Callbacks run while `Host.run` (or `AsyncHost.serve`) runs, on its threads, and never overlap within one host,
except that others may run while a callback itself waits in `offer` or `revoke`. A callback that raises is
logged; only in `on_open` does it change the outcome: the open fails.
"""

from uuid import UUID

from host_client.channel import Channel
from vmbusd.abi.delivery import BUDGET_PACKETS, BUDGET_SECONDS, Mode


class Device:
    """Base of every device. One instance may be offered several times; the channel says which one it is.

    A device that has a method `on_packets(channel, packets)` gets a list of `packets.Packet` whenever the
    guest has sent some, instead of `on_signal`; they are given back to the guest when it returns. If it has
    `on_completion(channel, packet)` too, answers to `send(..., request=True)` go there.
    """

    interface: UUID
    """The interface (class) GUID that guests' drivers match."""

    mode: Mode = Mode.BATCHED
    """How `on_packets` is called; `Mode.ISR` leaves everything to `on_signal`."""
    budget_packets: int = BUDGET_PACKETS
    budget_seconds: float = BUDGET_SECONDS
    """What a channel may use up at a time; then the others have their turn."""

    def on_open(self, channel: Channel) -> None:
        """The guest opened `channel`; signalling it works already. Raise to refuse."""

    def on_close(self, channel: Channel) -> None:
        """`channel` is closed: signals do nothing any more, ring memory is released when this returns."""

    def on_retarget(self, channel: Channel, vp: int) -> None:
        """The guest moved the channel's interrupts to VP `vp`; nothing needs to be done."""

    def on_signal(self, channel: Channel) -> None:
        """The guest signalled `channel` at least once since the last call."""
