# SPDX-License-Identifier: MIT
# One open channel's packets from one side: the common case of every verb without a Python layer in between.

# What a channel's send waits for room unless told otherwise: a peer that reads nothing for so long is stuck.
cdef object SEND_TIMEOUT = 10.0

# Payloads that send_many takes from an iterable at a time.
cdef Py_ssize_t SEND_BATCH = 1024

# A holder has the lock for one copy, some microseconds at most, if it runs at all. Who finds it taken for longer than
# these looks does what he does when the ring is full.
cdef int LOCK_LOOKS = 2000


cdef class Port:
    """The packets of one open channel, from one side. Threads may share it.

    `slow` finishes what a verb cannot: waiting, errors, options. With `blocks` other processes of the guest use the
    same rings: a lock in the channel's block keeps writers apart, the claim readers, and whoever comes next goes on
    where the last one ended, by indices that only the guest can write.
    """

    cdef readonly RingWriter writer
    cdef readonly RingReader reader
    cdef readonly Requests requests
    cdef Route route
    cdef HostSender host
    cdef uint32_t flag
    cdef _View block, table
    cdef vmb_block *at
    cdef uint32_t *lock
    cdef uint64_t *slot
    cdef uint32_t generation
    cdef uint32_t owner
    cdef bint holding
    cdef object slow
    cdef readonly bint closed
    cdef readonly uint64_t signalled

    def __cinit__(self, RingWriter writer not None, RingReader reader not None, slow, *, Route route=None,
                  HostSender host=None, flag=0, Requests requests=None, blocks=None, owner=None, table=None,
                  generation=0):
        if (route is None) == (host is None):
            raise UsageError("a port signals by a route or by a host's page")
        self.writer = writer
        self.reader = reader
        self.requests = requests
        self.route = route
        self.host = host
        self.flag = _index(flag, VMB_FLAGS, "event flag")
        self.slow = slow
        self._hook()
        if blocks is not None:
            if table is not None:
                self.table = _view(table, 0, sizeof(vmb_table), 64, False, "channel table")
                self.slot = &(<vmb_table *>self.table.at).slot[self.flag]
                self.generation = _generation(generation)
            self.block = _view(blocks, self.flag * VMB_PAGE, sizeof(vmb_block), 64, True, "guest block")
            self.at = <vmb_block *>self.block.at
            self.lock = &self.at.ring_lock
            writer.kept = reader.kept = self.block
            writer.writer.kept = &self.at.ring_write
            reader.reader.kept = &self.at.ring_read
            self.owner = VMB_LOCK_CONTROL if owner is None else _index(owner, VMB_MAX_VPS, "VP") + 1

    cdef int _hook(self) except -1:
        """Inject the faults of whoever signals for us, into both rings too; they keep him, for they may outlive us."""
        cdef vmb_faults *faults = NULL
        cdef uint32_t relid = 0
        if self.route is None:
            faults = &self.host.faults
            relid = vmb_fault_relid(faults.table, self.flag) if faults.table != NULL else 0
        elif self.route.sender is not None:
            faults = &self.route.sender.sender.faults
            relid = self.route.relid
        _inject(&self.writer.writer.ring, faults, relid)
        _inject(&self.reader.reader.ring, faults, relid)
        self.writer.faulty = self.reader.faulty = self.host if self.route is None else self.route.sender
        return 0

    def close(self):
        """From now on every verb is left to `slow`, nobody is signalled, and the guest's blocks are let go of."""
        self.closed = True
        if self.requests is not None:
            self.requests._leave()
            self.requests = None
        if self.holding:  # exporting a payload ran code that closed the channel
            vmb_ring_unlock(self.lock)
            self.holding = False
        self.lock = NULL
        self.slot = NULL
        self.at = NULL
        self.writer.writer.kept = self.reader.reader.kept = NULL
        self.writer.kept = self.reader.kept = self.block = self.table = None
        # What signals holds mappings, and `slow` us: a closed channel must not keep its process attached.
        self.writer.writer.ring.armed = self.reader.reader.ring.armed = &vmb_never_armed
        self.writer.faulty = self.reader.faulty = self.host = self.route = None

    def signal(self):
        """Signal the other side, whatever the rings look like. True for 0 -> 1."""
        return False if self.closed else self._signal() != 0

    cdef int _signal(self) except -1:
        self.signalled += 1
        if self.route is not None:
            if not self.route.live or self.route.sender is None:
                return 0
            return vmb_signal(&self.route.sender.sender, self.route.relid, self.route.flag) != 0
        if self.host is None:
            return 0
        return self.host.raise_flag(self.flag)

    cdef int _tell(self) except -1:
        """Signal the reader of what was just published."""
        if VMB_ARMED_AT(self.writer.writer.ring.armed):
            vmb_ring_step(&self.writer.writer.ring, VMB_STEP_RING_PUBLISH_SIGNAL)
        self._signal()
        return 0

    def flush(self):
        """Signal the writer if a read made the room that it waits for and nobody has said so yet."""
        self._due()

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
        if self.slot != NULL and not vmb_ring_goes_on(self.slot, self.generation):
            vmb_ring_unlock(self.lock)
            self.slow.close(f"{self.slow.name} was closed or rescinded")
            return 0
        if self.at.ring_writer != self.owner or self.at.ring_write != self.writer.writer.published:
            self._take_over()
        self.holding = True
        return 1

    cdef int _take_over(self) except -1:
        """Another process wrote last: go on from there. It may have died before it said so to the host."""
        cdef bint unsaid = vmb_py_load32(&self.writer.view.page.write_index) != self.at.ring_write
        if vmb_writer_resync(&self.writer.writer):
            vmb_ring_unlock(self.lock)
            _ring_failed(VMB_RING_DEAD, &self.writer.writer.ring, self.writer.view)
        self.at.ring_writer = self.owner
        if unsaid:
            self._signal()
        return 0

    cdef inline void _end(self) noexcept:
        if self.lock != NULL:
            self.holding = False
            vmb_ring_unlock(self.lock)

    # -- out -----------------------------------------------------------------------------------------------

    def send(self, payload, *, bint request=False, ranges=None, transaction_id=None, timeout=SEND_TIMEOUT,
             uint64_t word=0):
        """Send a packet, in-band unless it names ranges; the transaction id of a request, else None."""
        cdef uint64_t id = 0
        cdef uint64_t given = 0
        cdef int result
        if PyBytes_CheckExact(payload) and ranges is None and transaction_id is None and self._begin():
            if request:
                id = vmb_request_begin(self.requests.table, word) if self.requests is not None else 0
                if not id:
                    self._end()
                    return self._send_slowly(payload, request, None, None, timeout, word)
            result = vmb_writer_put(
                &self.writer.writer, VMB_PACKET_IN_BAND, request, id, NULL, 0,
                PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload),
            )
            if result == VMB_RING_OK:
                result = vmb_writer_publish(&self.writer.writer)
                self._end()
                if result:
                    self._tell()
                return id if request else None
            self._end()
            if id:
                vmb_request_end(self.requests.table, id, &given)
        return self._send_slowly(payload, request, ranges, transaction_id, timeout, word)

    cdef object _send_slowly(self, payload, bint request, ranges, transaction_id, timeout, uint64_t word):
        return self.slow.send(
            payload, request=request, ranges=ranges, transaction_id=transaction_id, timeout=timeout, word=word
        )

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
            self._tell()
        return True

    def put_many(self, payloads, Py_ssize_t start=0, *, type=6, flags=0, transaction_ids=None):
        """Write payloads[start:] as far as they fit, publish once, signal at most once. How many."""
        cdef list items = payloads if PyList_CheckExact(payloads) else list(payloads)
        cdef list ids = None if transaction_ids is None else list(transaction_ids)
        return self._put_many(items, start, type, flags, ids)

    cdef Py_ssize_t _put_many(self, list items, Py_ssize_t start, type, flags, list ids) except -1:
        cdef Py_ssize_t sent
        cdef int signal = 0
        if not self._begin():
            self._raise_if_closed()
            return 0
        try:
            sent = self.writer._put_many(items, start, type, flags, ids, &signal)
        finally:
            self._end()
        if signal:
            self._tell()
        return sent

    def send_many(self, payloads, *, timeout=SEND_TIMEOUT):
        """Send in-band packets, publish as few times as there is room. How many: all of them."""
        cdef Py_ssize_t total = 0
        if PyList_CheckExact(payloads):
            return self._send_list(payloads, timeout)
        rest = iter(payloads)
        while items := list(_islice(rest, SEND_BATCH)):
            total += self._send_list(items, timeout)
        return total

    cdef Py_ssize_t _send_list(self, list items, timeout) except -1:
        cdef Py_ssize_t sent = 0 if self.closed else self._put_many(items, 0, _IN_BAND, _NOTHING, None)
        if sent != PyList_GET_SIZE(items):
            self.slow.send_many(items, sent, timeout)
        return PyList_GET_SIZE(items)

    def ask(self, Py_ssize_t size, Py_ssize_t extra=0):
        """Ask for a signal once `size` bytes of payload fit, and look again. True: wait; False: try again."""
        self._raise_if_closed()
        if not self._begin():
            return False
        try:
            return self.writer.ask(size, extra)
        finally:
            self._end()

    def withdraw(self):
        """Stop asking for room."""
        if self._begin():
            try:
                self.writer.withdraw()
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

    cdef inline int _before_read(self) except -1:
        return self._delay() if VMB_ARMED_AT(self.reader.reader.ring.armed) else 0

    cdef int _delay(self) except -1:
        """Without the GIL: meanwhile the channel may be closed, but what signals for it stays."""
        route, host = self.route, self.host
        vmb_ring_delay(&self.reader.reader.ring)
        return 0

    def receive_into(self, buffer, *, timeout=None):
        """Copy the next payload, its type header behind it. Bytes of payload; -1 after `timeout` seconds."""
        self._before_read()
        if not self.closed and self._try_into(buffer):
            return self.reader.got
        return self.slow.receive_into(buffer, timeout=timeout)

    def try_into(self, buffer):
        """As `receive_into`, but -1 at once when nothing is there, and ChannelGone after the close."""
        self._before_read()
        self._raise_if_closed()
        return self.reader.got if self._try_into(buffer) else -1

    cdef inline int _try_into(self, buffer) except -1:
        while True:
            if PyByteArray_CheckExact(buffer):
                self.reader._get_into(PyByteArray_AS_STRING(buffer), PyByteArray_GET_SIZE(buffer), True)
            else:
                self.reader.get_into(buffer)
            if self.reader.due:
                self._due()
            if self.reader.got < 0:
                return 0
            if self.reader.type != VMB_PACKET_COMPLETION or self._completed(
                self.reader.transaction_id, None, buffer
            ):
                return 1

    cdef int _completed(self, uint64_t id, bytes payload, buffer) except -1:
        """0 for a completion that nobody asked for, dropped and counted, or that `slow` took by its word."""
        cdef uint64_t word = 0
        if self.requests is None:
            return 1
        if not vmb_request_end(self.requests.table, id, &word):
            self.requests.unknown += 1
            return 0
        if not word:
            return 1
        self.slow.completed(word, bytes(memoryview(buffer)[: self.reader.got]) if payload is None else payload)
        return 0

    def get(self):
        """(type, flags, transaction id, payload, type header) of the next packet; None: nothing is there."""
        self._before_read()
        self._raise_if_closed()
        while True:
            packet = self.reader.get()
            self._due()
            if packet is None or packet[0] != VMB_PACKET_COMPLETION or self._completed(packet[2], packet[3], None):
                return packet

    def get_many_into(self, buffer, spans):
        """Copy whole packets to `buffer`, pairs of u32 to `spans`, completions too. How many; 0: nothing is there."""
        cdef Py_ssize_t n
        self._before_read()
        self._raise_if_closed()
        n = self.reader._get_many_into(buffer, spans, True)
        self._due()
        return n

    def resume(self):
        """Go on reading where the last process of this side ended; whoever calls it has the channel's claim."""
        cdef int signal = 0
        self._raise_if_closed()
        if self.at == NULL:
            return
        self.reader._check()
        if vmb_reader_resume(&self.reader.reader, &signal):
            _ring_failed(VMB_RING_DEAD, &self.reader.reader.ring, self.reader.view)
        if signal:
            self.reader.due = True
        self._due()

    def get_many(self, limit, max_bytes):
        """A RingBatch that is given back by `commit`; None: nothing is there."""
        self._before_read()
        self._raise_if_closed()
        return self.reader.get_many(limit, max_bytes, False)

    def lease_many(self, limit, max_bytes):
        """As RingReader.lease_many; its release signals."""
        self._before_read()
        self._raise_if_closed()
        lease = self.reader.lease_many(limit, max_bytes)
        if lease is not None:
            lease.released = self.flush
        return lease

    def mask(self):
        """Want no signals."""
        self._raise_if_closed()
        self.reader.mask()

    @property
    def peer_frees(self):
        """The peer says that it signals room."""
        self._raise_if_closed()
        return self.reader.peer_frees

    def commit(self):
        """Give back what was read without commit, and signal the writer if that made the room it waits for."""
        self._raise_if_closed()
        if self.reader.commit():
            self.reader.due = True
        self._due()

    def rest(self):
        """Commit, ask for signals, look again. True: wait for one."""
        self._raise_if_closed()
        wait = self.reader.rest()
        self._due()
        return wait
