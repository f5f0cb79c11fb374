"""A gate between a guest and its daemon: MODIFYCHANNEL stays in it for as long as the scheduler wants.

"The host has not processed MODIFYCHANNEL yet" is an ordinary state: the guest has posted the message and goes
on, the daemon has not seen it. Here it is entered and left on command: the guest's control link is one end of
a socket pair, a thread passes packets and descriptors on, and while the gate is shut a MODIFYCHANNEL, and
whatever the guest posts after it, waits. Guest and daemon are the real ones and cannot tell.
"""

import array
import contextlib
import os
import select
import socket
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Final

from vmbusd.abi import link, messages, paths, wire
from vmbusd.abi.link_socket import close_all
from vmbusd.lab.schedule import PATIENCE, ReplayError

_MODIFY: Final = wire.encode(messages.ModifyChannel(0, 0))[:4]
_FD: Final = array.array("i").itemsize


class Gate:
    """Stands before the guest socket of the daemon in `runtime_dir`. A context manager.

    Attributes: `guest`, the socket to attach with, which its user takes over.
    """

    def __init__(self, runtime_dir: Path) -> None:
        self._daemon = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            self._daemon.connect(str(runtime_dir / paths.GUEST_SOCKET))
        except OSError as error:
            self._daemon.close()
            raise ReplayError(f"the daemon's guest socket: {error.strerror}") from error
        self.guest, self._ours = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
        )
        self._changed = threading.Condition()
        self._held: deque[bytes] = deque()
        self._shut = self._ending = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._pass_on, name="gate", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Gate":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._daemon.close()
        self._ours.close()
        os.close(self._wake)

    def shut(self) -> None:
        """From now on a MODIFYCHANNEL waits in the gate."""
        with self._changed:
            self._shut = True

    def wait_held(self) -> None:
        """Wait until one waits in the gate. Raises ReplayError when none comes."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._held, PATIENCE):
                raise ReplayError("the guest posted no MODIFYCHANNEL")

    def open(self) -> None:
        """Let everything through, what waited first."""
        with self._changed:
            self._shut = False
        os.eventfd_write(self._wake, 1)

    # -- the thread ----------------------------------------------------------------------------------------

    def _pass_on(self) -> None:
        poll = select.poll()
        for fd in (self._daemon.fileno(), self._ours.fileno(), self._wake):
            poll.register(fd, select.POLLIN)
        # The end of one side is the end of the other.
        with contextlib.suppress(OSError):
            while not self._ending:
                ready = {fd for fd, _ in poll.poll()}
                if self._wake in ready:
                    os.eventfd_read(self._wake)
                    self._release()
                if self._daemon.fileno() in ready and not self._to_guest():
                    break
                if self._ours.fileno() in ready and not self._to_daemon():
                    break
        for end in (self._daemon, self._ours):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _to_guest(self) -> bool:
        data, ancillary, _, _ = self._daemon.recvmsg(
            link.MAX_GUEST_PACKET,
            socket.CMSG_SPACE(link.MAX_DESCRIPTORS * _FD),
            socket.MSG_CMSG_CLOEXEC,
        )
        fds = array.array("i")
        for _, _, rights in ancillary:
            fds.frombytes(rights)
        try:
            if data:
                rights_out = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
                self._ours.sendmsg([data], rights_out)
        finally:
            close_all(fds)
        return bool(data)

    def _to_daemon(self) -> bool:
        packet = self._ours.recv(link.MAX_GUEST_PACKET)
        with self._changed:
            if self._held or (self._shut and _is_modify(packet)):
                self._held.append(packet)
                self._changed.notify_all()
                return bool(packet)
        if packet:
            self._daemon.send(packet)
        return bool(packet)

    def _release(self) -> None:
        with self._changed:
            if self._shut:
                return
            packets = list(self._held)
            self._held.clear()
        for packet in packets:
            self._daemon.send(packet)


def _is_modify(packet: bytes) -> bool:
    found = link.message_of(packet)
    return found is not None and found[1].startswith(_MODIFY)
