# SPDX-License-Identifier: MIT
# What the binding uses of the ring's C headers.

cdef extern from "vmbus_ring_packets.h" nogil:
    enum:
        VMB_PACKET_IN_BAND
        VMB_PACKET_COMPLETION
        VMB_DESCRIPTOR
        VMB_TRAILER
        VMB_PACKET_LEAST
        VMB_LEN8_MOST
        VMB_PACKET_TYPES
        VMB_PACKET_COMPLETE
        VMB_RING_SOUND
    struct vmb_descriptor:
        uint16_t type
        uint16_t flags
        uint64_t id
    struct vmb_packet:
        uint64_t id
        uint32_t extra
        uint32_t size
        uint16_t type
        uint16_t flags
    struct vmb_ring_fault:
        uint32_t field
    uint32_t vmb_packet_total(size_t, size_t)
    uint32_t vmb_packet_least_extra(uint32_t)
    int vmb_extra_sound(uint32_t, const void *)
    vmb_packet vmb_packet_of(const vmb_descriptor *)
    int vmb_fault_text(const vmb_ring_fault *, char *, size_t)

cdef extern from "vmbus_ring.h" nogil:
    enum:
        VMB_RING_OK
        VMB_RING_NOT_NOW
        VMB_RING_NEVER
        VMB_RING_SMALL
        VMB_RING_DEAD
        VMB_RING_SIZE_MOST
        VMB_STUCK_READER
        VMB_STUCK_WRITER
    struct vmb_ring_page:
        uint32_t write_index
        uint32_t read_index
        uint32_t interrupt_mask
        uint32_t pending_send_sz
        uint32_t feature_bits
    struct vmb_ring:
        vmb_ring_page *page
        uint8_t *data
        uint32_t size
        vmb_ring_fault fault
        const uint8_t *armed
        vmb_faults *faults
        uint32_t relid
    void vmb_ring_format(vmb_ring_page *)
    void vmb_ring_copy_to(vmb_ring *, const char *, uint32_t, const void *, uint32_t)
    uint32_t vmb_ring_used(uint32_t, uint32_t, uint32_t)
    int vmb_ring_stuck(vmb_ring *)
    void vmb_ring_step(const vmb_ring *, uint32_t)
    void vmb_ring_delay(const vmb_ring *)

cdef extern from "vmbus_ring_map.h" nogil:
    enum:
        VMB_RING_EXTENTS
    struct vmb_ring_mapping:
        uint8_t *base
        size_t length
        uint32_t size
        uint32_t extents
        uint32_t bad
    int vmb_ring_map(vmb_ring_mapping *, int, const uint64_t *, uint32_t)
    void vmb_ring_unmap(vmb_ring_mapping *)

cdef extern from "vmbus_ring_writer.h" nogil:
    struct vmb_ring_writer:
        vmb_ring ring
        uint32_t write
        uint32_t published
        uint32_t *kept
        uint64_t packets
        uint64_t bytes
        uint64_t signals
        uint64_t full
        uint64_t staged
    int vmb_writer_begin(vmb_ring_writer *, vmb_ring_page *, void *, uint32_t, int)
    int vmb_writer_resync(vmb_ring_writer *)
    void vmb_writer_announce(vmb_ring_writer *)
    uint32_t vmb_writer_most(const vmb_ring_writer *)
    uint32_t vmb_writer_room(vmb_ring_writer *)
    int vmb_writer_put(
        vmb_ring_writer *, uint16_t, uint16_t, uint64_t, const void *, size_t, const void *, size_t
    )
    int vmb_writer_publish(vmb_ring_writer *)
    void vmb_writer_revert(vmb_ring_writer *)
    int vmb_writer_ask(vmb_ring_writer *, uint32_t)
    void vmb_writer_withdraw(vmb_ring_writer *)

cdef extern from "vmbus_ring_reader.h" nogil:
    struct vmb_ring_reader:
        vmb_ring ring
        uint32_t read
        uint32_t committed
        uint32_t *kept
        uint32_t need
        uint64_t packets
        uint64_t bytes
        uint64_t signals
    struct vmb_span:
        uint32_t payload
        uint32_t end
    int vmb_reader_begin(vmb_ring_reader *, vmb_ring_page *, void *, uint32_t, int)
    int vmb_reader_resync(vmb_ring_reader *)
    int vmb_reader_look(vmb_ring_reader *)
    uint32_t vmb_reader_known(const vmb_ring_reader *)
    int vmb_reader_peek(vmb_ring_reader *, vmb_descriptor *)
    int vmb_reader_finish(vmb_ring_reader *, const vmb_descriptor *, void *, void *)
    int vmb_reader_get(vmb_ring_reader *, void *, size_t, vmb_packet *)
    int vmb_reader_take(vmb_ring_reader *, uint8_t *, size_t, vmb_span *, uint32_t, uint32_t *)
    int vmb_reader_view(vmb_ring_reader *, uint32_t, vmb_span *, uint32_t, uint32_t *, uint32_t *)
    int vmb_reader_resume(vmb_ring_reader *, int *)
    int vmb_reader_commit(vmb_ring_reader *)
    void vmb_reader_revert(vmb_ring_reader *)
    void vmb_reader_mask(vmb_ring_reader *)
    int vmb_reader_rest(vmb_ring_reader *, int *)
    int vmb_reader_peer_frees(vmb_ring_reader *)

cdef extern from "Python.h":
    # As pointers: an object whose size still changes must not be counted by Cython.
    PyObject *PyBytes_FromStringAndSize_ "PyBytes_FromStringAndSize"(const char *, Py_ssize_t)
    char *PyBytes_AS_STRING_ "PyBytes_AS_STRING"(PyObject *)
    int _PyBytes_Resize(PyObject **, Py_ssize_t) except -1

cdef extern from *:
    """
    /* A buffer that holds nothing: releasing it is allowed and does nothing. */
    static inline void vmb_py_no_buffer(Py_buffer *b) { b->obj = NULL; }
    """
    void vmb_py_no_buffer(Py_buffer *)
