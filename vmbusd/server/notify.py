"""Tells a service manager how the daemon is: systemd's notification protocol, in the three words we need."""

import os
import socket
from collections.abc import Mapping

from vmbusd.abi.errors import ResourceError


class Notifier:
    """The way to the service manager that started this process; without one every call does nothing.

    The manager reads NOTIFY_SOCKET's datagrams in order, so the last `status` is the one it shows.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address and self._address[0] not in "/@":
            raise ResourceError(f"NOTIFY_SOCKET {self._address!r} is neither a path nor an abstract socket")

    @property
    def present(self) -> bool:
        """Whether anybody listens, so that a caller need not compose a status for nobody."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """Start-up is complete: sockets listen, partitions are there. Units ordered after ours start now."""
        self._send("READY=1", f"STATUS={_one_line(status)}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={_one_line(text)}")

    def stopping(self) -> None:
        """An orderly stop has begun; the end of the process is no failure any more."""
        self._send("STOPPING=1")

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        # '@' stands for the zero byte of an abstract address, which an environment variable cannot hold.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
                manager.connect(address)
                manager.sendall("\n".join(assignments).encode(errors="replace"))
        except OSError as error:
            raise ResourceError(f"cannot notify {self._address!r}: {error.strerror or error}") from error


def _one_line(text: str) -> str:
    # A line break would begin an assignment of its own.
    return " ".join(text.split())
