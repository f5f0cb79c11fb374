// SPDX-License-Identifier: MIT
/* The machines of the model: hosts, workers and the daemon, one step at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

enum mutant sched_mutant;
const char *model_step;
char model_violation[160];

/* Where a process stands: before the step of that name. */
enum pc {
    NEXT, /* of the script; never rests here */
    TARGET_LOAD, SET, IDLE_LOAD, MARK_LOAD, MARK_FIRST, POST, MARK_AFTER, RELOAD,
    AWAIT, STORE_TARGET, STORE_CLOSED, AWAIT_CLAIM, STORE_OPEN, FREE_0, FREE_1, PUT_BACK, CLEAR_TAKEN, FINISHED,
    BEGIN, AWAKE, ZERO, LOOK, JOURNAL, TAKE, PEEK, GRAB, REFUSED, CALL, RETURN, LET_GO, REQUEUE, LET_GO_AGAIN,
    JOURNAL_DONE, MARK_CLEAR, ANNOUNCE, LOOK_AGAIN, WAIT, OVER
};

static struct model_state *s;
static struct process_state *p;
static unsigned self;

/* ---- memory -------------------------------------------------------------------------------------------- */

static void flush_one(struct process_state *of)
{
    s->word[of->word[0]] = of->value[0];
    of->buffered--;
    memmove(of->word, of->word + 1, sizeof of->word - 1);
    memmove(of->value, of->value + 1, sizeof of->value - 1);
    of->word[2] = of->value[2] = 0; /* equal states must have equal bytes */
}

static void drain(void)
{
    while (p->buffered)
        flush_one(p);
}

static uint8_t load(unsigned word)
{
    for (unsigned k = p->buffered; k > 0; k--)
        if (p->word[k - 1] == word)
            return p->value[k - 1];
    return s->word[word];
}

static void store(unsigned word, uint8_t value, bool seq_cst)
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

/* A read-modify-write drains the buffer; what it returns is the word to change. */
static uint8_t *rmw(unsigned word)
{
    drain();
    return &s->word[word];
}

static bool to(enum pc pc, const char *step)
{
    p->pc = (uint8_t)pc;
    model_step = step;
    return true;
}

/* ---- scripts: hosts and the daemon --------------------------------------------------------------------- */

static void enter(const struct model *model)
{
    static const uint8_t first[] = {[END] = FINISHED, [SIGNAL] = TARGET_LOAD, [AWAIT_REOPEN] = AWAIT,
                                    [RETARGET] = STORE_TARGET, [CLOSE] = STORE_CLOSED, [REOPEN] = STORE_OPEN,
                                    [RECOVER] = FREE_0};
    p->pc = first[model->role[self].script[p->item].operation];
    p->a = p->b = 0;
}

static bool finish(const struct model *model, const char *step)
{
    p->item++;
    enter(model);
    model_step = step;
    return true;
}

static bool free_claim(unsigned channel, uint8_t vp)
{
    uint8_t *claim = rmw(CLAIM + channel);
    if ((*claim & RUN) && (*claim & 1) == vp)
        *claim = 0;
    return true;
}

static bool script_step(const struct model *model)
{
    const struct item *item = &model->role[self].script[p->item];
    const unsigned r = item->channel;
    const uint8_t bit = (uint8_t)(1u << r);
    switch ((enum pc)p->pc) {
    case TARGET_LOAD: p->a = load(TARGET + r); return to(SET, "load target");
    case SET: {
        uint8_t *pending = rmw(PENDING + p->a);
        bool already = *pending & bit;
        *pending |= bit;
        p->owed |= bit;
        for (unsigned i = 0; i < PROCESSES; i++) /* a callback that runs already does not answer this set */
            if (model->role[i].kind == WORKER && s->process[i].r == r)
                s->process[i].serving &= (uint8_t)~(1u << self);
        if (VMB_MUTANT(already_set_returns) && already)
            return finish(model, "or pending: was set");
        return to(IDLE_LOAD, "or pending");
    }
    case IDLE_LOAD: {
        p->b = load(IDLE + p->a);
        bool shared = VMB_MUTANT(shared_mark_after_post) || VMB_MUTANT(shared_mark_before_post);
        bool ring = (p->b & 1) && (shared || p->b != p->rung[p->a]);
        return to(!ring ? RELOAD : shared ? MARK_LOAD : POST, "load idle");
    }
    case MARK_LOAD:
        if (load(MARK + p->a))
            return to(RELOAD, "load mark: rung");
        return to(VMB_MUTANT(shared_mark_before_post) ? MARK_FIRST : POST, "load mark");
    case MARK_FIRST: store(MARK + p->a, 1, true); return to(POST, "store mark");
    case POST:
        ++*rmw(SEMAPHORE + p->a);
        p->rung[p->a] = p->b;
        return to(VMB_MUTANT(shared_mark_after_post) ? MARK_AFTER : RELOAD, "post");
    case MARK_AFTER: store(MARK + p->a, 1, true); return to(RELOAD, "store mark");
    case RELOAD: {
        uint8_t now = load(TARGET + r);
        if (now == p->a)
            return finish(model, "load target again");
        p->a = now;
        return to(SET, "load target again: moved");
    }
    case AWAIT: return (s->word[SLOT + r] == (2u << 1 | OPEN)) && finish(model, "asked to open again");
    case STORE_TARGET: store(TARGET + r, item->vp, true); return finish(model, "store target");
    case STORE_CLOSED:
        store(SLOT + r, load(SLOT + r) & (uint8_t)~OPEN, !VMB_MUTANT(slot_not_seq_cst));
        return to(AWAIT_CLAIM, "store slot: closed");
    case AWAIT_CLAIM:
        if (!VMB_MUTANT(close_does_not_wait) && (load(CLAIM + r) & RUN))
            return false;
        if (s->running[r])
            snprintf(model_violation, sizeof model_violation, "I3: a callback runs when its close completes");
        s->closed[r] = load(SLOT + r) >> 1;
        return finish(model, "load claim: close completed");
    case STORE_OPEN:
        store(SLOT + r, (uint8_t)((load(SLOT + r) >> 1) + 1) << 1 | OPEN, true);
        for (unsigned i = 0; i < PROCESSES; i++)
            s->process[i].owed &= (uint8_t)~bit; /* what was set before the open obliges nobody */
        return finish(model, "store slot: open");
    case FREE_0: free_claim(0, item->vp); return to(FREE_1, "recover: free claim 0");
    case FREE_1: free_claim(1, item->vp); return to(PUT_BACK, "recover: free claim 1");
    case PUT_BACK: *rmw(PENDING + item->vp) |= s->word[TAKEN + item->vp]; return to(CLEAR_TAKEN, "recover: put back");
    case CLEAR_TAKEN: store(TAKEN + item->vp, 0, true); return finish(model, "recover: clear taken");
    default: return false;
    }
}

/* ---- workers ------------------------------------------------------------------------------------------- */

static bool next_channel(const struct model *model, const char *step)
{
    p->r = p->b = 0;
    if (!p->a)
        return to(model->journal ? JOURNAL_DONE : LOOK, step);
    p->r = (uint8_t)__builtin_ctz(p->a);
    return to(PEEK, step);
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

static bool call_step(uint8_t slot)
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
    return to(RETURN, "load slot: callback begins");
}

static bool worker_step(const struct model *model)
{
    const uint8_t vp = model->role[self].vp;
    const bool marks = VMB_MUTANT(shared_mark_after_post) || VMB_MUTANT(shared_mark_before_post);
    switch ((enum pc)p->pc) {
    case BEGIN: p->b = load(IDLE + vp); return to(AWAKE, "begin: load idle");
    case AWAKE:
        store(IDLE + vp, p->b + (p->b & 1), false);
        p->b = 0;
        return to(VMB_MUTANT(new_worker_zeroes) ? ZERO : LOOK, "begin: store idle");
    case ZERO: store(PENDING + vp, 0, true); return to(LOOK, "begin: zero the page");
    case LOOK:
        p->a = load(PENDING + vp);
        return to(!p->a ? (marks ? MARK_CLEAR : ANNOUNCE) : model->journal ? JOURNAL : TAKE, "load pending");
    case JOURNAL: store(TAKEN + vp, p->a, false); return to(TAKE, "store taken");
    case TAKE: *rmw(PENDING + vp) &= (uint8_t)~p->a; return next_channel(model, "and pending");
    case PEEK: {
        uint8_t slot = load(SLOT + p->r);
        if (!(slot & OPEN))
            return done_with_channel(model, "peek slot: closed");
        p->b = VMB_MUTANT(table_before_claim) ? slot : 0;
        return to(VMB_MUTANT(no_claim) ? CALL : GRAB, "peek slot");
    }
    case GRAB: return claim_step(model, vp);
    case REFUSED: *rmw(PENDING + vp) |= (uint8_t)(1u << p->r); return done_with_channel(model, "put the bit back");
    case CALL: return call_step(VMB_MUTANT(table_before_claim) ? p->b : load(SLOT + p->r));
    case RETURN:
        s->running[p->r] = 0;
        for (unsigned i = 0; i < PROCESSES; i++)
            if (p->serving >> i & 1)
                s->process[i].owed &= (uint8_t)~(1u << p->r);
        p->serving = 0;
        if (VMB_MUTANT(no_claim))
            return done_with_channel(model, "callback ends");
        return to(LET_GO, "callback ends");
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
    case JOURNAL_DONE: store(TAKEN + vp, 0, false); return to(LOOK, "clear taken");
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
    default: return false;
    }
}

/* ---- moves --------------------------------------------------------------------------------------------- */

void model_begin(const struct model *model, struct model_state *state)
{
    memset(state, 0, sizeof *state);
    s = state;
    s->word[SLOT] = s->word[SLOT + 1] = 1u << 1 | OPEN;
    s->word[PENDING] = model->pending0;
    for (self = 0; self < PROCESSES; self++) {
        p = &s->process[self];
        if (model->role[self].kind == SCRIPTED)
            enter(model);
        else if (model->role[self].begins)
            p->pc = BEGIN;
        else
            p->pc = LOOK;
        if (model->role[self].begins)
            s->word[IDLE + model->role[self].vp] = 1;
    }
}

bool model_move(const struct model *model, struct model_state *state, unsigned process, enum move move)
{
    s = state;
    self = process;
    p = &s->process[self];
    const struct role *role = &model->role[self];
    if (role->kind == NOBODY)
        return false;
    if (move == FLUSH) { /* also of a stopped process */
        model_step = "a store reaches memory";
        if (!p->buffered)
            return false;
        flush_one(p);
        return true;
    }
    if (s->stopped >> self & 1)
        return false;
    if (move == STOP) {
        if (!role->stoppable || p->pc == FINISHED)
            return false;
        s->stopped |= (uint8_t)(1u << self);
        p->owed = 0; /* a host stopped inside a signal holds back only that signal */
        model_step = "stopped for ever";
        return true;
    }
    return role->kind == SCRIPTED ? script_step(model) : worker_step(model);
}

void model_at_rest(const struct model *model, const struct model_state *state)
{
    for (unsigned i = 0; i < PROCESSES; i++) /* what a stopped worker holds waits for its death */
        if (model->role[i].kind == WORKER && (state->stopped >> i & 1))
            return;
    for (unsigned i = 0; i < PROCESSES; i++) {
        const struct process_state *at = &state->process[i];
        if (model->role[i].kind == SCRIPTED && at->pc != FINISHED && !(state->stopped >> i & 1))
            snprintf(model_violation, sizeof model_violation, "I4: %s waits for ever", model->role[i].name);
        for (unsigned r = 0; r < 2; r++)
            if ((at->owed >> r & 1) && (state->word[SLOT + r] & OPEN))
                snprintf(model_violation, sizeof model_violation,
                         "I1: the bit of channel %u, set by %s, is followed by no callback", r, model->role[i].name);
    }
}
