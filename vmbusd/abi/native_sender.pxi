# SPDX-License-Identifier: MIT
# Signalling: host to guest through the table, guest to host through the host link's page.

# no_gc_clear: a sender ends by making its late posts, so what it posts to must outlive it in a garbage cycle too.
# It refers to nothing that refers back.

@cython.no_gc_clear
cdef class Sender:
    """What one host process (or thread, on an interpreter without a GIL) knows of the VPs it signals."""

    cdef vmb_sender sender
    cdef vmb_doorbell bells[64]
    cdef _View table, events, vpwork, ram, page
    cdef tuple doorbells

    def __cinit__(self, table, events, vpwork, doorbells, ram=None, page=None):
        cdef Py_ssize_t vps = len(doorbells)
        cdef Py_ssize_t i
        if not 1 <= vps <= VMB_MAX_VPS:
            raise UsageError(f"{vps} doorbells; a partition has 1..{VMB_MAX_VPS} VPs")
        self.table = _view(table, 0, sizeof(vmb_table), 64, False, "channel table")
        self.events = _view(events, 0, sizeof(vmb_event_page) * vps, 64, True, "interrupt pages")
        self.vpwork = _view(vpwork, 0, sizeof(vmb_vpwork) * vps, 64, False, "vpwork")
        self.doorbells = tuple(doorbells)
        for i in range(vps):
            self.bells[i] = (<Doorbell?>self.doorbells[i]).bell
        self.sender.table = <vmb_table *>self.table.at
        self.sender.pages = <vmb_event_page *>self.events.at
        self.sender.work = <vmb_vpwork *>self.vpwork.at
        self.sender.doorbells = self.bells
        self.sender.vps = <uint32_t>vps
        if ram is not None:
            self.ram = _view(ram, 0, VMB_PAGE, VMB_PAGE, True, "guest memory")
            self.sender.ram = <char *>self.ram.raw.buf
            self.sender.ram_size = <uint64_t>self.ram.raw.len
        self.sender.faults.table = self.sender.table
        self.sender.faults.who = VMB_FAULT_HOSTS
        self.sender.faults.pause = _pause_for_others
        if page is not None:
            self.page = _view(page, 0, sizeof(vmb_host_page), 64, True, "host page")
            self.sender.faults.fired = (<vmb_host_page *>self.page.at).fired

    def __dealloc__(self):
        _end_faults(&self.sender.faults)

    def signal_many(self, routes):
        """Signal every live route in one native call. Returns how many bits went from 0 to 1."""
        cdef list items = routes if type(routes) is list else list(routes)
        cdef uint16_t relids[2048]
        cdef uint16_t flags[2048]
        cdef unsigned n = 0
        cdef uint64_t transitions = 0
        cdef Py_ssize_t i
        cdef PyObject *item
        cdef PyTypeObject *known = NULL
        for i in range(len(items)):
            # Borrowed: nothing here runs Python code before it raises, so the list keeps its items.
            item = PyList_GET_ITEM(items, i)
            if Py_TYPE(item) != known:
                <Route?><object>item
                known = Py_TYPE(item)
            if not (<Route>item).live:
                continue
            if <PyObject *>(<Route>item).sender != <PyObject *>self:
                raise UsageError(f"relid {(<Route>item).relid} belongs to another link")
            relids[n] = (<Route>item).relid
            flags[n] = (<Route>item).flag
            n += 1
            if n == VMB_BATCH:
                transitions += vmb_signal_many(&self.sender, relids, flags, n)
                n = 0
        return transitions + vmb_signal_many(&self.sender, relids, flags, n)

    def statistics(self):
        """signals, transitions (0 -> 1), posts, moved (targets that changed under a signal), faults (injected)."""
        return {
            "signals": self.sender.signals,
            "transitions": self.sender.transitions,
            "posts": self.sender.posts,
            "moved": self.sender.moved,
            "faults": self.sender.faults.injected,
        }


cdef class Route:
    """Where a channel's signals go; subclass it for a channel object. Not live: signalling does nothing."""

    cdef Sender sender
    cdef readonly uint16_t relid
    cdef readonly uint16_t flag
    cdef public bint live

    def bind(self, Sender sender not None, relid, flag):
        """Set relid and event flag; `live` stays as it is."""
        cdef uint64_t page = vmb_py_load(&sender.sender.table.header.interrupt_page)
        self.relid = _index(relid, VMB_FLAGS, "relid")
        self.flag = _index(flag, VMB_FLAGS, "event flag")
        if page and vmb_page_at(sender.sender.ram, sender.sender.ram_size, page) == NULL:
            raise UsageError(f"relid {relid}: its guest is signalled through the page at {page:#x} of its memory,"
                             " which this sender has not got")
        self.sender = sender

    def signal(self):
        """Set the bit on the current target VP and ring if it sleeps. True for 0 -> 1."""
        if not self.live or self.sender is None:
            return False
        return vmb_signal(&self.sender.sender, self.relid, self.flag) != 0


@cython.no_gc_clear
cdef class HostSender:
    """Guest to host: the flags and doorbell of one host link's page."""

    cdef _View view
    cdef Doorbell doorbell
    cdef uint64_t rung, signals, transitions
    cdef _View table
    cdef vmb_faults faults
    cdef const uint8_t *armed

    def __cinit__(self, page, Doorbell doorbell not None, table=None):
        self.view = _view(page, 0, sizeof(vmb_host_page), 64, True, "host page")
        self.doorbell = doorbell
        if table is not None:
            self.table = _view(table, 0, sizeof(vmb_table), 64, False, "channel table")
            self.faults.table = <vmb_table *>self.table.at
        self.faults.who = VMB_FAULT_GUESTS
        self.faults.pause = _pause_for_others
        self.faults.fired = (<vmb_host_page *>self.view.at).fired_in_guest
        self.armed = _armed(&self.faults)

    def __dealloc__(self):
        _end_faults(&self.faults)

    def signal(self, flag):
        """Set the flag and ring the host if it sleeps. True for 0 -> 1."""
        return self.raise_flag(_index(flag, VMB_FLAGS, "event flag"))

    cdef bint raise_flag(self, uint32_t flag) noexcept:
        cdef vmb_host_page *page = <vmb_host_page *>self.view.at
        cdef int first
        if VMB_ARMED_AT(self.armed):
            first = vmb_signal_host_armed(&self.faults, page, &self.doorbell.bell, &self.rung, flag)
        else:
            first = vmb_signal_host(page, &self.doorbell.bell, &self.rung, flag)
        self.signals += 1
        self.transitions += first
        return first != 0

    def statistics(self):
        """signals, transitions (0 -> 1), faults (injected)."""
        return {"signals": self.signals, "transitions": self.transitions, "faults": self.faults.injected}


cdef class HostWaiter:
    """The host's end of its own page: sleep rule and take. No claims: the taker's death ends its channels."""

    cdef _View view
    cdef Doorbell doorbell
    cdef uint64_t sleep
    cdef int empty
    cdef bint waiting
    cdef _View table
    cdef vmb_faults faults
    cdef const uint8_t *armed
    cdef readonly uint64_t storms, rescued

    def __cinit__(self, page, Doorbell doorbell not None, table=None):
        cdef vmb_host_page *p
        self.view = _view(page, 0, sizeof(vmb_host_page), 64, True, "host page")
        self.doorbell = doorbell
        p = <vmb_host_page *>self.view.at
        self.sleep = vmb_py_load(&p.idle)
        if self.sleep & 1:
            vmb_sleep_end(&p.idle, &self.sleep)
        if table is not None:
            self.table = _view(table, 0, sizeof(vmb_table), 64, False, "channel table")
            self.faults.table = <vmb_table *>self.table.at
        self.faults.who = VMB_FAULT_HOSTS
        self.faults.fired = p.fired
        self.faults.pause = _pause_for_others
        self.armed = _armed(&self.faults)

    def __dealloc__(self):
        _end_faults(&self.faults)

    @property
    def faults_injected(self):
        return self.faults.injected

    def wait(self, double timeout):
        """Flags taken, ascending; empty after `timeout` seconds. Releases the GIL while waiting."""
        if self.waiting:
            raise UsageError("host page: somebody waits on it already, it has one waiter")
        self.waiting = True
        try:
            return self.serve(_deadline(timeout))
        finally:
            self.waiting = False

    cdef int sleep_begin(self, vmb_host_page *p) noexcept:
        if VMB_ARMED_AT(self.armed):
            return vmb_host_sleep_armed(&self.faults, p, &self.sleep)
        return vmb_sleep_begin(&p.idle, &self.sleep, p.flags)

    cdef list serve(self, int64_t end):
        cdef vmb_host_page *p = <vmb_host_page *>self.view.at
        cdef uint16_t out[2048]
        cdef unsigned n, i
        while True:
            n = vmb_take(p.flags, out)
            if n:
                self.empty = 0
                if VMB_ARMED_AT(self.armed):
                    for i in range(n):
                        vmb_host_take_faults(&self.faults, out[i])
                return _flag_list(out, n)
            if vmb_now_ns() >= end:
                return []
            if self.sleep_begin(p):
                try:
                    while True:
                        if self.empty >= STORM_WAKES:
                            if self.empty == STORM_WAKES:
                                self.storms += 1
                                self.empty += 1
                            with nogil:
                                _drain_doorbell(&self.doorbell.bell)
                                vmb_pause_ns(STORM_PAUSE_NS)
                            PyErr_CheckSignals()
                            break
                        if _await(&self.doorbell.bell, min(end, vmb_now_ns() + SLICE_NS)) == VMB_WAIT_RUNG:
                            self.empty += 1
                            break
                        if vmb_now_ns() >= end:
                            # The next look takes them: a host looks whenever a wait is over, rung or not.
                            self.rescued += _pending_bits(p.flags)
                            break
                finally:
                    vmb_sleep_end(&p.idle, &self.sleep)
            else:
                vmb_sleep_end(&p.idle, &self.sleep)
