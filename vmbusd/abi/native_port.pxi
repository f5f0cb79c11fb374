# SPDX-License-Identifier: MIT
# One open channel's packets from one side: the common case of every verb without a Python layer in between.

cdef extern from "vmbus_requests.h" nogil:
    enum:
        VMB_REQUESTS
        VMB_LOCK_CONTROL

    struct vmb_requests:
        uint64_t slot[256]
        uint64_t head

    uint64_t vmb_request_begin(vmb_requests *r, uint64_t word)
    int vmb_request_end(vmb_requests *r, uint64_t id, uint64_t *word)
    int vmb_ring_lock(uint32_t *lock, uint32_t owner)
    void vmb_ring_unlock(uint32_t *lock)

cdef extern from "vmbus_ring_packets.h" nogil:
    enum:
        VMB_PACKET_IN_BAND
        VMB_PACKET_COMPLETION

cdef Py_ssize_t _REQUESTS_OFFSET = 512
cdef Py_ssize_t _LOCK_OFFSET = 2568

# A holder has the lock for one copy, some microseconds at most, if it runs at all. Who finds it taken for longer than
# these looks does what he does when the ring is full.
cdef int LOCK_LOOKS = 2000


cdef class Requests:
    """Transaction ids of outstanding requests: in the block of an event flag, or in memory of its own."""

    cdef _View view
    cdef vmb_requests own
    cdef vmb_requests *table
    cdef readonly uint64_t unknown

    def __cinit__(self, blocks=None, flag=0):
        if blocks is None:
            self.table = &self.own
            return
        cdef uint32_t f = _index(flag, VMB_FLAGS, "event flag")
        self.view = _view(blocks, f * VMB_PAGE + _REQUESTS_OFFSET, sizeof(vmb_requests), 8, True, "guest block")
        self.table = <vmb_requests *>self.view.at

    def begin(self, word=0):
        """An id from 1 on for a request with a word of the sender's below 2^63; None when all are outstanding."""
        cdef uint64_t id = vmb_request_begin(self.table, _number(word, <uint64_t>INT64_MAX, "word of a request"))
        return id if id else None

    def end(self, id):
        """The word of the request that is over; None, and counted, for an id that is not outstanding."""
        cdef uint64_t word = 0
        if vmb_request_end(self.table, id, &word):
            return word
        self.unknown += 1
        return None

    @property
    def outstanding(self):
        """Requests without completion."""
        cdef int n = 0
        cdef int i
        for i in range(VMB_REQUESTS):
            n += vmb_py_load(&self.table.slot[i]) != 0
        return n


cdef class Port:
    """The packets of one open channel, from one side. Threads may share it.

    `slow` finishes what a verb cannot: waiting, errors, options. With `blocks` other processes write the same ring: a
    lock in the channel's block keeps them apart, and whoever takes it goes on where the last one ended.
    """

    cdef readonly RingWriter writer
    cdef readonly RingReader reader
    cdef readonly Requests requests
    cdef Route route
    cdef HostSender host
    cdef uint32_t flag
    cdef _View block
    cdef uint32_t *lock
    cdef uint32_t owner
    cdef object slow
    cdef readonly bint closed
    cdef readonly uint64_t signalled

    def __cinit__(self, RingWriter writer not None, RingReader reader not None, slow, *, Route route=None,
                  HostSender host=None, flag=0, Requests requests=None, blocks=None, owner=None):
        if (route is None) == (host is None):
            raise UsageError("a port signals by a route or by a host's page")
        self.writer = writer
        self.reader = reader
        self.requests = requests
        self.route = route
        self.host = host
        self.flag = _index(flag, VMB_FLAGS, "event flag")
        self.slow = slow
        if blocks is not None:
            self.block = _view(blocks, self.flag * VMB_PAGE + _LOCK_OFFSET, 4, 4, True, "guest block")
            self.lock = <uint32_t *>self.block.at
            self.owner = VMB_LOCK_CONTROL if owner is None else _index(owner, VMB_MAX_VPS, "VP") + 1

    def close(self):
        """From now on every verb is left to `slow`, and nobody is signalled."""
        self.closed = True

    def signal(self):
        """Signal the other side, whatever the rings look like. True for 0 -> 1."""
        return False if self.closed else self._signal() != 0

    cdef int _signal(self) except -1:
        cdef int first
        self.signalled += 1
        if self.route is not None:
            if not self.route.live or self.route.sender is None:
                return 0
            return vmb_signal(&self.route.sender.sender, self.route.relid, self.route.flag) != 0
        first = vmb_signal_host(
            <vmb_host_page *>self.host.view.at, &self.host.doorbell.bell, &self.host.rung, self.flag
        )
        self.host.signals += 1
        self.host.transitions += first
        return first

    cdef inline int _begin(self) except -1:
        """1 when the ring may be written; 0 when the channel is closed or another process holds the lock."""
        if self.closed or self.writer.view.page == NULL:
            return 0
        return 1 if self.lock == NULL else self._take_lock()

    cdef int _take_lock(self) except -1:
        cdef int looks = 0
        while not vmb_ring_lock(self.lock, self.owner):
            looks += 1
            if looks > LOCK_LOOKS:
                return 0
        if vmb_py_load32(&self.writer.view.page.write_index) != self.writer.writer.published:
            if vmb_writer_resync(&self.writer.writer):
                vmb_ring_unlock(self.lock)
                _ring_failed(VMB_RING_DEAD, &self.writer.writer.ring, self.writer.view)
        return 1

    cdef inline void _end(self) noexcept:
        if self.lock != NULL:
            vmb_ring_unlock(self.lock)

    # -- out -----------------------------------------------------------------------------------------------

    def send(self, payload, *, bint request=False, uint64_t word=0, object options=None):
        """Send an in-band packet; the transaction id of a request, else None."""
        cdef uint64_t id = 0
        cdef uint64_t given = 0
        cdef int result
        if PyBytes_CheckExact(payload) and options is None and self._begin():
            if request:
                id = vmb_request_begin(self.requests.table, word) if self.requests is not None else 0
                if not id:
                    self._end()
                    return self.slow.send(payload, request=request, word=word)
            result = vmb_writer_put(
                &self.writer.writer, VMB_PACKET_IN_BAND, request, id, NULL, 0,
                PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload),
            )
            if result == VMB_RING_OK:
                result = vmb_writer_publish(&self.writer.writer)
                self._end()
                if result:
                    self._signal()
                return id if request else None
            self._end()
            if id:
                vmb_request_end(self.requests.table, id, &given)
        return self.slow.send(payload, request=request, word=word, options=options)

    def put(self, payload, uint16_t type=6, uint16_t flags=0, uint64_t transaction_id=0, extra=b""):
        """Write one packet of any type and signal if need be. False when there is no room or no lock now."""
        cdef int result
        if not self._begin():
            self._raise_if_closed()
            return False
        try:
            if self.writer._put(payload, type, flags, transaction_id, extra):
                return False
            result = vmb_writer_publish(&self.writer.writer)
        finally:
            self._end()
        if result:
            self._signal()
        return True

    def put_many(self, payloads, Py_ssize_t start=0, *, uint16_t type=6, uint16_t flags=0, transaction_ids=None):
        """Write payloads[start:] as far as they fit, publish once, signal at most once. How many."""
        if not self._begin():
            self._raise_if_closed()
            return 0
        try:
            sent, signal, _ = self.writer.put_many(
                payloads, start, type=type, flags=flags, transaction_ids=transaction_ids
            )
        finally:
            self._end()
        if signal:
            self._signal()
        return sent

    def send_many(self, payloads):
        """Send in-band packets, publish as few times as there is room. How many: all of them."""
        cdef list items = payloads if PyList_CheckExact(payloads) else list(payloads)
        cdef Py_ssize_t sent = 0 if self.closed else self.put_many(items)
        if sent == PyList_GET_SIZE(items):
            return sent
        return self.slow.send_many(items, sent)

    def ask(self, Py_ssize_t size, Py_ssize_t extra=0):
        """Ask for a signal once `size` bytes of payload fit, and look again. True: wait; False: try again."""
        self._raise_if_closed()
        if not self._begin():
            return False
        try:
            return self.writer.ask(size, extra)
        finally:
            self._end()

    cdef int _raise_if_closed(self) except -1:
        if self.closed:
            self.slow.raise_closed()
        return 0

    # -- in ------------------------------------------------------------------------------------------------

    cdef inline int _due(self) except -1:
        if self.reader.due:
            self.reader.due = False
            if not self.closed:
                self._signal()
        return 0

    def receive_into(self, buffer):
        """Copy the next payload, its type header behind it. Bytes of payload; waits for a packet."""
        if PyByteArray_CheckExact(buffer) and not self.closed:
            while True:
                self.reader._get_into(PyByteArray_AS_STRING(buffer), PyByteArray_GET_SIZE(buffer), True)
                if self.reader.due:
                    self._due()
                if self.reader.got < 0:
                    break
                if self.reader.type != VMB_PACKET_COMPLETION or self._completed(self.reader.transaction_id):
                    return self.reader.got
        return self.slow.receive_into(buffer)

    cdef int _completed(self, uint64_t id) except -1:
        """0 when nobody asked for this completion: it is dropped and counted."""
        cdef uint64_t word = 0
        if self.requests is None:
            return 1
        if vmb_request_end(self.requests.table, id, &word):
            return 1
        self.requests.unknown += 1
        return 0

    def get(self):
        """(type, flags, transaction id, payload, type header) of the next packet; None: nothing is there."""
        self._raise_if_closed()
        while True:
            packet = self.reader.get()
            self._due()
            if packet is None or packet[0] != VMB_PACKET_COMPLETION or self._completed(packet[2]):
                return packet

    def get_many_into(self, buffer, spans):
        """Copy whole packets to `buffer`, pairs of u32 to `spans`, completions too. How many; 0: nothing is there."""
        self._raise_if_closed()
        n = self.reader.get_many_into(buffer, spans)
        self._due()
        return n

    def commit(self):
        """Give back what was read without commit, and signal the writer if that made the room it waits for."""
        if self.reader.commit():
            self.reader.due = True
        self._due()

    def rest(self):
        """Commit, ask for signals, look again. True: wait for one."""
        self._raise_if_closed()
        wait = self.reader.rest()
        self._due()
        return wait
