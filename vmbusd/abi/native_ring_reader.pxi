# SPDX-License-Identifier: MIT
# The reading end of a ring for Python.

@cython.final
cdef class RingReader:
    """Reads packets off one ring. Threads may share it; another process may not read at the same time."""

    cdef RingView view
    cdef vmb_ring_reader reader
    cdef _View kept
    cdef object faulty  # keeps what ring.armed and ring.faults point to
    cdef bint lease
    cdef int64_t got
    cdef public bint due
    cdef readonly uint16_t type
    cdef readonly uint16_t flags
    cdef readonly uint64_t transaction_id
    cdef readonly uint32_t extra

    def __cinit__(self, RingView view not None):
        view._check()
        self.view = view
        if vmb_reader_begin(&self.reader, view.page, view.data, view.size, view.mirrored):
            _ring_begin_failed(&self.reader.ring, view)

    cdef int _check(self) except -1:
        self.view._check()
        if self.lease:
            raise UsageError(f"{self.view.name}: a lease of its packets is still out")
        return 0

    cdef inline void _commit(self, bint commit) noexcept:
        if commit and vmb_reader_commit(&self.reader):
            self.due = True

    cdef int _failed(self, int result, Py_ssize_t room) except -1:
        """1 for an empty ring; all else is raised."""
        if result == VMB_RING_SMALL:
            raise UsageError(f"{self.view.name}: a packet of {self.reader.need} bytes, the buffer has {room}")
        _ring_failed(result, &self.reader.ring, self.view)
        return 1

    def get_into(self, buffer, bint commit=True):
        """Copy the next payload, its type header behind it. Bytes of payload, or -1 for an empty ring."""
        cdef Py_buffer held
        # A bytearray keeps its memory for as long as no Python code runs, so nothing needs to be held.
        if PyByteArray_CheckExact(buffer):
            self._get_into(PyByteArray_AS_STRING(buffer), PyByteArray_GET_SIZE(buffer), commit)
        else:
            _writable(buffer, &held, "receive buffer")
            try:
                self._get_into(held.buf, held.len, commit)
            finally:
                PyBuffer_Release(&held)
        return self.got

    cdef inline int _get_into(self, void *at, Py_ssize_t room, bint commit) except -1:
        cdef vmb_packet packet
        cdef int result
        if self.view.page == NULL or self.lease:
            self._check()
        result = vmb_reader_get(&self.reader, at, room, &packet)
        if result != VMB_RING_OK:
            self.got = -1
            return self._failed(result, room)
        if commit and vmb_reader_commit(&self.reader):
            self.due = True
        self.type = packet.type
        self.flags = packet.flags
        self.transaction_id = packet.id
        self.extra = packet.extra
        self.got = packet.size
        return 0

    def get(self, bint commit=True):
        """(type, flags, transaction id, payload, type header) of the next packet, or None for an empty ring."""
        cdef vmb_descriptor head
        cdef vmb_packet packet
        cdef bytes payload, extra
        cdef int result
        self._check()
        result = vmb_reader_peek(&self.reader, &head)
        if result != VMB_RING_OK:
            self._failed(result, 0)
            return None
        packet = vmb_packet_of(&head)
        payload = PyBytes_FromStringAndSize(NULL, packet.size)
        extra = PyBytes_FromStringAndSize(NULL, packet.extra)
        result = vmb_reader_finish(&self.reader, &head, PyBytes_AS_STRING(payload), PyBytes_AS_STRING(extra))
        if result != VMB_RING_OK:
            self._failed(result, 0)
        self._commit(commit)
        return (packet.type, packet.flags, packet.id, payload, extra)

    def get_many(self, limit=1024, max_bytes=16384, bint commit=True):
        """A RingBatch of at most `limit` packets in about `max_bytes`, or None for an empty ring."""
        cdef uint32_t most = <uint32_t>_number(limit, VMB_RING_SIZE_MOST, "limit")
        cdef uint32_t room = <uint32_t>_number(max_bytes, VMB_RING_SIZE_MOST, "max_bytes")
        cdef RingBatch batch
        cdef PyObject *data = NULL
        cdef PyObject *index = NULL
        cdef uint32_t n = 0
        cdef int result
        self._check()
        result = vmb_reader_look(&self.reader)
        if result != VMB_RING_OK or not most:
            if result != VMB_RING_OK:
                self._failed(result, 0)
            return None
        room = min(room, vmb_reader_known(&self.reader))
        while True:
            most = min(most, room // VMB_PACKET_LEAST + 1)
            data = PyBytes_FromStringAndSize_(NULL, room)
            index = PyBytes_FromStringAndSize_(NULL, most * sizeof(vmb_span))
            if data == NULL or index == NULL:
                Py_XDECREF(data)
                Py_XDECREF(index)
                raise MemoryError
            result = vmb_reader_take(
                &self.reader, <uint8_t *>PyBytes_AS_STRING_(data), room,
                <vmb_span *>PyBytes_AS_STRING_(index), most, &n,
            )
            if result == VMB_RING_OK:
                break
            Py_DECREF(data)
            Py_DECREF(index)
            if result != VMB_RING_SMALL:
                self._failed(result, 0)
                return None
            room = self.reader.need  # one packet is larger than the bound: it comes alone
        _PyBytes_Resize(&index, n * sizeof(vmb_span))
        _PyBytes_Resize(&data, (<vmb_span *>PyBytes_AS_STRING_(index))[n - 1].end)
        batch = RingBatch.__new__(RingBatch)
        batch.data = <bytes><object>data
        batch.index = <bytes><object>index
        Py_DECREF(data)
        Py_DECREF(index)
        batch.count = n
        self._commit(commit)
        return batch

    def get_many_into(self, buffer, spans, bint commit=True):
        """Copy whole packets to `buffer`, a pair of u32 for each to `spans`. Packets, 0 for an empty ring."""
        return self._get_many_into(buffer, spans, commit)

    cdef Py_ssize_t _get_many_into(self, buffer, spans, bint commit) except -1:
        cdef Py_buffer held
        cdef Py_buffer held_spans
        cdef uint32_t n = 0
        cdef int result
        _writable(buffer, &held, "receive buffer")
        try:
            _writable(spans, &held_spans, "spans")
            try:
                self._check()
                if <uintptr_t>held_spans.buf % sizeof(uint32_t) or held_spans.len < <Py_ssize_t>sizeof(vmb_span):
                    raise UsageError(f"spans: {held_spans.len} bytes; aligned pairs of u32 are needed")
                result = vmb_reader_take(
                    &self.reader, <uint8_t *>held.buf, held.len, <vmb_span *>held_spans.buf,
                    <uint32_t>min(held_spans.len // <Py_ssize_t>sizeof(vmb_span), VMB_RING_SIZE_MOST), &n,
                )
                if result != VMB_RING_OK:
                    self._failed(result, held.len)
            finally:
                PyBuffer_Release(&held_spans)
        finally:
            PyBuffer_Release(&held)
        self._commit(commit)
        return n

    def lease_many(self, limit=1024, max_bytes=16384):
        """A RingLease of at most `limit` packets in about `max_bytes`, or None for an empty ring."""
        cdef uint32_t most = <uint32_t>_number(limit, VMB_RING_SIZE_MOST, "limit")
        cdef uint32_t room = <uint32_t>_number(max_bytes, VMB_RING_SIZE_MOST, "max_bytes")
        cdef uint32_t n = 0
        cdef uint32_t total = 0
        cdef uint32_t begin
        cdef RingLease lease
        cdef bytes index
        cdef int result
        self._check()
        if self.reader.read != self.reader.committed:
            raise UsageError(f"{self.view.name}: commit what was read before taking a lease")
        most = min(most, min(room, self.view.size) // VMB_PACKET_LEAST + 1)
        index = PyBytes_FromStringAndSize(NULL, most * sizeof(vmb_span))
        begin = self.reader.read
        result = vmb_reader_view(
            &self.reader, room, <vmb_span *>PyBytes_AS_STRING(index), most, &n, &total,
        )
        if result == VMB_RING_SMALL:
            raise UsageError(f"{self.view.name}: the packet is in two parts; a lease needs a mapped ring")
        if result != VMB_RING_OK:
            self._failed(result, 0)
            return None
        lease = RingLease.__new__(RingLease)
        lease.index = index[: n * sizeof(vmb_span)]
        lease.count = n
        lease.at = self.view.data + begin
        lease.size = (<const vmb_span *>PyBytes_AS_STRING(index))[n - 1].end
        lease.reader = self
        self.lease = True
        self.view.leases += 1
        return lease

    def commit(self):
        """Give back what was read. True when this made the room that the writer waits for: signal it."""
        self._check()
        return vmb_reader_commit(&self.reader) != 0

    def revert(self):
        """Read again what was not committed."""
        self._check()
        vmb_reader_revert(&self.reader)

    def mark(self, word):
        """Overwrite the first 8 bytes of payload of the first packet not committed, if it has no type header.

        For pipes, whose reader notes in place how much of a packet it has consumed.
        """
        cdef uint64_t value = _number(word, UINT64_MAX, "mark")
        self._check()
        if self.reader.read == self.reader.committed:
            raise UsageError(f"{self.view.name}: no packet was read that is not committed")
        vmb_ring_copy_to(&self.reader.ring, "mark", self.reader.committed + VMB_DESCRIPTOR, &value, 8)

    def mask(self):
        """Want no signals: the reader is awake."""
        self.view._check()
        vmb_reader_mask(&self.reader)

    def rest(self):
        """Commit, ask for signals, look again. True: wait for one. False: there is more, and the ring is masked."""
        cdef int signal = 0
        cdef int result
        self._check()
        result = vmb_reader_rest(&self.reader, &signal)
        if signal:
            self.due = True
        if result == VMB_RING_OK:
            return False
        return self._failed(result, 0) != 0

    def resync(self):
        """Go on from the indices as they stand: when another process read last."""
        self._check()
        if vmb_reader_resync(&self.reader):
            _ring_failed(VMB_RING_DEAD, &self.reader.ring, self.view)

    @property
    def peer_frees(self):
        """True when this ring's writer says that it signals room in the opposite ring."""
        self.view._check()
        return vmb_reader_peer_frees(&self.reader) != 0

    @property
    def reason(self):
        """Why the ring is dead, or None."""
        return _ring_reason(&self.reader.ring.fault)

    def statistics(self):
        """packets, bytes (on the ring) given back, signals decided."""
        return {
            "packets": self.reader.packets,
            "bytes": self.reader.bytes,
            "signals": self.reader.signals,
        }


cdef inline int _writable(object thing, Py_buffer *held, str what) except -1:
    try:
        PyObject_GetBuffer(thing, held, PyBUF_WRITABLE)
    except (TypeError, BufferError, ValueError) as error:
        raise UsageError(f"{what}: {error}") from error
    return 0
