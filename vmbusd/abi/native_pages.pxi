# SPDX-License-Identifier: MIT
# Pages that a guest names at contact, as both sides use them, and the timer of who has to look at them.

cdef list _take_half(uint64_t *words):
    cdef uint16_t out[2048]
    return _flag_list(out, vmb_take(words, out))


cdef class InterruptPage:
    """The legacy interrupt page of 0.13 and 1.1: bits 1..2047 of either half are relids."""

    cdef _View view
    cdef vmb_interrupt_page *page

    def __cinit__(self, buffer, offset=0):
        self.view = _view(buffer, _size(offset, "interrupt page: offset"), VMB_PAGE, 8, True, "interrupt page")
        self.page = <vmb_interrupt_page *>self.view.at

    def signal_host(self, relid):
        """Guest: set the channel's bit for the host. True for 0 -> 1. The host looks when it is told to."""
        cdef uint32_t r = _index(relid, VMB_FLAGS, "relid")
        return not vmb_py_or(&self.page.to_host[r // 64], VMB_BIT(r)) & VMB_BIT(r)

    def take_for_guest(self):
        """Guest, once event flag 0 was set and taken: the relids that the host signalled, ascending."""
        return _take_half(self.page.to_guest)

    def deliver(self, Table table not None, dict hosts not None):
        """Host: take the guest's bits and signal the hosts of the open channels they mean, by link number.

        Returns (relids whose host is not in `hosts`, how many bits meant no open channel).
        """
        cdef uint16_t out[2048]
        cdef unsigned n = vmb_take(self.page.to_host, out)
        cdef unsigned unknown = 0
        cdef unsigned i
        cdef uint32_t flag
        cdef vmb_record *record
        cdef list homeless = []
        for i in range(n):
            record = &table.table.record[out[i]]
            flag = record.event_flag
            if record.relid != out[i] or flag >= VMB_FLAGS \
                    or not vmb_py_load(&table.table.slot[flag]) & VMB_SLOT_OPEN:
                unknown += 1
                continue
            host = hosts.get(record.host_link)
            if host is None:
                homeless.append(out[i])
            else:
                (<HostSender?>host).raise_flag(flag)
        return homeless, unknown


cdef class MonitorTrigger:
    """The child-to-parent monitor page that is in use, wherever in guest memory that is, as the guest uses it."""

    cdef _View table, ram

    def __cinit__(self, table, ram):
        self.table = _view(table, 0, sizeof(vmb_table), 64, False, "channel table")
        self.ram = _view(ram, 0, VMB_PAGE, VMB_PAGE, True, "guest memory")

    def trigger(self, monitor_id):
        """Ask for a signal of this monitor id: True for 0 -> 1, None when no page is in use."""
        cdef uint32_t m = _index(monitor_id, VMB_MONITORS, "monitor id")
        cdef uint64_t gpa = vmb_py_load(&(<vmb_table *>self.table.at).header.monitor_page)
        cdef char *page = vmb_page_at(<char *>self.ram.raw.buf, <uint64_t>self.ram.raw.len, gpa)
        if page == NULL:
            return None
        return vmb_monitor_trigger(<vmb_monitor_page *>page, m) != 0


cdef class MonitorScanner:
    """Turns the trigger bits of a monitor page into signals of host links, a scan at a time."""

    cdef _View view
    cdef vmb_monitor_page *page
    cdef uint32_t bits[4]
    cdef uint32_t unsaid
    cdef uint16_t flags[128]
    cdef list hosts
    cdef readonly uint64_t scans, signals

    def __cinit__(self, buffer, latency):
        """`latency` in units of 100 ns: for ids of which the page says none."""
        self.view = _view(buffer, 0, VMB_PAGE, 8, True, "monitor page")
        self.page = <vmb_monitor_page *>self.view.at
        self.unsaid = <uint32_t>_number(latency, 0xffff, "latency")
        self.hosts = [None] * VMB_MONITORS

    def arm(self, monitor_id, HostSender host not None, flag):
        """The bit of this id signals `flag` of `host` from now on; one set before does not."""
        cdef uint32_t m = _index(monitor_id, VMB_MONITORS, "monitor id")
        self.flags[m] = _index(flag, VMB_FLAGS, "event flag")
        self.hosts[m] = host
        self.bits[m // 32] |= <uint32_t>1 << (m % 32)

    def disarm(self, monitor_id):
        """The bit means nobody any more."""
        cdef uint32_t m = _index(monitor_id, VMB_MONITORS, "monitor id")
        self.bits[m // 32] &= ~(<uint32_t>1 << (m % 32))
        self.hosts[m] = None

    def scan(self):
        """Take the bits that are set and signal those that are armed. Returns how many those were."""
        cdef uint32_t taken[4]
        cdef uint32_t rest
        cdef unsigned g, m
        cdef int n = 0
        self.scans += 1
        if not vmb_monitor_take(self.page, taken):
            return 0
        for g in range(<unsigned>VMB_MONITOR_GROUPS):
            rest = taken[g] & self.bits[g]
            while rest:
                m = g * 32 + _lowest(rest)
                (<HostSender>self.hosts[m]).raise_flag(self.flags[m])
                n += 1
                rest &= rest - 1
        self.signals += n
        return n

    def latency(self):
        """The shortest latency asked for the ids that are armed, in units of 100 ns; 0 when none is."""
        cdef uint32_t least = vmb_monitor_latency(self.page, self.bits, self.unsaid)
        return 0 if least == 0xffffffff else least


cdef class Ticker:
    """A timerfd: readable once per period. For periods that an event loop's own timers are too coarse for."""

    cdef int fd

    def __cinit__(self):
        self.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self.fd < 0:
            raise ResourceError(f"timerfd: {strerror(errno).decode()}")

    def __dealloc__(self):
        self.close()

    def fileno(self):
        return self.fd

    def every(self, nanoseconds):
        """Tick with this period from now on; 0: not at all."""
        cdef itimerspec spec
        cdef uint64_t period = _number(nanoseconds, <uint64_t>INT64_MAX, "nanoseconds")
        spec.it_interval.tv_sec = spec.it_value.tv_sec = <int64_t>(period // 1_000_000_000)
        spec.it_interval.tv_nsec = spec.it_value.tv_nsec = <int64_t>(period % 1_000_000_000)
        if timerfd_settime(self.fd, 0, &spec, NULL) != 0:
            raise ResourceError(f"timerfd: {strerror(errno).decode()}")

    def take(self):
        """Ticks since the last take; 0 when there was none."""
        cdef uint64_t ticks = 0
        if _read(self.fd, &ticks, sizeof(ticks)) != sizeof(ticks):
            return 0
        return ticks

    cpdef close(self):
        """Close the descriptor. May be called again."""
        if self.fd >= 0:
            _close(self.fd)
            self.fd = -1
