// SPDX-License-Identifier: MIT
/*
 * Requests that wait for their completion: transaction ids 1..256, each with a word of the sender's; and the lock
 * of a ring that several processes write.
 *
 * On the guest both lie in the channel's block, where every worker reaches them and the host does not: any worker
 * can take a completion. A completion's id is looked up and never used as an address; one that names nothing, or
 * comes twice, ends nothing. Ids go round instead of being used again at once, so that a late completion of an
 * answered request rarely meets a new one. Source: Linux 6.1 channel.c, vmbus_next_request_id.
 */
#ifndef VMBUS_REQUESTS_H
#define VMBUS_REQUESTS_H

#include "vmbus_abi.h"
#include "vmbus_steps.h"

/* Laid out as `requests` and `request_head` of struct vmb_block. */
struct vmb_requests {
    uint64_t slot[VMB_REQUESTS]; /* 0: free; else VMB_REQUEST_USED | the sender's word */
    uint64_t head;               /* where the search for a free one begins */
};
_Static_assert(offsetof(struct vmb_block, request_head) - offsetof(struct vmb_block, requests) ==
                   offsetof(struct vmb_requests, head),
               "a block holds a table of requests");

#define VMB_REQUEST_USED (1ull << 63)

/* Takes an id for a request: 1..VMB_REQUESTS, or 0 when all of them are outstanding. */
static inline uint64_t vmb_request_begin(struct vmb_requests *r, uint64_t word)
{
    const uint64_t head = VMB_LOAD("request.head", &r->head, VMB_RELAXED);
    for (uint64_t i = 0; i < VMB_REQUESTS; i++) {
        const uint64_t n = (head + i) % VMB_REQUESTS;
        uint64_t seen = VMB_LOAD("request.look", &r->slot[n], VMB_RELAXED);
        if (seen || !VMB_CAS("request.take", &r->slot[n], &seen, VMB_REQUEST_USED | word))
            continue;
        VMB_STORE("request.next", &r->head, (n + 1) % VMB_REQUESTS, VMB_RELAXED);
        return n + 1;
    }
    return 0;
}

/* Ends a request, once: 1 and its word, or 0 for an id that is not outstanding. */
static inline int vmb_request_end(struct vmb_requests *r, uint64_t id, uint64_t *word)
{
    if (id - 1 >= VMB_REQUESTS)
        return 0;
    uint64_t seen = VMB_LOAD("request.find", &r->slot[id - 1], VMB_RELAXED);
    if (!seen || !VMB_CAS("request.end", &r->slot[id - 1], &seen, 0ull))
        return 0;
    *word = seen & ~VMB_REQUEST_USED;
    return 1;
}

/* ---- the lock of a ring that several processes write ------------------------------------------------------ */

/* A writer makes nothing visible before it publishes, so a holder that dies leaves nothing half done: whoever knows
 * that it is dead takes the lock away. 1 when taken. */
static inline int vmb_ring_lock(uint32_t *lock, uint32_t owner)
{
    uint32_t nobody = 0;
    return VMB_LOAD("lock.look", lock, VMB_RELAXED) == 0 && VMB_CAS("lock.take", lock, &nobody, owner);
}

/* After the lock was taken: 1 while the slot says that this open of the channel goes on. Whoever closes looks at the
 * lock after the slot, both seq_cst: either we see the close, or it sees the lock and leaves the ring to us.
 *
 *     writer                               closer
 *     lock.take   lock = owner             close.store   slot, open bit cleared
 *     lock.slot   slot open?               lock free?    then the ring's memory is used for something else
 */
static inline int vmb_ring_goes_on(uint64_t *slot, uint32_t generation)
{
    const uint64_t s = VMB_LOAD("lock.slot", slot, VMB_SEQ_CST);
    return (s & VMB_SLOT_OPEN) && VMB_SLOT_GENERATION(s) == generation;
}

static inline void vmb_ring_unlock(uint32_t *lock) { VMB_STORE("lock.leave", lock, 0u, VMB_RELEASE); }

#endif
