"""What a guest asks of its connection as a whole, sans-IO: sockets, monitor pages, a pause.

Each waits for its answer beside whatever else goes on. While a pause lasts, and until it is agreed on, what
this side has to say waits too, since the host would refuse it (case 293).
Sources: OpenVMM vmbus_client, Linux 6.1 hyperv_transport.c.
"""

import abc
from typing import Any
from uuid import UUID

import msgspec

from guest_client import actions, versions
from guest_client.actions import Action
from guest_client.devices import Devices
from guest_client.entries import State
from guest_client.socket_requests import SocketRequests
from vmbusd.abi import messages
from vmbusd.abi.errors import RefusedError, UsageError, VmbusError
from vmbusd.abi.messages import Feature


class Requests(Devices, abc.ABC):
    """The requests of one connection.

    Attributes: `now`, the caller's time in seconds as `tick` was told; `monitor_pages`, those in use;
    `paused`.
    """

    def __init__(self, options: versions.Options) -> None:
        super().__init__(options)
        self.now = 0.0
        self.monitor_pages = (0, 0)
        self.paused = False
        self._sockets = SocketRequests()
        self._modifying: tuple[Any, tuple[int, int]] | None = None
        self._pausing: Any = None
        self._held: list[msgspec.Struct] | None = None
        """Messages that wait for the end of a pause, None while there is none."""

    def pause(self, token: Any) -> list[Action]:
        """Ask the host to send nothing any more until `unpause`; what we send waits, too (6.0, case 292)."""
        self._need_feature(Feature.PAUSE_RESUME)
        if self._held is not None:
            raise UsageError("the connection is paused already")
        self._post(messages.Pause())
        self._pausing, self._held = token, []
        return self._flush()

    def unpause(self) -> list[Action]:
        """End a pause. Raises UsageError unless paused."""
        self._need(State.CONNECTED)
        if not self.paused:
            raise UsageError("the connection is not paused")
        held, self._held, self.paused = self._held or [], None, False
        for message in (messages.Resume(), *held):
            self._post(message)
        return self._flush()

    def modify_connection(self, parent_to_child: int, child_to_parent: int, token: Any) -> list[Action]:
        """Use these monitor pages (guest physical addresses, both 0: none) from now on (6.0, case 156)."""
        self._need_feature(Feature.MODIFY_CONNECTION)
        if self._modifying is not None:
            raise UsageError("the connection is being modified already")
        self._modifying = token, (parent_to_child, child_to_parent)
        self._post(messages.ModifyConnection(parent_to_child, child_to_parent))
        return self._flush()

    def connect_socket(
        self, endpoint: UUID, service: UUID, token: Any, *, silo: UUID | None = None
    ) -> list[Action]:
        """Connect to `service` of the host: done with the relid of the channel that it offers (case 195).

        Raises UsageError below 4.0, or below 5.2 with a silo.
        """
        self._need(State.CONNECTED)
        least = versions.HAS_SOCKETS if silo is None else versions.HAS_SILO
        if self.version < least:
            raise UsageError(f"this needs {versions.text(least)}, we speak {versions.text(self.version)}")
        self._sockets.add(endpoint, service, token, self.now)
        if silo is None:
            self._post(messages.TlConnect(endpoint, service))
        else:
            self._post(messages.TlConnect2(endpoint, service, silo))
        return self._flush()

    # -- told by the host ----------------------------------------------------------------------------------

    def _on_socket_result(self, message: messages.TlConnectResult) -> None:
        endpoint, service = message.guest_endpoint_id, message.host_service_id
        token = self._sockets.end(endpoint, service)
        if token is None:
            self._refuse("TlConnectResult", f"{message} answers nothing")
            return
        text = f"the host refuses {endpoint} the service {service}, status {message.status:#x}"
        self._out.append(actions.Done(token, RefusedError(text, message.status)))

    def _on_connection_modified(self, message: messages.ModifyConnectionResponse) -> None:
        if self._modifying is None:
            self._refuse("ModifyConnectionResponse", f"{message} answers nothing")
            return
        (token, pages), self._modifying = self._modifying, None
        state = message.connection_state
        if state == messages.ConnectionState.OK:
            self.monitor_pages = pages
            self._out.append(actions.Done(token))
        else:
            error = RefusedError(f"the host refuses these monitor pages, connection state {state}", state)
            self._out.append(actions.Done(token, error))

    def _on_paused(self, message: messages.PauseResponse) -> None:
        if self._pausing is None:
            self._refuse("PauseResponse", f"{message} answers nothing")
            return
        token, self._pausing, self.paused = self._pausing, None, True
        self._out.append(actions.Done(token))

    # -- small change --------------------------------------------------------------------------------------

    def _need_feature(self, feature: Feature) -> None:
        self._need(State.CONNECTED)
        if not self.features & feature:
            raise UsageError(f"the feature {feature.name} was not agreed on")

    def _post(self, message: msgspec.Struct) -> None:
        if self._held is None:
            super()._post(message)
        else:
            self._held.append(message)

    def _fail_requests(self, error: VmbusError) -> None:
        """End what waits for an answer to the connection as a whole."""
        tokens = self._sockets.clear()
        if self._modifying is not None:
            tokens.append(self._modifying[0])
        if self._pausing is not None:
            tokens.append(self._pausing)
        self._modifying = self._pausing = None
        self._out += [actions.Done(token, error) for token in tokens]

    def _socket_unposted(self, message: messages.TlConnect | messages.TlConnect2, error: VmbusError) -> None:
        token = self._sockets.end(message.guest_endpoint_id, message.host_service_id)
        if token is not None:
            self._out.append(actions.Done(token, error))
