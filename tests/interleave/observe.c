// SPDX-License-Identifier: MIT
/*
 * The observers: when a bit was set, which callback runs, which generation is closed; and what must hold at rest.
 */
#include "observe.h"

#include "coroutine.h"

#include "ring_programs.h"

struct vmb_sender host[2];
struct vmb_worker worker[2];
uint64_t rung[2];
bool device_may_signal;

static const uint32_t flags[] = {A, B, C};
#define FLAGS (sizeof flags / sizeof *flags)

/* How far a set of a channel's bit is from a callback that begins after it and runs to its end. */
enum debt { PAID, BEGUN, OWED };

static struct {
    uint8_t running[FLAGS];          /* generation whose callback runs */
    uint8_t runner[FLAGS];           /* the process that runs it */
    uint8_t completed[FLAGS];        /* generation whose close has completed */
    uint8_t owed[FLAGS];             /* the last signal that returned */
    uint8_t pending[PROCESSES][FLAGS]; /* a signal that has set its bit and not returned */
    bool sends[PROCESSES];
} seen;
static unsigned set_at[FLAGS]; /* step of the last set, for the verdict */

static unsigned index_of(uint32_t flag)
{
    for (unsigned i = 0; i < FLAGS; i++)
        if (flags[i] == flag)
            return i;
    return FLAGS;
}

/* Every debt of a channel that is `from` becomes `to`. */
static void settle(unsigned i, enum debt from, enum debt to)
{
    if (seen.owed[i] == from)
        seen.owed[i] = to;
    for (unsigned p = 0; p < PROCESSES; p++)
        if (seen.pending[p][i] == from)
            seen.pending[p][i] = to;
}

void observe_sender(void) { seen.sends[sched_running()] = true; }

void observe_set(uint32_t flag)
{
    const unsigned i = index_of(flag), me = sched_running();
    if (i == FLAGS || !seen.sends[me])
        return;
    seen.pending[me][i] = OWED;
    set_at[i] = sched_now();
}

void observe_signal(uint32_t flag)
{
    const unsigned i = index_of(flag), me = sched_running();
    if (seen.pending[me][i] > seen.owed[i])
        seen.owed[i] = seen.pending[me][i];
    seen.pending[me][i] = PAID;
}

void observe_callback(void *context, uint32_t flag, uint64_t slot)
{
    const uint32_t generation = VMB_SLOT_GENERATION(slot);
    const unsigned i = index_of(flag);
    (void)context;
    sched_note("callback begins");
    if (seen.running[i])
        sched_violation("I2: two callbacks of channel %u overlap", flag);
    if (seen.completed[i] >= generation)
        sched_violation("I3: a callback of generation %u begins after its close has completed", generation);
    seen.running[i] = (uint8_t)generation;
    seen.runner[i] = (uint8_t)sched_running();
    settle(i, OWED, BEGUN);
    sched_step("callback ends");
    seen.running[i] = 0;
    settle(i, BEGUN, PAID);
}

void observe_taken(uint32_t flag)
{
    settle(index_of(flag), OWED, PAID);
}

void observe_close_completed(uint32_t flag, uint32_t generation)
{
    const unsigned i = index_of(flag);
    sched_note("close completed");
    if (seen.running[i])
        sched_violation("I3: a callback of generation %u runs when its close completes", seen.running[i]);
    seen.completed[i] = (uint8_t)generation;
}

/* What was set earlier obliges nobody. */
void observe_open(uint32_t flag)
{
    const unsigned i = index_of(flag);
    settle(i, OWED, PAID);
    settle(i, BEGUN, PAID);
}

void observe_death(unsigned process)
{
    for (unsigned i = 0; i < FLAGS; i++) {
        if (seen.pending[process][i] > seen.owed[i])
            seen.owed[i] = seen.pending[process][i];
        seen.pending[process][i] = PAID;
    }
    for (unsigned i = 0; i < FLAGS; i++)
        if (seen.running[i] && seen.runner[i] == process) {
            seen.running[i] = 0;
            settle(i, BEGUN, OWED);
        }
}

uint64_t observe_key(uint64_t key)
{
    uint64_t words[(sizeof seen + 7) / 8] = {0};
    memcpy(words, &seen, sizeof seen);
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        key = mix(key, words[i]);
    return mix(key, device_may_signal);
}

/* ---- at rest ------------------------------------------------------------------------------------------- */

/* Does a worker that is stopped, but not dead, hold this channel? Then it waits for that worker, and no other does. */
static bool is_held_by_the_stopped(const struct program *program, uint32_t flag)
{
    const uint32_t claim = arena.blocks[flag].claim;
    for (unsigned p = 0; p < PROCESSES && program->process[p].body && program->rules != DEATHS; p++) {
        const char *name = program->process[p].name;
        if (name[0] != 'w' || !sched_dead(p))
            continue;
        const unsigned vp = (unsigned)(name[strlen("worker ")] - '0');
        if (((arena.pages[vp].flags[flag / 64] | arena.work[vp].taken[flag / 64]) & VMB_BIT(flag)) ||
            ((claim & VMB_CLAIM_RUN) && VMB_CLAIM_VP(claim) == vp))
            return true;
    }
    return false;
}

void program_at_rest(const struct program *program)
{
    bool held[FLAGS], some_held = false;
    if (program->rules == RINGS) {
        ring_at_rest();
        return;
    }
    if (program->rules == SHARED_RINGS) {
        shared_ring_at_rest();
        return;
    }
    for (unsigned i = 0; i < FLAGS; i++)
        some_held |= held[i] = is_held_by_the_stopped(program, flags[i]);
    for (unsigned p = 0; p < PROCESSES && program->process[p].body; p++) {
        if (sched_waits(p) && !some_held)
            sched_violation("I4: %s waits for ever", program->process[p].name);
    }
    for (unsigned i = 0; i < FLAGS; i++) {
        if (!(arena.table.slot[flags[i]] & VMB_SLOT_OPEN) || seen.owed[i] == PAID || held[i])
            continue;
        sched_violation("I1: the bit of channel %u, set at step %u, is followed by no callback", flags[i],
                        set_at[i]);
    }
    for (unsigned i = 0; i < FLAGS; i++)
        if (arena.blocks[flags[i]].claim && !held[i])
            sched_violation("I4: the claim of channel %u is held for ever", flags[i]);
}

uint64_t slot_of(uint32_t flag, uint32_t generation)
{
    return (uint64_t)generation << 33 | offsetof(struct vmb_table, record[flag]);
}

void program_reset(void)
{
    memset(&seen, 0, sizeof seen);
    memset(arena.pages, 0, sizeof arena.pages);
    memset(arena.work, 0, sizeof arena.work);
    memset(host, 0, sizeof host);
    memset(worker, 0, sizeof worker);
    for (unsigned i = 0; i < FLAGS; i++) {
        const uint32_t flag = flags[i];
        arena.blocks[flag].claim = 0;
        arena.table.slot[flag] = slot_of(flag, 1) | VMB_SLOT_OPEN;
        arena.table.record[flag].target_vp = 0;
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
    memset(&arena.saved, 0, sizeof arena.saved);
    arena.asked = 0;
    memset(&arena.host, 0, sizeof arena.host);
    ring_reset();
    rung[0] = rung[1] = 0;
    device_may_signal = false;
}
