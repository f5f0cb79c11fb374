// SPDX-License-Identifier: MIT
/*
 * Moves of channels between the lists of percpu.h, as whoever changes their targets makes them: many under way,
 * each on its own.
 *
 * mover                                      the VPs, each between two passes
 * 1  order the unlink, interrupt the old VP
 *                                            a  old VP: off its list, `on` = 0 (release)
 * 2  sees `on` == 0 (acquire):
 *    order the link, interrupt the new VP
 *                                            b  new VP: onto its list, `on` = new VP + 1 (release)
 * 3  sees it: done
 *
 * The node is never written by two VPs at once: b follows 2, which follows a. From a to b the channel is on no
 * list. That takes a look of the mover and what is left of the new VP's pass, whatever else is under way: a move
 * waits for no other, just as a cross-CPU call for one channel waits for no call for another.
 */
#ifndef VMBUS_LAB_MOVES_H
#define VMBUS_LAB_MOVES_H

#include "percpu.h"

struct vmb_percpu_move {
    uint32_t relid;
    uint32_t to;
    uint32_t asked; /* the VP that has the order now: the old one, then `to` */
    uint32_t step;  /* enum vmb_percpu_step: the order it has */
};

struct vmb_percpu_moves {
    uint32_t count;
    struct vmb_percpu_move move[VMB_FLAGS];
};

static inline void vmb_percpu_move_ask(struct vmb_percpu *p, struct vmb_sender *s, struct vmb_percpu_move *m,
                                       uint32_t vp, enum vmb_percpu_step step)
{
    m->asked = vp;
    m->step = step;
    vmb_percpu_ask(p, vp, step, m->relid);
    vmb_percpu_interrupt(s, vp);
}

/* Begin to move a channel to `to`'s list, from wherever it is. One move of a channel at a time, at most VMB_FLAGS
 * in all. Returns 0, and does nothing, if the channel claims to be on the list of a VP that there is not: the
 * host can write guest memory. */
static inline int vmb_percpu_move_begin(struct vmb_percpu *p, struct vmb_sender *s, struct vmb_percpu_moves *moves,
                                        uint32_t relid, uint32_t to)
{
    struct vmb_percpu_move *m = &moves->move[moves->count];
    uint32_t on = VMB_LOAD("move.from", &p->node[relid].on, VMB_ACQUIRE);

    if (on > s->vps)
        return 0;
    if (on == to + 1)
        return 1;
    m->relid = relid;
    m->to = to;
    moves->count++;
    if (on)
        vmb_percpu_move_ask(p, s, m, on - 1, VMB_PERCPU_UNLINK);
    else
        vmb_percpu_move_ask(p, s, m, to, VMB_PERCPU_LINK);
    return 1;
}

/* Look at every move under way: what is unlinked is ordered to be linked, what is linked is done. Returns how many
 * are left. */
static inline uint32_t vmb_percpu_moves_look(struct vmb_percpu *p, struct vmb_sender *s,
                                             struct vmb_percpu_moves *moves)
{
    for (uint32_t i = 0; i < moves->count;) {
        struct vmb_percpu_move *m = &moves->move[i];
        uint32_t on = VMB_LOAD("move.look", &p->node[m->relid].on, VMB_ACQUIRE);
        if (m->step == VMB_PERCPU_UNLINK && !on)
            vmb_percpu_move_ask(p, s, m, m->to, VMB_PERCPU_LINK);
        else if (m->step == VMB_PERCPU_LINK && on == m->to + 1) {
            *m = moves->move[--moves->count];
            continue;
        }
        i++;
    }
    return moves->count;
}

#endif
