"""The guest's socket connects that wait for their channel, sans-IO.

A connect succeeds with an offer that has its service and its endpoint, the flag of a socket, and is not for
accepting; any other offer is not for it (case 195). A failure is told from 4.1 on; below that, and by Linux
in every version, silence is a failure.
Sources: OpenVMM vmbus_client hvsock.rs, Linux 6.1 hyperv_transport.c.
"""

from typing import Any, Final, NamedTuple
from uuid import UUID

from guest_client.entries import Entry
from vmbusd.abi.errors import UsageError

CONNECT_TIMEOUT: Final = 5.0
"""Seconds until a connect that nobody answered has failed; the host gives us as long to open."""


class _Request(NamedTuple):
    token: Any
    deadline: float


class SocketRequests:
    """Which connects are under way."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[UUID, UUID], _Request] = {}

    def add(self, endpoint: UUID, service: UUID, token: Any, now: float) -> None:
        """A connect was sent. Raises UsageError for an endpoint that waits for this service already."""
        if (endpoint, service) in self._waiting:
            raise UsageError(f"endpoint {endpoint} is being connected to {service} already")
        self._waiting[endpoint, service] = _Request(token, now + CONNECT_TIMEOUT)

    def is_answered_by(self, entry: Entry) -> bool:
        """Whether an offer is what a connect waits for."""
        key = (entry.offer.if_instance, entry.offer.if_type)
        return entry.is_socket and not entry.for_accept and key in self._waiting

    def end(self, endpoint: UUID, service: UUID) -> Any:
        """The connect has ended: its token, None if there was none."""
        request = self._waiting.pop((endpoint, service), None)
        return None if request is None else request.token

    def next_deadline(self) -> float | None:
        """When the oldest connect has waited long enough; None when there is none."""
        return min((request.deadline for request in self._waiting.values()), default=None)

    def expired(self, now: float) -> list[Any]:
        """The tokens of the connects that nobody answered in time; they have ended."""
        late = [key for key, request in self._waiting.items() if request.deadline <= now]
        return [self._waiting.pop(key).token for key in late]

    def clear(self) -> list[Any]:
        """The connection is over: the tokens of all that waited."""
        tokens = [request.token for request in self._waiting.values()]
        self._waiting.clear()
        return tokens
