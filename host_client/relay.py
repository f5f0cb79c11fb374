"""Joins a byte pipe with a stream socket, as a host does that relays a guest's sockets to programs.

Each direction ends on its own: the end of one stream is told to the other side, which may go on writing. The
relay ends when both have ended. A guest that vanishes is the end of its stream, not an error of the relay; so
is a program behind the socket that does not take any more. Source: OpenVMM vmbus_server (hvsock.rs).
"""

import contextlib
import logging
import socket
import threading
from typing import Final

from vmbusd.abi.errors import ChannelGone, RingFull
from vmbusd.abi.pipe import Pipe

log = logging.getLogger(__name__)

CHUNK: Final = 16384
"""Bytes moved at a time: what one packet of a pipe holds."""


def relay(pipe: Pipe, sock: socket.socket) -> None:
    """Move bytes both ways until both streams have ended; `sock` is connected and blocking, and stays open.

    Not for callbacks: it waits for the channel's packets. Raises ProtocolError for what is no pipe packet.
    """
    back = threading.Thread(target=_to_pipe, args=(sock, pipe), name="relay", daemon=True)
    back.start()
    try:
        _to_socket(pipe, sock)
    except BaseException:
        _end_reading(sock)
        raise
    finally:
        back.join()


def _to_socket(pipe: Pipe, sock: socket.socket) -> None:
    try:
        while data := pipe.read(CHUNK):
            sock.sendall(data)
    except ChannelGone:
        # The guest is gone: nothing of its stream is missing, and nobody reads what the program still sends.
        _end_reading(sock)
    except OSError as error:
        log.debug("the program behind a socket takes no more: %s", error)
        return
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


def _to_pipe(sock: socket.socket, pipe: Pipe) -> None:
    try:
        while data := _received(sock):
            pipe.write(data, timeout=None)
        pipe.end(timeout=None)
    except (ChannelGone, RingFull) as error:
        log.debug("the guest takes no more: %s", error)


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(CHUNK)
    except OSError:
        # Whoever breaks his end has said all that he will.
        return b""


def _end_reading(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RD)
