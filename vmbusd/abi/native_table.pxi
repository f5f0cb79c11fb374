# SPDX-License-Identifier: MIT
# The channel table, the guest's blocks and the workers' words, for whoever may read or write them.

cdef uint64_t U32 = 0xffffffff
cdef uint64_t U64 = 0xffffffffffffffff


cdef uint64_t _generation(object value) except? 0:
    if not isinstance(value, int) or not 1 <= value <= VMB_GENERATION_MAX:
        raise UsageError(f"generation {value!r} is not in 1..{VMB_GENERATION_MAX}")
    return value


cdef uint32_t _vps(object value) except? 0:
    if not isinstance(value, int) or not 1 <= value <= VMB_MAX_VPS:
        raise UsageError(f"{value!r} VPs; a partition has 1..{VMB_MAX_VPS}")
    return value


cdef uint32_t _vp_of(uint32_t target) noexcept:
    """The VP of a record's target, whichever way its guest is told."""
    return target ^ VMB_TARGET_PAGE if target ^ VMB_TARGET_PAGE < VMB_MAX_VPS else target


cdef class Table:
    """The channel table, read: slots, records, owners."""

    cdef _View view
    cdef vmb_table *table

    def __cinit__(self, buffer, *args):
        self.view = _view(buffer, 0, sizeof(vmb_table), 64, isinstance(self, TableWriter), "channel table")
        self.table = <vmb_table *>self.view.at

    def slot(self, flag):
        return vmb_py_load(&self.table.slot[_index(flag, VMB_FLAGS, "event flag")])

    def slots(self):
        cdef list out = []
        cdef uint32_t f
        cdef uint64_t s
        for f in range(<uint32_t>VMB_FLAGS):
            s = vmb_py_load(&self.table.slot[f])
            if s:
                out.append((f, s))
        return out

    def target(self, relid):
        return _vp_of(vmb_py_load32(&self.table.record[_index(relid, VMB_FLAGS, "relid")].target_vp))

    def record(self, relid):
        cdef vmb_record *r = &self.table.record[_index(relid, VMB_FLAGS, "relid")]
        return {
            "state": r.state,
            "target_vp": _vp_of(vmb_py_load32(&r.target_vp)),
            "relid": r.relid,
            "event_flag": r.event_flag,
            "host_link": r.host_link,
            "connection_id": r.connection_id,
            "monitor_id": r.monitor_id,
            "flags": r.flags,
            "generation": r.generation,
            "interface_id": (<char *>r.interface_id)[:16],
            "instance_id": (<char *>r.instance_id)[:16],
            "subchannel_index": r.subchannel_index,
        }

    def owner(self, vp):
        cdef vmb_owner *o = &self.table.header.owner[_index(vp, VMB_MAX_VPS, "VP")]
        return o.pid, o.state, o.start_time, o.incarnation

    def fault(self, index):
        """The 64 bytes of a fault rule, as they stand."""
        cdef vmb_fault_rule *rule = &self.table.header.fault[_index(index, VMB_FAULT_RULES, "fault rule")]
        return (<char *>rule)[:sizeof(vmb_fault_rule)]

    def header(self):
        cdef vmb_table_header *h = &self.table.header
        return {
            "magic": h.magic,
            "abi_version": h.abi_version,
            "vps": h.vp_count,
            "epoch": h.epoch,
            "ram_size": h.ram_size,
            "partition": (<char *>h.partition)[:32].rstrip(b"\0").decode("ascii", "replace"),
            "fault_armed": h.fault_armed != 0,
            "interrupt_page": vmb_py_load(&h.interrupt_page),
            "monitor_page": vmb_py_load(&h.monitor_page),
        }


cdef class TableWriter(Table):
    """The daemon's side. Raises UsageError for a buffer that is mapped read-only, never faults."""

    def format(self, *, vps, epoch, ram_size, str partition not None):
        """Write page 0 of a new, zeroed table; the magic last, so that half a header is none."""
        cdef vmb_table_header *h = &self.table.header
        cdef bytes name = partition.encode("ascii", "replace")
        cdef uint32_t count = _vps(vps)
        cdef uint64_t start = _number(epoch, U64, "epoch")
        cdef uint64_t ram = _number(ram_size, U64, "memory size")
        if len(name) > 32 or not partition.isascii():
            raise UsageError(f"partition {partition!r}: at most 32 ASCII characters")
        h.abi_version = VMB_ABI_VERSION
        h.header_size = VMB_PAGE
        h.slot_count = VMB_FLAGS
        h.slot_size = 8
        h.record_size = sizeof(vmb_record)
        h.vp_count = count
        h.epoch = start
        h.ram_size = ram
        memset(h.partition, 0, 32)
        memcpy(h.partition, <char *>name, len(name))
        vmb_py_store(&h.magic, VMB_TABLE_MAGIC)

    def fill(self, flag, relid, *, host_link, connection_id, monitor_id, flags,
             bytes interface_id not None, bytes instance_id not None, subchannel_index):
        """Record, then slot with open = 0. The target is 'never interrupt' until the open names one."""
        cdef uint32_t f = _index(flag, VMB_FLAGS, "event flag")
        cdef uint32_t i = _index(relid, VMB_FLAGS, "relid")
        cdef uint32_t link = _number(host_link, U32, "host link")
        cdef uint32_t connection = _number(connection_id, U32, "connection id")
        cdef uint32_t monitor = _number(monitor_id, U32, "monitor id")
        cdef uint32_t bits = _number(flags, U32, "flags")
        cdef uint32_t subchannel = _number(subchannel_index, U32, "subchannel index")
        cdef vmb_record *r = &self.table.record[i]
        if len(interface_id) != 16 or len(instance_id) != 16:
            raise UsageError("a GUID has 16 bytes")
        r.state = 0
        r.relid = i
        r.event_flag = f
        r.host_link = link
        r.connection_id = connection
        r.monitor_id = monitor
        r.flags = bits
        memcpy(r.interface_id, <char *>interface_id, 16)
        memcpy(r.instance_id, <char *>instance_id, 16)
        r.subchannel_index = subchannel
        vmb_retarget(self.table, i, VMB_NO_TARGET)
        vmb_slot_fill(self.table, f, (r.generation << 33) | self._offset(i))

    cdef uint64_t _offset(self, uint32_t relid) noexcept:
        return <uint64_t>(<char *>&self.table.record[relid] - <char *>self.table)

    def open(self, flag, relid, generation):
        """A new generation, open: before the device is asked."""
        cdef uint32_t f = _index(flag, VMB_FLAGS, "event flag")
        cdef uint32_t i = _index(relid, VMB_FLAGS, "relid")
        cdef uint64_t g = _generation(generation)
        self.table.record[i].generation = g
        vmb_slot_open(self.table, f, (g << 33) | self._offset(i))

    def close(self, flag):
        """Clear the open bit (seq_cst); then poll Blocks.is_free."""
        vmb_slot_close(self.table, _index(flag, VMB_FLAGS, "event flag"))

    def empty(self, flag, relid):
        """Slot, then record: the relid is released. What names the block as used stays."""
        cdef uint32_t i = _index(relid, VMB_FLAGS, "relid")
        cdef vmb_record *r = &self.table.record[i]
        vmb_slot_empty(self.table, _index(flag, VMB_FLAGS, "event flag"))
        vmb_retarget(self.table, i, VMB_NO_TARGET)
        memset(&r.relid, 0, <char *>&r.flag_used - <char *>&r.relid)
        r.state = 0

    def set_target(self, relid, vp):
        """Point a channel at a VP, through the interrupt page while one is in use."""
        cdef uint32_t i = _index(relid, VMB_FLAGS, "relid")
        cdef uint32_t target = <uint32_t>_number(vp, U32, "target VP")
        if vmb_py_load(&self.table.header.interrupt_page) and target < VMB_MAX_VPS:
            target ^= VMB_TARGET_PAGE
        vmb_retarget(self.table, i, target)

    def set_pages(self, interrupt, monitor):
        """The guest's pages in use from now on, as guest physical addresses; 0: none."""
        cdef uint64_t first = _number(interrupt, U64, "interrupt page")
        cdef uint64_t second = _number(monitor, U64, "monitor page")
        vmb_py_store(&self.table.header.interrupt_page, first)
        vmb_py_store(&self.table.header.monitor_page, second)

    def set_state(self, relid, state):
        self.table.record[_index(relid, VMB_FLAGS, "relid")].state = <uint32_t>_number(state, U32, "state")

    def set_owner(self, vp, pid, state, start_time, incarnation):
        """Who plays a VP: written before the worker is admitted."""
        cdef vmb_owner *o = &self.table.header.owner[_index(vp, VMB_MAX_VPS, "VP")]
        cdef uint32_t process = _number(pid, U32, "pid")
        cdef uint32_t is_now = _number(state, U32, "state")
        cdef uint64_t since = _number(start_time, U64, "start time")
        cdef uint64_t admission = _number(incarnation, U64, "incarnation")
        o.start_time = since
        o.incarnation = admission
        o.state = is_now
        o.pid = process

    def set_fault(self, index, rule):
        """Write a fault rule: 64 bytes, or None to switch it off; no reader ever sees half of one."""
        _set_fault(self.table, index, rule)

    def set_fault_armed(self, bint armed):
        self.table.header.fault_armed = armed

    def targets(self, vp):
        """Relids of the non-empty slots whose record targets `vp`."""
        cdef list out = []
        cdef uint32_t wanted = _number(vp, U32, "VP")
        cdef uint32_t f, i
        cdef uint64_t s
        for f in range(<uint32_t>VMB_FLAGS):
            s = vmb_py_load(&self.table.slot[f])
            if s:
                i = (<vmb_record *>(<char *>self.table + <uint32_t>s)).relid
                if _vp_of(self.table.record[i].target_vp) == wanted:
                    out.append(i)
        return out


cdef class Blocks:
    """The `-guest` object: claims, ring location, driver state."""

    cdef _View view
    cdef vmb_block *blocks

    def __cinit__(self, buffer):
        self.view = _view(buffer, 0, sizeof(vmb_block) * VMB_FLAGS, VMB_PAGE, True, "guest blocks")
        self.blocks = <vmb_block *>self.view.at

    cdef vmb_block *_at(self, object flag) except NULL:
        return &self.blocks[_index(flag, VMB_FLAGS, "event flag")]

    def claim(self, flag):
        return vmb_py_load32(&self._at(flag).claim)

    def is_free(self, flag):
        """Step 3 of close: RUN is not in the claim."""
        return vmb_close_done(self.blocks, _index(flag, VMB_FLAGS, "event flag")) != 0

    def is_locked(self, flag):
        """Whether some process of the guest is writing the channel's outgoing ring."""
        return vmb_py_load32(&self._at(flag).ring_lock) != 0

    def clear(self, flag):
        """Zero what a completed close leaves behind; claim and ring location stay."""
        vmb_block_clear(self._at(flag))

    def ring(self, flag):
        """(first page number, pages, downstream page, GPADL handle)."""
        cdef vmb_block *b = self._at(flag)
        return b.ring_pfn, b.ring_pages, b.ring_downstream, b.ring_gpadl

    def set_ring(self, flag, pfn, pages, downstream, gpadl):
        cdef vmb_block *b = self._at(flag)
        cdef uint32_t first = _number(pfn, U32, "page number")
        cdef uint32_t count = _number(pages, U32, "pages")
        cdef uint32_t second = _number(downstream, U32, "downstream page")
        cdef uint32_t handle = _number(gpadl, U32, "GPADL")
        b.ring_pfn = first
        b.ring_pages = count
        b.ring_downstream = second
        b.ring_gpadl = handle
        b.ring_writer = b.ring_write = b.ring_read = b.home = 0
        # A close waits for the lock; only a guest that died as a whole leaves it taken.
        vmb_ring_unlock(&b.ring_lock)

    def home(self, flag):
        """The VP whose process keeps the channel's state, None if no process does."""
        cdef uint32_t vp = vmb_py_load32(&self._at(flag).home)
        return vp - 1 if vp else None

    def set_home(self, flag, vp):
        """Whoever has the claim: the process of this VP keeps the channel's state from now on."""
        self._at(flag).home = _index(vp, VMB_MAX_VPS, "VP") + 1

    def interrupts(self, flag):
        """Callbacks of the channel since its block was cleared."""
        return vmb_py_load(&self._at(flag).interrupts)

    def state(self, flag):
        """The 256 bytes of driver state, writable."""
        cdef vmb_block *b = self._at(flag)
        cdef Py_ssize_t start = <char *>b.driver_state - <char *>self.view.raw.buf
        return memoryview(<object>self.view.raw.obj).cast("B")[start:start + 256]


cdef class VpWork:
    """The `-vpwork` object, read."""

    cdef _View view
    cdef vmb_vpwork *work
    cdef uint32_t vps

    def __cinit__(self, buffer, vps):
        self.vps = _vps(vps)
        self.view = _view(buffer, 0, sizeof(vmb_vpwork) * self.vps, 64, False, "vpwork")
        self.work = <vmb_vpwork *>self.view.at

    def statistics(self, vp):
        """Counters of the worker that plays `vp`; they outlive it."""
        return _work_statistics(&self.work[_index(vp, self.vps, "VP")])

    def is_idle(self, vp):
        """True while the VP sleeps or is about to."""
        return vmb_py_load(&self.work[_index(vp, self.vps, "VP")].idle) & 1 != 0


cdef dict _work_statistics(vmb_vpwork *w):
    cdef uint64_t faults = 0
    cdef int i
    for i in range(VMB_FAULT_RULES):
        faults += vmb_py_load32(&w.fired[i])
    return {
        "passes": w.passes,
        "callbacks": w.callbacks,
        "spurious": w.spurious,
        "left_again": w.left_again,
        "sleeps": w.sleeps,
        "empty_wakes": w.empty_wakes,
        "rescued": w.rescued,
        "storms": w.storms,
        "off_target": w.off_target,
        "exceptions": w.exceptions,
        "spins_won": w.spins_won,
        "spins_lost": w.spins_lost,
        "faults": faults,
        "idle": w.idle,
    }
