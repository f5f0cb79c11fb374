// SPDX-License-Identifier: MIT
/*
 * The small programs whose every schedule is searched: real senders, workers and daemon on two VPs.
 *
 * What a process does here besides calling the real functions is the worker's loop of docs/signal-protocol.md
 * and telling the observers.
 */
#include "observe.h"
#include "ring_programs.h"

/* ---- set-up: which words somebody writes --------------------------------------------------------------- */

static void one_vp(void)
{
    sched_track(&arena.pages[0].flags[0], "pending[0]");
    sched_track(&arena.pages[0].other_sints_low[0], "mark[0]");
    sched_track(&arena.work[0].idle, "idle[0]");
    for (unsigned i = 0; i < 2; i++)
        for (unsigned v = 0; v < 2; v++)
            sched_private(&arena.work[v].taken[i]);
    sched_private(&arena.blocks[A].claim);
    sched_private(&arena.blocks[B].claim);
    sched_private(&arena.blocks[C].claim);
}

static void two_vps(void)
{
    one_vp();
    sched_track(&arena.pages[1].flags[0], "pending[1]");
    sched_track(&arena.pages[1].other_sints_low[0], "mark[1]");
    sched_track(&arena.work[1].idle, "idle[1]");
    sched_track(&arena.blocks[A].claim, "claim");
    sched_track(&arena.table.record[A].target_vp, "target");
}

static void two_words(void)
{
    one_vp();
    sched_track(&arena.pages[0].flags[1], "pending[0]+64");
}

static void closing(void)
{
    one_vp();
    sched_track(&arena.blocks[A].claim, "claim");
    sched_track(&arena.table.slot[A], "slot");
}

static void closing_two_vps(void)
{
    two_vps();
    sched_track(&arena.table.slot[A], "slot");
}

/* The predecessor of worker 0 went away in its first sleep and left a bit of channel A. */
static void left_behind(void)
{
    one_vp();
    arena.work[0].idle = 1;
    arena.pages[0].flags[0] = VMB_BIT(A);
}

static void journal(void)
{
    two_vps();
    sched_track(&arena.work[0].taken[0], "taken[0]");
}

static void host_page(void)
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

static void host_once(void) { signal_from(0, A); }
static void other_host_once(void) { signal_from(1, A); }
static void other_host_other_channel(void) { signal_from(1, B); }

static void host_twice(void)
{
    signal_from(0, A);
    signal_from(0, A);
}

static void host_three_times(void)
{
    host_twice();
    signal_from(0, A);
}

static void host_both_neighbours(void)
{
    static const uint16_t both[] = {A, C};
    observe_sender();
    vmb_signal_many(&host[0], both, both, 2);
    observe_signal(A);
    observe_signal(C);
}

static bool may_signal(void) { return device_may_signal; }

static void host_before_and_after_reopen(void)
{
    signal_from(0, A);
    sched_until("waits for the open", may_signal);
    signal_from(0, A);
}

static void work(struct vmb_worker *w)
{
    for (;;) {
        while (vmb_drain(w, observe_callback, NULL))
            ;
        if (vmb_sleep_begin(&w->work->idle, &w->sleep, w->flags))
            sched_wait("sleep.wait", &bells[w->vp]);
        vmb_sleep_end(&w->work->idle, &w->sleep);
    }
}

static void worker_0(void) { work(&worker[0]); }
static void worker_1(void) { work(&worker[1]); }

static void new_worker_0(void)
{
    vmb_worker_begin(&worker[0]);
    work(&worker[0]);
}

static bool is_admitted(void) { return admitted; }

static void successor_of_worker_0(void)
{
    sched_until("waits for admission", is_admitted);
    new_worker_0();
}

static void retarget_once(void) { vmb_retarget(&arena.table, A, 1); }

static void retarget_there_and_back(void)
{
    vmb_retarget(&arena.table, A, 1);
    vmb_retarget(&arena.table, A, 0);
}

static bool claim_is_free(void) { return !(arena.blocks[A].claim & VMB_CLAIM_RUN); }

static void close_once(void)
{
    uint32_t generation = VMB_SLOT_GENERATION(arena.table.slot[A]);
    vmb_slot_close(&arena.table, A);
    while (!vmb_close_done(arena.blocks, A))
        sched_until("waits for the claim", claim_is_free);
    observe_close_completed(A, generation);
}

static void retarget_and_close(void)
{
    retarget_once();
    close_once();
}

static void close_and_reopen(void)
{
    close_once();
    vmb_block_clear(&arena.blocks[A]);
    vmb_slot_open(&arena.table, A, slot_of(A, 2));
    observe_open(A);
    device_may_signal = true;
}

static void retarget_close_and_reopen(void)
{
    retarget_once();
    close_and_reopen();
}

/* The caller's mistake: worker 0 has been silent for long, but lives. */
static void retarget_and_recover_the_silent(void)
{
    uint64_t redelivered;
    retarget_once();
    if (sched_mutant == MUTANT_silent_treated_as_dead)
        vmb_recover(0, &arena.pages[0], &arena.work[0], arena.blocks, &arena.table, &redelivered);
}

static bool second_process_is_dead(void) { return sched_dead(1); }

static void recover_and_admit(void)
{
    uint64_t redelivered;
    sched_until("waits for a death", second_process_is_dead);
    observe_death(1);
    if (sched_mutant == MUTANT_admitted_before_recovery)
        admitted = true;
    vmb_recover(0, &arena.pages[0], &arena.work[0], arena.blocks, &arena.table, &redelivered);
    admitted = true;
}

static void retarget_recover_and_admit(void)
{
    retarget_once();
    recover_and_admit();
}

/* Guest to host: one page, no claim, and the host looks at its rings instead of calling anybody. */
static void signal_host_from(unsigned guest)
{
    observe_sender();
    vmb_signal_host(&arena.host, &bells[2], &rung[guest], A);
    observe_signal(A);
}

static void guest_twice(void)
{
    signal_host_from(0);
    signal_host_from(0);
}

static void other_guest_once(void) { signal_host_from(1); }

static void host_waiter(void)
{
    uint16_t taken[VMB_FLAGS];
    for (uint64_t sleep = 0;;) {
        while (vmb_take(arena.host.flags, taken))
            observe_taken(A);
        if (vmb_sleep_begin(&arena.host.idle, &sleep, arena.host.flags))
            sched_wait("sleep.wait", &bells[2]);
        vmb_sleep_end(&arena.host.idle, &sleep);
    }
}

/* ---- the list ------------------------------------------------------------------------------------------ */

const struct program programs[] = {
    {"sleep-wake", "one host signals three times, one worker sleeps and wakes", one_vp,
     {{"host", host_three_times, false}, {"worker 0", worker_0, false}}, SIGNALS},
    {"two-hosts", "two hosts signal one channel, one of them may stop for ever", one_vp,
     {{"host", host_twice, true}, {"other host", other_host_once, false}, {"worker 0", worker_0, false}}, SIGNALS},
    {"two-channels", "two hosts, a channel each on one VP, one host may stop for ever", two_words,
     {{"host", host_twice, true}, {"other host", other_host_other_channel, false}, {"worker 0", worker_0, false}},
     SIGNALS},
    {"begin", "a new worker begins on a page with a bit while a host signals", left_behind,
     {{"host", host_once, false}, {"worker 0", new_worker_0, false}}, SIGNALS},
    {"retarget", "two signals and a retarget, also in the middle of a callback", two_vps,
     {{"host", host_twice, false}, {"daemon", retarget_once, false}, {"worker 0", worker_0, false},
      {"worker 1", worker_1, false}}, SIGNALS},
    {"retarget-stop", "the same, and worker 0 may stop for ever", two_vps,
     {{"host", host_twice, false}, {"daemon", retarget_once, false}, {"worker 0", worker_0, true},
      {"worker 1", worker_1, false}}, SIGNALS},
    {"there-and-back", "two signals, a retarget to VP 1 and one back", two_vps,
     {{"host", host_twice, false}, {"daemon", retarget_there_and_back, false}, {"worker 0", worker_0, false},
      {"worker 1", worker_1, false}}, SIGNALS},
    {"two-hosts-retarget", "two hosts signal one channel once each while it is retargeted", two_vps,
     {{"host", host_once, true}, {"other host", other_host_once, false}, {"daemon", retarget_once, false},
      {"worker 0", worker_0, false}, {"worker 1", worker_1, false}}, SIGNALS},
    {"signal-many", "two channels signalled in one call while one of them is retargeted", two_vps,
     {{"host", host_both_neighbours, false}, {"daemon", retarget_there_and_back, false},
      {"worker 0", worker_0, false}, {"worker 1", worker_1, false}}, SIGNALS},
    {"close", "a close while a signal is sent, taken and dispatched", closing,
     {{"host", host_twice, false}, {"daemon", close_once, false}, {"worker 0", worker_0, false}}, SIGNALS},
    {"close-retarget", "a retarget and then a close, two workers", closing_two_vps,
     {{"host", host_twice, false}, {"daemon", retarget_and_close, false}, {"worker 0", worker_0, false},
      {"worker 1", worker_1, false}}, SIGNALS},
    {"reopen", "close, then open with a new generation; the device signals again", closing,
     {{"host", host_before_and_after_reopen, false}, {"daemon", close_and_reopen, false},
      {"worker 0", worker_0, false}}, SIGNALS},
    {"reopen-retarget", "the same after a retarget, two workers", closing_two_vps,
     {{"host", host_before_and_after_reopen, false}, {"daemon", retarget_close_and_reopen, false},
      {"worker 0", worker_0, false}, {"worker 1", worker_1, false}}, SIGNALS},
    {"silent", "a retarget while worker 0 is silent for long but lives", journal,
     {{"host", host_twice, false}, {"daemon", retarget_and_recover_the_silent, false},
      {"worker 0", worker_0, false}, {"worker 1", worker_1, false}}, SIGNALS},
    {"death", "worker 0 may die at any step; it is recovered and a new one admitted", journal,
     {{"host", host_twice, false}, {"worker 0", worker_0, true}, {"daemon", recover_and_admit, false},
      {"worker 0'", successor_of_worker_0, false}}, DEATHS},
    {"death-retarget", "the same with one signal, a retarget and a living worker 1", journal,
     {{"host", host_once, false}, {"worker 0", worker_0, true}, {"daemon", retarget_recover_and_admit, false},
      {"worker 0'", successor_of_worker_0, false}, {"worker 1", worker_1, false}}, DEATHS},
    {"guest-to-host", "two guest threads signal one host, one may stop for ever", host_page,
     {{"guest", guest_twice, true}, {"other guest", other_guest_once, false}, {"host", host_waiter, false}}, SIGNALS},
    {"ring-data", "a writer publishes three packets one by one, the reader sleeps and wakes", ring_set_up,
     {{"writer", ring_writer, false}, {"reader", ring_reader, false}}, RINGS},
    {"ring-batch", "the same, the last two published together", ring_set_up,
     {{"writer", ring_batch_writer, false}, {"reader", ring_reader, false}}, RINGS},
    {"ring-space", "three packets through a ring that holds two: the writer waits for room", ring_set_up_small,
     {{"writer", ring_writer, false}, {"reader", ring_reader, false}}, RINGS},
    {"ring-space-eager", "the same, and the reader gives every packet back at once", ring_set_up_small,
     {{"writer", ring_writer, false}, {"reader", ring_eager_reader, false}}, RINGS},
    {0},
};
