// SPDX-License-Identifier: MIT
/* The machines that follow a script of their own: hosts that signal, and the guest that keeps per-CPU lists. */
#include "machine.h"

void host_enter(const struct model *model)
{
    static const uint8_t first[] = {[END] = FINISHED, [SIGNAL] = TARGET_LOAD, [AWAIT_REOPEN] = AWAIT,
                                    [POST_MODIFY] = ASK_HOST, [AWAIT_MODIFIED] = AWAIT_ANSWER,
                                    [MOVE_IN_LISTS] = UNLINK};
    p->pc = first[model->role[self].script[p->item].operation];
    p->a = p->b = 0;
    if (p->pc == FINISHED)
        p->rung[0] = p->rung[1] = 0; /* equal states must have equal bytes */
}

static bool finish(const struct model *model, const char *step)
{
    p->item++;
    host_enter(model);
    model_step = step;
    return true;
}

/* A list was changed by a call on its CPU: between two interrupts there, and not during one. */
static bool dispatches(const struct model *model, uint8_t vp)
{
    for (unsigned i = 0; i < PROCESSES; i++)
        if (model->role[i].kind == WORKER && model->role[i].vp == vp)
            return s->process[i].pc >= TAKE && s->process[i].pc <= LET_GO_AGAIN;
    return false;
}

bool host_step(const struct model *model)
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
        return to(IDLE_LOAD, features.percpu ? "sets the flag of its target" : "or pending");
    }
    case IDLE_LOAD: {
        p->b = load(IDLE + p->a);
        bool ring = (p->b & 1) && (marks() || p->b != p->rung[p->a]);
        if (!ring && features.percpu)
            return finish(model, "CPU is awake");
        return to(!ring ? RELOAD : marks() ? MARK_LOAD : POST, "load idle");
    }
    case MARK_LOAD:
        if (load(MARK + p->a))
            return to(RELOAD, "load mark: rung");
        return to(marks_before() ? MARK_FIRST : POST, "load mark");
    case MARK_FIRST: store(MARK + p->a, 1, true); return to(POST, "store mark");
    case POST:
        ++*rmw(SEMAPHORE + p->a);
        p->rung[p->a] = p->b;
        if (features.percpu) /* a hypervisor changes the target between two signals, and sets one bit for each */
            return finish(model, "interrupts the CPU");
        return to(VMB_MUTANT(shared_mark_after_post) ? MARK_AFTER : RELOAD, "post");
    case MARK_AFTER: store(MARK + p->a, 1, true); return to(RELOAD, "store mark");
    case RELOAD: {
        uint8_t now = VMB_MUTANT(no_target_reload) ? p->a : load(TARGET + r);
        if (now == p->a)
            return finish(model, "load target again");
        p->a = now;
        return to(SET, "load target again: moved");
    }
    case AWAIT: return (s->word[SLOT + r] == (2u << 1 | OPEN)) && finish(model, "asked to open again");
    case ASK_HOST: *rmw(MODIFY) = 1; return finish(model, "post MODIFYCHANNEL");
    case AWAIT_ANSWER: return s->word[MODIFY + 1] && finish(model, "MODIFYCHANNEL is answered");
    case UNLINK:
        if (dispatches(model, 0))
            return false;
        *rmw(LIST) &= (uint8_t)~bit;
        return to(LINK, "L1: unlink from the list of A");
    case LINK:
        if (dispatches(model, item->vp))
            return false;
        *rmw(LIST + item->vp) |= bit;
        return finish(model, "L2: link into the list of B");
    default: return false;
    }
}
