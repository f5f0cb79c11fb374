// SPDX-License-Identifier: MIT
/*
 * The signal protocol on shared words: which (the bit), claim and dispatch, sleep, and the daemon's hand-overs.
 *
 * Works on any suitably aligned buffer; knows no Python, no file and no socket. Wake (the doorbell) stands in
 * vmbus_doorbell.h and is only called. Step names are those of docs/signal-protocol.md.
 *
 * Four pairs are "store mine, then look at yours" on both sides; only sequential consistency forbids that both
 * miss, so all eight accesses are seq_cst operations:
 *
 *          side one                          side two                       forbidden
 * sleep    worker: idle = odd                sender: or pending             both read the old value:
 *          worker: load pending              sender: load idle              asleep on a set bit
 * retarget daemon: target = new              sender: or pending[old]        bit rests on a VP that
 *          daemon: load pending[old]         sender: load target            nobody serves
 * close    daemon: slot open bit = 0         worker: claim |= RUN           callback begins after the
 *          daemon: load claim                worker: load slot              close has completed
 * ring     see the ring rules                                               packet without a signal
 */
#ifndef VMBUS_CORE_H
#define VMBUS_CORE_H

#include <string.h>

#include "vmbus_abi.h"
#include "vmbus_doorbell.h"
#include "vmbus_pages.h"
#include "vmbus_sleep.h"
#include "vmbus_steps.h"

/* ---- sender: a thread of a host process ----------------------------------------------------------------- */

struct vmb_sender {
    struct vmb_table *table;        /* read-only mapping */
    struct vmb_event_page *pages;   /* one per VP */
    struct vmb_vpwork *work;        /* read-only mapping; one per VP */
    struct vmb_doorbell *doorbells; /* one per VP */
    uint32_t vps;
    char *ram; /* guest memory, for legacy interrupt pages; NULL: this sender cannot signal through one */
    uint64_t ram_size;
    uint64_t signals, transitions, posts, moved;
    uint64_t rung[VMB_MAX_VPS]; /* the last sleep of each VP that this sender rang: private, never shared */
};

/* Ring VP t if it sleeps and this sender has not rung this sleep yet. Also when the bit was already set:
 * whoever set it may be dead or stopped before its own post. */
static inline void vmb_wake(struct vmb_sender *s, uint32_t t)
{
    uint64_t e = VMB_LOAD("signal.idle", &s->work[t].idle, VMB_SEQ_CST);
    if (!(e & 1))
        return;
    /* The seeded mistakes replace the private `rung` by one mark for all senders, which the waiter clears. */
    const int shared = VMB_MUTANT(shared_mark_after_post) || VMB_MUTANT(shared_mark_before_post);
    uint64_t *mark = &s->pages[t].other_sints_low[0];
    if (shared ? VMB_LOAD("signal.mark", mark, VMB_SEQ_CST) != 0 : e == s->rung[t])
        return;
    if (VMB_MUTANT(shared_mark_before_post))
        VMB_STORE("signal.set_mark", mark, 1ull, VMB_SEQ_CST);
    VMB_POST("signal.post", &s->doorbells[t]);
    if (VMB_MUTANT(shared_mark_after_post))
        VMB_STORE("signal.set_mark", mark, 1ull, VMB_SEQ_CST);
    s->rung[t] = e;
    s->posts++;
}

/* Set `bits` of word `i` of VP t's page; true unless the mistake that trusts another setter is seeded. */
static inline int vmb_raise(struct vmb_sender *s, uint32_t t, unsigned i, uint64_t bits)
{
    uint64_t old = VMB_OR("signal.set", &s->pages[t].flags[i], bits);
    s->transitions += (uint64_t)__builtin_popcountll(bits & ~old);
    return !(VMB_MUTANT(already_set_returns) && (old & bits) == bits);
}

/* Set one bit and say whether it was 0. Written so that x86 makes it one `lock bts`, which takes the line once:
 * the compare-and-swap loop behind a whole old word reads it first, a second transfer between the cores. */
static inline int vmb_set_one(uint64_t *word, unsigned bit)
{
    const uint64_t mask = 1ull << bit;
    return (VMB_OR("signal.set", word, mask) & mask) == 0;
}

/* Is this the target of a channel whose guest looks into its interrupt page? VMB_NO_TARGET is not. */
static inline int vmb_is_paged(const struct vmb_sender *s, uint32_t target)
{
    return (target ^ VMB_TARGET_PAGE) < s->vps;
}

/* Signal a guest of 0.13 or 1.1, whose bits are in the page that it named at contact:
 *
 * sender                                guest, on the VP that flag 0 was set on
 * 1  or the channel's bit in the page   a  test-and-clear flag 0
 * 2  or flag 0 on the VP, wake it       b  take the words of the page
 *
 * Forbidden: the bit of 1 stays and nobody looks. 2 after a: flag 0 is there for another look. 2 before a: then
 * 1 is before b, which takes the bit. Flag 0 travels with a VP's page as any other (sweep), and the target is
 * loaded again after it, as in vmb_signal. */
__attribute__((noinline, cold, unused)) static int vmb_signal_paged(struct vmb_sender *s, uint32_t relid)
{
    uint32_t *target = &s->table->record[relid].target_vp;
    uint32_t t = VMB_LOAD("signal.target", target, VMB_SEQ_CST);
    uint64_t gpa = VMB_LOAD("signal.page", &s->table->header.interrupt_page, VMB_ACQUIRE);
    struct vmb_interrupt_page *page = (struct vmb_interrupt_page *)vmb_page_at(s->ram, s->ram_size, gpa);

    if (!page || !vmb_is_paged(s, t))
        return 0; /* the connection has just ended */
    int first = vmb_set_one(&page->to_guest[relid / 64], relid & 63);
    s->transitions += (uint64_t)first;
    for (;;) {
        (void)vmb_set_one(&s->pages[t ^ VMB_TARGET_PAGE].flags[0], 0);
        vmb_wake(s, t ^ VMB_TARGET_PAGE);
        uint32_t now = VMB_LOAD("signal.reload", target, VMB_SEQ_CST);
        if (now == t || !vmb_is_paged(s, now))
            return first;
        s->moved++;
        t = now;
    }
}

/* Signal one channel. Returns 1 if its bit went from 0 to 1 on a VP, else 0. */
static inline int vmb_signal(struct vmb_sender *s, uint32_t relid, uint32_t flag)
{
    uint32_t *target = &s->table->record[relid].target_vp;
    uint32_t t = VMB_LOAD("signal.target", target, VMB_SEQ_CST);
    uint64_t before = s->transitions;

    s->signals++;
    while (t < s->vps) { /* VMB_NO_TARGET and anything out of range: no interrupt is wanted */
        int first = vmb_set_one(&s->pages[t].flags[flag / 64], flag & 63);
        s->transitions += (uint64_t)first;
        if (first || !VMB_MUTANT(already_set_returns))
            vmb_wake(s, t);
        uint32_t now = VMB_LOAD("signal.reload", target, VMB_SEQ_CST);
        if (now == t)
            return s->transitions != before;
        s->moved++;
        t = now;
    }
    if (vmb_is_paged(s, t))
        vmb_signal_paged(s, relid);
    return s->transitions != before;
}

/* Channels of one vmb_signal_many: the whole table fits. */
#define VMB_BATCH VMB_FLAGS

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

/* Signal at most VMB_BATCH channels. Each still sees target, or, idle, reload in this order, but all bits are
 * set before the first VP is woken: a VP that sleeps then wakes to the whole batch instead of to its first
 * word. Returns how many bits went from 0 to 1. */
static inline uint64_t vmb_signal_many(struct vmb_sender *s, const uint16_t *relids, const uint16_t *flags,
                                       unsigned n)
{
    uint64_t before = s->transitions, woken = 0;
    uint32_t at[VMB_BATCH];

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
        if (VMB_LOAD("signal.reload", &s->table->record[relids[i]].target_vp, VMB_SEQ_CST) == at[i])
            continue;
        s->moved++;
        s->signals--; /* counted again there */
        vmb_signal(s, relids[i], flags[i]);
    }
    return s->transitions - before;
}

/* The other direction: one page, one waiter, no targets and no claims. */
static inline int vmb_signal_host(struct vmb_host_page *page, struct vmb_doorbell *bell, uint64_t *rung,
                                  uint32_t flag)
{
    uint64_t old = VMB_OR("host.set", &page->flags[flag / 64], VMB_BIT(flag));
    uint64_t e = VMB_LOAD("host.idle", &page->idle, VMB_SEQ_CST);
    if ((e & 1) && e != *rung) {
        VMB_POST("host.post", bell);
        *rung = e;
    }
    return !(old & VMB_BIT(flag));
}

/* ---- worker: plays VP `vp` -------------------------------------------------------------------------------- */

struct vmb_worker {
    struct vmb_table *table; /* read-only mapping */
    uint64_t *flags;         /* this VP's SINT 2 flags */
    struct vmb_vpwork *work; /* this VP's */
    struct vmb_block *blocks;
    uint32_t vp;
    uint64_t sleep; /* number of the last sleep */
};

typedef void (*vmb_callback)(void *context, uint32_t flag, uint64_t slot);

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

/* A counter with one writer: a plain add that other processes may read at any time. */
static inline void vmb_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, __atomic_load_n(counter, VMB_RELAXED) + n, VMB_RELAXED);
}

/* A number never repeats: go on from what the predecessor left, rounded up to even (awake). */
static inline void vmb_worker_begin(struct vmb_worker *w)
{
    uint64_t e = VMB_LOAD("begin.idle", &w->work->idle, VMB_RELAXED);
    w->sleep = e + (e & 1);
    VMB_STORE("begin.awake", &w->work->idle, w->sleep, VMB_RELAXED);
    if (VMB_MUTANT(new_worker_zeroes))
        for (unsigned i = 0; i < VMB_WORDS; i++)
            VMB_STORE("begin.zero", &w->flags[i], 0ull, VMB_SEQ_CST);
}

/* Claim a channel, then look at the table, then call, then let go.
 *
 * Claimed by another VP: leave AGAIN with an rmw, also when AGAIN is already there: it is this write that
 * orders the sender's data, which we have acquired with the bit, before the owner's next callback. */
static inline void vmb_dispatch(struct vmb_worker *w, uint32_t flag, vmb_callback call, void *context)
{
    uint64_t *slot = &w->table->slot[flag];
    uint32_t *claim = &w->blocks[flag].claim;
    const uint32_t mine = VMB_CLAIM_RUN | w->vp;

    /* Saves the claim for a closed channel; decides nothing else. */
    uint64_t s = VMB_LOAD("dispatch.peek", slot, VMB_ACQUIRE);
    if (!(s & VMB_SLOT_OPEN)) {
        vmb_count(&w->work->spurious, 1);
        return;
    }
    if (!VMB_MUTANT(no_claim)) {
        uint32_t seen = 0;
        for (;;) {
            if (VMB_MUTANT(claimed_dropped) && (seen & VMB_CLAIM_RUN))
                return;
            if (VMB_MUTANT(claimed_put_back) && (seen & VMB_CLAIM_RUN)) {
                (void)VMB_OR("dispatch.put_back", &w->flags[flag / 64], VMB_BIT(flag));
                return;
            }
            uint32_t next = seen & VMB_CLAIM_RUN ? seen | VMB_CLAIM_AGAIN : mine;
            if (!VMB_CAS("dispatch.claim", claim, &seen, next))
                continue;
            if (next == mine)
                break;
            vmb_count(&w->work->left_again, 1);
            return;
        }
    }
    if (!VMB_MUTANT(table_before_claim))
        s = VMB_LOAD("dispatch.slot", slot, VMB_SEQ_CST);
    if (s & VMB_SLOT_OPEN) {
        vmb_count(&w->work->callbacks, 1);
        vmb_count(&w->blocks[flag].interrupts, 1);
        call(context, flag, s);
    } else {
        vmb_count(&w->work->spurious, 1);
    }
    if (VMB_MUTANT(no_claim))
        return;
    if (VMB_MUTANT(plain_let_go)) {
        VMB_STORE("dispatch.let_go", claim, 0u, VMB_RELEASE);
        return;
    }
    uint32_t expected = mine;
    if (!VMB_CAS("dispatch.let_go", claim, &expected, 0u)) {
        /* AGAIN: our own page, so the next drain runs it and other channels get their turn first. */
        (void)VMB_OR("dispatch.requeue", &w->flags[flag / 64], VMB_BIT(flag));
        (void)VMB_EXCHANGE("dispatch.let_go_again", claim, 0u);
    }
}

/* What a pass does for one bit: vmb_dispatch, or another design to compare it with. */
typedef void (*vmb_dispatcher)(struct vmb_worker *w, uint32_t flag, vmb_callback call, void *context);

/* One pass over the page. Returns the number of bits seen; 0 = nothing was pending. `dispatch` is a constant
 * wherever this is used, so the compiler sees through it.
 *
 * The word is copied to `taken` before it leaves the page: what a worker held when it died is put back from
 * there. `taken` covers the callbacks as well and is cleared after the last of them. */
static inline __attribute__((always_inline)) unsigned
vmb_drain_by(struct vmb_worker *w, vmb_dispatcher dispatch, vmb_callback call, void *context)
{
    unsigned seen = 0;

    vmb_count(&w->work->passes, 1);
    for (unsigned i = 0; i < VMB_WORDS; i++) {
        uint64_t bits = VMB_LOAD("drain.look", &w->flags[i], VMB_SEQ_CST);
        if (!bits)
            continue;
        VMB_STORE("drain.taken", &w->work->taken[i], bits, VMB_RELAXED);
        VMB_AND("drain.clear", &w->flags[i], ~bits);
        for (uint64_t rest = i ? bits : bits & ~1ull; rest; rest &= rest - 1) {
            dispatch(w, i * 64 + (unsigned)__builtin_ctzll(rest), call, context);
            seen++;
        }
        VMB_STORE("drain.done", &w->work->taken[i], 0ull, VMB_RELEASE);
    }
    return seen;
}

static inline unsigned vmb_drain(struct vmb_worker *w, vmb_callback call, void *context)
{
    return vmb_drain_by(w, vmb_dispatch, call, context);
}

/* What stands in for vmb_drain in a worker that is told to use it. */
struct vmb_pass {
    unsigned (*drain)(void *own, struct vmb_worker *w, vmb_callback call, void *context);
    void *own;
};
#define VMB_PASS_CAPSULE "vmbusd.vmb_pass"

#endif
