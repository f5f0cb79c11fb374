// SPDX-License-Identifier: MIT
/* The machine that plays a VP: begin, drain, dispatch, sleep, detach. */
#include "machine.h"

/* A new process on the words that its predecessor left. */
void worker_begin(const struct model *model, unsigned process)
{
    s->process[process] = (struct process_state){.pc = BEGIN};
    s->playing |= (uint8_t)(1u << model->role[process].vp);
}

static bool journal(const struct model *model)
{
    return model->journal && !VMB_MUTANT(no_taken);
}

static bool next_channel(const struct model *model, const char *step)
{
    p->r = p->b = 0;
    if (!p->a)
        return to(journal(model) && !VMB_MUTANT(taken_cleared_early) ? JOURNAL_DONE : LOOK, step);
    p->r = (uint8_t)__builtin_ctz(p->a);
    return to(VMB_MUTANT(percpu_lists) && features.percpu ? WALK : PEEK, step);
}

static bool done_with_channel(const struct model *model, const char *step)
{
    p->a &= (uint8_t)(p->a - 1);
    return next_channel(model, step);
}

static bool claim_step(const struct model *model, uint8_t vp)
{
    uint8_t *claim = rmw(CLAIM + p->r);
    if (*claim & RUN) {
        if (VMB_MUTANT(claimed_waited))
            return false;
        if (VMB_MUTANT(claimed_dropped))
            return done_with_channel(model, "claim: taken, dropped");
        if (VMB_MUTANT(claimed_put_back))
            return to(REFUSED, "claim: taken");
        *claim |= AGAIN;
        return done_with_channel(model, "claim: taken, AGAIN left");
    }
    *claim = RUN | vp;
    return to(CALL, "claim");
}

static bool call_step(uint8_t slot, const char *step)
{
    if (!(slot & OPEN))
        return to(LET_GO, "load slot: closed");
    if (s->running[p->r])
        snprintf(model_violation, sizeof model_violation, "I2: two callbacks of channel %u overlap", p->r);
    if (s->closed[p->r] >= slot >> 1)
        snprintf(model_violation, sizeof model_violation, "I3: a callback begins after its close has completed");
    s->running[p->r] = slot >> 1;
    for (unsigned i = 0; i < PROCESSES; i++)
        if (s->process[i].owed >> p->r & 1)
            p->serving |= (uint8_t)(1u << i);
    return to(RETURN, step);
}

static bool return_step(const struct model *model)
{
    s->running[p->r] = 0;
    for (unsigned i = 0; i < PROCESSES; i++)
        if (p->serving >> i & 1)
            s->process[i].owed &= (uint8_t)~(1u << p->r);
    p->serving = 0;
    if (VMB_MUTANT(no_claim) || (VMB_MUTANT(percpu_lists) && features.percpu))
        return done_with_channel(model, "callback ends");
    return to(LET_GO, "callback ends");
}

static bool take_step(const struct model *model, uint8_t vp)
{
    *rmw(PENDING + vp) &= VMB_MUTANT(drain_clears_all) ? 0 : (uint8_t)~p->a;
    if (journal(model) && VMB_MUTANT(taken_after_clear))
        return to(JOURNAL, "and pending");
    if (journal(model) && VMB_MUTANT(taken_cleared_early))
        return to(JOURNAL_DONE, "and pending");
    return next_channel(model, features.percpu ? "test and clear: was 1" : "and pending");
}

static bool drain_step(const struct model *model, uint8_t vp)
{
    const bool late = VMB_MUTANT(taken_after_clear);
    switch ((enum pc)p->pc) {
    case LOOK:
        p->a = load(PENDING + vp);
        if (!p->a)
            return to(features.offline ? DETACH : marks() ? MARK_CLEAR : ANNOUNCE, "load pending");
        return to(journal(model) && !late ? JOURNAL : TAKE, "load pending");
    case JOURNAL:
        store(TAKEN + vp, p->a, false);
        return late ? next_channel(model, "store taken") : to(TAKE, "store taken");
    case TAKE: return take_step(model, vp);
    case PEEK: {
        uint8_t slot = load(SLOT + p->r);
        if (!(slot & OPEN))
            return done_with_channel(model, "peek slot: closed");
        p->b = VMB_MUTANT(table_before_claim) ? slot : 0;
        return to(VMB_MUTANT(no_claim) ? CALL : GRAB, "peek slot");
    }
    case GRAB: return claim_step(model, vp);
    case REFUSED: *rmw(PENDING + vp) |= (uint8_t)(1u << p->r); return done_with_channel(model, "put the bit back");
    case CALL: return call_step(VMB_MUTANT(table_before_claim) ? p->b : load(SLOT + p->r), "load slot: callback begins");
    case WALK: /* the design that was replaced: nobody else looks for the channel, and the bit is gone */
        if (!(load(LIST + vp) >> p->r & 1))
            return done_with_channel(model, "walk the list: not found");
        return call_step(load(SLOT + p->r), "walk the list: callback");
    case RETURN: return return_step(model);
    case LET_GO:
        if (VMB_MUTANT(plain_let_go)) {
            store(CLAIM + p->r, 0, false);
            return done_with_channel(model, "let go, plain store");
        }
        if (*rmw(CLAIM + p->r) != (RUN | vp))
            return to(REQUEUE, "let go: AGAIN");
        s->word[CLAIM + p->r] = 0;
        return done_with_channel(model, "let go");
    case REQUEUE: *rmw(PENDING + vp) |= (uint8_t)(1u << p->r); return to(LET_GO_AGAIN, "or pending: again");
    case LET_GO_AGAIN: *rmw(CLAIM + p->r) = 0; return done_with_channel(model, "let go");
    case JOURNAL_DONE:
        store(TAKEN + vp, 0, false);
        return VMB_MUTANT(taken_cleared_early) ? next_channel(model, "clear taken") : to(LOOK, "clear taken");
    default: return false;
    }
}

bool worker_step(const struct model *model)
{
    const uint8_t vp = model->role[self].vp;
    switch ((enum pc)p->pc) {
    case BEGIN: p->b = load(IDLE + vp); return to(AWAKE, "begin: load idle");
    case AWAKE:
        store(IDLE + vp, p->b + (p->b & 1), false);
        p->b = 0;
        return to(VMB_MUTANT(new_worker_zeroes) ? ZERO : LOOK, "begin: store idle");
    case ZERO: store(PENDING + vp, 0, true); return to(LOOK, "begin: zero the page");
    case DETACH:
        if (!load(ASKED + vp))
            return to(marks() ? MARK_CLEAR : ANNOUNCE, "not asked to detach");
        drain();
        s->playing &= (uint8_t)~(1u << vp);
        return to(FINISHED, "detached");
    case MARK_CLEAR: store(MARK + vp, 0, true); return to(ANNOUNCE, "clear mark");
    case ANNOUNCE:
        store(IDLE + vp, load(IDLE + vp) + 1, !VMB_MUTANT(idle_not_seq_cst));
        return to(VMB_MUTANT(no_second_look) ? WAIT : LOOK_AGAIN, "store idle: odd");
    case LOOK_AGAIN: return to(load(PENDING + vp) ? OVER : WAIT, "look again");
    case WAIT:
        if (!s->word[SEMAPHORE + vp])
            return false;
        --*rmw(SEMAPHORE + vp);
        return to(OVER, "woken");
    case OVER: store(IDLE + vp, load(IDLE + vp) + 1, false); return to(LOOK, "store idle: even");
    default: return drain_step(model, vp);
    }
}
