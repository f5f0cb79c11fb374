// SPDX-License-Identifier: MIT
/*
 * A page of event flags as its waiter sees it: what is pending, taking it, spinning and sleeping over it.
 *
 * The same for a VP and for a host. docs/signal-protocol.md sections 3 and 4; step names are those of that page.
 */
#ifndef VMBUS_SLEEP_H
#define VMBUS_SLEEP_H

#include "vmbus_abi.h"
#include "vmbus_doorbell.h"
#include "vmbus_steps.h"

#define VMB_BIT(flag) (1ull << ((flag) & 63u))

/* ---- which: event flags ------------------------------------------------------------------------------- */

static inline int vmb_any_pending(uint64_t *flags)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < VMB_WORDS; i++)
        any |= VMB_LOAD("look", &flags[i], VMB_SEQ_CST);
    return any != 0;
}

/* Take every pending flag, ascending, each once. Only for pages without claims and journal: what was taken
 * lives in private memory alone. `out` has room for VMB_FLAGS. Flag 0 is cleared and never reported. */
static inline unsigned vmb_take(uint64_t *flags, uint16_t *out)
{
    unsigned n = 0;
    for (unsigned i = 0; i < VMB_WORDS; i++) {
        if (!VMB_LOAD("take.look", &flags[i], VMB_RELAXED))
            continue;
        uint64_t w = VMB_EXCHANGE("take", &flags[i], 0ull);
        if (i == 0)
            w &= ~1ull;
        for (; w; w &= w - 1)
            out[n++] = (uint16_t)(i * 64 + (unsigned)__builtin_ctzll(w));
    }
    return n;
}

/* ---- spinning: looking before sleeping ------------------------------------------------------------------- */

/* Look at the page up to `turns` times. Returns 1 when something is pending. */
static inline int vmb_look(uint64_t *flags, unsigned turns)
{
    while (turns--) {
        for (unsigned i = 0; i < VMB_WORDS; i++)
            if (VMB_LOAD("look", &flags[i], VMB_SEQ_CST))
                return 1;
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
    }
    return 0;
}

#define VMB_SPIN_TURNS 16u /* looks between two readings of the clock, which costs as much as several looks */

/* Look at the page for at most `span` ns before announcing a sleep. Returns 1 when something is pending. */
static inline int vmb_spin(uint64_t *flags, int64_t span)
{
    const int64_t until = vmb_now_ns() + span;

    do {
        if (vmb_look(flags, VMB_SPIN_TURNS))
            return 1;
    } while (vmb_now_ns() < until);
    return 0;
}

/* ---- sleeping: the waiter alone writes its idle word ----------------------------------------------------- */

/* Announce sleep number *e. */
static inline void vmb_sleep_announce(uint64_t *idle, uint64_t *e, uint64_t *flags)
{
    (void)flags;
    if (VMB_MARKS)
        VMB_STORE("sleep.clear_mark", flags - VMB_FLAGS_OFFSET / sizeof *flags, 0ull, VMB_SEQ_CST);
    *e += 1;
    VMB_STORE("sleep.announce", idle, *e, VMB_MUTANT(idle_not_seq_cst) ? VMB_RELAXED : VMB_SEQ_CST);
}

/* Announce sleep number *e and look once more. Returns 1 if the caller must wait for its doorbell. */
static inline int vmb_sleep_begin(uint64_t *idle, uint64_t *e, uint64_t *flags)
{
    vmb_sleep_announce(idle, e, flags);
    return VMB_MUTANT(no_second_look) || !vmb_any_pending(flags);
}

/* The same for a callback that waits for a signal of its own channel: only `bit` of `*word` keeps it awake. What is
 * pending for others stays on the page, where the drain that runs us finds it before the worker sleeps. */
static inline int vmb_nap_begin(uint64_t *idle, uint64_t *e, uint64_t *word, uint64_t bit)
{
    *e += 1;
    VMB_STORE("nap.announce", idle, *e, VMB_MUTANT(idle_not_seq_cst) ? VMB_RELAXED : VMB_SEQ_CST);
    return VMB_MUTANT(no_second_look) || !(VMB_LOAD("nap.look", word, VMB_SEQ_CST) & bit);
}

/* First act after a post was taken or the look above found a bit. Late only means one post too many. */
static inline void vmb_sleep_end(uint64_t *idle, uint64_t *e)
{
    *e += 1;
    VMB_STORE("sleep.over", idle, *e, VMB_RELAXED);
}

#endif
