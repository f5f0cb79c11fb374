"""One connection to `admin.sock`: a request, its answer, and errors by meaning."""

import contextlib
import os
import socket
import struct
from types import TracebackType
from typing import Any, Final

from vmbusd.abi import paths
from vmbusd.abi.errors import LinkLost, RefusedError, ResourceError
from vmbusd.server import requests
from vmbusd.server.requests import Request

ANSWER_TIMEOUT: Final = 10.0
"""Seconds to wait for an answer; the daemon answers at once unless it is stopped."""
_CHUNK: Final = 1 << 16
_TIMEVAL: Final = struct.Struct("@ll")


class AdminClient:
    """A connection to the daemon of a runtime directory. A context manager."""

    def __init__(self, runtime_dir: str | os.PathLike[str] | None = None) -> None:
        """Raises UsageError without a directory, ResourceError without a daemon or permission."""
        path = paths.runtime_dir(runtime_dir) / paths.ADMIN_SOCKET
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._buffer = b""
        try:
            # The kernel's own timeout: a socket that Python has given one fails when others are before us.
            self._sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(ANSWER_TIMEOUT), 0)
            )
            self._sock.connect(os.fspath(path))
        except OSError as error:
            self._sock.close()
            if isinstance(error, FileNotFoundError | ConnectionRefusedError):
                raise ResourceError(f"no vmbusd at {path}: is it running?") from error
            raise ResourceError(f"{path}: cannot connect: {error.strerror}") from error
        self._sock.settimeout(ANSWER_TIMEOUT)

    def ask(self, request: Request) -> dict[str, Any]:
        """The result of a request.

        Raises RefusedError with the daemon's text, ProtocolError for an answer that is none, LinkLost or
        ResourceError when there is no answer.
        """
        try:
            with contextlib.suppress(BrokenPipeError):
                # Refused before we could ask: the reason is there to be read.
                self._sock.sendall(requests.encode(request))
            while b"\n" not in self._buffer:
                chunk = self._sock.recv(_CHUNK)
                if not chunk:
                    raise LinkLost("vmbusd closed the connection without an answer")
                self._buffer += chunk
        except TimeoutError as error:
            raise ResourceError(f"vmbusd did not answer within {ANSWER_TIMEOUT:g} s") from error
        except OSError as error:
            raise LinkLost(f"vmbusd is gone: {error.strerror}") from error
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer = requests.decode_answer(line)
        if answer.error is not None:
            raise RefusedError(answer.error.text)
        return answer.result

    def close(self) -> None:
        """Close the connection. May be called again."""
        self._sock.close()

    def __enter__(self) -> "AdminClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
