# SPDX-License-Identifier: MIT
# Wake: semaphores and eventfds, and the rules of waiting that guest and host share.

# A wait is cut into slices so that Ctrl-C, stop requests and dead mappings are noticed.
cdef int64_t SLICE_NS = 1_000_000_000
# Wakes in a row that led to nothing before the doorbell counts as rung by somebody hostile or broken.
cdef int STORM_WAKES = 64
# How long such a waiter sleeps between looks: bounds both its latency and the CPU a peer can burn.
cdef int64_t STORM_PAUSE_NS = 1_000_000
# Wakes taken in one drain; a peer that rings all the time must not keep the drain going.
cdef int STORM_DRAIN = 1 << 20


# A wait may be as long as this, some thirty years, so that no sum of times overflows.
cdef double LONGEST_WAIT = 1e9


cdef int64_t _deadline(double timeout) except -1:
    """CLOCK_MONOTONIC, in ns, after `timeout` seconds; a negative timeout is over already."""
    if timeout != timeout:
        raise UsageError("a timeout is a number of seconds, not nan")
    if timeout <= 0:
        return vmb_now_ns()
    return vmb_now_ns() + <int64_t>(min(timeout, LONGEST_WAIT) * 1e9) + 1  # rounded up: never early


cdef int _await(vmb_doorbell *bell, int64_t until) except? VMB_WAIT_BROKEN:
    """One wait without the GIL. Raises what a signal handler raises, and ResourceError for no doorbell."""
    cdef int rung
    with nogil:
        rung = vmb_doorbell_wait(bell, until)
    if rung == VMB_WAIT_BROKEN:
        raise ResourceError("doorbell: there is nothing to wait on, its descriptor was closed")
    PyErr_CheckSignals()
    return rung


cdef int _drain_doorbell(vmb_doorbell *bell) noexcept nogil:
    cdef int n = 0
    while n < STORM_DRAIN and vmb_doorbell_try(bell):
        n += 1
    return n


@cython.no_gc_clear  # senders in the same garbage post to it once more
cdef class Doorbell:
    """Wake without which: a semaphore in a mapping or an eventfd. `wait` releases the GIL."""

    cdef vmb_doorbell bell
    cdef _View view

    def __init__(self):
        raise UsageError("make a doorbell with Doorbell.semaphore or Doorbell.eventfd")

    @staticmethod
    def semaphore(buffer):
        """A doorbell over the first bytes of a named semaphore's file, mapped writable."""
        cdef Doorbell self = Doorbell.__new__(Doorbell)
        self.view = _view(buffer, 0, sizeof(sem_t), 8, True, "semaphore")
        self.bell.semaphore = <sem_t *>self.view.at
        self.bell.fd = -1
        return self

    @staticmethod
    def eventfd(int fd):
        """A doorbell over a non-blocking eventfd, which is borrowed."""
        cdef Doorbell self = Doorbell.__new__(Doorbell)
        try:
            blocking = _os.get_blocking(fd)
        except OSError as error:
            raise UsageError(f"eventfd {fd}: {error.strerror}") from error
        if blocking:
            raise UsageError(f"eventfd {fd} is blocking: a full counter would stop its senders")
        self.bell.semaphore = NULL
        self.bell.fd = fd
        return self

    @property
    def kind(self):
        return "eventfd" if self.bell.semaphore == NULL else "semaphore"

    def fileno(self):
        """The eventfd's descriptor. Raises UsageError for a semaphore."""
        if self.bell.semaphore != NULL:
            raise UsageError("a semaphore has no descriptor to wait on: choose the eventfd doorbell")
        return self.bell.fd

    def ring(self):
        """Post once; an overflow counts as posted. Raises ResourceError when the doorbell is none."""
        cdef int failed = vmb_doorbell_ring(&self.bell)
        if failed:
            raise ResourceError(f"{self.kind} doorbell: {strerror(failed).decode()}")

    def wait(self, double timeout):
        """True when rung, False after `timeout` seconds of CLOCK_MONOTONIC."""
        cdef int64_t end = _deadline(timeout)
        while True:
            if _await(&self.bell, min(end, vmb_now_ns() + SLICE_NS)) == VMB_WAIT_RUNG:
                return True
            if vmb_now_ns() >= end:
                return False

    def drain(self):
        """Take all wakes that wait. Returns how many (an eventfd: 0 or 1)."""
        cdef int n
        with nogil:
            n = _drain_doorbell(&self.bell)
        return n
