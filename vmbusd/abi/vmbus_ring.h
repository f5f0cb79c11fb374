// SPDX-License-Identifier: MIT
/*
 * One ring, as both of its ends see it: header page, data area, what each function answers, unstick.
 *
 * The writer's end is vmbus_ring_writer.h, the reader's vmbus_ring_reader.h. Both work on any 8-byte aligned
 * buffer and know no Python, no file and no doorbell: whether the other side wants a signal is returned and
 * never acted on. Each shared field is loaded once for each decision, checked, and used from the local copy.
 *
 * Ownership is strict: write_index, pending_send_sz and feature_bits are the writer's, read_index and
 * interrupt_mask the reader's; nobody writes the other's. Three pairs are "store mine, then look at yours" on
 * both sides. Only sequential consistency forbids that both miss, so all of these are seq_cst operations:
 *
 *          writer                            reader                          forbidden
 * data     store write_index                 store read_index                both read the old value: the
 *          load interrupt_mask               store interrupt_mask = 0        reader sleeps on a packet that
 *          load read_index                   load write_index                was not signalled
 * space    store pending_send_sz             store read_index                both read the old value: the
 *          load read_index                   load pending_send_sz            writer sleeps though there is
 *                                            load write_index                room and nobody will say so
 *
 * The reader's read_index is stored before it unmasks: a writer that finds the mask clear judges by it whether
 * the ring was empty. docs/rings.md has the argument, `./dev explore` the search.
 */
#ifndef VMBUS_RING_H
#define VMBUS_RING_H

#include <string.h>

#include "vmbus_abi.h"
#include "vmbus_faults.h"
#include "vmbus_ring_packets.h"
#include "vmbus_steps.h"

/* What the functions of both ends answer. */
enum vmb_ring_result {
    VMB_RING_OK = 0,
    VMB_RING_NOT_NOW = 1, /* the ring is empty, or has no room now */
    VMB_RING_NEVER = 2,   /* no empty ring of this size could hold it */
    VMB_RING_SMALL = 3,   /* the caller's buffer is too small; nothing has moved */
    VMB_RING_DEAD = 4,    /* the peer broke it; `fault` says how, now and for ever */
};

#define VMB_LIKELY(x) __builtin_expect(!!(x), 1)
#define VMB_UNLIKELY(x) __builtin_expect(!!(x), 0)

struct vmb_ring {
    struct vmb_ring_page *page;
    uint8_t *data;
    uint32_t size;     /* bytes of the data area: a multiple of 8, any number of pages */
    uint32_t mirrored; /* the data area is mapped twice, one after the other: nothing wraps */
    struct vmb_ring_fault fault;
    const uint8_t *armed;      /* the table's fault_armed, or one that never is */
    struct vmb_faults *faults; /* whose faults are injected while it is */
    uint32_t relid;
};

/* The largest data area: indices are u32 and are added before they are wrapped. */
#define VMB_RING_SIZE_MOST 0x7ffff000u

/* Zero the header page and announce that whoever writes this ring says when it waits: a guest, before open. */
static inline void vmb_ring_format(struct vmb_ring_page *page)
{
    memset(page, 0, sizeof *page);
    page->feature_bits = VMB_RING_FEATURE_PENDING;
}

static inline uint32_t vmb_ring_used(uint32_t size, uint32_t write, uint32_t read)
{
    return write >= read ? write - read : size - read + write;
}

__attribute__((cold, noinline, unused)) static int vmb_ring_die(struct vmb_ring *ring, struct vmb_ring_fault fault)
{
    if (!ring->fault.field) /* the first reason is the reason */
        ring->fault = fault;
    return VMB_RING_DEAD;
}

static inline int vmb_ring_index_sound(const struct vmb_ring *ring, uint32_t index)
{
    return (index < ring->size) & !(index & 7u);
}

/* Judge an index of the other side once it is in a local: 1, or the ring is dead. */
static inline int vmb_ring_judge(struct vmb_ring *ring, uint32_t field, uint32_t index)
{
    if (VMB_LIKELY(vmb_ring_index_sound(ring, index)))
        return 1;
    vmb_ring_die(ring, vmb_fault(field, 0, index, ring->size));
    return 0;
}

/* True when the `n` bytes from `at` on lie side by side in memory. */
static inline int vmb_ring_straight(const struct vmb_ring *ring, uint32_t at, uint32_t n)
{
    return ring->mirrored || n <= ring->size - at;
}

/* `n` bytes to or from the data area at `at`, which may be up to one size too large: in two parts over its end. */
static inline void vmb_ring_copy_to(struct vmb_ring *ring, const char *step, uint32_t at, const void *from, uint32_t n)
{
    (void)step;
    if (!ring->mirrored && at >= ring->size)
        at -= ring->size;
    if (vmb_ring_straight(ring, at, n)) {
        VMB_COPY_TO(step, ring->data + at, from, n);
        return;
    }
    const uint32_t head = ring->size - at;
    VMB_COPY_TO(step, ring->data + at, from, head);
    VMB_COPY_TO(step, ring->data, (const uint8_t *)from + head, n - head);
}

static inline void vmb_ring_copy_from(struct vmb_ring *ring, const char *step, uint32_t at, void *to, uint32_t n)
{
    (void)step;
    if (!ring->mirrored && at >= ring->size)
        at -= ring->size;
    if (vmb_ring_straight(ring, at, n)) {
        VMB_COPY_FROM(step, to, ring->data + at, n);
        return;
    }
    const uint32_t head = ring->size - at;
    VMB_COPY_FROM(step, to, ring->data + at, head);
    VMB_COPY_FROM(step, (uint8_t *)to + head, ring->data, n - head);
}

/* `data` holds `size` bytes, twice mapped if `mirrored`. Both indices are judged: 0, or VMB_RING_DEAD. */
static inline int vmb_ring_begin(struct vmb_ring *ring, struct vmb_ring_page *page, void *data, uint32_t size,
                                 int mirrored)
{
    *ring = (struct vmb_ring){.page = page, .data = data, .size = size, .mirrored = mirrored != 0};
    ring->armed = &vmb_never_armed;
    if (vmb_ring_judge(ring, VMB_FIELD_WRITE_INDEX, VMB_LOAD("begin.write", &page->write_index, VMB_SEQ_CST)))
        (void)vmb_ring_judge(ring, VMB_FIELD_READ_INDEX, VMB_LOAD("begin.read", &page->read_index, VMB_SEQ_CST));
    return ring->fault.field ? VMB_RING_DEAD : VMB_RING_OK;
}

/* A step of a write or a read at which a rule may end this process. */
VMB_COLD void vmb_ring_step(const struct vmb_ring *ring, uint32_t step)
{
    vmb_fault_step(ring->faults, step, ring->relid, VMB_FAULT_ANY);
}

/* What a read waits first if a rule says so. */
VMB_COLD void vmb_ring_delay(const struct vmb_ring *ring)
{
    vmb_fault_delay(ring->faults, VMB_FAULT_DELAY_READ, ring->relid, VMB_FAULT_ANY);
}

/* ---- unstick: who of this ring's two ends sleeps on something -------------------------------------------- */

enum { VMB_STUCK_READER = 1, VMB_STUCK_WRITER = 2 };

/* Which ends want a wake-up: the reader of packets behind a clear mask, the writer whose room is there. For the
 * moments when a wake may have been lost (the answer to an open, a recovery); a wake too many costs one look. */
static inline int vmb_ring_stuck(struct vmb_ring *ring)
{
    struct vmb_ring_page *page = ring->page;
    const uint32_t read = VMB_LOAD("stuck.read", &page->read_index, VMB_SEQ_CST);
    const uint32_t write = VMB_LOAD("stuck.write", &page->write_index, VMB_SEQ_CST);
    const uint32_t mask = VMB_LOAD("stuck.mask", &page->interrupt_mask, VMB_SEQ_CST);
    const uint32_t pending = VMB_LOAD("stuck.pending", &page->pending_send_sz, VMB_SEQ_CST);
    const uint32_t features = VMB_LOAD("stuck.features", &page->feature_bits, VMB_SEQ_CST);

    if (!vmb_ring_judge(ring, VMB_FIELD_WRITE_INDEX, write) || !vmb_ring_judge(ring, VMB_FIELD_READ_INDEX, read))
        return 0;
    const uint32_t room = ring->size - vmb_ring_used(ring->size, write, read);
    return (write != read && !mask ? VMB_STUCK_READER : 0) |
           (pending && (features & VMB_RING_FEATURE_PENDING) && room > (pending & ~7u) ? VMB_STUCK_WRITER : 0);
}

#endif
