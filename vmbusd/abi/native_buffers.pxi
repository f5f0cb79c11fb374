# SPDX-License-Identifier: MIT
# Buffers checked once, the SIGBUS guard, atomic words and event flags.

cdef tuple _mutants():
    cdef list found = []
    cdef int i = 0
    while vmb_py_mutant(i) != NULL:
        if vmb_py_mutant(i)[0] != 0:
            found.append((<bytes>vmb_py_mutant(i)).decode())
        i += 1
    return tuple(found)


MUTANTS = _mutants()


cdef class _View:
    """One exported buffer: kept alive, checked for size, alignment and writability."""

    cdef Py_buffer raw
    cdef bint held
    cdef char *at

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.raw)


cdef _View _view(object buffer, Py_ssize_t offset, Py_ssize_t size, Py_ssize_t alignment, bint writable, str what):
    """A view of `size` bytes at `offset`. Raises UsageError naming `what` and what is wrong with the buffer."""
    cdef _View view = _View()
    if not PyObject_CheckBuffer(buffer):
        raise UsageError(f"{what}: {type(buffer).__name__} is no buffer")
    try:
        PyObject_GetBuffer(buffer, &view.raw, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
    except BufferError as error:
        if writable and memoryview(buffer).readonly:
            raise UsageError(f"{what}: the buffer is read-only, a writable one is needed") from error
        raise UsageError(f"{what}: the buffer cannot be used: {error}") from error
    except ValueError as error:  # closed, or released
        raise UsageError(f"{what}: the buffer cannot be used: {error}") from error
    view.held = True
    if offset > view.raw.len or view.raw.len - offset < size:
        raise UsageError(f"{what}: {view.raw.len} bytes, at least {offset} + {size} are needed")
    view.at = <char *>view.raw.buf + offset
    if <uintptr_t>view.at % alignment:
        raise UsageError(f"{what}: address {<uintptr_t>view.at:#x} is not aligned to {alignment} bytes")
    return view


cdef uint32_t _index(object value, uint32_t limit, str what) except? 0xffffffff:
    cdef int overflow = 0
    cdef long number = PyLong_AsLongAndOverflow(value, &overflow) if isinstance(value, int) else -1
    if overflow or not 0 <= number < limit:
        raise UsageError(f"{what} {value!r} is not in 0..{limit - 1}")
    return <uint32_t>number


cdef uint64_t _number(object value, uint64_t most, str what) except? 0xffffffffffffffff:
    """For fields and sizes: what does not fit is the caller's mistake, never cut off."""
    if not isinstance(value, int) or not 0 <= value <= most:
        raise UsageError(f"{what} {value!r} is not in 0..{most}")
    return value


cdef Py_ssize_t _size(object value, str what) except -1:
    return <Py_ssize_t>_number(value, <uint64_t>INT64_MAX, what)


def faults():
    """Accesses of this process that faulted inside any guarded mapping so far."""
    return vmb_guard_fault_count()


cdef class Guard:
    """Keeps a shared mapping safe from truncation: a fault inside it maps zero pages and marks it dead."""

    cdef vmb_guard *entry
    cdef _View view
    cdef readonly str name
    cdef bint was_dead

    def __cinit__(self, buffer, str name not None):
        cdef int failed = vmb_guard_install()
        if failed:
            raise ResourceError(f"SIGBUS guard: {strerror(failed).decode()}")
        self.name = name
        self.view = _view(buffer, 0, 0, 1, False, name)
        self.entry = vmb_guard_add(self.view.raw.buf, <size_t>self.view.raw.len, not self.view.raw.readonly)
        if self.entry == NULL:
            raise ResourceError(f"{name}: all SIGBUS guards of this process are taken")

    def __dealloc__(self):
        self._remove()

    cdef void _remove(self) noexcept:
        if self.entry != NULL:
            self.was_dead = self.entry.dead
            vmb_guard_remove(self.entry)
            self.entry = NULL

    @property
    def dead(self):
        """True once a fault hit the mapping."""
        return self._dead()

    cdef bint _dead(self) noexcept:
        return self.was_dead if self.entry == NULL else self.entry.dead != 0

    def check(self):
        """Raises ObjectDead, naming the object, once a fault hit the mapping."""
        if self._dead():
            raise ObjectDead(f"{self.name} was truncated behind our back")

    def release(self):
        """Let go of the mapping, so that it can be closed. Releasing twice is fine."""
        self._remove()
        self.view = None


cdef class Words:
    """Atomic 64-bit words on any aligned buffer. Read-modify-writes are seq_cst; loads acquire, stores release."""

    cdef _View view
    cdef uint64_t *words
    cdef Py_ssize_t count

    def __cinit__(self, buffer, offset=0, count=None):
        cdef Py_ssize_t at = _size(offset, "words: offset")
        cdef Py_ssize_t size
        self.view = _view(buffer, at, 0, 8, True, "words")
        size = self.view.raw.len - at
        self.count = size // 8 if count is None else _size(count, "words: count")
        if self.count > size // 8:
            raise UsageError(f"words: {count} do not fit into {size} bytes")
        self.words = <uint64_t *>self.view.at

    def __len__(self):
        return self.count

    cdef uint64_t *_at(self, Py_ssize_t index) except NULL:
        if not 0 <= index < self.count:
            raise UsageError(f"word {index} is not in 0..{self.count - 1}")
        return self.words + index

    def load(self, Py_ssize_t index):
        return vmb_py_load(self._at(index))

    def store(self, Py_ssize_t index, uint64_t value):
        vmb_py_store(self._at(index), value)

    def add(self, Py_ssize_t index, value):
        return vmb_py_add(self._at(index), <uint64_t>(value & 0xffffffffffffffff))

    def or_(self, Py_ssize_t index, uint64_t value):
        return vmb_py_or(self._at(index), value)

    def and_(self, Py_ssize_t index, uint64_t value):
        return vmb_py_and(self._at(index), value)

    def exchange(self, Py_ssize_t index, uint64_t value):
        return vmb_py_swap(self._at(index), value)

    def compare_exchange(self, Py_ssize_t index, uint64_t expected, uint64_t value):
        return vmb_py_cas(self._at(index), expected, value) != 0


# The integers a take can return, made once: a list of known objects costs no allocation per id.
cdef list _FLAG_INTS = list(range(VMB_FLAGS))


cdef list _flag_list(const uint16_t *flags, unsigned n):
    cdef list out = PyList_New(n)
    cdef PyObject *known
    cdef unsigned i
    for i in range(n):
        known = PyList_GET_ITEM(_FLAG_INTS, flags[i])
        Py_INCREF(known)
        PyList_SET_ITEM(out, i, known)  # steals what was just added
    return out


cdef class EventFlags:
    """The 2048 flags of SINT 2 in an interrupt page (or any 4096-byte page of SIEFP layout)."""

    cdef _View view
    cdef uint64_t *flags

    def __cinit__(self, buffer, offset=0):
        self.view = _view(buffer, _size(offset, "interrupt page: offset"), VMB_PAGE, 8, True, "interrupt page")
        self.flags = <uint64_t *>(self.view.at + VMB_FLAGS_OFFSET)

    def set(self, flag):
        cdef uint32_t f = _index(flag, VMB_FLAGS, "event flag")
        return not vmb_py_or(&self.flags[f // 64], VMB_BIT(f)) & VMB_BIT(f)

    def set_many(self, flags):
        cdef uint32_t f
        cdef uint64_t bits[32]
        cdef uint64_t old
        cdef int i, transitions = 0
        memset(bits, 0, sizeof(bits))
        for flag in flags:
            f = _index(flag, VMB_FLAGS, "event flag")
            bits[f // 64] |= VMB_BIT(f)
        for i in range(VMB_WORDS):
            if bits[i]:
                old = vmb_py_or(&self.flags[i], bits[i])
                transitions += _popcount(bits[i] & ~old)
        return transitions

    def is_set(self, flag):
        cdef uint32_t f = _index(flag, VMB_FLAGS, "event flag")
        return vmb_py_load(&self.flags[f // 64]) & VMB_BIT(f) != 0

    def any(self):
        return vmb_any_pending(self.flags) != 0

    def pending(self):
        cdef uint16_t out[2048]
        cdef unsigned n = 0
        cdef uint32_t f
        for f in range(<uint32_t>VMB_FLAGS):
            if vmb_py_load(&self.flags[f // 64]) & VMB_BIT(f):
                out[n] = f
                n += 1
        return _flag_list(out, n)

    def take(self):
        cdef uint16_t out[2048]
        return _flag_list(out, vmb_take(self.flags, out))
