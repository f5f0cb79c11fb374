// SPDX-License-Identifier: MIT
/*
 * One move of a model: a step, a store that reaches memory, a stop, a death, what the daemon learns.
 */
#include <stdlib.h>
#include <string.h>

#include "machine.h"

enum mutant sched_mutant;
const char *model_step;
char model_violation[160];
struct model_state *s;
struct process_state *p;
unsigned self;
struct features features;

/* ---- memory -------------------------------------------------------------------------------------------- */

void flush_one(struct process_state *of)
{
    s->word[of->word[0]] = of->value[0];
    of->buffered--;
    memmove(of->word, of->word + 1, sizeof of->word - 1);
    memmove(of->value, of->value + 1, sizeof of->value - 1);
    of->word[2] = of->value[2] = 0; /* equal states must have equal bytes */
}

void drain(void)
{
    while (p->buffered)
        flush_one(p);
}

uint8_t load(unsigned word)
{
    for (unsigned k = p->buffered; k > 0; k--)
        if (p->word[k - 1] == word)
            return p->value[k - 1];
    return s->word[word];
}

void store(unsigned word, uint8_t value, bool seq_cst)
{
    if (seq_cst) {
        drain();
        s->word[word] = value;
        return;
    }
    if (p->buffered == sizeof p->word)
        abort();
    p->word[p->buffered] = (uint8_t)word;
    p->value[p->buffered++] = value;
}

uint8_t *rmw(unsigned word)
{
    drain();
    return &s->word[word];
}

/* ---- moves --------------------------------------------------------------------------------------------- */

static void find_features(const struct model *model)
{
    memset(&features, 0, sizeof features);
    for (unsigned i = 0; i < PROCESSES; i++) {
        const struct role *role = &model->role[i];
        if (role->kind == WORKER)
            features.vps |= (uint8_t)(1u << role->vp);
        for (const struct item *item = role->script; item->operation != END; item++) {
            features.channels |= (uint8_t)(1u << item->channel);
            features.offline |= item->operation == OFFLINE;
            features.percpu |= item->operation == MOVE_IN_LISTS;
        }
    }
}

void model_begin(const struct model *model, struct model_state *state)
{
    find_features(model);
    memset(state, 0, sizeof *state);
    s = state;
    s->word[SLOT] = s->word[SLOT + 1] = 1u << 1 | OPEN;
    s->word[PENDING] = model->pending0;
    s->word[TARGET + 1] = model->target1;
    s->word[LIST] = features.percpu ? 3 : 0;
    for (self = 0; self < PROCESSES; self++) {
        const struct role *role = &model->role[self];
        p = &s->process[self];
        if (role->kind == SCRIPTED)
            host_enter(model);
        else if (role->kind == DAEMON)
            daemon_next(model);
        if (role->kind != WORKER)
            continue;
        s->word[IDLE + role->vp] = role->begins || role->vacant;
        if (role->vacant)
            continue;
        worker_begin(model, self);
        if (!role->begins)
            p->pc = LOOK;
    }
}

bool model_may_die(const struct model *model, const struct model_state *state, unsigned i)
{
    const struct role *role = &model->role[i];
    const bool idle_daemon = role->kind == DAEMON && role->script[0].operation == END;
    return role->mortal && !(state->died >> i & 1) && (state->process[i].pc != FINISHED || idle_daemon);
}

static bool stop(const struct role *role)
{
    if (!role->stoppable || p->pc == FINISHED)
        return false;
    s->stopped |= (uint8_t)(1u << self);
    /* A host stopped inside a signal holds back only that signal. */
    struct process_state stopped = {.pc = FINISHED, .buffered = p->buffered};
    memcpy(stopped.word, p->word, sizeof p->word);
    memcpy(stopped.value, p->value, sizeof p->value);
    *p = stopped;
    model_step = "stopped for ever";
    return true;
}

/* Its stores reach memory before anybody can know that it is dead. */
static bool kill_process(const struct model *model, const struct role *role)
{
    if (!model_may_die(model, s, self))
        return false;
    drain();
    s->died |= (uint8_t)(1u << self);
    s->dead |= (uint8_t)(1u << self);
    if (role->kind == WORKER) {
        if (p->pc == RETURN)
            s->running[p->r] = 0;
        s->playing &= (uint8_t)~(1u << role->vp);
    }
    if (role->kind == DAEMON)
        s->duty = daemon_hands_over((enum pc)p->pc);
    s->todo = role->kind == DAEMON ? 0 : s->todo;
    *p = (struct process_state){.pc = FINISHED, .owed = p->owed,
                                .item = role->kind == DAEMON ? p->item : 0};
    model_step = "killed";
    return true;
}

bool model_move(const struct model *model, struct model_state *state, unsigned process, enum move move)
{
    s = state;
    self = process;
    p = &s->process[self];
    const struct role *role = &model->role[self];
    if (role->kind == NOBODY)
        return false;
    bool dead = s->dead >> self & 1;
    switch (move) {
    case FLUSH: /* also of a stopped process */
        model_step = "a store reaches memory";
        if (!p->buffered)
            return false;
        flush_one(p);
        return true;
    case RESTART:
        if (!dead || role->kind != DAEMON)
            return false;
        s->dead &= (uint8_t)~(1u << self);
        daemon_restart(model);
        return true;
    default: break;
    }
    if (dead || (s->stopped >> self & 1))
        return false;
    switch (move) {
    case STOP: return stop(role);
    case KILL: return kill_process(model, role);
    case LEARN: return role->kind == DAEMON && daemon_learn(model);
    default: break;
    }
    return role->kind == SCRIPTED ? host_step(model)
           : role->kind == DAEMON ? daemon_step(model)
                                  : worker_step(model);
}

/* ---- rest ---------------------------------------------------------------------------------------------- */

/* What a stopped worker holds waits for its death: its claims, and what is on its page or taken off it. */
static uint8_t held_by_the_stopped(const struct model *model, const struct model_state *state)
{
    uint8_t held = 0;
    for (unsigned i = 0; i < PROCESSES; i++) {
        const uint8_t vp = model->role[i].vp;
        if (model->role[i].kind != WORKER || !(state->stopped >> i & 1))
            continue;
        held |= state->word[PENDING + vp] | state->word[TAKEN + vp];
        for (unsigned r = 0; r < 2; r++)
            if ((state->word[CLAIM + r] & (uint8_t)~AGAIN) == (RUN | vp))
                held |= (uint8_t)(1u << r);
    }
    return held;
}

void model_at_rest(const struct model *model, const struct model_state *state)
{
    const uint8_t held = held_by_the_stopped(model, state);
    bool no_daemon = false, nothing_asked_for = false;
    for (unsigned i = 0; i < PROCESSES; i++) {
        no_daemon |= model->role[i].kind == DAEMON && (state->dead >> i & 1);
        nothing_asked_for |= model->role[i].kind == DAEMON && state->process[i].pc == EMPTY_SLOT;
    }
    if (no_daemon && (state->duty || state->dead & (state->dead - 1)))
        return; /* what it was handing over, or another dead process left, waits for the next daemon */
    for (unsigned i = 0; i < PROCESSES; i++) {
        const struct process_state *at = &state->process[i];
        const struct role *role = &model->role[i];
        bool unfinished = (role->kind == SCRIPTED || role->kind == DAEMON) && at->pc != FINISHED;
        if (unfinished && !nothing_asked_for && !no_daemon && !held && !(state->stopped >> i & 1))
            snprintf(model_violation, sizeof model_violation, "I4: %s waits for ever", role->name);
        for (unsigned r = 0; r < 2; r++)
            if ((at->owed & (uint8_t)~held) >> r & 1 && (state->word[SLOT + r] & OPEN))
                snprintf(model_violation, sizeof model_violation,
                         "I1: the bit of channel %u, set by %s, is followed by no callback", r, role->name);
    }
}
