# SPDX-License-Identifier: MIT
# The daemon's hand-overs for a VP without its worker.

def recover(vp, *, table, events, vpwork, blocks):
    """(claims freed, bits put back) of a VP whose process is known to be dead."""
    cdef uint32_t v = _index(vp, VMB_MAX_VPS, "VP")
    cdef _View t = _view(table, 0, sizeof(vmb_table), 64, False, "channel table")
    cdef _View e = _view(events, v * sizeof(vmb_event_page), sizeof(vmb_event_page), 64, True, "interrupt page")
    cdef _View w = _view(vpwork, v * sizeof(vmb_vpwork), sizeof(vmb_vpwork), 64, True, "vpwork")
    cdef _View b = _view(blocks, 0, sizeof(vmb_block) * VMB_FLAGS, VMB_PAGE, True, "guest blocks")
    cdef uint64_t redelivered
    cdef unsigned freed
    freed = vmb_recover(v, <vmb_event_page *>e.at, <vmb_vpwork *>w.at, <vmb_block *>b.at,
                        <vmb_table *>t.at, &redelivered)
    return freed, redelivered


def sweep(vp, live, *, events, Doorbell doorbell not None):
    """Hand the bits of a VP without worker to VP `live` and ring it. Returns the bits moved."""
    cdef uint32_t v = _index(vp, VMB_MAX_VPS, "VP")
    cdef uint32_t to = _index(live, VMB_MAX_VPS, "VP")
    cdef _View e = _view(events, max(v, to) * sizeof(vmb_event_page), sizeof(vmb_event_page), 64, True,
                         "interrupt page")
    cdef vmb_event_page *pages = <vmb_event_page *>e.raw.buf
    if v == to:
        raise UsageError(f"VP {vp} cannot take over its own bits")
    return vmb_sweep(&pages[v], &pages[to], &doorbell.bell)


def pending_count(events, vp):
    """Bits set on a VP's page, flag 0 left out."""
    cdef uint32_t v = _index(vp, VMB_MAX_VPS, "VP")
    cdef _View e = _view(events, v * sizeof(vmb_event_page), sizeof(vmb_event_page), 64, False, "interrupt page")
    cdef uint64_t *flags = (<vmb_event_page *>e.at).flags
    cdef int i
    cdef int n = 0
    for i in range(VMB_WORDS):
        n += _popcount(vmb_py_load(&flags[i]))
    return n - <int>(vmb_py_load(&flags[0]) & 1)


def exit_with_parent(int signal_number):
    """Have the kernel send this process `signal_number` when the thread that started it ends.

    Raises ResourceError when the kernel refuses. The caller checks that its parent had not ended before.
    """
    if prctl(PR_SET_PDEATHSIG, signal_number) != 0:
        raise ResourceError(f"PR_SET_PDEATHSIG: {strerror(errno).decode()}")
