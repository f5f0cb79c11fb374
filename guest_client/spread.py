"""Which VP a channel's interrupts go to when nobody says: the least used one, none twice for one device.

Linux's rule without NUMA nodes: the channels of devices whose speed matters take the VPs in turn, a VP that a
channel of the same device has already is passed over while there is another, and all others stay on the VP of
the connection (case 120). Linux knows the fast devices by name; here those are slow that Linux knows to be
slow, or whose driver says so.
Source: Linux 6.1 channel_mgmt.c init_vp_index and vmbus_devs.
"""

from collections.abc import Collection
from typing import Final
from uuid import UUID

CONNECT_VP: Final = 0
SLOW: Final = frozenset(
    {
        UUID("57164f39-9115-4e78-ab55-382f3bd5422d"),  # heartbeat
        UUID("a9a0f4e7-5a45-4d96-b827-8a841e8c03e6"),  # key-value pairs
        UUID("0e0b6031-5213-4934-818b-38d90ced39db"),  # shutdown
        UUID("9527e630-d0ae-497b-adce-e80ab0175caf"),  # time synchronization
        UUID("35fa2e29-ea23-4236-96ae-3a6ebacba440"),  # volume snapshots
        UUID("34d14be3-dee4-41c8-9ae7-6b174977c192"),  # file copy
        UUID("525074dc-8985-46e2-8057-a307dc18a502"),  # dynamic memory
        UUID("cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a"),  # mouse
        UUID("f912ad6d-2b17-48ea-bd65-f927a61c7684"),  # keyboard
        UUID("da0a7802-e377-4aac-8e77-0558eb1073f8"),  # framebuffer
        UUID("44c4f61d-4444-4400-9d52-802e27ede19f"),  # PCI pass-through
    }
)
"""Interfaces of the devices that Linux leaves on the connection's VP."""


class Spread:
    """The VPs 0 .. `vps` - 1 and how often each was given out; `slow` are further slow interfaces."""

    def __init__(self, vps: int, slow: Collection[UUID] = ()) -> None:
        self.vps = vps
        self._slow = SLOW | frozenset(slow)
        self._given: set[int] = set()

    def choose(self, interface: UUID, siblings: Collection[int]) -> int:
        """The VP for a new channel; `siblings` are the VPs of the other channels of its device."""
        if interface in self._slow or self.vps == 1:
            return CONNECT_VP
        vp = CONNECT_VP
        for _ in range(self.vps + 1):
            vp = self._next()
            if vp not in siblings:
                break
        return vp

    def _next(self) -> int:
        """The lowest VP that has not had its turn; when all have had it, turns begin again."""
        if len(self._given) >= self.vps:
            self._given.clear()
        vp = next(vp for vp in range(self.vps) if vp not in self._given)
        self._given.add(vp)
        return vp
