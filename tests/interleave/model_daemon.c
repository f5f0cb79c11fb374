// SPDX-License-Identifier: MIT
/*
 * The daemon's machine: what its script asks for, and the procedures that deaths and a start ask for.
 *
 * `todo` says which procedures are due; a death that is learnt adds to it. A procedure that has to wait is given
 * up when something else is due, and begun again from the top: each may be done twice. What a daemon that was
 * killed had in hand its successor does again, from the words, from the kernel (who is dead) and from what is
 * saved (`offline`, the item of the script, the generation closed last).
 */
#include "machine.h"

static uint8_t duty_bit(unsigned duty)
{
    return (uint8_t)(1u << duty);
}

static unsigned worker_of(const struct model *model, unsigned vp)
{
    unsigned i = 0;
    while (model->role[i].kind != WORKER || model->role[i].vp != vp)
        i++;
    return i;
}

static bool is_dead(const struct model *model, unsigned vp)
{
    return s->dead >> worker_of(model, vp) & 1;
}

static void hosts_done(const struct model *model)
{
    for (unsigned i = 0; i < PROCESSES; i++)
        if (model->role[i].kind == SCRIPTED)
            s->dead &= (uint8_t)~(1u << i);
}

/* ---- what comes next ------------------------------------------------------------------------------------ */

static enum pc after_sweep(void)
{
    return VMB_MUTANT(no_ring_on_host_death) ? END_CLOSED : RING_0;
}

static void begin_duty(const struct model *model, unsigned duty)
{
    s->duty = (uint8_t)duty;
    p->a = p->b = p->r = 0;
    switch (duty) {
    case RETIRE_VP:
    case RETIRE_VP + 1:
        p->a = (uint8_t)(duty - RETIRE_VP);
        p->pc = MOVE_0;
        break;
    case RECOVER_VP:
    case RECOVER_VP + 1:
        p->a = (uint8_t)(duty - RECOVER_VP);
        p->pc = VMB_MUTANT(recovery_bits_before_claims) ? PUT_BACK : FREE_0;
        if (VMB_MUTANT(admitted_before_recovery) && !model->adopt)
            p->pc = ADMIT;
        break;
    case HOST_DEAD: {
        uint8_t empty = s->offline & (uint8_t)~s->playing;
        if (empty && !VMB_MUTANT(no_sweep_on_host_death)) {
            p->a = (uint8_t)__builtin_ctz(empty);
            p->pc = SWEEP_LOOK;
        } else {
            p->pc = (uint8_t)after_sweep();
        }
        break;
    }
    default: p->pc = RING_0;
    }
}

void daemon_next(const struct model *model)
{
    static const uint8_t first[] = {[END] = FINISHED, [RETARGET] = STORE_TARGET, [MODIFY_TARGET] = AWAIT_REQUEST,
                                    [CLOSE] = STORE_CLOSED, [REOPEN] = STORE_OPEN, [REUSE] = EMPTY_SLOT,
                                    [OFFLINE] = MOVE_0, [ONLINE] = ADMIT, [RECOVER] = FREE_0};
    if (s->todo) {
        begin_duty(model, (unsigned)__builtin_ctz(s->todo));
        return;
    }
    const struct item *item = &model->role[self].script[p->item];
    p->pc = first[item->operation];
    s->duty = ITEM_OF_SCRIPT;
    p->a = p->b = p->r = 0;
    if (item->operation == OFFLINE || item->operation == ONLINE || item->operation == RECOVER)
        p->a = item->vp;
}

static bool done(const struct model *model, const char *step)
{
    if (s->duty == ITEM_OF_SCRIPT)
        p->item++;
    else
        s->todo &= (uint8_t)~duty_bit(s->duty);
    daemon_next(model);
    model_step = step;
    return true;
}

/* What is decided here nobody else can see, so the next step is made with it. */
static bool with_next_step(const struct model *model, const char *step)
{
    static char both[64];
    model_step = "";
    (void)daemon_step(model);
    snprintf(both, sizeof both, "%s %s", step, model_step);
    model_step = both;
    return true;
}

/* It learns of deaths where it waits and before it begins with something. */
bool daemon_learn(const struct model *model)
{
    uint8_t news = 0;
    for (unsigned i = 0; i < PROCESSES; i++)
        if (s->dead >> i & 1)
            news |= model->role[i].kind == WORKER ? duty_bit(RECOVER_VP + model->role[i].vp) : duty_bit(HOST_DEAD);
    bool waits = p->pc == AWAIT_CLAIM || p->pc == AWAIT_DETACH || p->pc == AWAIT_END || p->pc == AWAIT_REQUEST;
    bool between = s->duty == ITEM_OF_SCRIPT
                   && (p->pc == FINISHED || p->pc == STORE_TARGET || p->pc == STORE_CLOSED || p->pc == EMPTY_SLOT
                       || p->pc == STORE_OPEN || p->pc == MOVE_0 || p->pc == ADMIT);
    if (!(news & ~s->todo) || !(waits || between))
        return false;
    s->todo |= news;
    daemon_next(model);
    return with_next_step(model, "sees a death;");
}

void daemon_restart(const struct model *model)
{
    s->todo = 0;
    for (unsigned v = 0; v < 2; v++) {
        if (s->offline >> v & 1)
            s->todo |= duty_bit(RETIRE_VP + v);
        if ((features.vps >> v & 1) && is_dead(model, v))
            s->todo |= duty_bit(RECOVER_VP + v);
    }
    if (!VMB_MUTANT(no_ring_at_start))
        s->todo |= duty_bit(RING_ALL);
    if (!model->ends)
        hosts_done(model); /* their links do not come back; what they left on pages the start looks after */
    daemon_next(model);
    with_next_step(model, "starts again;");
}

bool daemon_hands_over(enum pc pc)
{
    return (pc >= FREE_0 && pc <= RING_1) || s->todo;
}

/* ---- steps ---------------------------------------------------------------------------------------------- */

static void free_claim(unsigned channel, uint8_t vp)
{
    uint8_t *claim = rmw(CLAIM + channel);
    if ((*claim & RUN) && (*claim & 1) == vp)
        *claim = 0;
}

static bool move_target(unsigned channel, const char *step)
{
    bool other = channel == 0 && (features.channels & 2);
    if (load(TARGET + channel) == p->a)
        store(TARGET + channel, p->a ^ 1, !VMB_MUTANT(target_not_seq_cst));
    return to(other ? MOVE_1 : s->playing >> p->a & 1 ? ASK_WORKER : SWEEP_LOOK, step);
}

static bool admit(const struct model *model)
{
    unsigned worker = worker_of(model, p->a);
    worker_begin(model, worker);
    s->offline &= (uint8_t)~(1u << p->a);
    s->dead &= (uint8_t)~(1u << worker);
    s->word[ASKED + p->a] = 0; /* a word of the link of the new worker */
    if (VMB_MUTANT(recovery_bits_before_claims) || VMB_MUTANT(admitted_before_recovery))
        if (s->duty != ITEM_OF_SCRIPT)
            return to(FREE_0, "owner: a new worker is admitted");
    return done(model, "owner: a new worker is admitted");
}

static bool recovered(const struct model *model, const char *step)
{
    if (s->duty == ITEM_OF_SCRIPT || (VMB_MUTANT(admitted_before_recovery) && !model->adopt))
        return done(model, step);
    return to(model->adopt || (s->offline >> p->a & 1) ? MOVE_0 : ADMIT, step);
}

static bool recover_step(const struct model *model)
{
    const bool bits_first = VMB_MUTANT(recovery_bits_before_claims) && s->duty != ITEM_OF_SCRIPT;
    const bool journal_first = VMB_MUTANT(recovery_clears_taken_first);
    switch ((enum pc)p->pc) {
    case FREE_0:
    case FREE_1: {
        bool last = p->pc == FREE_1 || !(features.channels & 2);
        const char *step = p->pc == FREE_0 ? "recover: free claim 0" : "recover: free claim 1";
        free_claim(p->pc - FREE_0, p->a);
        if (!last)
            return to(FREE_1, step);
        if (bits_first)
            return done(model, step);
        return to(journal_first || VMB_MUTANT(recovery_no_put_back) ? CLEAR_TAKEN : PUT_BACK, step);
    }
    case PUT_BACK:
        *rmw(PENDING + p->a) |= journal_first ? p->b : s->word[TAKEN + p->a];
        p->b = 0;
        return journal_first ? recovered(model, "recover: put back") : to(CLEAR_TAKEN, "recover: put back");
    case CLEAR_TAKEN:
        p->b = journal_first ? s->word[TAKEN + p->a] : 0;
        store(TAKEN + p->a, 0, true);
        return journal_first ? to(PUT_BACK, "recover: clear taken") : recovered(model, "recover: clear taken");
    default: return admit(model);
    }
}

static bool retired(const struct model *model)
{
    if (s->duty == HOST_DEAD)
        return to(after_sweep(), "ring the live VP");
    if (s->duty == RECOVER_VP + p->a) {
        s->dead &= (uint8_t)~(1u << worker_of(model, p->a));
        if (VMB_MUTANT(recovery_bits_before_claims))
            return to(FREE_0, "ring the live VP");
    }
    return done(model, "ring the live VP");
}

static bool retire_step(const struct model *model)
{
    const uint8_t live = p->a ^ 1;
    const bool clears_first = VMB_MUTANT(handover_clears_first);
    switch ((enum pc)p->pc) {
    case MOVE_0: /* saved first; killed between the two is as killed before, since what asked for it is saved too */
        s->offline |= (uint8_t)(1u << p->a);
        return move_target(0, "offline: store target");
    case MOVE_1: return move_target(1, "offline: store target");
    case ASK_WORKER: *rmw(ASKED + p->a) = 1; return to(RING_OLD, "ask the worker to detach");
    case RING_OLD: ++*rmw(SEMAPHORE + p->a); return to(AWAIT_DETACH, "ring its VP");
    case AWAIT_DETACH:
        if ((s->playing >> p->a & 1) || is_dead(model, p->a))
            return false;
        return to(SWEEP_LOOK, "the worker has detached");
    case SWEEP_LOOK:
        if (is_dead(model, p->a) && s->duty == ITEM_OF_SCRIPT) {
            s->todo |= duty_bit(RECOVER_VP + p->a); /* recovered first; this is begun again after it */
            daemon_next(model);
            return with_next_step(model, "its worker is dead;");
        }
        p->b = load(PENDING + p->a);
        return to(!p->b ? RING_NEW : clears_first ? SWEEP_CLEAR : SWEEP_SET, "sweep: load pending");
    case SWEEP_SET:
        *rmw(PENDING + live) |= p->b;
        p->b = clears_first ? 0 : p->b;
        return to(clears_first ? RING_NEW : SWEEP_CLEAR, "sweep: or pending");
    case SWEEP_CLEAR:
        *rmw(PENDING + p->a) &= VMB_MUTANT(sweep_clears_all) ? 0 : (uint8_t)~p->b;
        if (VMB_MUTANT(handover_sets_once))
            p->b = 0;
        return to(clears_first ? SWEEP_SET : p->b ? SWEEP_AGAIN : RING_NEW, "sweep: and pending");
    case SWEEP_AGAIN: /* a host may have set the bit on the old page once more, and died before its reload */
        *rmw(PENDING + live) |= p->b;
        p->b = 0;
        return to(RING_NEW, "sweep: or pending again");
    default: ++*rmw(SEMAPHORE + live); return retired(model);
    }
}

/* A bare post: it trusts no word that others write. */
static void ring(unsigned vp)
{
    if (!VMB_MUTANT(recovery_rings_unless_marked) || !load(MARK + vp))
        ++*rmw(SEMAPHORE + vp);
}

static bool completed(const struct model *model, unsigned r, const char *step)
{
    if (!VMB_MUTANT(close_does_not_wait) && (load(CLAIM + r) & RUN))
        return false;
    if (s->running[r])
        snprintf(model_violation, sizeof model_violation, "I3: a callback runs when its close completes");
    s->closed[r] = load(SLOT + r) >> 1;
    if (s->duty == HOST_DEAD)
        hosts_done(model);
    return done(model, step);
}

static bool ring_step(const struct model *model)
{
    bool last = p->pc == RING_1 || !(features.vps & 2);
    const char *step = p->pc == RING_0 ? "ring VP 0" : "ring VP 1";
    ring(p->pc - RING_0);
    p->a = 0;
    if (!last)
        return to(RING_1, step);
    if (s->duty == HOST_DEAD && model->ends)
        return to(END_CLOSED, step);
    if (s->duty == HOST_DEAD)
        hosts_done(model);
    return done(model, step);
}

static void close_slot(unsigned r)
{
    store(SLOT + r, load(SLOT + r) & (uint8_t)~OPEN, !VMB_MUTANT(slot_not_seq_cst));
}

static bool open_step(const struct model *model, unsigned r)
{
    store(SLOT + r, (uint8_t)(s->closed[r] + 1) << 1 | OPEN, true);
    for (unsigned i = 0; i < PROCESSES; i++)
        s->process[i].owed &= (uint8_t)~(1u << r); /* what was set before the open obliges nobody */
    return done(model, "store slot: open");
}

bool daemon_step(const struct model *model)
{
    const struct item *item = &model->role[self].script[p->item];
    const unsigned r = item->channel;
    switch ((enum pc)p->pc) {
    case STORE_TARGET:
        if (s->offline >> item->vp & 1)
            return done(model, "refused: VP offline");
        store(TARGET + r, item->vp, true);
        return done(model, "store target");
    case AWAIT_REQUEST:
        if (!s->word[MODIFY])
            return false;
        store(TARGET + r, item->vp, true);
        s->word[MODIFY + 1] = 1;
        return done(model, "processes MODIFYCHANNEL");
    case STORE_CLOSED: close_slot(r); return to(AWAIT_CLAIM, "store slot: closed");
    case AWAIT_CLAIM: return completed(model, r, "load claim: close completed");
    case END_CLOSED:
        if (!model->ends) {
            hosts_done(model);
            return done(model, "done with the dead host");
        }
        close_slot(0);
        return to(AWAIT_END, "store slot: closed");
    case AWAIT_END: return completed(model, 0, "load claim: close completed");
    case EMPTY_SLOT: /* released: only when the close has completed, whoever asked for it */
        if ((s->word[SLOT + r] & OPEN) || s->closed[r] < s->word[SLOT + r] >> 1)
            return false;
        store(SLOT + r, 0, true);
        return to(REWRITE, "store slot: empty");
    case REWRITE: store(TARGET + r, item->vp ^ (s->offline >> item->vp & 1), true); return to(FILL_SLOT, "record of the new channel");
    case FILL_SLOT:
        store(SLOT + r, (uint8_t)(s->closed[r] + 1) << 1, true);
        return to(STORE_OPEN, "store slot: filled");
    case STORE_OPEN: return open_step(model, r);
    case FREE_0: case FREE_1: case PUT_BACK: case CLEAR_TAKEN: case ADMIT: return recover_step(model);
    case RING_0: case RING_1: return ring_step(model);
    case FINISHED: return false;
    default: return retire_step(model);
    }
}
