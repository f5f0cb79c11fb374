# SPDX-License-Identifier: MIT
# What the binding uses of the C headers.

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include "vmbus_daemon.h"
    #include "vmbus_guard.h"
    """

cdef extern from "vmbus_abi.h" nogil:
    enum:
        VMB_ABI_VERSION
        VMB_PAGE
        VMB_FLAGS
        VMB_WORDS
        VMB_MAX_VPS
        VMB_FLAGS_OFFSET
        VMB_NO_TARGET
        VMB_TARGET_PAGE
        VMB_CLAIM_RUN
        VMB_GENERATION_MAX
        VMB_FAULT_RULES
        VMB_FAULT_ANY
        VMB_FAULT_HOSTS
        VMB_FAULT_GUESTS
        VMB_FAULT_DELAY_READ
        VMB_STEP_RING_PUBLISH_SIGNAL
    uint64_t VMB_TABLE_MAGIC
    uint64_t VMB_SLOT_OPEN

    struct vmb_event_page:
        uint64_t flags[32]

    struct vmb_owner:
        uint32_t pid
        uint32_t state
        uint64_t start_time
        uint64_t incarnation

    struct vmb_fault_rule:
        uint32_t sequence

    struct vmb_table_header:
        uint64_t magic
        uint32_t abi_version
        uint32_t header_size
        uint32_t slot_count
        uint32_t slot_size
        uint32_t record_size
        uint32_t vp_count
        uint64_t epoch
        uint64_t ram_size
        char partition[32]
        uint8_t fault_armed
        uint64_t interrupt_page
        uint64_t monitor_page
        vmb_owner owner[64]
        vmb_fault_rule fault[16]

    struct vmb_record:
        uint32_t state
        uint32_t target_vp
        uint32_t relid
        uint32_t event_flag
        uint32_t host_link
        uint32_t connection_id
        uint32_t monitor_id
        uint32_t flags
        uint64_t generation
        uint8_t interface_id[16]
        uint8_t instance_id[16]
        uint32_t subchannel_index
        uint32_t flag_used

    struct vmb_table:
        vmb_table_header header
        uint64_t slot[2048]
        vmb_record record[2048]

    struct vmb_vpwork:
        uint64_t idle
        uint64_t passes
        uint64_t callbacks
        uint64_t spurious
        uint64_t left_again
        uint64_t sleeps
        uint64_t empty_wakes
        uint64_t rescued
        uint64_t storms
        uint64_t off_target
        uint64_t exceptions
        uint64_t spins_won
        uint64_t spins_lost
        uint32_t fired[16]
        uint64_t taken[32]

    struct vmb_block:
        uint32_t claim
        uint32_t ring_pfn
        uint32_t ring_pages
        uint32_t ring_downstream
        uint32_t ring_gpadl
        uint32_t ring_lock
        uint32_t ring_writer
        uint32_t ring_write
        uint32_t ring_read
        uint32_t home
        uint64_t interrupts
        uint64_t off_target
        uint8_t driver_state[256]

    struct vmb_host_page:
        uint64_t flags[32]
        uint64_t idle
        uint32_t fired[16]
        uint32_t fired_in_guest[16]

cdef extern from "vmbus_pages.h" nogil:
    enum:
        VMB_MONITORS
        VMB_MONITOR_GROUPS
    struct vmb_interrupt_page:
        uint64_t to_guest[256]
        uint64_t to_host[256]
    struct vmb_monitor_page:
        uint16_t latency[128]
    char *vmb_page_at(char *, uint64_t, uint64_t)
    int vmb_monitor_trigger(vmb_monitor_page *, uint32_t)
    int vmb_monitor_take(vmb_monitor_page *, uint32_t *)
    uint32_t vmb_monitor_latency(vmb_monitor_page *, const uint32_t *, uint32_t)

cdef extern from "sys/timerfd.h" nogil:
    enum:
        CLOCK_MONOTONIC
        TFD_NONBLOCK
        TFD_CLOEXEC
    struct timespec:
        int64_t tv_sec
        int64_t tv_nsec
    struct itimerspec:
        timespec it_interval
        timespec it_value
    int timerfd_create(int, int)
    int timerfd_settime(int, int, const itimerspec *, itimerspec *)

cdef extern from "unistd.h" nogil:
    ssize_t _read "read"(int, void *, size_t)
    int _close "close"(int)

cdef extern from "vmbus_doorbell.h" nogil:
    ctypedef struct sem_t:
        pass
    enum:
        VMB_WAIT_RUNG
        VMB_WAIT_TIMEOUT
        VMB_WAIT_BROKEN
    struct vmb_doorbell:
        sem_t *semaphore
        int fd
    int vmb_doorbell_ring(vmb_doorbell *)
    int vmb_doorbell_try(vmb_doorbell *)
    int vmb_doorbell_wait(vmb_doorbell *, int64_t)
    int64_t vmb_now_ns()
    void vmb_pause_ns(int64_t)

cdef extern from "vmbus_faults.h" nogil:
    struct vmb_faults:
        const vmb_table *table
        uint32_t who
        uint32_t *fired
        void (*pause)(int64_t) noexcept
        void *memory
        uint64_t injected
    const uint8_t vmb_never_armed
    bint VMB_ARMED_AT(const uint8_t *)
    uint32_t vmb_fault_relid(const vmb_table *, uint32_t)
    void vmb_fault_step(vmb_faults *, uint32_t, uint32_t, uint32_t)
    void vmb_fault_delay(vmb_faults *, uint32_t, uint32_t, uint32_t)
    void vmb_faults_end(vmb_faults *)

cdef extern from "vmbus_host.h" nogil:
    int vmb_signal_host(vmb_host_page *, vmb_doorbell *, uint64_t *, uint32_t)
    int vmb_signal_host_armed(vmb_faults *, vmb_host_page *, vmb_doorbell *, uint64_t *, uint32_t)
    int vmb_host_sleep_armed(vmb_faults *, vmb_host_page *, uint64_t *)
    void vmb_host_take_faults(vmb_faults *, uint32_t)

cdef extern from "vmbus_core.h" nogil:
    enum:
        VMB_BATCH
    struct vmb_sender:
        vmb_table *table
        vmb_event_page *pages
        vmb_vpwork *work
        vmb_doorbell *doorbells
        uint32_t vps
        char *ram
        uint64_t ram_size
        uint64_t signals
        uint64_t transitions
        uint64_t posts
        uint64_t moved
        vmb_faults faults
    struct vmb_worker:
        vmb_table *table
        uint64_t *flags
        vmb_vpwork *work
        vmb_block *blocks
        uint32_t vp
        uint64_t sleep
        vmb_faults faults
    uint64_t VMB_BIT(uint32_t)
    uint32_t VMB_SLOT_GENERATION(uint64_t)
    int vmb_any_pending(uint64_t *)
    unsigned vmb_take(uint64_t *, uint16_t *)
    int vmb_signal(vmb_sender *, uint32_t, uint32_t)
    uint64_t vmb_signal_many(vmb_sender *, const uint16_t *, const uint16_t *, unsigned)
    int vmb_sleep_begin(uint64_t *, uint64_t *, uint64_t *)
    int vmb_nap_begin(uint64_t *, uint64_t *, uint64_t *, uint64_t)
    void vmb_sleep_end(uint64_t *, uint64_t *)
    enum:
        VMB_SPIN_TURNS
    int vmb_look(uint64_t *, unsigned)
    int vmb_spin(uint64_t *, int64_t)
    void vmb_count(uint64_t *, uint64_t)
    void vmb_worker_begin(vmb_worker *)
    int vmb_worker_sleep(vmb_worker *)

# With the GIL: the callbacks are Python.
cdef extern from "vmbus_core.h":
    ctypedef void (*vmb_callback)(void *, uint32_t, uint64_t) noexcept
    unsigned vmb_drain(vmb_worker *, vmb_callback, void *)
    struct vmb_pass:
        unsigned (*drain)(void *own, vmb_worker *, vmb_callback, void *) noexcept
        void *own
    const char *VMB_PASS_CAPSULE

cdef extern from "vmbus_daemon.h" nogil:
    void vmb_slot_fill(vmb_table *, uint32_t, uint64_t)
    void vmb_slot_open(vmb_table *, uint32_t, uint64_t)
    void vmb_slot_close(vmb_table *, uint32_t)
    void vmb_slot_empty(vmb_table *, uint32_t)
    void vmb_retarget(vmb_table *, uint32_t, uint32_t)
    int vmb_close_done(vmb_block *, uint32_t)
    void vmb_block_clear(vmb_block *)
    unsigned vmb_recover(uint32_t, vmb_event_page *, vmb_vpwork *, vmb_block *, const vmb_table *, uint64_t *)
    unsigned vmb_sweep(vmb_event_page *, vmb_event_page *, vmb_doorbell *)

cdef extern from "vmbus_requests.h" nogil:
    void vmb_ring_unlock(uint32_t *)

cdef extern from "vmbus_guard.h" nogil:
    struct vmb_guard:
        int writable
        int dead
    int vmb_guard_install()
    vmb_guard *vmb_guard_add(void *, size_t, int)
    void vmb_guard_remove(vmb_guard *)
    unsigned vmb_guard_fault_count()

cdef extern from *:
    """
    static inline uint64_t vmb_py_load(uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void vmb_py_store(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline uint64_t vmb_py_add(uint64_t *p, uint64_t v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }
    static inline uint64_t vmb_py_or(uint64_t *p, uint64_t v) { return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST); }
    static inline uint64_t vmb_py_and(uint64_t *p, uint64_t v) { return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST); }
    static inline uint64_t vmb_py_swap(uint64_t *p, uint64_t v) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }
    static inline int vmb_py_cas(uint64_t *p, uint64_t e, uint64_t v)
    { return __atomic_compare_exchange_n(p, &e, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); }
    static inline uint32_t vmb_py_load32(uint32_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
    /* Mistakes that this build makes: each is asked for here, since a build of tests decides when it runs. */
    #define NAME(m) (VMB_MUTANT(m) ? #m : "")
    static const char *vmb_py_mutant(int i)
    {
        const char *names[] = {
            NAME(no_second_look), NAME(idle_not_seq_cst), NAME(shared_mark_after_post),
            NAME(shared_mark_before_post), NAME(already_set_returns), NAME(new_worker_zeroes),
            NAME(claimed_dropped), NAME(plain_let_go), NAME(no_claim), NAME(table_before_claim),
            NAME(close_does_not_wait), NAME(slot_not_seq_cst), NAME(claimed_put_back), NAME(no_taken),
            NAME(taken_after_clear), NAME(taken_cleared_early), NAME(drain_clears_all), NAME(sweep_clears_all),
            NAME(recovery_rings_unless_marked), NAME(no_target_reload), NAME(target_not_seq_cst),
            NAME(handover_clears_first), NAME(handover_sets_once), NAME(recovery_clears_taken_first),
            NAME(recovery_no_put_back), NAME(bit_lost), NAME(ring_publish_not_seq_cst),
            NAME(ring_publish_before_copy), NAME(ring_stale_read_index), NAME(ring_no_second_look),
            NAME(ring_unmask_not_seq_cst), NAME(ring_commit_after_unmask), NAME(ring_commit_not_seq_cst),
            NAME(ring_commit_before_copy), NAME(ring_stale_write_index), NAME(ring_no_space_look),
            NAME(ring_pending_not_seq_cst), NAME(ring_double_fetch),
        };
        return i < (int)(sizeof names / sizeof *names) ? names[i] : NULL;
    }
    #undef NAME
    """
    uint64_t vmb_py_load(uint64_t *) nogil
    void vmb_py_store(uint64_t *, uint64_t) nogil
    uint64_t vmb_py_add(uint64_t *, uint64_t) nogil
    uint64_t vmb_py_or(uint64_t *, uint64_t) nogil
    uint64_t vmb_py_and(uint64_t *, uint64_t) nogil
    uint64_t vmb_py_swap(uint64_t *, uint64_t) nogil
    int vmb_py_cas(uint64_t *, uint64_t, uint64_t) nogil
    uint32_t vmb_py_load32(uint32_t *) nogil
    const char *vmb_py_mutant(int)

cdef extern from *:
    int _popcount "__builtin_popcountll"(uint64_t) nogil
    int _lowest "__builtin_ctz"(uint32_t) nogil

cdef inline uint64_t _pending_bits(uint64_t *flags) noexcept nogil:
    """Flags that are set on a page."""
    cdef uint64_t n = 0
    cdef int i
    for i in range(VMB_WORDS):
        n += _popcount(vmb_py_load(&flags[i]))
    return n

cdef extern from "sys/prctl.h" nogil:
    enum:
        PR_SET_PDEATHSIG
    int prctl(int, ...)

cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        pass
    PyTypeObject *Py_TYPE(PyObject *)
    PyObject *PyObject_CallOneArg(PyObject *, PyObject *)
    PyObject *PyList_GET_ITEM(object, Py_ssize_t)
    list PyList_New(Py_ssize_t)
    void PyList_SET_ITEM(object, Py_ssize_t, PyObject *)
    long PyLong_AsLongAndOverflow(object, int *) except? -1
    void Py_INCREF(PyObject *)
    void Py_DECREF(PyObject *)
    void PyErr_Fetch(PyObject **, PyObject **, PyObject **)
    void PyErr_NormalizeException(PyObject **, PyObject **, PyObject **)
    void PyErr_SetObject(object, object)
    void PyErr_WriteUnraisable(object)
    unsigned long PyThread_get_thread_ident()
    void Py_XDECREF(PyObject *)

cdef extern from "vmbus_packets.h":
    enum:
        VMB_BURST
        VMB_TAKE
    struct vmb_datagram:
        void *at
        size_t size
    int vmb_send_packets(int fd, const vmb_datagram *packets, unsigned count) nogil
    int vmb_take_packets(int fd, char *buffer, size_t room, size_t *sizes, int *flags) nogil

cdef extern from "sys/socket.h":
    enum:
        MSG_CTRUNC
        MSG_TRUNC
