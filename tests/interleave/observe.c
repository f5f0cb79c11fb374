// SPDX-License-Identifier: MIT
/*
 * The observers: when a bit was set, which callback runs, which generation is closed; and what must hold at rest.
 */
#include "observe.h"

#include "ring_programs.h"

struct vmb_sender host[2];
struct vmb_worker worker[2];
uint64_t rung[2];
bool device_may_signal, admitted;

static const uint32_t flags[] = {A, B, C};
#define FLAGS (sizeof flags / sizeof *flags)

static unsigned owed[CHANNELS];   /* step of the last set whose signal returned */
static unsigned served[CHANNELS]; /* step at which the last callback that ran to its end began */
static unsigned opened[CHANNELS]; /* step of the last open: earlier sets oblige nobody */
static uint32_t running[CHANNELS], completed[CHANNELS]; /* generations */

void observe_callback(void *context, uint32_t flag, uint64_t slot)
{
    uint32_t generation = VMB_SLOT_GENERATION(slot);
    unsigned begun = sched_now();
    (void)context;
    sched_note("callback begins");
    if (running[flag])
        sched_violation("I2: two callbacks of channel %u overlap", flag);
    if (completed[flag] >= generation)
        sched_violation("I3: a callback of generation %u begins after its close has completed", generation);
    running[flag] = generation;
    sched_step("callback ends");
    running[flag] = 0;
    served[flag] = begun;
}

void program_at_rest(const struct program *program)
{
    bool worker_stopped = false;
    if (program->rules == RINGS) {
        ring_at_rest();
        return;
    }
    for (unsigned p = 0; p < PROCESSES && program->process[p].body; p++) {
        bool plays_vp = program->process[p].name[0] == 'w';
        worker_stopped |= plays_vp && sched_dead(p) && program->rules != DEATHS;
        if (sched_waits(p) && !plays_vp && program->rules != DEATHS && !program->process[p].stoppable)
            sched_violation("I4: %s waits for ever", program->process[p].name);
    }
    for (unsigned i = 0; i < FLAGS; i++) {
        const uint32_t flag = flags[i];
        if (!(arena.table.slot[flag] & VMB_SLOT_OPEN) || owed[flag] <= opened[flag] || worker_stopped)
            continue;
        if (served[flag] < owed[flag])
            sched_violation("I1: the bit of channel %u, set at step %u, is followed by no callback", flag,
                            owed[flag]);
        if (arena.blocks[flag].claim)
            sched_violation("I4: the claim of channel %u is held for ever", flag);
    }
}

void observe_signal(uint32_t flag)
{
    if (sched_last_set(flag) > owed[flag])
        owed[flag] = sched_last_set(flag);
}

void observe_taken(uint32_t flag) { served[flag] = sched_now(); }

void observe_close_completed(uint32_t flag, uint32_t generation)
{
    sched_note("close completed");
    if (running[flag])
        sched_violation("I3: a callback of generation %u runs when its close completes", running[flag]);
    completed[flag] = generation;
}

void observe_open(uint32_t flag) { opened[flag] = sched_now(); }
void observe_death(void) { memset(running, 0, sizeof running); }

uint64_t slot_of(uint32_t flag, uint32_t generation)
{
    return (uint64_t)generation << 33 | offsetof(struct vmb_table, record[flag]);
}

void program_reset(void)
{
    memset(arena.pages, 0, sizeof arena.pages);
    memset(arena.work, 0, sizeof arena.work);
    memset(host, 0, sizeof host);
    memset(worker, 0, sizeof worker);
    for (unsigned i = 0; i < FLAGS; i++) {
        const uint32_t flag = flags[i];
        arena.blocks[flag].claim = 0;
        arena.table.slot[flag] = slot_of(flag, 1) | VMB_SLOT_OPEN;
        arena.table.record[flag].target_vp = 0;
        owed[flag] = served[flag] = opened[flag] = running[flag] = completed[flag] = 0;
        arena.table.record[flag].flag_used = 1;
    }
    for (unsigned i = 0; i < 2; i++) {
        host[i] = (struct vmb_sender){
            .table = &arena.table, .pages = arena.pages, .work = arena.work, .doorbells = bells, .vps = 2};
        worker[i] = (struct vmb_worker){.table = &arena.table,
                                        .flags = arena.pages[i].flags,
                                        .work = &arena.work[i],
                                        .blocks = arena.blocks,
                                        .vp = i};
    }
    memset(&arena.host, 0, sizeof arena.host);
    ring_reset();
    rung[0] = rung[1] = 0;
    device_may_signal = admitted = false;
}
