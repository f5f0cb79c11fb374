// SPDX-License-Identifier: MIT
/*
 * The daemon's hand-overs on the shared words: table writes, close, retarget, recover, sweep.
 *
 * Each may be cut at any point by the death of the daemon and begun again from the top by the next one: every
 * line is idempotent, and bits are set at the new place before they are cleared at the old. Ringing here is a
 * bare post; it trusts no word that others write.
 */
#ifndef VMBUS_DAEMON_H
#define VMBUS_DAEMON_H

#include "vmbus_core.h"

/* ---- the table -------------------------------------------------------------------------------------------- */

/* The record is complete before the slot names it (release; readers load the slot with acquire). */
static inline void vmb_slot_fill(struct vmb_table *table, uint32_t flag, uint64_t slot)
{
    table->record[flag].flag_used = 1;
    VMB_STORE("slot.fill", &table->slot[flag], slot & ~VMB_SLOT_OPEN, VMB_RELEASE);
}

/* seq_cst, and before the device is asked to open: it may signal from inside its open handler. */
static inline void vmb_slot_open(struct vmb_table *table, uint32_t flag, uint64_t slot)
{
    VMB_STORE("slot.open", &table->slot[flag], slot | VMB_SLOT_OPEN, VMB_SEQ_CST);
}

/* close, step 2. Step 3 is vmb_close_done, polled: after the store no worker can find the channel open unless
 * it claimed before, and then the poll sees the claim. */
static inline void vmb_slot_close(struct vmb_table *table, uint32_t flag)
{
    uint64_t s = VMB_LOAD("close.slot", &table->slot[flag], VMB_RELAXED);
    VMB_STORE("close.store", &table->slot[flag], s & ~VMB_SLOT_OPEN,
              VMB_MUTANT(slot_not_seq_cst) ? VMB_RELEASE : VMB_SEQ_CST);
}

static inline int vmb_close_done(struct vmb_block *blocks, uint32_t flag)
{
    if (VMB_MUTANT(close_does_not_wait))
        return 1;
    return !(VMB_LOAD("close.claim", &blocks[flag].claim, VMB_SEQ_CST) & VMB_CLAIM_RUN);
}

static inline void vmb_slot_empty(struct vmb_table *table, uint32_t flag)
{
    VMB_STORE("slot.empty", &table->slot[flag], 0ull, VMB_SEQ_CST);
}

/* Nothing else: bits on the old VP stay and are served there. */
static inline void vmb_retarget(struct vmb_table *table, uint32_t relid, uint32_t vp)
{
    VMB_STORE("retarget", &table->record[relid].target_vp, vp,
              VMB_MUTANT(target_not_seq_cst) ? VMB_RELEASE : VMB_SEQ_CST);
}

/* Only after a completed close. The claim word is left alone: a worker with a stale bit may hold it for a
 * moment and lets go by itself. */
static inline void vmb_block_clear(struct vmb_block *block)
{
    memset((char *)block + VMB_BLOCK_CLEARED_FROM, 0, sizeof *block - VMB_BLOCK_CLEARED_FROM);
}

/* ---- a VP without its worker -------------------------------------------------------------------------------- */

/* recover, step 1: free the claims of a dead VP, and its locks of outgoing rings with them: a write that was not
 * published leaves no trace. Returns the number of claims freed. */
static inline unsigned vmb_recover_claims(uint32_t vp, struct vmb_block *blocks, const struct vmb_table *table)
{
    unsigned freed = 0;

    for (uint32_t r = 0; r < VMB_FLAGS; r++) {
        if (table && !table->record[r].flag_used)
            continue; /* never filled: nobody could claim it, and looking would allocate its page */
        uint32_t holder = vp + 1;
        if (VMB_LOAD("recover.lock", &blocks[r].ring_lock, VMB_SEQ_CST) == holder)
            (void)VMB_CAS("recover.unlock", &blocks[r].ring_lock, &holder, 0u);
        uint32_t c = VMB_LOAD("recover.claim", &blocks[r].claim, VMB_SEQ_CST);
        if (!(c & VMB_CLAIM_RUN) || VMB_CLAIM_VP(c) != vp)
            continue;
        /* Nobody but its owner lets go of a claim: until this exchange others can only add AGAIN to it. And it
         * ends, whatever a hostile guest writes here meanwhile. */
        (void)VMB_EXCHANGE("recover.free", &blocks[r].claim, 0u);
        freed++;
    }
    return freed;
}

/* recover, steps 2 and 3: put back what the dead worker had taken, then clear its journal. Returns the bits. */
static inline uint64_t vmb_recover_bits(struct vmb_event_page *page, struct vmb_vpwork *work)
{
    uint64_t redelivered = 0;

    for (unsigned i = 0; i < VMB_WORDS; i++) {
        uint64_t taken = VMB_LOAD("recover.taken", &work->taken[i], VMB_SEQ_CST);
        if (!taken)
            continue;
        redelivered += (uint64_t)__builtin_popcountll(taken);
        if (VMB_MUTANT(recovery_clears_taken_first))
            VMB_STORE("recover.clear", &work->taken[i], 0ull, VMB_SEQ_CST);
        if (!VMB_MUTANT(recovery_no_put_back))
            (void)VMB_OR("recover.put_back", &page->flags[i], taken);
    }
    for (unsigned i = 0; i < VMB_WORDS; i++)
        VMB_STORE("recover.clear", &work->taken[i], 0ull, VMB_SEQ_CST);
    return redelivered;
}

/* Only when the process that played VP `vp` is known to be dead. Claims first: put back first, a bit might reach a
 * live worker, which finds RUN of the dead, leaves AGAIN, and the freeing would wipe it.
 * Returns the number of claims freed; *redelivered counts the bits put back. */
static inline unsigned vmb_recover(uint32_t vp, struct vmb_event_page *page, struct vmb_vpwork *work,
                                   struct vmb_block *blocks, const struct vmb_table *table,
                                   uint64_t *redelivered)
{
    unsigned freed = vmb_recover_claims(vp, blocks, table);
    *redelivered = vmb_recover_bits(page, work);
    return freed;
}

/* VP `from` has no worker: hand its bits to live VP `to`, then ring. Returns the bits moved.
 *
 * Set before clear, so that a daemon that dies in between loses nothing. And set again after it: `to` may have run a
 * channel already when a sender, which loaded its target long ago, sets the bit that is still there on `from`, and
 * the clear takes both. A sender that lives reloads the target and signals `to` itself; one that dies there cannot,
 * and the sweep that follows its death would find nothing. */
static inline unsigned vmb_sweep(struct vmb_event_page *from, struct vmb_event_page *to,
                                 struct vmb_doorbell *bell_of_to)
{
    unsigned moved = 0;

    for (unsigned i = 0; i < VMB_WORDS; i++) {
        uint64_t w = VMB_LOAD("sweep.look", &from->flags[i], VMB_SEQ_CST);
        if (!w)
            continue;
        moved += (unsigned)__builtin_popcountll(w);
        if (!VMB_MUTANT(handover_clears_first))
            (void)VMB_OR("sweep.set", &to->flags[i], w);
        VMB_AND("sweep.clear", &from->flags[i], VMB_MUTANT(sweep_clears_all) ? 0ull : ~w);
        if (!VMB_MUTANT(handover_sets_once))
            (void)VMB_OR("sweep.set_again", &to->flags[i], w);
    }
    VMB_POST("sweep.ring", bell_of_to);
    return moved;
}

#endif
