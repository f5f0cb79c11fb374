# SPDX-License-Identifier: MIT
# The writing end of a ring for Python.

cdef bytes _NO_EXTRA = b""
# What most packets are. The interpreter has one object for each small number, so these are compared by identity.
cdef object _IN_BAND = 6
cdef object _NOTHING = 0


cdef inline uint64_t _field(object value, uint64_t most, str what) except? 0xffffffffffffffff:
    """`_number` for fields that are small numbers nearly always."""
    cdef int overflow = 0
    cdef long number = PyLong_AsLongAndOverflow(value, &overflow) if isinstance(value, int) else -1
    if not overflow and 0 <= number and <uint64_t>number <= most:
        return <uint64_t>number
    return _number(value, most, what)


cdef int _check_kind(uint16_t type, uint16_t flags, const char *extra, Py_ssize_t size, str what) except -1:
    """Refuse a packet that every reader would take for corruption, and die of."""
    if type > 15 or not VMB_PACKET_TYPES >> type & 1:
        raise UsageError(f"{what}: a packet of type {type}; 6, 7, 9 and 11 are in use")
    if flags & ~VMB_PACKET_COMPLETE:
        raise UsageError(f"{what}: flags {flags:#x}; bit 0 is the only one")
    if size % 8:
        raise UsageError(f"{what}: a type header of {size} bytes, not a multiple of 8")
    if size < <Py_ssize_t>vmb_packet_least_extra(type):
        raise UsageError(f"{what}: a packet of type {type} needs a type header of 8 bytes at least")
    if size and not vmb_extra_sound(type, extra):
        raise UsageError(f"{what}: a GPA direct packet without a range")
    return 0


@cython.final
cdef class RingWriter:
    """Writes packets to one ring. Threads may share it; another process may not write at the same time."""

    cdef RingView view
    cdef vmb_ring_writer writer
    cdef _View kept
    cdef object faulty  # keeps what ring.armed and ring.faults point to

    def __cinit__(self, RingView view not None, bint announce=False):
        view._check()
        self.view = view
        if vmb_writer_begin(&self.writer, view.page, view.data, view.size, view.mirrored):
            _ring_begin_failed(&self.writer.ring, view)
        if announce:
            vmb_writer_announce(&self.writer)

    cdef int _put(self, payload, type, flags, id, extra) except -1:
        """0 when put, 1 when there is no room now."""
        cdef uint16_t type_ = <uint16_t>_field(type, 0xffff, "packet type")
        cdef uint16_t flags_ = <uint16_t>_field(flags, 0xffff, "packet flags")
        cdef uint64_t id_ = _field(id, <uint64_t>0xffffffffffffffff, "transaction id")
        cdef Py_buffer held
        cdef Py_buffer extra_held
        cdef Py_ssize_t size = 0
        cdef Py_ssize_t extra_size = 0
        cdef const char *at
        cdef const char *extra_at
        cdef int result
        vmb_py_no_buffer(&extra_held)
        at = _bytes_of(payload, &held, &size, "payload")
        try:
            extra_at = _bytes_of(extra, &extra_held, &extra_size, "type header")
            _check_kind(type_, flags_, extra_at, extra_size, self.view.name)
            self.view._check()  # last: exporting a buffer may run code that releases the ring
            result = vmb_writer_put(&self.writer, type_, flags_, id_, extra_at, extra_size, at, size)
        finally:
            PyBuffer_Release(&held)
            PyBuffer_Release(&extra_held)
        if result == VMB_RING_OK:
            return 0
        return self._failed(result, size, extra_size)

    cdef int _failed(self, int result, Py_ssize_t size, Py_ssize_t extra_size) except -1:
        if result == VMB_RING_NEVER:
            raise UsageError(
                f"{self.view.name}: a packet of {size} + {extra_size} bytes never fits:"
                f" {self.most_payload(extra_size)} are the most"
            )
        _ring_failed(result, &self.writer.ring, self.view)
        return 1

    def most_payload(self, Py_ssize_t extra=0):
        """Bytes of payload that fit into the empty ring beside a type header of `extra` bytes."""
        cdef int64_t most = min(<int64_t>vmb_writer_most(&self.writer), <int64_t>VMB_LEN8_MOST * 8 + VMB_TRAILER)
        return max(most - VMB_PACKET_LEAST - extra, 0)

    def put(self, payload, type=6, flags=0, transaction_id=0, extra=b""):
        """Write and publish one packet. None when there is no room, else whether the reader must be signalled."""
        # A plain packet of bytes, the common case, needs no number read and no buffer held and let go of.
        if (
            PyBytes_CheckExact(payload) and type is _IN_BAND and flags is _NOTHING
            and transaction_id is _NOTHING and extra is _NO_EXTRA and self.view.page != NULL
        ):
            if vmb_writer_put(
                &self.writer, 6, 0, 0, NULL, 0, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload)
            ) == VMB_RING_OK:
                return vmb_writer_publish(&self.writer) != 0
        if self._put(payload, type, flags, transaction_id, extra):
            return None
        return vmb_writer_publish(&self.writer) != 0

    def stage(self, payload, type=6, flags=0, transaction_id=0, extra=b""):
        """Put one packet that the reader does not see before `publish`. False when there is no room."""
        return self._put(payload, type, flags, transaction_id, extra) == 0

    def publish(self):
        """Let the reader see what was staged. True when it must be signalled."""
        self.view._check()
        return vmb_writer_publish(&self.writer) != 0

    def revert(self):
        """Forget what was staged and not published."""
        vmb_writer_revert(&self.writer)

    def put_many(self, payloads, Py_ssize_t start=0, *, type=6, flags=0, transaction_ids=None):
        """Write payloads[start:] as far as they fit, publish once: (how many, signal, bytes on the ring)."""
        cdef list items = payloads if PyList_CheckExact(payloads) else list(payloads)
        cdef list ids = None if transaction_ids is None else list(transaction_ids)
        cdef uint32_t write = self.writer.write
        cdef int signal = 0
        cdef Py_ssize_t sent = self._put_many(items, start, type, flags, ids, &signal)
        return sent, signal != 0, vmb_ring_used(self.writer.ring.size, self.writer.write, write)

    cdef Py_ssize_t _put_many(self, list items, Py_ssize_t start, type, flags, list ids, int *signal) except -1:
        """Put and publish items[start:] as far as they fit; how many, and whether to signal."""
        cdef uint32_t write = self.writer.write
        cdef uint32_t published = self.writer.published
        cdef uint64_t staged = self.writer.staged
        cdef Py_ssize_t at = start
        if start < 0 or (ids is not None and len(ids) != len(items)):
            raise UsageError(f"{len(items)} payloads from {start} on, {0 if ids is None else len(ids)} ids")
        self.view._check()
        try:
            at = self._put_all(items, start, type, flags, ids)
        except BaseException:  # nothing of this call is published: what went well before the bad one is taken back
            if self.writer.published == published:
                self.writer.write = write
                self.writer.staged = staged
            raise
        signal[0] = vmb_writer_publish(&self.writer)
        return at - start

    cdef Py_ssize_t _put_all(self, list items, Py_ssize_t at, type, flags, list ids) except -1:
        """Put items[at:] as far as they fit; returns the index of the first that did not."""
        cdef uint16_t type_ = <uint16_t>_field(type, 0xffff, "packet type")
        cdef uint16_t flags_ = <uint16_t>_field(flags, 0xffff, "packet flags")
        cdef uint64_t id = 0
        cdef PyObject *item
        cdef object other
        cdef int result
        _check_kind(type_, flags_, NULL, 0, self.view.name)
        while at < PyList_GET_SIZE(items):
            if ids is not None:
                id = _field(ids[at], <uint64_t>0xffffffffffffffff, "transaction id")
            item = PyList_GET_ITEM(items, at)  # borrowed: nothing below runs Python code before it is done with
            if PyBytes_CheckExact(<object>item):
                result = vmb_writer_put(
                    &self.writer, type_, flags_, id, NULL, 0,
                    PyBytes_AS_STRING(<object>item), PyBytes_GET_SIZE(<object>item),
                )
                if result != VMB_RING_OK:
                    self._failed(result, PyBytes_GET_SIZE(<object>item), 0)
                    break
            else:
                other = <object>item
                if self._put(other, type, flags, id, _NO_EXTRA):
                    break
            at += 1
        return at

    def ask(self, Py_ssize_t size, Py_ssize_t extra=0):
        """Ask for a signal once `size` bytes of payload fit, and look again. True: wait; False: there is room."""
        cdef int result
        self.view._check()
        if size < 0 or extra < 0:
            raise UsageError(f"{self.view.name}: room for {size} + {extra} bytes")
        result = vmb_writer_ask(&self.writer, vmb_packet_total(extra, size))
        if result == VMB_RING_OK:
            return False
        return self._failed(result, size, extra) != 0

    def withdraw(self):
        """Stop asking for room: after the wake-up, or when giving up."""
        self.view._check()
        vmb_writer_withdraw(&self.writer)

    def resync(self):
        """Go on from the indices as they stand: when another process wrote last."""
        self.view._check()
        if vmb_writer_resync(&self.writer):
            _ring_failed(VMB_RING_DEAD, &self.writer.ring, self.view)

    @property
    def room(self):
        """Free bytes by a fresh read_index; a packet with its trailer must be smaller."""
        self.view._check()
        cdef uint32_t free = vmb_writer_room(&self.writer)
        if self.writer.ring.fault.field:
            _ring_failed(VMB_RING_DEAD, &self.writer.ring, self.view)
        return free

    @property
    def reason(self):
        """Why the ring is dead, or None."""
        return _ring_reason(&self.writer.ring.fault)

    def statistics(self):
        """packets, bytes (on the ring), signals decided, full (times there was no room)."""
        return {
            "packets": self.writer.packets,
            "bytes": self.writer.bytes,
            "signals": self.writer.signals,
            "full": self.writer.full,
        }
