# SPDX-License-Identifier: MIT
# Packets of a SEQPACKET socket, several for one call: what a turn of an event loop receives and sends.
#
# Nothing here waits: every call is made with MSG_DONTWAIT, so the GIL is kept. No room is offered for
# descriptors; the kernel closes what a peer attaches and says MSG_CTRUNC.

SEND_BURST = VMB_BURST
TAKE_BURST = VMB_TAKE


def send_packets(int fd, list packets not None):
    """Hand the first SEND_BURST packets of the list to the kernel, in order; returns how many it took.

    0 means that it has no room now. Raises OSError when the first can never be sent: the peer is gone.
    """
    cdef vmb_datagram parts[VMB_BURST]
    cdef Py_ssize_t count = min(len(packets), VMB_BURST)
    cdef Py_ssize_t i
    cdef bytes packet
    cdef int sent
    if count == 0:
        return 0
    for i in range(count):
        packet = packets[i]
        if packet is None:
            raise UsageError("a packet is bytes, not None")
        parts[i].at = <char *>packet
        parts[i].size = <size_t>len(packet)
    sent = vmb_send_packets(fd, parts, <unsigned>count)
    if sent < 0:
        raise OSError(-sent, strerror(-sent).decode())
    return sent


cdef class Inbox:
    """Room for the packets that one call takes from a socket; links that allow the same size share one."""

    cdef char *buffer
    cdef readonly Py_ssize_t max_packet
    cdef readonly int descriptors_refused

    def __cinit__(self, max_packet):
        self.max_packet = _size(max_packet, "inbox: packet")
        self.buffer = <char *>PyMem_RawMalloc(<size_t>(self.max_packet + 1) * VMB_TAKE)
        if self.buffer == NULL:
            raise MemoryError()

    def __dealloc__(self):
        PyMem_RawFree(self.buffer)

    def take(self, int fd):
        """At most TAKE_BURST packets in order, [] when there is none now.

        b"" is the end of the link and always the last. None stands for a packet that was too long.
        `descriptors_refused` says how many of these packets came with descriptors, which are closed.
        Raises OSError when the peer is gone.
        """
        cdef size_t sizes[VMB_TAKE]
        cdef int flags[VMB_TAKE]
        cdef size_t room = <size_t>self.max_packet
        cdef int came, i
        came = vmb_take_packets(fd, self.buffer, room, sizes, flags)
        if came < 0:
            raise OSError(-came, strerror(-came).decode())
        self.descriptors_refused = 0
        packets = []
        for i in range(came):
            if flags[i] & MSG_CTRUNC:
                self.descriptors_refused += 1
            if flags[i] & MSG_TRUNC:
                packets.append(None)
            else:
                packets.append((self.buffer + <size_t>i * room)[:sizes[i]])
        return packets
