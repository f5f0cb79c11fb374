// SPDX-License-Identifier: MIT
/*
 * The reading end of a ring: packets are copied out, judged on the copy, then given back together.
 *
 * One reader at a time: the caller sees to it. Nothing is read from the ring twice, so a peer that changes a
 * packet between check and copy changes nothing that is still used. The first packet that is not sound makes
 * the ring dead; nobody guesses where the next one begins.
 */
#ifndef VMBUS_RING_READER_H
#define VMBUS_RING_READER_H

#include "vmbus_ring.h"

struct vmb_ring_reader {
    struct vmb_ring ring;
    uint32_t read;       /* where the next packet begins */
    uint32_t committed;  /* what the writer knows of */
    uint32_t write_seen; /* the last write_index judged: there may be more packets, never fewer */
    uint32_t *kept;      /* NULL, or `committed` where other processes of this side go on from, as the writer's */
    uint32_t need;       /* after SMALL: bytes that the caller's buffer must have */
    uint64_t packets, bytes, signals; /* committed; bytes with descriptors and trailers */
    uint64_t taken;                   /* packets read and not committed yet */
};

/* Take the indices as they stand: at open, and when another process read last. 0, or VMB_RING_DEAD. */
static inline int vmb_reader_resync(struct vmb_ring_reader *r)
{
    struct vmb_ring *ring = &r->ring;
    const uint32_t read = VMB_LOAD("resync.read", &ring->page->read_index, VMB_ACQUIRE);
    const uint32_t write = VMB_LOAD("resync.write", &ring->page->write_index, VMB_ACQUIRE);

    if (ring->fault.field || !vmb_ring_judge(ring, VMB_FIELD_WRITE_INDEX, write) ||
        !vmb_ring_judge(ring, VMB_FIELD_READ_INDEX, read))
        return VMB_RING_DEAD;
    r->read = r->committed = read;
    r->write_seen = write;
    r->taken = 0;
    return VMB_RING_OK;
}

static inline int vmb_reader_begin(struct vmb_ring_reader *r, struct vmb_ring_page *page, void *data, uint32_t size,
                                   int mirrored)
{
    memset(r, 0, sizeof *r);
    if (vmb_ring_begin(&r->ring, page, data, size, mirrored))
        return VMB_RING_DEAD;
    return vmb_reader_resync(r);
}

/* Bytes between the reader and the last write_index judged. */
static inline uint32_t vmb_reader_known(const struct vmb_ring_reader *r)
{
    return vmb_ring_used(r->ring.size, r->write_seen, r->read);
}

/* Look at write_index. OK, NOT_NOW for an empty ring, DEAD. Acquire: what it covers has been written. */
static inline int vmb_reader_look(struct vmb_ring_reader *r)
{
    if (r->ring.fault.field)
        return VMB_RING_DEAD;
    const uint32_t write = VMB_LOAD("look.write", &r->ring.page->write_index, VMB_ACQUIRE);
    if (!vmb_ring_judge(&r->ring, VMB_FIELD_WRITE_INDEX, write))
        return VMB_RING_DEAD;
    r->write_seen = write;
    return write == r->read ? VMB_RING_NOT_NOW : VMB_RING_OK;
}

/* The next packet's descriptor, copied and judged. OK, NOT_NOW or DEAD; nothing moves. */
static inline int vmb_reader_peek(struct vmb_ring_reader *r, struct vmb_descriptor *head)
{
    if (VMB_UNLIKELY(r->write_seen == r->read || r->ring.fault.field)) {
        const int found = vmb_reader_look(r);
        if (found)
            return found;
    }
    const uint32_t there = vmb_reader_known(r);
    if (VMB_UNLIKELY(there < VMB_PACKET_LEAST))
        return vmb_ring_die(&r->ring, vmb_fault(VMB_FIELD_AVAILABLE, r->read, there, VMB_PACKET_LEAST));
    uint64_t word, id;
    vmb_ring_copy_from(&r->ring, "get.descriptor", r->read, &word, 8u);
    vmb_ring_copy_from(&r->ring, "get.id", r->read + 8u, &id, 8u);
    *head = vmb_descriptor_of(word, id);
    if (VMB_UNLIKELY(!vmb_descriptor_sound(word, there)))
        return vmb_ring_die(&r->ring, vmb_descriptor_fault(head, r->read, there));
    return VMB_RING_OK;
}

static inline void vmb_reader_advance(struct vmb_ring_reader *r, uint32_t total, uint32_t packets)
{
    r->read += total;
    if (r->read >= r->ring.size)
        r->read -= r->ring.size;
    r->taken += packets;
}

/* Copy the packet that vmb_reader_peek judged, by the judged lengths, and go behind it: OK or DEAD. `payload` and
 * `extra` have the room that vmb_packet_of(head) says. The writer gets its room back at vmb_reader_commit. */
static inline int vmb_reader_finish(struct vmb_ring_reader *r, const struct vmb_descriptor *head, void *payload,
                                    void *extra)
{
    struct vmb_packet packet = vmb_packet_of(head);
    uint32_t total = head->len8 * 8u + VMB_TRAILER;

    if (VMB_MUTANT(ring_double_fetch)) {
        struct vmb_descriptor again;
        vmb_ring_copy_from(&r->ring, "get.again", r->read, &again, VMB_DESCRIPTOR);
        packet = vmb_packet_of(&again);
        total = again.len8 * 8u + VMB_TRAILER;
    }
    if (VMB_MUTANT(ring_commit_before_copy)) {
        const uint32_t next = r->read + total;
        VMB_STORE("commit.read", &r->ring.page->read_index, next >= r->ring.size ? next - r->ring.size : next,
                  VMB_SEQ_CST);
    }
    if (packet.size)
        vmb_ring_copy_from(&r->ring, "get.payload", r->read + VMB_DESCRIPTOR + packet.extra, payload, packet.size);
    if (packet.extra) {
        vmb_ring_copy_from(&r->ring, "get.extra", r->read + VMB_DESCRIPTOR, extra, packet.extra);
        if (!vmb_extra_sound(packet.type, extra))
            return vmb_ring_die(&r->ring, vmb_fault(VMB_FIELD_RANGE_COUNT, r->read, 0, 1));
    }
    vmb_reader_advance(r, total, 1);
    return VMB_RING_OK;
}

/* Copy the next packet: its payload to `buffer`, its type header right behind it. OK, NOT_NOW, SMALL (`need`
 * says how much both take; the packet stays) or DEAD; `packet` is set for OK and SMALL. */
static inline int vmb_reader_get(struct vmb_ring_reader *r, void *buffer, size_t room, struct vmb_packet *packet)
{
    struct vmb_descriptor head;
    const int found = vmb_reader_peek(r, &head);
    if (found)
        return found;
    *packet = vmb_packet_of(&head);
    r->need = packet->size + packet->extra;
    if (VMB_UNLIKELY(r->need > room))
        return VMB_RING_SMALL;
    return vmb_reader_finish(r, &head, buffer, (uint8_t *)buffer + packet->size);
}

/* Where a packet lies in what vmb_reader_take copied. Its descriptor is at 0 for the first one, else 8 bytes
 * behind the end of the one before. */
struct vmb_span {
    uint32_t payload;
    uint32_t end;
};

/* Copied at a time: what a batch bounded in packets copies in vain is less than this. Two pages, so that a batch
 * stays in the first-level cache while it is judged. */
#define VMB_TAKE_CHUNK 8192u

/* Have at least `end` bytes of what lies behind r->read in `buffer`, which has room for `most`; `*copied` are
 * there already. 0 when that is too much. No byte is copied twice. */
static inline int vmb_reader_copy(struct vmb_ring_reader *r, uint8_t *buffer, uint32_t most, uint32_t *copied,
                                  uint32_t end)
{
    if (VMB_LIKELY(end <= *copied))
        return 1;
    if (end > most)
        return 0;
    uint32_t until = most - *copied > VMB_TAKE_CHUNK ? *copied + VMB_TAKE_CHUNK : most;
    if (until < end)
        until = end;
    vmb_ring_copy_from(&r->ring, "take", r->read + *copied, buffer + *copied, until - *copied);
    *copied = until;
    return 1;
}

/* Copy whole packets, as they stand on the ring, to `buffer`: at most `limit`, in at most `room` bytes (the last
 * trailer needs none). *packets says how many; `spans` where each lies. Judged on the copy: what follows a sound
 * packet and is none stays for the next call, which finds the ring dead. OK, NOT_NOW, SMALL or DEAD. */
static inline int vmb_reader_take(struct vmb_ring_reader *r, uint8_t *buffer, size_t room, struct vmb_span *spans,
                                  uint32_t limit, uint32_t *packets)
{
    int found = vmb_reader_look(r); /* a batch takes all there is: one look pays for many packets */
    *packets = 0;
    if (found || !limit)
        return found ? found : VMB_RING_NOT_NOW;
    const uint32_t there = vmb_reader_known(r), most = room < there ? (uint32_t)room : there;
    struct vmb_ring_fault fault = {0}; /* counts only if it is the first packet's */
    uint32_t copied = 0, at = 0, end = 0, n = 0;

    for (; n < limit && at < there; n++, at = end + VMB_TRAILER) {
        uint64_t word;
        const uint32_t left = there - at;
        if (VMB_UNLIKELY(left < VMB_PACKET_LEAST)) {
            fault = vmb_fault(VMB_FIELD_AVAILABLE, r->read, left, VMB_PACKET_LEAST);
            break;
        }
        end = at + VMB_DESCRIPTOR;
        if (!vmb_reader_copy(r, buffer, most, &copied, end))
            break;
        memcpy(&word, buffer + at, sizeof word);
        if (VMB_UNLIKELY(!vmb_descriptor_sound(word, left))) {
            const struct vmb_descriptor head = vmb_descriptor_of(word, 0);
            fault = vmb_descriptor_fault(&head, r->read, left);
            break;
        }
        end = at + VMB_WORD_LEN8(word) * 8u;
        if (!vmb_reader_copy(r, buffer, most, &copied, end))
            break;
        const uint32_t offset8 = VMB_WORD_OFFSET8(word);
        if (VMB_UNLIKELY(offset8 > 2u) && !vmb_extra_sound((uint16_t)word, buffer + at + VMB_DESCRIPTOR)) {
            fault = vmb_fault(VMB_FIELD_RANGE_COUNT, r->read, 0, 1);
            break;
        }
        spans[n] = (struct vmb_span){at + offset8 * 8u, end};
    }
    if (!n) {
        r->need = end;
        return fault.field ? vmb_ring_die(&r->ring, fault) : VMB_RING_SMALL;
    }
    vmb_reader_advance(r, at, n);
    *packets = n;
    return VMB_RING_OK;
}

/* Find whole packets where they lie, without copying them: only for a writer that is trusted, and only what lies
 * side by side (on a mirrored ring: everything). Descriptors are copied and judged; spans count from r->read. */
static inline int vmb_reader_view(struct vmb_ring_reader *r, uint32_t bytes, struct vmb_span *spans, uint32_t limit,
                                  uint32_t *packets, uint32_t *total)
{
    const uint32_t begin = r->read;
    int found = vmb_reader_look(r);
    *packets = *total = 0;
    while (!found && *packets < limit) {
        struct vmb_descriptor head;
        found = vmb_reader_peek(r, &head);
        if (found)
            break;
        const uint32_t end = *total + head.len8 * 8u;
        if (*packets && end > bytes)
            break;
        if (!vmb_ring_straight(&r->ring, begin, end))
            break;
        uint64_t extra = 1ull << 32;
        if (head.offset8 > 2u)
            vmb_ring_copy_from(&r->ring, "view.extra", r->read + VMB_DESCRIPTOR, &extra, sizeof extra);
        if (!vmb_extra_sound(head.type, &extra)) {
            found = vmb_ring_die(&r->ring, vmb_fault(VMB_FIELD_RANGE_COUNT, r->read, 0, 1));
            break;
        }
        spans[(*packets)++] = (struct vmb_span){*total + head.offset8 * 8u, end};
        *total = end + VMB_TRAILER;
        vmb_reader_advance(r, head.len8 * 8u + VMB_TRAILER, 1);
        if (r->read == r->write_seen)
            break;
    }
    if (*packets)
        return VMB_RING_OK;
    return found ? found : limit ? VMB_RING_SMALL : VMB_RING_NOT_NOW;
}

/* Give back what was read. Returns 1 when the writer must be signalled: it waits, and this very commit made
 * the room it waits for. A fault of write_index found here makes the ring dead. */
static inline int vmb_reader_commit(struct vmb_ring_reader *r)
{
    struct vmb_ring_page *page = r->ring.page;
    const uint32_t freed = vmb_ring_used(r->ring.size, r->read, r->committed);

    if (!freed)
        return 0;
    const int armed = VMB_ARMED_AT(r->ring.armed);
    if (armed)
        vmb_ring_step(&r->ring, VMB_STEP_RING_COPY_COMMIT);
    if (r->kept) /* first: where the next process goes on must not lie in what the writer may overwrite */
        VMB_STORE("commit.keep", r->kept, r->read, VMB_RELEASE);
    if (armed && r->kept)
        vmb_ring_step(&r->ring, VMB_STEP_RING_KEEP_COMMIT);
    VMB_STORE("commit.read", &page->read_index, r->read,
              VMB_MUTANT(ring_commit_not_seq_cst) ? VMB_RELEASE : VMB_SEQ_CST);
    r->committed = r->read;
    r->packets += r->taken;
    r->bytes += freed;
    r->taken = 0;
    if (!(VMB_LOAD("commit.features", &page->feature_bits, VMB_SEQ_CST) & VMB_RING_FEATURE_PENDING))
        return 0;
    const uint32_t pending = VMB_LOAD("commit.pending", &page->pending_send_sz, VMB_SEQ_CST);
    if (VMB_LIKELY(!pending))
        return 0;
    const uint32_t write = VMB_MUTANT(ring_stale_write_index)
                               ? r->write_seen
                               : VMB_LOAD("commit.write", &page->write_index, VMB_SEQ_CST);
    if (!vmb_ring_judge(&r->ring, VMB_FIELD_WRITE_INDEX, write))
        return 0;
    const int64_t now = r->ring.size - (int64_t)vmb_ring_used(r->ring.size, write, r->read);
    if (now - freed > pending || now <= pending)
        return 0;
    r->signals++;
    return 1;
}

/* Go on where the last process of this side ended: once, by whoever alone may read now. 0, or VMB_RING_DEAD.
 *
 * One that died between the two stores of its last commit has not said so to the writer: that is made up for, and
 * *signal is its decision. What was seen of write_index may be a whole turn old, so the next read looks. */
static inline int vmb_reader_resume(struct vmb_ring_reader *r, int *signal)
{
    const uint32_t kept = VMB_LOAD("resume.kept", r->kept, VMB_ACQUIRE);
    const uint32_t stands = VMB_LOAD("resume.read", &r->ring.page->read_index, VMB_ACQUIRE);

    *signal = 0;
    if (r->ring.fault.field || !vmb_ring_judge(&r->ring, VMB_FIELD_READ_INDEX, kept) ||
        !vmb_ring_judge(&r->ring, VMB_FIELD_READ_INDEX, stands))
        return VMB_RING_DEAD;
    r->read = r->write_seen = kept;
    r->committed = stands;
    r->taken = 0;
    *signal = vmb_reader_commit(r);
    return VMB_RING_OK;
}

/* Read again what was not committed. */
static inline void vmb_reader_revert(struct vmb_ring_reader *r)
{
    r->read = r->committed;
    r->taken = 0;
}

/* No signals while the reader is awake. Late only means a signal too many. */
static inline void vmb_reader_mask(struct vmb_ring_reader *r)
{
    VMB_STORE("mask", &r->ring.page->interrupt_mask, 1u, VMB_RELAXED);
}

/* Commit, ask for signals again, look once more: before every wait. *signal is the commit's decision.
 *
 * OK: there is something to read, and the ring is masked again. NOT_NOW: wait. DEAD. */
static inline int vmb_reader_rest(struct vmb_ring_reader *r, int *signal)
{
    struct vmb_ring_page *page = r->ring.page;

    *signal = VMB_MUTANT(ring_commit_after_unmask) ? 0 : vmb_reader_commit(r);
    VMB_STORE("rest.unmask", &page->interrupt_mask, 0u,
              VMB_MUTANT(ring_unmask_not_seq_cst) ? VMB_RELAXED : VMB_SEQ_CST);
    if (VMB_MUTANT(ring_no_second_look))
        return VMB_RING_NOT_NOW;
    const uint32_t write = VMB_LOAD("rest.look", &page->write_index, VMB_SEQ_CST);
    if (VMB_MUTANT(ring_commit_after_unmask))
        *signal = vmb_reader_commit(r);
    if (r->ring.fault.field || !vmb_ring_judge(&r->ring, VMB_FIELD_WRITE_INDEX, write))
        return VMB_RING_DEAD;
    r->write_seen = write;
    if (write != r->read) {
        vmb_reader_mask(r);
        return VMB_RING_OK;
    }
    const uint32_t mask = VMB_LOAD("rest.check", &page->interrupt_mask, VMB_RELAXED);
    if (mask) /* ours alone: a writer that sets it would let us wait for ever */
        return vmb_ring_die(&r->ring, vmb_fault(VMB_FIELD_INTERRUPT_MASK, 0, mask, 0));
    return VMB_RING_NOT_NOW;
}

/* True when the writer of this ring says of itself that it sends signals for room: of a channel's incoming
 * ring, ask it for the outgoing one. Otherwise a writer that waits must poll. */
static inline int vmb_reader_peer_frees(struct vmb_ring_reader *r)
{
    return (VMB_LOAD("features", &r->ring.page->feature_bits, VMB_RELAXED) & VMB_RING_FEATURE_PENDING) != 0;
}

#endif
