// SPDX-License-Identifier: MIT
/*
 * Signalling many channels in one call: one fetch-or for each word and VP, one wake for each VP.
 *
 * The steps are vmb_signal's, in the same order for each channel. vmbus_core.h includes this at its end.
 */
#ifndef VMBUS_BATCH_H
#define VMBUS_BATCH_H

#include "vmbus_core.h"

/* Channels of one vmb_signal_many: the whole table fits. */
#define VMB_BATCH VMB_FLAGS

/* Set `bits` of word `i` of VP t's page; true unless the mistake that trusts another setter is seeded. */
static inline int vmb_raise(struct vmb_sender *s, uint32_t t, unsigned i, uint64_t bits)
{
    uint64_t old = VMB_OR("signal.set", &s->pages[t].flags[i], bits);
    s->transitions += (uint64_t)__builtin_popcountll(bits & ~old);
    return !(VMB_MUTANT(already_set_returns) && (old & bits) == bits);
}

/* Set the bits of routes [i, n) that share a word, one fetch-or per target VP. Notes each route's target in
 * `at`, adds the VPs to *woken, and returns the end of the run. */
static inline unsigned vmb_raise_run(struct vmb_sender *s, const uint16_t *relids, const uint16_t *flags,
                                     unsigned i, unsigned n, uint32_t *at, uint64_t *woken)
{
    uint64_t bits[VMB_MAX_VPS], touched = 0;
    const unsigned word = flags[i] / 64u;

    for (; i < n && flags[i] / 64u == word; i++) {
        uint32_t t = at[i] = VMB_LOAD("signal.target", &s->table->record[relids[i]].target_vp, VMB_SEQ_CST);
        if (t >= s->vps)
            continue;
        bits[t] = (touched >> t & 1 ? bits[t] : 0) | VMB_BIT(flags[i]);
        touched |= 1ull << t;
    }
    for (uint64_t rest = touched; rest; rest &= rest - 1) {
        uint32_t t = (uint32_t)__builtin_ctzll(rest);
        if (vmb_raise(s, t, word, bits[t]))
            *woken |= 1ull << t;
    }
    return i;
}

/* One by one while faults are armed: each channel has its own. */
VMB_COLD uint64_t vmb_signal_many_armed(struct vmb_sender *s, const uint16_t *relids, const uint16_t *flags,
                                        unsigned n)
{
    const uint64_t before = s->transitions;
    for (unsigned i = 0; i < n; i++)
        vmb_signal_armed(s, relids[i], flags[i]);
    return s->transitions - before;
}

/* Signal at most VMB_BATCH channels. Each still sees target, or, idle, reload in this order, but all bits are
 * set before the first VP is woken: a VP that sleeps then wakes to the whole batch instead of to its first
 * word. Returns how many bits went from 0 to 1. */
static inline uint64_t vmb_signal_many(struct vmb_sender *s, const uint16_t *relids, const uint16_t *flags,
                                       unsigned n)
{
    uint64_t before = s->transitions, woken = 0;
    uint32_t at[VMB_BATCH];

    if (VMB_ARMED(s->table))
        return vmb_signal_many_armed(s, relids, flags, n);
    s->signals += n;
    for (unsigned i = 0; i < n;)
        i = vmb_raise_run(s, relids, flags, i, n, at, &woken);
    for (; woken; woken &= woken - 1)
        vmb_wake(s, (uint32_t)__builtin_ctzll(woken));
    for (unsigned i = 0; i < n; i++) {
        if (at[i] >= s->vps) {
            if (vmb_is_paged(s, at[i]))
                vmb_signal_paged(s, relids[i]);
            continue;
        }
        if (VMB_MUTANT(no_target_reload) ||
            VMB_LOAD("signal.reload", &s->table->record[relids[i]].target_vp, VMB_SEQ_CST) == at[i])
            continue;
        s->moved++;
        s->signals--; /* counted again there */
        vmb_signal(s, relids[i], flags[i]);
    }
    return s->transitions - before;
}

#endif
