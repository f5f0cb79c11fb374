// SPDX-License-Identifier: MIT
/* What the machines of the model share: the process that moves, its memory, the names of all steps. */
#ifndef INTERLEAVE_MACHINE_H
#define INTERLEAVE_MACHINE_H

#include <stdio.h>

#include "model.h"

/* Where a process stands: before the step of that name. */
enum pc {
    FINISHED, /* of a worker: detached, dead, or not yet there */
    TARGET_LOAD, SET, IDLE_LOAD, MARK_LOAD, MARK_FIRST, POST, MARK_AFTER, RELOAD, AWAIT,
    ASK_HOST, AWAIT_ANSWER, UNLINK, LINK,
    STORE_TARGET, AWAIT_REQUEST, STORE_CLOSED, AWAIT_CLAIM, EMPTY_SLOT, REWRITE, FILL_SLOT, STORE_OPEN,
    FREE_0, FREE_1, PUT_BACK, CLEAR_TAKEN, ADMIT,
    MOVE_0, MOVE_1, ASK_WORKER, RING_OLD, AWAIT_DETACH,
    SWEEP_LOOK, SWEEP_SET, SWEEP_CLEAR, RING_NEW, RING_0, RING_1, END_CLOSED, AWAIT_END,
    BEGIN, AWAKE, ZERO, LOOK, JOURNAL, TAKE, PEEK, GRAB, REFUSED, CALL, WALK, RETURN, LET_GO, REQUEUE,
    LET_GO_AGAIN, JOURNAL_DONE, DETACH, MARK_CLEAR, ANNOUNCE, LOOK_AGAIN, WAIT, OVER
};

/* The daemon's procedures, in the order in which they are done when several are due. */
enum duty { RETIRE_VP, RECOVER_VP = 2, HOST_DEAD = 4, RING_ALL, ITEM_OF_SCRIPT };

extern struct model_state *s;
extern struct process_state *p;
extern unsigned self;
extern struct features {
    bool offline, percpu;
    uint8_t channels, vps;
} features; /* of the model that is searched */

uint8_t load(unsigned word);
void store(unsigned word, uint8_t value, bool seq_cst);
/* A read-modify-write drains the buffer; what it returns is the word to change. */
uint8_t *rmw(unsigned word);
void drain(void);
void flush_one(struct process_state *of);

/* Killed once, while there is something left for it to do; a daemon without a script always has. */
bool model_may_die(const struct model *model, const struct model_state *state, unsigned i);

static inline bool to(enum pc pc, const char *step)
{
    p->pc = (uint8_t)pc;
    model_step = step;
    return true;
}

/* One mark for all senders, in the place of what each has rung. */
static inline bool marks_before(void)
{
    return VMB_MUTANT(shared_mark_before_post) || VMB_MUTANT(recovery_rings_unless_marked);
}

static inline bool marks(void)
{
    return marks_before() || VMB_MUTANT(shared_mark_after_post);
}

void host_enter(const struct model *model);
bool host_step(const struct model *model);
void worker_begin(const struct model *model, unsigned process);
bool worker_step(const struct model *model);
void daemon_next(const struct model *model);
bool daemon_step(const struct model *model);
bool daemon_learn(const struct model *model);
void daemon_restart(const struct model *model);
bool daemon_hands_over(enum pc pc);

#endif
