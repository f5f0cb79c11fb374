// SPDX-License-Identifier: MIT
/*
 * The writing end of a ring: packets are put behind those not published yet, then published together.
 *
 * One writer at a time: the caller sees to it. The writer goes by its own copy of write_index, which the peer
 * cannot change, and by the last read_index it has judged; it asks for a fresh one only when that is not enough.
 */
#ifndef VMBUS_RING_WRITER_H
#define VMBUS_RING_WRITER_H

#include "vmbus_ring.h"

struct vmb_ring_writer {
    struct vmb_ring ring;
    uint32_t write;     /* where the next packet begins */
    uint32_t published; /* what the reader knows of */
    uint32_t read_seen; /* the last read_index judged: there may be more room, never less */
    uint32_t asked;     /* what stands in pending_send_sz */
    uint32_t *kept;     /* NULL, or `published` where other processes of this side go on and the peer cannot write */
    uint64_t packets, bytes, signals; /* published; bytes with descriptors and trailers */
    uint64_t full;                    /* times there was no room */
    uint64_t staged;                  /* packets not published yet */
};

/* Take the indices as they stand: at open, and when another process wrote last. 0, or VMB_RING_DEAD. */
static inline int vmb_writer_resync(struct vmb_ring_writer *w)
{
    struct vmb_ring *ring = &w->ring;
    const uint32_t stands = VMB_LOAD("resync.write", &ring->page->write_index, VMB_ACQUIRE);
    const uint32_t read = VMB_LOAD("resync.read", &ring->page->read_index, VMB_ACQUIRE);
    const uint32_t write = w->kept ? VMB_LOAD("resync.kept", w->kept, VMB_ACQUIRE) : stands;

    if (ring->fault.field || !vmb_ring_judge(ring, VMB_FIELD_WRITE_INDEX, write) ||
        !vmb_ring_judge(ring, VMB_FIELD_READ_INDEX, read))
        return VMB_RING_DEAD;
    if (write != stands) /* the last writer died between the two stores of a publication, or the peer scribbled */
        VMB_STORE("resync.publish", &ring->page->write_index, write, VMB_SEQ_CST);
    w->write = w->published = write;
    w->read_seen = read;
    w->staged = 0;
    w->asked = VMB_LOAD("resync.pending", &ring->page->pending_send_sz, VMB_RELAXED);
    return VMB_RING_OK;
}

static inline int vmb_writer_begin(struct vmb_ring_writer *w, struct vmb_ring_page *page, void *data, uint32_t size,
                                   int mirrored)
{
    memset(w, 0, sizeof *w);
    if (vmb_ring_begin(&w->ring, page, data, size, mirrored))
        return VMB_RING_DEAD;
    return vmb_writer_resync(w);
}

/* Say that this writer sets pending_send_sz when it waits, and waits for nothing now: once, when it attaches. */
static inline void vmb_writer_announce(struct vmb_ring_writer *w)
{
    VMB_STORE("announce.pending", &w->ring.page->pending_send_sz, 0u, VMB_RELAXED);
    VMB_STORE("announce.features", &w->ring.page->feature_bits, VMB_RING_FEATURE_PENDING, VMB_SEQ_CST);
    w->asked = 0;
}

/* Largest packet, trailer included, that an empty ring can hold: one that filled it would look like none. */
static inline uint32_t vmb_writer_most(const struct vmb_ring_writer *w) { return w->ring.size - 8u; }

/* Bytes that are free by what is known; a packet must be smaller. */
static inline uint32_t vmb_writer_room_known(const struct vmb_ring_writer *w)
{
    return w->ring.size - vmb_ring_used(w->ring.size, w->write, w->read_seen);
}

/* The same by a fresh read_index; 0 when the ring is dead. The reader is done with what it freed. */
static inline uint32_t vmb_writer_room(struct vmb_ring_writer *w)
{
    const uint32_t read = VMB_LOAD("room.read", &w->ring.page->read_index, VMB_SEQ_CST);
    if (!vmb_ring_judge(&w->ring, VMB_FIELD_READ_INDEX, read))
        return 0;
    w->read_seen = read;
    return vmb_writer_room_known(w);
}

/* What vmb_writer_put does when the room that is known does not do. */
__attribute__((noinline, unused)) static int vmb_writer_find_room(struct vmb_ring_writer *w, uint32_t total)
{
    if (w->ring.fault.field)
        return VMB_RING_DEAD;
    if (!total || total > vmb_writer_most(w))
        return VMB_RING_NEVER;
    if (vmb_writer_room(w) > total)
        return VMB_RING_OK;
    if (w->ring.fault.field)
        return VMB_RING_DEAD;
    w->full++;
    return VMB_RING_NOT_NOW;
}

/* Ask for the lines that later packets will be written to, this far ahead. The reader's core has them, and a store
 * that must wait for a line holds up those behind it. The smallest gain nothing. No access: nothing can fault. */
#define VMB_AHEAD 4096u
#define VMB_AHEAD_LEAST 256u
#define VMB_LINE 64u

static inline void vmb_writer_fetch_ahead(const uint8_t *to, uint32_t total)
{
#ifdef __x86_64__
    for (uint32_t line = 0; line < total && line < VMB_AHEAD; line += VMB_LINE)
        __asm__ volatile("prefetchw %0" : : "m"(to[VMB_AHEAD + line]));
#else
    (void)to, (void)total;
#endif
}

/* Put one packet behind the others. The reader does not see it before vmb_writer_publish.
 *
 * `extra` is the type header, a multiple of 8 bytes. OK, NOT_NOW, NEVER or DEAD; only OK changes anything. */
static inline int vmb_writer_put(struct vmb_ring_writer *w, uint16_t type, uint16_t flags, uint64_t id,
                                 const void *extra, size_t extra_size, const void *payload, size_t size)
{
    const uint32_t total = vmb_packet_total(extra_size, size), at = w->write;

    if (VMB_UNLIKELY(!total || w->ring.fault.field || vmb_writer_room_known(w) <= total)) {
        const int failed = vmb_writer_find_room(w, total);
        if (failed)
            return failed;
    }
    const uint32_t whole = total - VMB_TRAILER;
    const struct vmb_descriptor head = {
        .type = type,
        .offset8 = (uint16_t)((VMB_DESCRIPTOR + extra_size) / 8u),
        .len8 = (uint16_t)(whole / 8u),
        .flags = flags,
        .id = id,
    };
    const uint64_t trailer = (uint64_t)at << 32, zero = 0;
    uint32_t next = at + total;
    if (next >= w->ring.size)
        next -= w->ring.size;
    if (VMB_MUTANT(ring_publish_before_copy))
        VMB_STORE("publish.index", &w->ring.page->write_index, next, VMB_SEQ_CST);
    if (VMB_LIKELY(vmb_ring_straight(&w->ring, at, total))) {
        uint8_t *to = w->ring.data + at;
        const uint64_t word = vmb_descriptor_word(&head);
        if (total >= VMB_AHEAD_LEAST && w->ring.mirrored)
            vmb_writer_fetch_ahead(to, total);
        VMB_COPY_TO("put.descriptor", to, &word, 8u);
        VMB_COPY_TO("put.id", to + 8, &id, 8u);
        if (size & 7u) /* the padding, which the payload then covers up to its end */
            VMB_COPY_TO("put.padding", to + whole - 8u, &zero, 8u);
        if (extra_size)
            VMB_COPY_TO("put.extra", to + VMB_DESCRIPTOR, extra, extra_size);
        if (size)
            VMB_COPY_TO("put.payload", to + VMB_DESCRIPTOR + extra_size, payload, size);
        VMB_COPY_TO("put.trailer", to + whole, &trailer, VMB_TRAILER);
    } else {
        vmb_ring_copy_to(&w->ring, "put.descriptor", at, &head, VMB_DESCRIPTOR);
        if (size & 7u)
            vmb_ring_copy_to(&w->ring, "put.padding", at + whole - 8u, &zero, 8u);
        if (extra_size)
            vmb_ring_copy_to(&w->ring, "put.extra", at + VMB_DESCRIPTOR, extra, (uint32_t)extra_size);
        if (size)
            vmb_ring_copy_to(&w->ring, "put.payload", at + VMB_DESCRIPTOR + (uint32_t)extra_size, payload,
                             (uint32_t)size);
        vmb_ring_copy_to(&w->ring, "put.trailer", at + whole, &trailer, VMB_TRAILER);
    }
    w->write = next;
    w->staged++;
    return VMB_RING_OK;
}

/* Let the reader see all that was put. Returns 1 when it must be signalled: it is not masked and the ring was
 * empty before. A fault of the reader's index found here makes the ring dead; what was put is published. */
static inline int vmb_writer_publish(struct vmb_ring_writer *w)
{
    const uint32_t old = w->published, now = w->write;
    struct vmb_ring_page *page = w->ring.page;

    if (now == old)
        return 0;
    const int armed = VMB_ARMED_AT(w->ring.armed);
    if (armed)
        vmb_ring_step(&w->ring, VMB_STEP_RING_COPY_PUBLISH);
    if (w->kept) /* first, so that whoever goes on after our death publishes what the reader may have seen */
        VMB_STORE("publish.keep", w->kept, now, VMB_RELEASE);
    if (armed && w->kept)
        vmb_ring_step(&w->ring, VMB_STEP_RING_KEEP_PUBLISH);
    if (!VMB_MUTANT(ring_publish_before_copy))
        VMB_STORE("publish.index", &page->write_index, now,
                  VMB_MUTANT(ring_publish_not_seq_cst) ? VMB_RELEASE : VMB_SEQ_CST);
    w->published = now;
    w->packets += w->staged;
    w->bytes += vmb_ring_used(w->ring.size, now, old);
    w->staged = 0;
    if (VMB_LOAD("publish.mask", &page->interrupt_mask, VMB_SEQ_CST))
        return 0;
    if (!VMB_MUTANT(ring_stale_read_index)) {
        const uint32_t read = VMB_LOAD("publish.read", &page->read_index, VMB_SEQ_CST);
        if (!vmb_ring_judge(&w->ring, VMB_FIELD_READ_INDEX, read))
            return 0;
        w->read_seen = read;
    }
    if (w->read_seen != old)
        return 0;
    w->signals++;
    return 1;
}

/* Forget what was put and not published. */
static inline void vmb_writer_revert(struct vmb_ring_writer *w)
{
    w->write = w->published;
    w->staged = 0;
}

/* Stop asking for room: after a wake-up, and before giving up. */
static inline void vmb_writer_withdraw(struct vmb_ring_writer *w)
{
    if (w->asked)
        VMB_STORE("withdraw", &w->ring.page->pending_send_sz, 0u, VMB_RELAXED);
    w->asked = 0;
}

/* Ask to be signalled once a packet of `total` bytes, trailer included, fits, and look again.
 *
 * OK: it fits already, and nothing is asked. NOT_NOW: wait for the signal, then withdraw. Asks for a quarter of
 * the ring at least, so that the two ends do not trade one small packet for one wake-up. Publish first: what is
 * only put can never be read. */
static inline int vmb_writer_ask(struct vmb_ring_writer *w, uint32_t total)
{
    const uint32_t most = vmb_writer_most(w), quarter = w->ring.size / 4u & ~7u;

    if (w->ring.fault.field)
        return VMB_RING_DEAD;
    if (!total || total > most)
        return VMB_RING_NEVER;
    w->asked = total > quarter ? (total + 7u) & ~7u : quarter;
    VMB_STORE("ask", &w->ring.page->pending_send_sz, w->asked,
              VMB_MUTANT(ring_pending_not_seq_cst) ? VMB_RELAXED : VMB_SEQ_CST);
    if (VMB_MUTANT(ring_no_space_look))
        return VMB_RING_NOT_NOW;
    if (vmb_writer_room(w) > total) {
        vmb_writer_withdraw(w);
        return VMB_RING_OK;
    }
    if (w->ring.fault.field)
        return VMB_RING_DEAD;
    const uint32_t stands = VMB_LOAD("ask.check", &w->ring.page->pending_send_sz, VMB_RELAXED);
    if (stands != w->asked) /* ours alone: a reader that takes it away would let us wait for ever */
        return vmb_ring_die(&w->ring, vmb_fault(VMB_FIELD_PENDING_SEND_SZ, 0, stands, w->asked));
    return VMB_RING_NOT_NOW;
}

#endif
