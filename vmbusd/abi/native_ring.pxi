# SPDX-License-Identifier: MIT
# A ring's memory for Python: mapped from guest memory or any buffer, kept safe, and let go of.
#
# No call gives the GIL up: the largest copy takes well under a millisecond, and a thread that computes may keep
# the GIL for five. So whoever holds it knows that no call on a ring is in the middle, and puts of several threads
# never mix.

cdef object _ring_fault(const vmb_ring_fault *fault, str what):
    cdef char text[200]
    vmb_fault_text(fault, text, sizeof(text))
    return RingDead(f"{what}: {text.decode()}")


cdef str _ring_reason(const vmb_ring_fault *fault):
    cdef char text[200]
    if fault.field == VMB_RING_SOUND:
        return None
    vmb_fault_text(fault, text, sizeof(text))
    return text.decode()


cdef void _inject(vmb_ring *ring, vmb_faults *faults, uint32_t relid) noexcept:
    """Inject faults into what is done with a ring's end; NULL: none. Whoever has them has to be kept."""
    ring.faults = faults
    ring.relid = relid
    ring.armed = _armed(faults)


cdef object _MAPPED = object()


@cython.final
cdef class RingView:
    """One ring's header page and data area: any buffer, or mirror-mapped with `mapped`."""

    cdef _View view
    cdef vmb_ring_mapping mapping
    cdef vmb_guard *guard
    cdef vmb_ring_page *page
    cdef uint8_t *data
    cdef bint was_dead
    cdef readonly uint32_t size
    cdef readonly bint mirrored
    cdef readonly str name
    cdef int leases

    def __cinit__(self, buffer, offset=0, size=None, str name not None="ring"):
        cdef Py_ssize_t at
        cdef Py_ssize_t data
        self.name = name
        if buffer is _MAPPED:
            return  # `mapped` goes on
        at = _size(offset, f"{name}: offset")
        self.view = _view(buffer, at, VMB_PAGE, 8, True, name)
        data = self.view.raw.len - at - VMB_PAGE if size is None else _size(size, f"{name}: size")
        if not 0 < data <= VMB_RING_SIZE_MOST or data % VMB_PAGE:
            raise UsageError(f"{name}: {data} bytes of data, not a number of {VMB_PAGE}-byte pages")
        if data > self.view.raw.len - at - VMB_PAGE:
            raise UsageError(f"{name}: {self.view.raw.len} bytes, {at} + {VMB_PAGE} + {data} are needed")
        self.page = <vmb_ring_page *>self.view.at
        self.data = <uint8_t *>self.view.at + VMB_PAGE
        self.size = <uint32_t>data

    @staticmethod
    def mapped(int fd, pfns, str name not None="ring"):
        """Map the pages `pfns` of guest memory, the header first, with the data area twice in a row."""
        cdef RingView self = RingView(_MAPPED, name=name)
        cdef list numbers = list(pfns)
        cdef Py_ssize_t pages = len(numbers)
        cdef uint64_t *list_ = NULL
        cdef int failed = vmb_guard_install()
        if failed:
            raise ResourceError(f"SIGBUS guard: {strerror(failed).decode()}")
        if not 2 <= pages <= VMB_RING_SIZE_MOST // VMB_PAGE:
            raise UsageError(f"{name}: {pages} pages, a ring has a header page and one page of data at least")
        list_ = <uint64_t *>PyMem_Malloc(pages * sizeof(uint64_t))
        if list_ == NULL:
            raise MemoryError
        try:
            for i in range(pages):
                list_[i] = _number(numbers[i], <uint64_t>INT64_MAX // VMB_PAGE, f"{name}: page number {i}:")
            failed = vmb_ring_map(&self.mapping, fd, list_, <uint32_t>pages)
        finally:
            PyMem_Free(list_)
        if failed == ERANGE:
            raise UsageError(f"{name}: page number {numbers[self.mapping.bad]} is outside of guest memory")
        if failed == E2BIG:
            raise ResourceError(
                f"{name}: {self.mapping.extents} runs of pages, at most {VMB_RING_EXTENTS} are mapped"
            )
        if failed:
            raise ResourceError(f"{name}: cannot be mapped: {strerror(failed).decode()}")
        self.guard = vmb_guard_add(self.mapping.base, self.mapping.length, 1)
        if self.guard == NULL:
            vmb_ring_unmap(&self.mapping)
            raise ResourceError(f"{name}: all SIGBUS guards of this process are taken")
        self.page = <vmb_ring_page *>self.mapping.base
        self.data = self.mapping.base + VMB_PAGE
        self.size = self.mapping.size
        self.mirrored = True
        return self

    def __dealloc__(self):
        self._let_go()

    cdef void _let_go(self) noexcept:
        self.page = NULL
        if self.guard != NULL:
            self.was_dead = self.guard.dead != 0
            vmb_guard_remove(self.guard)
            self.guard = NULL
        vmb_ring_unmap(&self.mapping)

    cdef int _check(self) except -1:
        """Raises UsageError once released."""
        if self.page == NULL:
            raise UsageError(f"{self.name} was released")
        return 0

    cdef bint _dead(self) noexcept:
        return self.was_dead if self.guard == NULL else self.guard.dead != 0

    @property
    def extents(self):
        """Runs of pages mapped; 1 for a buffer."""
        return self.mapping.extents if self.mirrored else 1

    @property
    def dead(self):
        """True once a fault hit the mapping: somebody truncated guest memory."""
        return self._dead()

    def format(self):
        """Zero the header page and announce pending_send_sz: what a guest does before it opens the channel."""
        self._check()
        vmb_ring_format(self.page)

    def header(self):
        """write_index, read_index, interrupt_mask, pending_send_sz, feature_bits as they stand, unjudged."""
        self._check()
        return {
            "write_index": vmb_py_load32(&self.page.write_index),
            "read_index": vmb_py_load32(&self.page.read_index),
            "interrupt_mask": vmb_py_load32(&self.page.interrupt_mask),
            "pending_send_sz": vmb_py_load32(&self.page.pending_send_sz),
            "feature_bits": vmb_py_load32(&self.page.feature_bits),
        }

    def stuck(self):
        """(reader, writer): which end sleeps on something it could have."""
        cdef vmb_ring ring
        cdef int found
        self._check()
        memset(&ring, 0, sizeof(ring))
        ring.page = self.page
        ring.size = self.size
        found = vmb_ring_stuck(&ring)
        if ring.fault.field:
            raise _ring_fault(&ring.fault, self.name)
        return (found & VMB_STUCK_READER != 0, found & VMB_STUCK_WRITER != 0)

    def release(self):
        """Unmap it, or let the buffer go. Raises UsageError while a lease is out. Twice is fine."""
        if self.leases:
            raise UsageError(f"{self.name}: a lease of its packets is still out")
        self._let_go()
        self.view = None


cdef int _ring_begin_failed(vmb_ring *ring, RingView view) except -1:
    raise _ring_fault(&ring.fault, view.name)


cdef int _ring_failed(int result, vmb_ring *ring, RingView view) except -1:
    """For NOT_NOW returns; raises for DEAD, and for both when guest memory was truncated behind our back."""
    if view._dead():
        raise ObjectDead(f"{view.name} was truncated behind our back")
    if result == VMB_RING_DEAD:
        raise _ring_fault(&ring.fault, view.name)
    return 0


cdef inline const char *_bytes_of(object thing, Py_buffer *held, Py_ssize_t *size, str what) except? NULL:
    """Where the bytes of a bytes-like object are, until `held` is released."""
    vmb_py_no_buffer(held)
    if PyBytes_CheckExact(thing):
        size[0] = PyBytes_GET_SIZE(thing)
        return PyBytes_AS_STRING(thing)
    return _buffer_of(thing, held, size, what)


cdef const char *_buffer_of(object thing, Py_buffer *held, Py_ssize_t *size, str what) except? NULL:
    if not PyObject_CheckBuffer(thing):
        raise UsageError(f"{what}: {type(thing).__name__} is no buffer")
    try:
        PyObject_GetBuffer(thing, held, PyBUF_SIMPLE)
    except (BufferError, ValueError) as error:
        raise UsageError(f"{what}: the buffer cannot be used: {error}") from error
    size[0] = held.len
    return <const char *>held.buf

