# SPDX-License-Identifier: MIT
# The worker: what is called for a channel, and the loop that plays one VP.

# Sleeps for which a spin that did not pay is left out, doubled up to this: with both sides on one core the
# peer cannot run while we spin, so spinning must cost nothing there.
cdef uint32_t SPIN_BACKOFF_MAX = 1023


# Passes that still find bits after a stop was asked for: senders that never pause must not keep a worker. What
# stays on the page is handed over by the daemon, or waits for the VP's next worker.
cdef int STOP_PASSES = 16


cdef class Registry:
    """(flag, generation) -> callable: what the workers of one process call. Shared by its threads.

    Bound and unbound under the GIL, and read under it by the dispatch: no lock of its own.
    """

    cdef list calls, arguments
    cdef uint64_t generations[2048]
    cdef object missing, failed

    def __cinit__(self, missing, failed):
        self.calls = [None] * VMB_FLAGS
        self.arguments = [None] * VMB_FLAGS
        memset(self.generations, 0, sizeof(self.generations))
        self.missing = missing
        self.failed = failed

    def bind(self, flag, generation, call, argument):
        """Call `call(argument)` for interrupts of this generation of the channel."""
        cdef uint32_t f = _index(flag, VMB_FLAGS, "event flag")
        _generation(generation)
        if not callable(call):
            raise UsageError(f"event flag {flag}: {call!r} cannot be called")
        old = self.calls[f], self.arguments[f]  # dropped last: what ends with them may bind or unbind
        self.generations[f] = 0
        self.calls[f] = call
        self.arguments[f] = argument
        self.generations[f] = generation
        del old

    def unbind(self, flag, generation):
        """Forget the binding, unless another generation has taken its place."""
        cdef uint32_t f = _index(flag, VMB_FLAGS, "event flag")
        if self.generations[f] == _generation(generation):
            old = self.calls[f], self.arguments[f]
            self.generations[f] = 0
            self.calls[f] = None
            self.arguments[f] = None
            del old


cdef void _dispatch(void *context, uint32_t flag, uint64_t slot) noexcept:
    cdef Worker worker = <Worker>context
    cdef Registry registry = worker.registry
    cdef uint32_t generation = VMB_SLOT_GENERATION(slot)
    cdef PyObject *call
    cdef PyObject *argument
    cdef PyObject *result

    if vmb_py_load32(&(<vmb_record *>(<char *>worker.worker.table + worker.record_of(slot))).target_vp) != worker.worker.vp:
        vmb_count(&worker.worker.work.off_target, 1)
    if registry.generations[flag] == generation:
        call = PyList_GET_ITEM(registry.calls, flag)
        argument = PyList_GET_ITEM(registry.arguments, flag)
        Py_INCREF(call)  # the callback may unbind itself
        Py_INCREF(argument)
        result = PyObject_CallOneArg(call, argument)
        Py_DECREF(argument)
        Py_DECREF(call)
        if result != NULL:
            Py_DECREF(result)
            return
        worker.callback_failed(flag)
        return
    try:
        registry.missing(flag, generation)
    except BaseException as error:
        worker.note(flag, error)


cdef class Worker:
    """Plays one VP: drain, dispatch, sleep."""

    cdef vmb_worker worker
    cdef _View table, events, vpwork, blocks
    cdef Doorbell doorbell
    cdef Registry registry
    cdef tuple guards
    cdef object raised
    cdef bint relook, running
    cdef unsigned long thread
    cdef volatile bint stopping
    cdef int64_t spin_ns
    cdef uint32_t spin_skip, spin_backoff
    cdef int empty

    def __cinit__(self, vp, *, table, events, vpwork, blocks, Doorbell doorbell not None,
                  Registry registry not None, bint relook=False, double spin=0.0, guards=()):
        cdef uint32_t v = _index(vp, VMB_MAX_VPS, "VP")
        if not 0 <= spin <= 1:
            raise UsageError(f"spin {spin}: seconds between 0 and 1")
        self.table = _view(table, 0, sizeof(vmb_table), 64, False, "channel table")
        self.events = _view(events, v * sizeof(vmb_event_page), sizeof(vmb_event_page), 64, True, "interrupt page")
        self.vpwork = _view(vpwork, v * sizeof(vmb_vpwork), sizeof(vmb_vpwork), 64, True, "vpwork")
        self.blocks = _view(blocks, 0, sizeof(vmb_block) * VMB_FLAGS, VMB_PAGE, True, "guest blocks")
        self.doorbell = doorbell
        self.registry = registry
        self.guards = tuple(guards)
        for guard in self.guards:
            if not isinstance(guard, Guard):
                raise UsageError(f"VP {v}: {guard!r} is no guard")
        self.relook = relook
        self.spin_ns = <int64_t>(spin * 1e9)
        self.worker.table = <vmb_table *>self.table.at
        self.worker.flags = (<vmb_event_page *>self.events.at).flags
        self.worker.work = <vmb_vpwork *>self.vpwork.at
        self.worker.blocks = <vmb_block *>self.blocks.at
        self.worker.vp = v
        self.worker.faults.table = self.worker.table
        self.worker.faults.who = VMB_FAULT_GUESTS
        self.worker.faults.fired = self.worker.work.fired
        self.worker.faults.pause = _pause_for_others

    def __dealloc__(self):
        _end_faults(&self.worker.faults)

    cdef uint32_t record_of(self, uint64_t slot) noexcept:
        """The record's offset, kept inside the table whatever the word says."""
        cdef uint32_t offset = <uint32_t>slot & ~<uint32_t>(sizeof(vmb_record) - 1)
        return offset if offset <= sizeof(vmb_table) - sizeof(vmb_record) else 0

    cdef void callback_failed(self, uint32_t flag) noexcept:
        cdef PyObject *kind = NULL
        cdef PyObject *value = NULL
        cdef PyObject *trace = NULL
        PyErr_Fetch(&kind, &value, &trace)
        PyErr_NormalizeException(&kind, &value, &trace)
        error = <object>value
        if trace != NULL:
            error = error.with_traceback(<object>trace)
        Py_XDECREF(kind)
        Py_XDECREF(value)
        Py_XDECREF(trace)
        self.note(flag, error)

    cdef void note(self, uint32_t flag, object error) noexcept:
        """An Exception goes to the registry's `failed`; anything else ends `run` after the pass.

        Callbacks that find zeros where an object was truncated fail one and all: the object is what is said.
        """
        if isinstance(error, Exception):
            vmb_count(&self.worker.work.exceptions, 1)
            try:
                self.check_guards()
            except ObjectDead as dead:
                if self.raised is None:
                    self.raised = dead
                return
            error = self.tell(flag, error)
            if isinstance(error, Exception):
                PyErr_SetObject(type(error), error)
                PyErr_WriteUnraisable(self)
                return
        if error is not None and self.raised is None:
            self.raised = error

    cdef object tell(self, uint32_t flag, object error):
        """None, or what `failed` raised itself: Ctrl-C may have come while it ran."""
        try:
            self.registry.failed(flag, error)
        except BaseException as second:
            return second
        return None

    cdef int enter(self) except -1:
        """One pass at a time: a second one would overwrite what the first keeps in `taken`."""
        if self.running:
            raise UsageError(f"VP {self.worker.vp}: this worker runs already; callbacks and other threads"
                             " must not dispatch it")
        self.running = True
        self.thread = PyThread_get_thread_ident()
        return 0

    cdef unsigned drain(self) except? 0xffffffff:
        cdef unsigned seen = vmb_drain(&self.worker, _dispatch, <void *>self)
        if self.raised is not None:
            error, self.raised = self.raised, None
            raise error
        return seen

    def dispatch(self):
        """One drain of the page: calls what is bound. Returns the number of bits seen."""
        self.enter()
        try:
            return self.drain()
        finally:
            self.running = False

    def run(self):
        """Serve until `stop` and until a drain found nothing; waits without the GIL, in slices of at most 1 s."""
        cdef uint64_t *idle = &self.worker.work.idle
        cdef bint asleep = False
        cdef int passes
        self.enter()
        vmb_worker_begin(&self.worker)
        try:
            while True:
                passes = 0
                while self.drain():
                    self.empty = 0
                    PyErr_CheckSignals()
                    if self.stopping:
                        passes += 1
                        if passes > STOP_PASSES:
                            break
                self.check_guards()
                if self.stopping:
                    return
                PyErr_CheckSignals()
                if self.spin_ns and self.spin():
                    continue
                asleep = True
                if vmb_worker_sleep(&self.worker):
                    self.wait()
                asleep = False
                vmb_sleep_end(idle, &self.worker.sleep)
        finally:
            if asleep:
                vmb_sleep_end(idle, &self.worker.sleep)
            self.running = False
            self.stopping = False

    cdef int check_guards(self) except -1:
        cdef Guard guard
        for item in self.guards:
            guard = <Guard>item
            if guard.entry != NULL and guard.entry.dead:
                guard.check()
        return 0

    cdef bint spin(self) except? -1:
        cdef int found
        if self.spin_skip:
            self.spin_skip -= 1
            return False
        # The first looks keep the GIL: to let go of it and take it again costs more than the answer of a peer
        # that is already on its way, and nobody else waits longer for it than one callback would make him.
        found = vmb_look(self.worker.flags, VMB_SPIN_TURNS)
        if not found:
            with nogil:
                found = vmb_spin(self.worker.flags, self.spin_ns)
        if found:
            self.spin_backoff = 0
            vmb_count(&self.worker.work.spins_won, 1)
            return True
        self.spin_backoff = min(2 * self.spin_backoff + 1, SPIN_BACKOFF_MAX)
        self.spin_skip = self.spin_backoff
        vmb_count(&self.worker.work.spins_lost, 1)
        return False

    cdef int wait(self) except -1:
        """Until rung or stopped. Between slices nobody looks at the bits, unless `relook` or a storm asks for it."""
        cdef vmb_vpwork *work = self.worker.work
        cdef int rung
        vmb_count(&work.sleeps, 1)
        while True:
            if self.empty >= STORM_WAKES:
                if self.empty == STORM_WAKES:
                    vmb_count(&work.storms, 1)
                    self.empty += 1
                with nogil:
                    _drain_doorbell(&self.doorbell.bell)
                    vmb_pause_ns(STORM_PAUSE_NS)
                PyErr_CheckSignals()
                self.check_guards()
                if self.stopping or vmb_any_pending(self.worker.flags):
                    return 0
                continue
            rung = _await(&self.doorbell.bell, vmb_now_ns() + SLICE_NS)
            if rung == VMB_WAIT_RUNG:
                if not self.stopping and not vmb_any_pending(self.worker.flags):
                    self.empty += 1
                    vmb_count(&work.empty_wakes, 1)
                return 0
            if self.stopping:
                return 0
            self.check_guards()
            if self.relook and rung == VMB_WAIT_TIMEOUT and vmb_any_pending(self.worker.flags):
                vmb_count(&work.rescued, _pending_bits(self.worker.flags))
                return 0

    cdef uint64_t *word_of(self, flag) except NULL:
        """Where this flag stands on our page, for the thread that runs a callback."""
        cdef uint32_t f = _index(flag, VMB_FLAGS, "event flag")
        if not self.running or self.thread != PyThread_get_thread_ident():
            raise UsageError(f"VP {self.worker.vp}: only a callback of this worker may do that")
        return &self.worker.flags[f // 64]

    def nap(self, flag, double seconds):
        """In a callback: wait for a signal of its channel, at most `seconds`. True: it came and was taken.

        `taken` has the flag already, since its callback runs: a death here puts it back.
        """
        cdef uint64_t *word = self.word_of(flag)
        cdef uint64_t bit = VMB_BIT(flag) if flag else 0
        cdef uint64_t *idle = &self.worker.work.idle
        cdef int64_t until = vmb_now_ns() + <int64_t>(min(max(seconds, 0.0), 1.0) * 1e9)
        try:
            if vmb_nap_begin(idle, &self.worker.sleep, word, bit) and not self.stopping:
                _await(&self.doorbell.bell, until)
        finally:
            vmb_sleep_end(idle, &self.worker.sleep)
        return vmb_py_and(word, ~bit) & bit != 0

    def again(self, flag):
        """In a callback: have `flag` served once more before this worker sleeps."""
        cdef uint64_t *word = self.word_of(flag)
        vmb_py_or(word, VMB_BIT(flag))

    @property
    def leaving(self):
        """Whether `stop` was called since `run` began."""
        return self.stopping != 0

    def stop(self):
        """Ask `run` to return once a drain found nothing, or soon; callable from any thread and from callbacks."""
        self.stopping = True
        self.doorbell.ring()

    def statistics(self):
        """The VP's counters, as VpWork.statistics."""
        return _work_statistics(self.worker.work)
