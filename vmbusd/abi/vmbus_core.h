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
#include "vmbus_faults.h"
#include "vmbus_host.h"
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
    struct vmb_faults faults;
};

/* Ring VP t if it sleeps and this sender has not rung this sleep yet. Also when the bit was already set:
 * whoever set it may be dead or stopped before its own post. */
static inline void vmb_wake(struct vmb_sender *s, uint32_t t)
{
    uint64_t e = VMB_LOAD("signal.idle", &s->work[t].idle, VMB_SEQ_CST);
    if (!(e & 1))
        return;
    /* The seeded mistakes replace the private `rung` by one mark for all senders, which the waiter clears. */
    uint64_t *mark = &s->pages[t].other_sints_low[0];
    if (VMB_MARKS ? VMB_LOAD("signal.mark", mark, VMB_SEQ_CST) != 0 : e == s->rung[t])
        return;
    if (VMB_MARKS_FIRST)
        VMB_STORE("signal.set_mark", mark, 1ull, VMB_SEQ_CST);
    VMB_POST("signal.post", &s->doorbells[t]);
    if (VMB_MUTANT(shared_mark_after_post))
        VMB_STORE("signal.set_mark", mark, 1ull, VMB_SEQ_CST);
    s->rung[t] = e;
    s->posts++;
}

/* The same while faults are armed. A sender whose post is dropped believes that it rang. */
VMB_COLD void vmb_wake_armed(struct vmb_sender *s, uint32_t t, uint32_t relid)
{
    vmb_fault_step(&s->faults, VMB_STEP_SIGNAL_BIT_POST, relid, t);
    uint64_t e = VMB_LOAD("signal.idle", &s->work[t].idle, VMB_SEQ_CST);
    if ((e & 1) && e != s->rung[t]) {
        s->posts += vmb_fault_post(&s->faults, &s->doorbells[t], relid, t);
        s->rung[t] = e;
    }
    vmb_fault_step(&s->faults, VMB_STEP_SIGNAL_POST_RELOAD, relid, t);
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
        if (VMB_ARMED(s->table))
            vmb_wake_armed(s, t ^ VMB_TARGET_PAGE, relid);
        else
            vmb_wake(s, t ^ VMB_TARGET_PAGE);
        uint32_t now = VMB_MUTANT(no_target_reload) ? t : VMB_LOAD("signal.reload", target, VMB_SEQ_CST);
        if (now == t || !vmb_is_paged(s, now))
            return first;
        s->moved++;
        t = now;
    }
}

/* vmb_signal, with faults or without: the compiler makes two functions of it. */
static inline __attribute__((always_inline)) int vmb_signal_as(struct vmb_sender *s, uint32_t relid, uint32_t flag,
                                                               const int armed)
{
    uint32_t *target = &s->table->record[relid].target_vp;
    uint32_t t = VMB_LOAD("signal.target", target, VMB_SEQ_CST);
    uint64_t before = s->transitions;

    s->signals++;
    while (t < s->vps) { /* VMB_NO_TARGET and anything out of range: no interrupt is wanted */
        int first = vmb_set_one(&s->pages[t].flags[flag / 64], flag & 63);
        s->transitions += (uint64_t)first;
        if (armed)
            vmb_wake_armed(s, t, relid);
        else if (first || !VMB_MUTANT(already_set_returns))
            vmb_wake(s, t);
        uint32_t now = VMB_MUTANT(no_target_reload) ? t : VMB_LOAD("signal.reload", target, VMB_SEQ_CST);
        if (now == t)
            return s->transitions != before;
        s->moved++;
        t = now;
    }
    if (vmb_is_paged(s, t))
        vmb_signal_paged(s, relid);
    return s->transitions != before;
}

VMB_COLD int vmb_signal_armed(struct vmb_sender *s, uint32_t relid, uint32_t flag)
{
    return vmb_signal_as(s, relid, flag, 1);
}

/* Signal one channel. Returns 1 if its bit went from 0 to 1 on a VP, else 0. */
static inline int vmb_signal(struct vmb_sender *s, uint32_t relid, uint32_t flag)
{
    return VMB_ARMED(s->table) ? vmb_signal_armed(s, relid, flag) : vmb_signal_as(s, relid, flag, 0);
}

/* ---- worker: plays VP `vp` -------------------------------------------------------------------------------- */

struct vmb_worker {
    struct vmb_table *table; /* read-only mapping */
    uint64_t *flags;         /* this VP's SINT 2 flags */
    struct vmb_vpwork *work; /* this VP's */
    struct vmb_block *blocks;
    uint32_t vp;
    uint64_t sleep; /* number of the last sleep */
    struct vmb_faults faults;
};

typedef void (*vmb_callback)(void *context, uint32_t flag, uint64_t slot);

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

VMB_COLD void vmb_dispatch_faults(struct vmb_worker *w, uint32_t flag)
{
    const uint32_t relid = vmb_fault_relid(w->table, flag);
    vmb_fault_step(&w->faults, VMB_STEP_DISPATCH_CLAIM_CALLBACK, relid, w->vp);
    vmb_fault_delay(&w->faults, VMB_FAULT_DELAY_DISPATCH, relid, w->vp);
}

/* The mistake bit_lost: of 200 bits that were taken one is thrown away. A worker's successor counts on. */
#define VMB_LOST_ONE_OF 200
static inline int vmb_loses_bit(struct vmb_worker *w)
{
    if (!VMB_MUTANT(bit_lost))
        return 0;
    uint64_t n = __atomic_load_n(&w->work->callbacks, VMB_RELAXED);
    n += __atomic_load_n(&w->work->spurious, VMB_RELAXED);
    return n % VMB_LOST_ONE_OF == VMB_LOST_ONE_OF - 1;
}

/* Claim a channel, then look at the table, then call, then let go.
 *
 * Claimed by another VP: leave AGAIN with an rmw, also when AGAIN is already there: it is this write that
 * orders the sender's data, which we have acquired with the bit, before the owner's next callback. */
static inline __attribute__((always_inline)) void
vmb_dispatch_as(struct vmb_worker *w, uint32_t flag, vmb_callback call, void *context, const int armed)
{
    uint64_t *slot = &w->table->slot[flag];
    uint32_t *claim = &w->blocks[flag].claim;
    const uint32_t mine = VMB_CLAIM_RUN | w->vp;

    /* Saves the claim for a closed channel; decides nothing else. */
    uint64_t s = VMB_LOAD("dispatch.peek", slot, VMB_ACQUIRE);
    if (!(s & VMB_SLOT_OPEN) || vmb_loses_bit(w)) {
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
        if (armed)
            vmb_dispatch_faults(w, flag);
        vmb_count(&w->work->callbacks, 1);
        vmb_count(&w->blocks[flag].interrupts, 1);
        call(context, flag, s);
    } else {
        vmb_count(&w->work->spurious, 1);
    }
    if (VMB_MUTANT(no_claim))
        return;
    if (armed)
        vmb_fault_step(&w->faults, VMB_STEP_DISPATCH_LET_GO, vmb_fault_relid(w->table, flag), w->vp);
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

static inline void vmb_dispatch(struct vmb_worker *w, uint32_t flag, vmb_callback call, void *context)
{
    vmb_dispatch_as(w, flag, call, context, 0);
}

VMB_COLD void vmb_dispatch_armed(struct vmb_worker *w, uint32_t flag, vmb_callback call, void *context)
{
    vmb_dispatch_as(w, flag, call, context, 1);
}

/* What a pass does for one bit: vmb_dispatch, or another design to compare it with. */
typedef void (*vmb_dispatcher)(struct vmb_worker *w, uint32_t flag, vmb_callback call, void *context);

/* One pass over the page, with faults or without. Returns the number of bits seen; 0 = nothing was pending. `dispatch`
 * and `armed` are constants wherever this is used, so the compiler sees through them.
 *
 * The word is copied to `taken` before it leaves the page: what a worker held when it died is put back from
 * there. `taken` covers the callbacks as well and is cleared after the last of them. */
static inline __attribute__((always_inline)) unsigned
vmb_drain_as(struct vmb_worker *w, vmb_dispatcher dispatch, vmb_callback call, void *context, const int armed)
{
    unsigned seen = 0;

    if (armed)
        vmb_fault_stuck(&w->faults, w->vp);
    vmb_count(&w->work->passes, 1);
    for (unsigned i = 0; i < VMB_WORDS; i++) {
        uint64_t bits = VMB_LOAD("drain.look", &w->flags[i], VMB_SEQ_CST);
        if (!bits)
            continue;
        if (!VMB_MUTANT(no_taken) && !VMB_MUTANT(taken_after_clear))
            VMB_STORE("drain.taken", &w->work->taken[i], bits, VMB_RELAXED);
        if (armed)
            vmb_fault_step(&w->faults, VMB_STEP_DRAIN_TAKEN_CLEAR, 0, w->vp);
        VMB_AND("drain.clear", &w->flags[i], VMB_MUTANT(drain_clears_all) ? 0ull : ~bits);
        if (VMB_MUTANT(taken_after_clear))
            VMB_STORE("drain.taken", &w->work->taken[i], bits, VMB_RELAXED);
        if (VMB_MUTANT(taken_cleared_early))
            VMB_STORE("drain.done", &w->work->taken[i], 0ull, VMB_RELEASE);
        for (uint64_t rest = i ? bits : bits & ~1ull; rest; rest &= rest - 1) {
            dispatch(w, i * 64 + (unsigned)__builtin_ctzll(rest), call, context);
            seen++;
        }
        if (armed)
            vmb_fault_step(&w->faults, VMB_STEP_DRAIN_DONE, 0, w->vp);
        VMB_STORE("drain.done", &w->work->taken[i], 0ull, VMB_RELEASE);
    }
    return seen;
}

VMB_COLD unsigned vmb_drain_armed(struct vmb_worker *w, vmb_callback call, void *context)
{
    return vmb_drain_as(w, vmb_dispatch_armed, call, context, 1);
}

/* One pass over the page by another design, which knows no faults. */
static inline __attribute__((always_inline)) unsigned
vmb_drain_by(struct vmb_worker *w, vmb_dispatcher dispatch, vmb_callback call, void *context)
{
    return vmb_drain_as(w, dispatch, call, context, 0);
}

/* One pass over the page. Returns the number of bits seen; 0 = nothing was pending. */
static inline unsigned vmb_drain(struct vmb_worker *w, vmb_callback call, void *context)
{
    return VMB_ARMED(w->table) ? vmb_drain_armed(w, call, context) : vmb_drain_by(w, vmb_dispatch, call, context);
}

/* vmb_sleep_begin of a worker's own page. */
static inline int vmb_worker_sleep(struct vmb_worker *w)
{
    uint64_t *idle = &w->work->idle;
    if (!VMB_ARMED(w->table))
        return vmb_sleep_begin(idle, &w->sleep, w->flags);
    vmb_sleep_announce(idle, &w->sleep, w->flags);
    vmb_fault_step(&w->faults, VMB_STEP_SLEEP_ANNOUNCE_LOOK, 0, w->vp);
    return !vmb_any_pending(w->flags);
}

/* What stands in for vmb_drain in a worker that is told to use it. */
struct vmb_pass {
    unsigned (*drain)(void *own, struct vmb_worker *w, vmb_callback call, void *context);
    void *own;
};
#define VMB_PASS_CAPSULE "vmbusd.vmb_pass"

#include "vmbus_batch.h"

#endif
