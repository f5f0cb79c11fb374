// SPDX-License-Identifier: MIT
/*
 * What keeps the searches small: states that stand for others, steps that need no company.
 *
 * Each reduction keeps every broken rule, every rest and every cycle:
 *  - Sleep numbers are compared for being equal only, so what counts is whether one is the VP's present number.
 *  - What nobody will look at is zero: rings for a worker that is gone for good, debts of a closed channel.
 *  - A step alone: a step on words that no other process can touch again, or a store into the own buffer,
 *    commutes with everything that others may do before it, and nothing can prevent it. So any schedule can be
 *    reordered, or completed, such that it comes first. No process makes endlessly many such steps in a row:
 *    each loop of a machine leads through a step that is none. It is enough to try that step and no other.
 *  - A store that waits in a buffer is in memory as well when nobody else can touch its word again. Of `taken`
 *    that is so while the worker lives: its death brings the store to memory before the daemon can look.
 * Who may still be stopped or killed makes no step alone: its end before that step has to be tried as well.
 */
#include "machine.h"

static bool may_end(const struct model *model, const struct model_state *state, unsigned i)
{
    return (model->role[i].stoppable && state->process[i].pc != FINISHED) || model_may_die(model, state, i);
}

/* Words that a process may still read; those that it may still change stand in `changes`. */
struct reach {
    uint32_t reads, changes;
};

static void of_item(const struct item *item, struct reach *reach)
{
    const unsigned r = item->channel;
    const uint32_t pages = BOTH(PENDING) | BOTH(SEMAPHORE);
    switch ((enum operation)item->operation) {
    case SIGNAL:
        reach->reads |= BIT_OF(TARGET + r) | BOTH(IDLE);
        reach->changes |= pages | BOTH(MARK);
        break;
    case AWAIT_REOPEN: reach->reads |= BIT_OF(SLOT + r); break;
    case POST_MODIFY: reach->changes |= BIT_OF(MODIFY); break;
    case AWAIT_MODIFIED: reach->reads |= BIT_OF(MODIFY + 1); break;
    case MOVE_IN_LISTS: reach->changes |= BOTH(LIST); break;
    case RETARGET: reach->changes |= BIT_OF(TARGET + r); break;
    case MODIFY_TARGET: reach->changes |= BIT_OF(TARGET + r) | BOTH(MODIFY); break;
    case CLOSE: case REOPEN: case REUSE:
        reach->changes |= BIT_OF(SLOT + r) | BIT_OF(TARGET + r);
        reach->reads |= BIT_OF(CLAIM + r);
        break;
    case OFFLINE: case ONLINE: reach->changes |= BOTH(TARGET) | BOTH(ASKED) | pages; break;
    case RECOVER: reach->changes |= BOTH(CLAIM) | BOTH(TAKEN) | pages; break;
    case END: break;
    }
}

static bool somebody_may_die(const struct model *model, const struct model_state *state)
{
    for (unsigned i = 0; i < PROCESSES; i++)
        if (model_may_die(model, state, i))
            return true;
    return state->dead;
}

/* Retired, and no item of the script brings the VP back. */
static bool is_gone(const struct model *model, const struct model_state *state, unsigned i)
{
    const struct role *role = &model->role[i];
    if (role->kind != WORKER || (state->playing >> role->vp & 1))
        return false;
    if ((state->dead >> i & 1) && !model->adopt && !(state->offline >> role->vp & 1))
        return false;
    for (unsigned k = 0; k < PROCESSES; k++)
        for (unsigned n = state->process[k].item; model->role[k].script[n].operation != END; n++)
            if (model->role[k].script[n].operation == ONLINE)
                return false;
    return true;
}

static struct reach reach_of(const struct model *model, const struct model_state *state, unsigned i)
{
    const struct role *role = &model->role[i];
    const struct process_state *at = &state->process[i];
    const unsigned v = role->vp;
    struct reach reach = {0, 0};
    for (unsigned k = 0; k < at->buffered; k++)
        reach.changes |= BIT_OF(at->word[k]);
    if (role->kind == NOBODY || (state->stopped >> i & 1) || is_gone(model, state, i))
        return reach;
    if (role->kind == WORKER) { /* also one that is yet to be admitted */
        reach.changes |= BIT_OF(PENDING + v) | BIT_OF(IDLE + v) | BIT_OF(MARK + v) | BIT_OF(TAKEN + v)
                         | BIT_OF(SEMAPHORE + v) | BOTH(CLAIM);
        reach.reads |= BOTH(SLOT) | BIT_OF(ASKED + v) | BIT_OF(LIST + v);
        return reach;
    }
    if (role->kind == SCRIPTED && at->pc == FINISHED)
        return reach;
    for (const struct item *item = &role->script[at->item]; item->operation != END; item++)
        of_item(item, &reach);
    if (role->kind == DAEMON && (state->todo || somebody_may_die(model, state)))
        reach.changes |= ~(BOTH(LIST) | BOTH(MODIFY) | (uint32_t)state->playing << TAKEN);
    return reach;
}

static struct reach others_reach(const struct model *model, const struct model_state *state, unsigned i)
{
    const bool admits = model->role[i].kind == DAEMON; /* nobody begins to play a VP before that */
    struct reach all = {0, 0};
    for (unsigned k = 0; k < PROCESSES; k++) {
        if (k == i || (admits && model->role[k].kind == WORKER && state->process[k].pc == FINISHED))
            continue;
        struct reach one = reach_of(model, state, k);
        all.reads |= one.reads;
        all.changes |= one.changes;
    }
    return all;
}

/* ---- equal states --------------------------------------------------------------------------------------- */

static void renumber_sleeps(const struct model *model, struct model_state *state, unsigned vp)
{
    const uint8_t base = (state->word[IDLE + vp] & (uint8_t)~1u) - 2u; /* 0 is no number that is compared */
    const uint8_t now = state->word[IDLE + vp] -= base;
    for (unsigned i = 0; i < PROCESSES; i++) {
        struct process_state *at = &state->process[i];
        const struct role *role = &model->role[i];
        for (unsigned k = 0; k < at->buffered; k++)
            if (at->word[k] == IDLE + vp)
                at->value[k] -= base;
        if (role->kind == WORKER && role->vp == vp && at->pc == AWAKE)
            at->b -= base;
        if (role->kind != SCRIPTED)
            continue;
        at->rung[vp] = (uint8_t)(at->rung[vp] - base) == now ? now : 0;
        if (at->pc < MARK_LOAD || at->pc > POST)
            at->b = 0;
        else if (at->a == vp)
            at->b = (uint8_t)(at->b - base) == now ? now : 0;
    }
}

void model_normalise(const struct model *model, struct model_state *state)
{
    for (unsigned i = 0; i < PROCESSES; i++) {
        struct process_state *at = &state->process[i];
        if (!at->buffered)
            continue;
        struct reach others = others_reach(model, state, i);
        while (at->buffered && !((others.reads | others.changes) >> at->word[0] & 1)) {
            s = state;
            flush_one(at);
        }
    }
    for (unsigned r = 0; r < 2; r++) /* I1 ends with the close; an open begins it anew */
        for (unsigned i = 0; i < PROCESSES && !(state->word[SLOT + r] & OPEN); i++)
            state->process[i].owed &= (uint8_t)~(1u << r);
    for (unsigned i = 0; i < PROCESSES; i++) {
        if (is_gone(model, state, i))
            state->word[SEMAPHORE + model->role[i].vp] = 0;
        for (unsigned k = 0; k < PROCESSES; k++) /* a callback answers only what is still owed */
            if (!(state->process[k].owed >> state->process[i].r & 1))
                state->process[i].serving &= (uint8_t)~(1u << k);
    }
    renumber_sleeps(model, state, 0);
    renumber_sleeps(model, state, 1);
}

/* ---- steps alone ---------------------------------------------------------------------------------------- */

static bool is_alone(const struct model *model, const struct model_state *state, unsigned i)
{
    const struct process_state *at = &state->process[i];
    const struct role *role = &model->role[i];
    const unsigned v = role->vp;
    const struct reach others = others_reach(model, state, i);
#define UNCHANGED(word) (!(others.changes >> (word) & 1))
#define OWN(word) (!at->buffered && !((others.changes | others.reads) >> (word) & 1))
    switch ((enum pc)at->pc) {
    case TARGET_LOAD: return UNCHANGED(TARGET + role->script[at->item].channel);
    case IDLE_LOAD: return UNCHANGED(IDLE + at->a);
    case BEGIN: return UNCHANGED(IDLE + v);
    case LOOK: case LOOK_AGAIN: return UNCHANGED(PENDING + v);
    case DETACH: return UNCHANGED(ASKED + v) && !state->word[ASKED + v];
    case PEEK: return UNCHANGED(SLOT + at->r);
    case RELOAD: return UNCHANGED(TARGET + role->script[at->item].channel);
    case AWAKE: case JOURNAL: case JOURNAL_DONE: case OVER: return true;
    case TAKE: return OWN(PENDING + v);
    case ANNOUNCE: return OWN(IDLE + v);
    case GRAB: /* the mistake waits there, and then others have to go on */
        return OWN(CLAIM + at->r) && !(VMB_MUTANT(claimed_waited) && (state->word[CLAIM + at->r] & RUN));
    case LET_GO: case LET_GO_AGAIN: return OWN(CLAIM + at->r);
    case CALL: case RETURN: /* also the notes of the rules: no host sets a bit, nobody else calls or closes */
        return OWN(CLAIM + at->r) && UNCHANGED(SLOT + at->r) && UNCHANGED(PENDING + v);
    case FREE_0: case FREE_1: return OWN(CLAIM + at->pc - FREE_0);
    case CLEAR_TAKEN: return OWN(TAKEN + at->a);
    default: return false;
    }
#undef UNCHANGED
#undef OWN
}

unsigned model_alone(const struct model *model, const struct model_state *state)
{
    unsigned i = features.percpu ? PROCESSES : 0; /* there a step may depend on where a CPU stands */
    while (i < PROCESSES
           && (model->role[i].kind == NOBODY || ((state->dead | state->stopped) >> i & 1) || may_end(model, state, i)
               || !is_alone(model, state, i)))
        i++;
    return i;
}
