# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True, binding=False
# SPDX-License-Identifier: MIT
"""The old design's lists for Python: a thin face over percpu.h.

Rules: the lists lie in a buffer that is checked once; `link`, `unlink` and `serve` are for whoever plays the
VP that owns the list, everybody else uses a `Mover`. A worker plays the old design with
`native.PassWorker.use(Lists.passes())`.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pycapsule cimport (
    PyCapsule_Destructor,
    PyCapsule_GetContext,
    PyCapsule_GetPointer,
    PyCapsule_New,
    PyCapsule_SetContext,
)
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uintptr_t

from vmbusd.abi.errors import ResourceError, UsageError

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include "moves.h"

    static unsigned lab_drain(void *own, struct vmb_worker *w, vmb_callback call, void *context)
    {
        return vmb_percpu_drain((struct vmb_percpu *)own, w, call, context);
    }

    /* How often the channels are found, one after the other and again, in `turns` lookups of each design. */
    static unsigned lab_find_by_list(struct vmb_percpu *p, uint32_t vp, const uint16_t *relids, unsigned n,
                                     unsigned turns)
    {
        unsigned found = 0;
        for (unsigned t = 0, i = 0; t < turns; t++, i = i + 1 < n ? i + 1 : 0)
            found += (unsigned)vmb_percpu_find(p, vp, relids[i]);
        return found;
    }

    static unsigned lab_find_by_table(struct vmb_table *table, const uint16_t *relids, unsigned n, unsigned turns)
    {
        unsigned found = 0;
        for (unsigned t = 0, i = 0; t < turns; t++, i = i + 1 < n ? i + 1 : 0)
            found += (VMB_LOAD("dispatch.slot", &table->slot[relids[i]], VMB_SEQ_CST) & VMB_SLOT_OPEN) != 0;
        return found;
    }

    static uint64_t lab_read(uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static uint32_t lab_read32(uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    """
    ctypedef struct sem_t:
        pass
    enum:
        VMB_FLAGS
        VMB_WORDS
        VMB_MAX_VPS
        VMB_DESIGN_GLOBAL
        VMB_DESIGN_PERCPU
        VMB_PERCPU_LINK
    const char *VMB_PASS_CAPSULE
    struct vmb_percpu_node:
        uint32_t next
        uint32_t on
    struct vmb_percpu_vp:
        uint64_t taken
        uint64_t dropped
        uint64_t first_drop
        uint64_t dropped_of[32]
    struct vmb_percpu:
        uint32_t design
        vmb_percpu_vp vp[64]
        vmb_percpu_node node[2112]
    struct vmb_table:
        pass
    struct vmb_event_page:
        pass
    struct vmb_vpwork:
        pass
    struct vmb_doorbell:
        sem_t *semaphore
        int fd
    struct vmb_sender:
        vmb_event_page *pages
        vmb_vpwork *work
        vmb_doorbell *doorbells
        uint32_t vps
    struct vmb_percpu_move:
        uint32_t relid
        uint32_t asked
        uint32_t step
    struct vmb_percpu_moves:
        uint32_t count
        vmb_percpu_move move[2048]
    struct vmb_pass:
        void *drain
        void *own
    uint32_t VMB_PERCPU_HEAD(uint32_t)
    void vmb_percpu_init(vmb_percpu *, uint32_t)
    void vmb_percpu_begin(vmb_percpu *, uint32_t)
    int vmb_percpu_unlink(vmb_percpu *, uint32_t, uint32_t)
    int vmb_percpu_link(vmb_percpu *, uint32_t, uint32_t)
    int vmb_percpu_find(vmb_percpu *, uint32_t, uint32_t)
    unsigned vmb_percpu_serve(vmb_percpu *, uint32_t)
    int vmb_percpu_move_begin(vmb_percpu *, vmb_sender *, vmb_percpu_moves *, uint32_t, uint32_t)
    uint32_t vmb_percpu_moves_look(vmb_percpu *, vmb_sender *, vmb_percpu_moves *) nogil
    int64_t vmb_now_ns() nogil
    void vmb_pause_ns(int64_t) nogil
    unsigned lab_drain(void *, void *, void *, void *)
    unsigned lab_find_by_list(vmb_percpu *, uint32_t, const uint16_t *, unsigned, unsigned) nogil
    unsigned lab_find_by_table(vmb_table *, const uint16_t *, unsigned, unsigned) nogil
    uint64_t lab_read(uint64_t *) nogil
    uint32_t lab_read32(uint32_t *) nogil

SIZE = sizeof(vmb_percpu)
"""Bytes that `Lists` need: whole pages."""
HEAD_BYTES = sizeof(vmb_percpu_node)
"""Bytes of one VP's list head."""
NODE_BYTES = sizeof(vmb_percpu_node)
"""Bytes of one channel's place in a list."""
GLOBAL = VMB_DESIGN_GLOBAL
PER_CPU = VMB_DESIGN_PERCPU

# Looks at the lists between two naps of a mover: a worker that is awake has done it by then.
cdef int LOOKS = 64
cdef int64_t NAP_NS = 20_000


cdef class _Held:
    """One exported buffer: kept alive, checked for size, alignment and writability."""

    cdef Py_buffer raw
    cdef bint held
    cdef char *at

    def __cinit__(self, buffer, size_t size, size_t alignment, bint writable, str what):
        try:
            PyObject_GetBuffer(buffer, &self.raw, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        except (BufferError, TypeError, ValueError) as error:
            raise UsageError(f"{what}: the buffer cannot be used: {error}") from error
        self.held = True
        if <size_t>self.raw.len < size:
            raise UsageError(f"{what}: {self.raw.len} bytes, at least {size} are needed")
        self.at = <char *>self.raw.buf
        if <uintptr_t>self.at % alignment:
            raise UsageError(f"{what}: address {<uintptr_t>self.at:#x} is not aligned to {alignment} bytes")

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.raw)


cdef uint32_t _below(object value, uint32_t low, uint32_t limit, str what) except? 0xffffffff:
    if not isinstance(value, int) or not low <= value < limit:
        raise UsageError(f"{what} {value!r} is not in {low}..{limit - 1}")
    return <uint32_t>value


cdef uint32_t _vp(object value) except? 0xffffffff:
    return _below(value, 0, VMB_MAX_VPS, "VP")


cdef uint32_t _relid(object value) except? 0xffffffff:
    return _below(value, 1, VMB_FLAGS, "relid")


cdef uint32_t _design(object value) except? 0xffffffff:
    return _below(value, VMB_DESIGN_GLOBAL, VMB_DESIGN_PERCPU + 1, "design")


cdef void _free_pass(object capsule) noexcept:
    PyMem_Free(PyCapsule_GetPointer(capsule, VMB_PASS_CAPSULE))
    Py_DECREF(<object>PyCapsule_GetContext(capsule))


cdef class Lists:
    """A list of channels for each VP, in `buffer` of at least SIZE bytes, 64-byte aligned and writable."""

    cdef _Held held
    cdef vmb_percpu *lists

    def __cinit__(self, buffer):
        self.held = _Held(buffer, sizeof(vmb_percpu), 64, True, "lists")
        self.lists = <vmb_percpu *>self.held.at

    def init(self, design):
        """Make the lists empty and all counts zero. While nobody uses them."""
        vmb_percpu_init(self.lists, _design(design))

    def begin(self, design):
        """Play `design` from now on, and count from zero; the lists stay. While every VP is at rest."""
        vmb_percpu_begin(self.lists, _design(design))

    @property
    def design(self):
        """GLOBAL or PER_CPU."""
        return lab_read32(&self.lists.design)

    def link(self, vp, relid):
        """L2, as the VP that owns the list. False, and nothing changes, while the channel is on a list."""
        return vmb_percpu_link(self.lists, _vp(vp), _relid(relid)) != 0

    def unlink(self, vp, relid):
        """L1, as the VP that owns the list. False, and nothing changes, if the channel is not on it."""
        return vmb_percpu_unlink(self.lists, _vp(vp), _relid(relid)) != 0

    def find(self, vp, relid):
        """The old design's lookup: is the channel on this VP's list?"""
        return vmb_percpu_find(self.lists, _vp(vp), _relid(relid)) != 0

    def serve(self, vp):
        """Carry out the orders of `vp`, as its worker does after each pass. Returns how many changed a list."""
        return vmb_percpu_serve(self.lists, _vp(vp))

    def vp_of(self, relid):
        """The VP whose list the channel is on, None for none."""
        cdef uint32_t on = lab_read32(&self.lists.node[_relid(relid)].on)
        return on - 1 if on else None

    def walk(self, vp):
        """The relids on a VP's list, in its order. While nobody changes it."""
        cdef uint32_t i = lab_read32(&self.lists.node[VMB_PERCPU_HEAD(_vp(vp))].next)
        cdef list found = []
        while i < VMB_FLAGS and len(found) < VMB_FLAGS:
            found.append(i)
            i = lab_read32(&self.lists.node[i].next)
        return found

    def passes(self):
        """The capsule that makes a `native.PassWorker` play the design of these lists, which it keeps alive."""
        cdef vmb_pass *made = <vmb_pass *>PyMem_Malloc(sizeof(vmb_pass))
        if made == NULL:
            raise MemoryError
        made.drain = <void *>lab_drain
        made.own = self.lists
        capsule = PyCapsule_New(made, VMB_PASS_CAPSULE, <PyCapsule_Destructor>_free_pass)
        Py_INCREF(self)
        PyCapsule_SetContext(capsule, <void *>self)
        return capsule

    def counts(self, vp):
        """Of this run: `taken`, bits of channels; `dropped`, of them not on the list; `first_drop`, ns, 0: none."""
        cdef vmb_percpu_vp *own = &self.lists.vp[_vp(vp)]
        return {
            "taken": lab_read(&own.taken),
            "dropped": lab_read(&own.dropped),
            "first_drop": lab_read(&own.first_drop),
        }

    def dropped_of(self):
        """The relids of which some VP dropped an interrupt in this run, ascending."""
        cdef uint64_t words[32]
        cdef int vp, i
        for i in range(VMB_WORDS):
            words[i] = 0
            for vp in range(VMB_MAX_VPS):
                words[i] |= lab_read(&self.lists.vp[vp].dropped_of[i])
        return [i for i in range(VMB_FLAGS) if words[i // 64] >> (i % 64) & 1]

    def time_list(self, vp, relids, turns):
        """Nanoseconds that `turns` lookups of the relids, in turn, take on this VP's list. Without the GIL."""
        return self.time(_vp(vp), None, relids, turns)

    def time_table(self, table, relids, turns):
        """The same in a channel table, a buffer as `native.Table` takes it."""
        return self.time(0, _Held(table, 4096 + 16384, 64, False, "channel table"), relids, turns)

    cdef object time(self, uint32_t vp, _Held table, object relids, object turns):
        cdef uint16_t known[2048]
        cdef unsigned n = 0, found = 0
        cdef unsigned many = _below(turns, 1, 1 << 31, "turns")
        cdef int64_t begun
        for relid in relids:
            if n == VMB_FLAGS:
                raise UsageError(f"more than {VMB_FLAGS} relids")
            known[n] = <uint16_t>_relid(relid)
            n += 1
        if not n:
            raise UsageError("no relids to look up")
        with nogil:
            begun = vmb_now_ns()
            if table is None:
                found = lab_find_by_list(self.lists, vp, known, n, many)
            else:
                found = lab_find_by_table(<vmb_table *>table.at, known, n, many)
            begun = vmb_now_ns() - begun
        if found != many:
            raise UsageError(f"only {found} of {many} lookups found their channel")
        return begun


cdef class Mover:
    """Moves channels between the lists of a partition's VPs, which their workers change; for one thread."""

    cdef Lists lists
    cdef vmb_percpu_moves moves
    cdef vmb_sender sender
    cdef vmb_doorbell bells[64]
    cdef _Held events, vpwork
    cdef list semaphores

    def __cinit__(self, Lists lists not None, events, vpwork, semaphores):
        """`semaphores`: the mapping of each VP's semaphore."""
        cdef Py_ssize_t vps = len(semaphores)
        cdef Py_ssize_t i
        if not 1 <= vps <= VMB_MAX_VPS:
            raise UsageError(f"{vps} semaphores; a partition has 1..{VMB_MAX_VPS} VPs")
        self.lists = lists
        self.events = _Held(events, 4096 * vps, 64, True, "interrupt pages")
        self.vpwork = _Held(vpwork, 512 * vps, 64, False, "vpwork")
        self.semaphores = [_Held(one, sizeof(sem_t), 8, True, "semaphore") for one in semaphores]
        for i in range(vps):
            self.bells[i].semaphore = <sem_t *>(<_Held>self.semaphores[i]).at
            self.bells[i].fd = -1
        self.sender.pages = <vmb_event_page *>self.events.at
        self.sender.work = <vmb_vpwork *>self.vpwork.at
        self.sender.doorbells = self.bells
        self.sender.vps = <uint32_t>vps

    def begin(self, relid, vp):
        """Begin to move a channel to the list of `vp`: off the list it is on, if any, then onto that one.

        Those begun before go on meanwhile, and none waits for another. At most one move of a channel at a time.
        """
        cdef uint32_t of = _relid(relid), to = _below(vp, 0, self.sender.vps, "VP")
        if self.moves.count == VMB_FLAGS:
            raise UsageError(f"{VMB_FLAGS} moves are under way: finish them first")
        if not vmb_percpu_move_begin(self.lists.lists, &self.sender, &self.moves, of, to):
            raise UsageError(f"relid {relid} is on the list of a VP that there is not")
        vmb_percpu_moves_look(self.lists.lists, &self.sender, &self.moves)

    def finish(self, double timeout):
        """Wait until every move that was begun is done. Without the GIL.

        Raises ResourceError when a worker has not carried out its order after `timeout` seconds; the moves go
        on, and it may be called again.
        """
        if not self.wait(vmb_now_ns() + <int64_t>(timeout * 1e9)):
            late = self.moves.move[0]
            what = "link" if late.step == VMB_PERCPU_LINK else "unlink"
            raise ResourceError(f"VP {late.asked} did not {what} relid {late.relid} within {timeout:g} s")

    cdef bint wait(self, int64_t until) noexcept:
        cdef int looks
        with nogil:
            while True:
                for looks in range(LOOKS):
                    if not vmb_percpu_moves_look(self.lists.lists, &self.sender, &self.moves):
                        return True
                if vmb_now_ns() >= until:
                    return False
                vmb_pause_ns(NAP_NS)
