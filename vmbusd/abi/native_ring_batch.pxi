# SPDX-License-Identifier: MIT
# Many packets of a ring at once for Python: copied off it, or leased where they lie.

@cython.final
cdef class RingBatch:
    """Packets copied off a ring: one bytes object, and where each lies in it."""

    cdef readonly bytes data
    cdef bytes index
    cdef uint32_t count

    def __len__(self):
        return self.count

    @property
    def spans(self):
        """Pairs of u32: where the payload of each packet begins and ends in `data`."""
        return memoryview(self.index).cast("I")

    cdef const vmb_span *_span(self, Py_ssize_t i) except NULL:
        if not -<Py_ssize_t>self.count <= i < self.count:
            raise IndexError(f"packet {i} of {self.count}")
        return <const vmb_span *>PyBytes_AS_STRING(self.index) + (i + self.count if i < 0 else i)

    cdef bytes _payload(self, const vmb_span *span):
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.data) + span.payload, span.end - span.payload)

    def payload(self, Py_ssize_t i):
        """The payload of packet `i`, padding included."""
        return self._payload(self._span(i))

    def payloads(self):
        """The payloads of all packets."""
        cdef Py_ssize_t i
        return [self._payload(self._span(i)) for i in range(self.count)]

    def __getitem__(self, Py_ssize_t i):
        """(type, flags, transaction id, payload, type header) of packet `i`."""
        cdef const vmb_span *span = self._span(i)
        cdef const vmb_span *first = <const vmb_span *>PyBytes_AS_STRING(self.index)
        cdef uint32_t begin = 0 if span == first else (span - 1).end + VMB_TRAILER
        cdef vmb_descriptor head
        memcpy(&head, PyBytes_AS_STRING(self.data) + begin, VMB_DESCRIPTOR)
        return (
            head.type,
            head.flags,
            head.id,
            self._payload(span),
            self.data[begin + VMB_DESCRIPTOR : span.payload],
        )


@cython.final
cdef class RingLease:
    """Packets where they lie in the ring: for a writer that is trusted not to change them meanwhile."""

    cdef RingReader reader
    cdef bytes index
    cdef uint8_t *at
    cdef Py_ssize_t size
    cdef uint32_t count
    cdef int exports
    cdef public object released

    def __len__(self):
        return self.count

    @property
    def spans(self):
        """Pairs of u32: where the payload of each packet begins and ends in the lease's own bytes."""
        return memoryview(self.index).cast("I")

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.reader is None:
            raise BufferError("the lease was released")
        PyBuffer_FillInfo(buffer, self, self.at, self.size, 1, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1

    cdef bint _end(self) noexcept:
        self.reader.lease = False
        self.reader.view.leases -= 1
        self.reader = None
        return True

    def release(self):
        """Give the room back; the reader's `due` says as ever whether to signal. Twice is fine.

        Raises UsageError while a memoryview of the lease lives.
        """
        cdef RingReader reader = self.reader
        if reader is None:
            return
        if self.exports:
            raise UsageError(f"{reader.view.name}: a memoryview of the lease still lives")
        self._end()
        reader._commit(True)
        if self.released is not None:
            self.released()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()

    def __dealloc__(self):
        if self.reader is not None:  # forgotten, not released: the packets stay for the next read
            vmb_reader_revert(&self.reader.reader)
            self._end()
