# SPDX-License-Identifier: MIT
# Transaction ids of outstanding requests.

cdef extern from "vmbus_requests.h" nogil:
    enum:
        VMB_REQUESTS
        VMB_LOCK_CONTROL
    uint64_t VMB_REQUEST_USED

    struct vmb_requests:
        uint64_t slot[256]
        uint64_t head

    uint64_t vmb_request_begin(vmb_requests *r, uint64_t word)
    int vmb_request_end(vmb_requests *r, uint64_t id, uint64_t *word)
    int vmb_ring_lock(uint32_t *lock, uint32_t owner)
    int vmb_ring_goes_on(uint64_t *slot, uint32_t generation)

cdef Py_ssize_t _REQUESTS_OFFSET = 512


cdef class Requests:
    """Transaction ids of outstanding requests: in the block of an event flag, or in memory of its own."""

    cdef _View view
    cdef vmb_requests own
    cdef vmb_requests *table
    cdef readonly uint64_t unknown

    cdef void _leave(self) noexcept:
        """Let go of the shared table; from now on there is none."""
        self.table = &self.own
        self.view = None

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

    def word(self, id):
        """The word of an outstanding request, which stays one; None for another id."""
        cdef uint64_t n = _number(id, UINT64_MAX, "transaction id") - 1
        cdef uint64_t seen = vmb_py_load(&self.table.slot[n]) if n < VMB_REQUESTS else 0
        return seen & ~VMB_REQUEST_USED if seen else None

    @property
    def outstanding(self):
        """Requests without completion."""
        cdef int n = 0
        cdef int i
        for i in range(VMB_REQUESTS):
            n += vmb_py_load(&self.table.slot[i]) != 0
        return n
