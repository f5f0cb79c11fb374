// SPDX-License-Identifier: MIT
/*
 * What hosts, guests and workers do in the programs, and which words somebody writes.
 *
 * What a process does here besides calling the real functions is the worker's loop of docs/signal-protocol.md
 * and telling the observers.
 */
#include "bodies.h"

/* ---- set-up: which words somebody writes --------------------------------------------------------------- */

/* What the next daemon finds. */
static void saving(void)
{
    sched_track(&arena.saved.seat, "saved seat");
    sched_track(&arena.saved.stage, "saved stage");
}

static void not_saving(void)
{
    sched_private(&arena.saved.seat);
    sched_private(&arena.saved.stage);
}

void one_vp(void)
{
    sched_track(&arena.pages[0].flags[0], "pending[0]");
    sched_track(&arena.pages[0].other_sints_low[0], "mark[0]");
    sched_track(&arena.work[0].idle, "idle[0]");
    for (unsigned i = 0; i < 2; i++)
        for (unsigned v = 0; v < 2; v++)
            sched_private(&arena.work[v].taken[i]);
    not_saving();
    sched_private(&arena.blocks[A].claim);
    sched_private(&arena.blocks[B].claim);
    sched_private(&arena.blocks[C].claim);
}

void two_vps(void)
{
    one_vp();
    sched_track(&arena.pages[1].flags[0], "pending[1]");
    sched_track(&arena.pages[1].other_sints_low[0], "mark[1]");
    sched_track(&arena.work[1].idle, "idle[1]");
    sched_track(&arena.blocks[A].claim, "claim");
    sched_track(&arena.table.record[A].target_vp, "target");
}

void two_words(void)
{
    one_vp();
    sched_track(&arena.pages[0].flags[1], "pending[0]+64");
}

void neighbours_apart(void)
{
    two_vps();
    arena.table.record[C].target_vp = 1;
}

void closing(void)
{
    one_vp();
    sched_track(&arena.blocks[A].claim, "claim");
    sched_track(&arena.table.slot[A], "slot");
}

void closing_two_vps(void)
{
    two_vps();
    sched_track(&arena.table.slot[A], "slot");
}

/* The predecessor of worker 0 was rung by the host, went away in that first sleep, and left a bit of channel A. */
void left_behind(void)
{
    one_vp();
    arena.work[0].idle = 1;
    host[0].rung[0] = 1;
    arena.pages[0].flags[0] = VMB_BIT(A);
}

void journal(void)
{
    two_vps();
    sched_track(&arena.work[0].taken[0], "taken[0]");
}

void journal_of_neighbours(void)
{
    journal();
    sched_track(&arena.blocks[C].claim, "claim of C");
}

void asking(void)
{
    journal();
    sched_track(&arena.asked, "asked");
}

/* Worker 0 is asked already. */
void leaving_and_saving(void)
{
    asking();
    saving();
    arena.asked = 1;
}

void asking_and_saving(void)
{
    asking();
    saving();
}

void vacant(void)
{
    two_vps();
    arena.work[0].idle = 1;
    arena.saved.seat = VACANT;
}

void vacant_many(void)
{
    vacant();
    sched_track(&arena.table.record[C].target_vp, "target of C");
}

void vacant_and_saving(void)
{
    vacant();
    saving();
}

void journal_and_saving(void)
{
    journal();
    saving();
}

void adopting(void)
{
    vacant();
    sched_track(&arena.work[1].taken[0], "taken[1]");
}

void closing_with_journal(void)
{
    closing();
    sched_track(&arena.work[0].taken[0], "taken[0]");
}

void closing_and_saving(void)
{
    closing_with_journal();
    saving();
}

void reusing(void) { closing_two_vps(); }

void reusing_with_journal(void)
{
    reusing();
    sched_track(&arena.work[0].taken[0], "taken[0]");
}

void host_page(void)
{
    sched_track(&arena.host.flags[0], "host pending");
    sched_track(&arena.host.idle, "host idle");
}

/* ---- bodies -------------------------------------------------------------------------------------------- */

static void signal_from(unsigned h, uint32_t flag)
{
    observe_sender();
    vmb_signal(&host[h], flag, flag);
    observe_signal(flag);
}

void host_once(void) { signal_from(0, A); }
void other_host_once(void) { signal_from(1, A); }
void other_host_other_channel(void) { signal_from(1, B); }
void other_host_neighbour(void) { signal_from(1, C); }

void host_twice(void)
{
    signal_from(0, A);
    signal_from(0, A);
}

void host_three_times(void)
{
    host_twice();
    signal_from(0, A);
}

void host_both_in_turn(void)
{
    signal_from(0, A);
    signal_from(0, C);
}

static void signal_many_from(unsigned h, unsigned n)
{
    static const uint16_t channels[] = {A, C, B}; /* the last in another word */
    observe_sender();
    vmb_signal_many(&host[h], channels, channels, n);
    for (unsigned i = 0; i < n; i++)
        observe_signal(channels[i]);
}

void host_both_neighbours(void) { signal_many_from(0, 2); }
void host_both_words(void) { signal_many_from(0, 3); }
void other_host_one_of_many(void) { signal_many_from(1, 1); }

static bool may_signal(void) { return device_may_signal; }

void host_before_and_after_reopen(void)
{
    signal_from(0, A);
    sched_until("waits for the open", may_signal);
    signal_from(0, A);
}

void host_after_reopen(void)
{
    sched_until("waits for the open", may_signal);
    signal_from(1, A);
}

static bool vp_1_may_claim(void)
{
    const uint32_t claim = arena.blocks[A].claim;
    return !(arena.pages[1].flags[0] & VMB_BIT(A)) || !(claim & VMB_CLAIM_RUN) || VMB_CLAIM_VP(claim) == 1;
}

/* The mistake is that VP 1 waits for what another VP has claimed. */
static unsigned drain(struct vmb_worker *w)
{
    if (sched_mutant == MUTANT_claimed_waited && w->vp == 1)
        sched_until_maybe("waits for the other VP", vp_1_may_claim);
    return vmb_drain(w, observe_callback, NULL);
}

static void work(struct vmb_worker *w)
{
    for (;;) {
        while (drain(w))
            ;
        if (vmb_sleep_begin(&w->work->idle, &w->sleep, w->flags))
            sched_wait("sleep.wait", &bells[w->vp]);
        vmb_sleep_end(&w->work->idle, &w->sleep);
    }
}

void worker_0(void) { work(&worker[0]); }
void worker_1(void) { work(&worker[1]); }

void new_worker_0(void)
{
    vmb_worker_begin(&worker[0]);
    work(&worker[0]);
}

/* VP 0, until the daemon asks. */
void worker_0_that_may_be_asked(void)
{
    struct vmb_worker *w = &worker[0];
    for (;;) {
        while (vmb_drain(w, observe_callback, NULL))
            ;
        if (VMB_LOAD("asked to leave?", &arena.asked, VMB_SEQ_CST))
            return;
        if (vmb_sleep_begin(&w->work->idle, &w->sleep, w->flags))
            sched_wait("sleep.wait", &bells[w->vp]);
        vmb_sleep_end(&w->work->idle, &w->sleep);
    }
}

static bool is_admitted(void) { return arena.saved.seat == SUCCEEDED; }

void successor_of_worker_0(void)
{
    sched_until_maybe("waits for admission", is_admitted);
    new_worker_0();
}

void successor_of_worker_1(void)
{
    sched_until_maybe("waits for admission", is_admitted);
    vmb_worker_begin(&worker[1]);
    work(&worker[1]);
}

/* Guest to host: one page, no claim, and the host looks at its rings instead of calling anybody. */
static void signal_host_from(unsigned guest, uint32_t flag)
{
    observe_sender();
    vmb_signal_host(&arena.host, &bells[2], &rung[guest], flag);
    observe_signal(flag);
}

void guest_twice(void)
{
    signal_host_from(0, A);
    signal_host_from(0, A);
}

void other_guest_once(void) { signal_host_from(1, A); }
void other_guest_neighbour(void) { signal_host_from(1, C); }

void host_waiter(void)
{
    uint16_t taken[VMB_FLAGS];
    for (uint64_t sleep = 0;;) {
        unsigned n;
        while ((n = vmb_take(arena.host.flags, taken)) != 0)
            while (n)
                observe_taken(taken[--n]);
        if (vmb_sleep_begin(&arena.host.idle, &sleep, arena.host.flags))
            sched_wait("sleep.wait", &bells[2]);
        vmb_sleep_end(&arena.host.idle, &sleep);
    }
}

/* A callback that waits for a signal of its own channel, as native_worker.pxi does, and for ever: what it finds it
 * takes off the page itself. */
void napper(void)
{
    struct vmb_worker *w = &worker[0];
    for (;;) {
        if (vmb_nap_begin(&w->work->idle, &w->sleep, w->flags, VMB_BIT(A)))
            sched_wait("nap.wait", &bells[0]);
        vmb_sleep_end(&w->work->idle, &w->sleep);
        if (VMB_EXCHANGE("nap.take", w->flags, 0ull)) /* nothing else is set in this program */
            observe_taken(A);
    }
}
