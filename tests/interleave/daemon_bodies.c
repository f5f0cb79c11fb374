// SPDX-License-Identifier: MIT
/*
 * What the daemon does in the programs: vmbus_daemon.h's functions in the order of vmbusd/server/recovery.py.
 *
 * A daemon that may die saves first what it is about to do; the next one goes by what is saved, by who is dead and
 * by the shared words alone, all of which it loads. docs/signal-protocol.md section 5.
 */
#include "daemon.h"

void save_seat(enum seat seat) { VMB_STORE("save seat", &arena.saved.seat, (uint32_t)seat, VMB_SEQ_CST); }
enum seat saved_seat(void) { return (enum seat)VMB_LOAD("saved seat", &arena.saved.seat, VMB_SEQ_CST); }

/* ---- one word -------------------------------------------------------------------------------------------- */

void retarget_once(void) { vmb_retarget(&arena.table, A, 1); }

void retarget_there_and_back(void)
{
    vmb_retarget(&arena.table, A, 1);
    vmb_retarget(&arena.table, A, 0);
}

/* ---- a worker dies --------------------------------------------------------------------------------------- */

static void recover(uint32_t vp, enum place process)
{
    uint64_t redelivered;
    observe_death(process);
    vmb_recover(vp, &arena.pages[vp], &arena.work[vp], arena.blocks, &arena.table, &redelivered);
}

/* The caller's mistake: worker 0 has been silent for long, but lives. */
void retarget_and_recover_the_silent(void)
{
    uint64_t redelivered;
    retarget_once();
    if (sched_mutant == MUTANT_silent_treated_as_dead)
        vmb_recover(0, &arena.pages[0], &arena.work[0], arena.blocks, &arena.table, &redelivered);
}

bool worker_0_is_dead(void) { return sched_dead(WORKER_0); }
static bool daemon_is_dead(void) { return sched_dead(DAEMON); }
static bool host_is_dead(void) { return sched_dead(HOST); }

/* dead: the recovery, what is known of the seat, the ring. */
void worker_0_died(void)
{
    if (sched_mutant == MUTANT_admitted_before_recovery)
        save_seat(SUCCEEDED);
    recover(0, WORKER_0);
    if (sched_mutant == MUTANT_admitted_before_recovery)
        return;
    save_seat(VACANT);
    VMB_POST("dead.ring", &bells[0]);
}

void recover_when_dead(void)
{
    sched_until_maybe("waits for a death", worker_0_is_dead);
    worker_0_died();
}

void recover_and_admit(void)
{
    recover_when_dead();
    save_seat(SUCCEEDED);
}

void retarget_recover_and_admit(void)
{
    retarget_once();
    recover_and_admit();
}

/* ---- a VP goes offline and comes back -------------------------------------------------------------------- */

static void sweep(void) { vmb_sweep(&arena.pages[0], &arena.pages[1], &bells[1]); }
static bool worker_0_is_gone(void) { return sched_gone(WORKER_0); }

/* retire of a VP that has no worker, after the word was saved. */
static void move_away(void)
{
    vmb_retarget(&arena.table, A, 1);
    sweep();
}

/* retire, after the word was saved. The worker may live, may have left, may be dead: then it is recovered, perhaps
 * not for the first time. */
static void retire(void)
{
    vmb_retarget(&arena.table, A, 1);
    if (!sched_learn(worker_0_is_gone())) {
        VMB_STORE("retire.ask", &arena.asked, 1u, VMB_SEQ_CST);
        VMB_POST("retire.ring", &bells[0]);
        sched_until("waits for worker 0 to leave", worker_0_is_gone);
    }
    if (sched_learn(worker_0_is_dead()))
        recover(0, WORKER_0);
    sweep();
}

static void bring_back(void)
{
    save_seat(SUCCEEDED);
    vmb_retarget(&arena.table, A, 0);
}

void take_offline(void)
{
    save_seat(OFFLINE);
    retire();
}

void take_offline_and_online(void)
{
    take_offline();
    bring_back();
}

void retire_the_vacant(void)
{
    save_seat(OFFLINE);
    move_away();
}

void retire_the_vacant_many(void)
{
    save_seat(OFFLINE);
    vmb_retarget(&arena.table, C, 1);
    move_away();
}

/* detached: the seat first, then the hand-over to a VP that has a worker. A new one comes later. */
static void left(void)
{
    save_seat(VACANT);
    sweep();
}

void let_leave_and_admit(void)
{
    sched_until("waits for worker 0 to leave", worker_0_is_gone);
    left();
    save_seat(SUCCEEDED);
}

/* The caller's mistake: what the dead worker held goes to the living one before its claims are freed. */
static void hand_over_before_claims(void)
{
    observe_death(WORKER_0);
    (void)vmb_recover_bits(&arena.pages[0], &arena.work[0]);
    save_seat(OFFLINE);
    move_away();
    (void)vmb_recover_claims(0, arena.blocks, &arena.table);
}

void recover_and_retire(void)
{
    sched_until_maybe("waits for a death", worker_0_is_dead);
    if (sched_mutant == MUTANT_recovery_bits_before_claims) {
        hand_over_before_claims();
        return;
    }
    worker_0_died();
    retire_the_vacant();
}

/* VP 0 is retired; then its adopter dies too, perhaps in the middle of what it was handed. */
static bool adopter_is_dead(void) { return sched_dead(WORKER_0); }

void retire_and_recover_the_adopter(void)
{
    retire_the_vacant();
    sched_until_maybe("waits for a death", adopter_is_dead);
    recover(1, WORKER_0);
    save_seat(SUCCEEDED);
}

/* ---- a host dies ----------------------------------------------------------------------------------------- */

static void ring_after_death(uint32_t vp)
{
    /* The mistake believes a mark that the dead host may have set without ringing. */
    if (sched_mutant == MUTANT_recovery_rings_unless_marked &&
        VMB_LOAD("host_dead.mark", &arena.pages[vp].other_sints_low[0], VMB_SEQ_CST))
        return;
    VMB_POST("host_dead.ring", &bells[vp]);
}

/* host_dead: pages of VPs that are offline, then every VP; only then would its channels end. */
void mourn_a_host(void)
{
    sched_until_maybe("waits for a death", host_is_dead);
    observe_death(HOST);
    if (arena.saved.seat == OFFLINE && sched_mutant != MUTANT_no_sweep_on_host_death)
        sweep();
    if (sched_mutant == MUTANT_no_ring_on_host_death)
        return;
    for (uint32_t vp = 0; vp < 2; vp++)
        ring_after_death(vp);
}

void retire_and_mourn_a_host(void)
{
    retire_the_vacant();
    mourn_a_host();
}

void retire_many_and_mourn_a_host(void)
{
    retire_the_vacant_many();
    mourn_a_host();
}

/* ---- the next daemon ------------------------------------------------------------------------------------- */

void ring_every_vp(void)
{
    if (sched_mutant == MUTANT_no_ring_at_start)
        return;
    VMB_POST("start.ring", &bells[0]);
    VMB_POST("start.ring", &bells[1]);
}

static void take_over(void)
{
    sched_until_maybe("waits for the daemon's death", daemon_is_dead);
}

/* start: a VP that is offline is retired, then every VP is rung. An order that was not saved is given again. */
static enum seat start_and_retire(void)
{
    take_over();
    enum seat seat = saved_seat();
    if (seat == OFFLINE)
        retire();
    ring_every_vp();
    if (seat == ONLINE)
        take_offline();
    return seat;
}

void second_daemon_retires(void) { (void)start_and_retire(); }

void second_daemon_retires_and_brings_back(void)
{
    if (start_and_retire() == SUCCEEDED)
        vmb_retarget(&arena.table, A, 0);
    else
        bring_back();
}

void second_daemon_retires_the_vacant(void)
{
    take_over();
    if (saved_seat() == OFFLINE)
        move_away();
    ring_every_vp();
    retire_the_vacant();
}

/* start: nobody is offline. Worker 0 has left, or does so now; then a new one comes. */
void second_daemon_admits(void)
{
    take_over();
    enum seat seat = saved_seat();
    ring_every_vp();
    if (seat == ONLINE) {
        sched_until("waits for worker 0 to leave", worker_0_is_gone);
        left();
    }
    save_seat(SUCCEEDED);
}

/* start: worker 0 may be dead, and is recovered now unless that was saved. */
enum seat mourn_worker_0(void)
{
    take_over();
    enum seat seat = saved_seat();
    if (seat == ONLINE && sched_learn(worker_0_is_dead())) {
        worker_0_died();
        seat = VACANT;
    }
    return seat;
}

void second_daemon_recovers_and_retires(void)
{
    enum seat seat = mourn_worker_0();
    if (seat == OFFLINE)
        move_away();
    ring_every_vp();
    if (seat == ONLINE)
        recover_when_dead();
    retire_the_vacant();
}

void second_daemon_recovers_and_admits(void)
{
    enum seat seat = mourn_worker_0();
    ring_every_vp();
    if (seat == ONLINE)
        recover_when_dead();
    save_seat(SUCCEEDED);
}
