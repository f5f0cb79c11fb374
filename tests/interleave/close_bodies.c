// SPDX-License-Identifier: MIT
/*
 * The daemon closes a channel, opens it again or gives its relid to another, while others die around it.
 *
 * docs/signal-protocol.md section 6; the order of the words is that of vmbusd/server/reconcile.py and memory.py.
 */
#include "daemon.h"

static void save_stage(enum stage stage)
{
    VMB_STORE("save stage", &arena.saved.stage, (uint32_t)stage, VMB_SEQ_CST);
}
static enum stage saved_stage(void)
{
    return (enum stage)VMB_LOAD("saved stage", &arena.saved.stage, VMB_SEQ_CST);
}

/* ---- close, release, reuse ------------------------------------------------------------------------------- */

static bool claim_is_free(void) { return !(arena.blocks[A].claim & VMB_CLAIM_RUN); }

void close_once(void)
{
    uint32_t generation = VMB_SLOT_GENERATION(arena.table.slot[A]);
    vmb_slot_close(&arena.table, A);
    while (!vmb_close_done(arena.blocks, A))
        sched_until("waits for the claim", claim_is_free);
    observe_close_completed(A, generation);
}

void mourn_a_host_and_close(void)
{
    mourn_a_host();
    close_once();
}

void retarget_and_close(void)
{
    retarget_once();
    close_once();
}

static void open_again(void)
{
    vmb_block_clear(&arena.blocks[A]);
    vmb_slot_open(&arena.table, A, slot_of(A, 2));
    observe_open(A);
    device_may_signal = true;
}

void close_and_reopen(void)
{
    close_once();
    open_again();
}

void retarget_close_and_reopen(void)
{
    retarget_once();
    close_and_reopen();
}

/* The relid is released and given to a new channel, which the guest opens on VP 1: as the daemon's table does. */
static void release_and_reuse(void)
{
    vmb_slot_empty(&arena.table, A);
    vmb_retarget(&arena.table, A, VMB_NO_TARGET);
    vmb_slot_fill(&arena.table, A, slot_of(A, 1));
    vmb_retarget(&arena.table, A, 1);
    open_again();
}

void reuse(void)
{
    close_once();
    release_and_reuse();
}

static bool claim_is_free_or_its_owner_dead(void)
{
    return claim_is_free() || (worker_0_is_dead() && arena.saved.seat == ONLINE);
}

/* Step 3 of close, while worker 0 may die in the middle of the callback. */
static void wait_for_the_claim(void)
{
    while (!vmb_close_done(arena.blocks, A)) {
        sched_until("waits for the claim", claim_is_free_or_its_owner_dead);
        if (sched_learn(worker_0_is_dead() && arena.saved.seat == ONLINE))
            worker_0_died();
    }
}

static void admit_after_death(void)
{
    if (saved_seat() == ONLINE)
        recover_when_dead();
    save_seat(SUCCEEDED);
}

/* The close and the open that are saved, from wherever the last daemon came. */
static void go_on_with_channel(void)
{
    if (saved_stage() == CLOSING) {
        if (VMB_LOAD("table slot", &arena.table.slot[A], VMB_SEQ_CST) & VMB_SLOT_OPEN)
            vmb_slot_close(&arena.table, A);
        wait_for_the_claim();
        vmb_block_clear(&arena.blocks[A]);
        save_stage(CLOSED);
        observe_close_completed(A, 1);
    }
    if (saved_stage() == CLOSED)
        save_stage(REOPENED);
    if (saved_stage() == REOPENED &&
        VMB_LOAD("table slot", &arena.table.slot[A], VMB_SEQ_CST) != (slot_of(A, 2) | VMB_SLOT_OPEN)) {
        vmb_slot_open(&arena.table, A, slot_of(A, 2));
        observe_open(A);
    }
    device_may_signal = true;
}

void close_over_a_death(void)
{
    save_stage(CLOSING);
    go_on_with_channel();
    admit_after_death();
}

void reuse_over_a_death(void)
{
    vmb_slot_close(&arena.table, A);
    wait_for_the_claim();
    observe_close_completed(A, 1);
    release_and_reuse();
    admit_after_death();
}

void second_daemon_goes_on_with_close(void)
{
    (void)mourn_worker_0();
    go_on_with_channel();
    ring_every_vp();
    admit_after_death();
}
