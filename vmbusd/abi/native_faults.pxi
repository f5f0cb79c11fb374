# SPDX-License-Identifier: MIT
# Fault rules as the daemon writes them, what was injected by them, and how a delay passes.

cdef extern from *:
    """
    static inline uint32_t vmb_py_swap32(uint32_t *p, uint32_t v) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }
    """
    uint32_t vmb_py_swap32(uint32_t *, uint32_t) nogil


cdef object _set_fault(vmb_table *table, object index, object rule):
    """Write rule `index`: off first, whole last. None switches it off."""
    cdef vmb_fault_rule *at = &table.header.fault[_index(index, VMB_FAULT_RULES, "fault rule")]
    cdef uint64_t *words = <uint64_t *>at
    cdef uint64_t image[8]
    cdef uint32_t sequence = at.sequence & ~<uint32_t>1
    cdef int i
    if rule is not None and (not isinstance(rule, bytes) or len(rule) != sizeof(image)):
        raise UsageError(f"fault rule {index}: {sizeof(image)} bytes are one, as vmbusd.abi.faults encodes it")
    vmb_py_store(words, sequence | 1)
    if rule is not None:
        memcpy(image, PyBytes_AS_STRING(rule), sizeof(image))
        for i in range(1, 8):
            vmb_py_store(&words[i], image[i])
    vmb_py_store(words, <uint32_t>(sequence + 2) | (image[0] >> 32 << 32 if rule is not None else 0))
    return None


cdef class FaultCounts:
    """Faults injected by each rule, in one process's words: a VP's, a host's, or its guests'.

    `begin` is the daemon's, while the rule is off or before anybody has the page.
    """

    cdef _View view
    cdef bint writable

    def __cinit__(self, buffer, offset=0, *, bint writable=False):
        self.view = _view(buffer, _size(offset, "fault counts: offset"), sizeof(uint32_t) * VMB_FAULT_RULES, 64,
                          writable, "fault counts")
        self.writable = writable

    def fired(self):
        """One number per rule."""
        cdef uint32_t *at = <uint32_t *>self.view.at
        cdef int i
        return [vmb_py_load32(&at[i]) for i in range(VMB_FAULT_RULES)]

    def begin(self, index, uint32_t count=0):
        """Have rule `index` begin at `count`; what it was."""
        cdef uint32_t *at = <uint32_t *>self.view.at
        cdef uint32_t i = _index(index, VMB_FAULT_RULES, "fault rule")
        if not self.writable:
            raise UsageError("fault counts: made to be read alone")
        return vmb_py_swap32(&at[i], count)


cdef void _pause_for_others(int64_t ns) noexcept:
    """Let time pass without the GIL, called with it: other threads run."""
    with nogil:
        vmb_pause_ns(ns)


cdef void _end_faults(vmb_faults *faults) noexcept:
    """Wait, without the GIL, for the late posts of whoever goes: its doorbells go with it."""
    if faults.memory != NULL:
        with nogil:
            vmb_faults_end(faults)


cdef const uint8_t *_armed(vmb_faults *f) noexcept:
    return &vmb_never_armed if f == NULL or f.table == NULL else &f.table.header.fault_armed
