// SPDX-License-Identifier: MIT
/*
 * The per-CPU lists of vmbusd/lab under the same schedules: a worker walks its own VP's list, or looks at the table.
 *
 * A move is three things: the host's change of target, the unlink on the old VP, the link on the new one. Both orders
 * of a move are programs; the seeded mistake is the lists themselves, and the sound search is the same move under the
 * global table.
 */
#include "bodies.h"

#define lists arena.lists

static void empty_lists(void)
{
    for (uint32_t vp = 0; vp < 2; vp++) {
        const uint32_t head = VMB_PERCPU_HEAD(vp);
        memset(&lists.vp[vp], 0, sizeof lists.vp[vp]);
        lists.node[head] = (struct vmb_percpu_node){.next = head, .prev = head, .relid = head};
    }
    lists.design = sched_mutant == MUTANT_percpu_lists ? VMB_DESIGN_PERCPU : VMB_DESIGN_GLOBAL;
}

/* Channel A is on the list of VP 0. The nodes of a list have no step of their own but for A's: a list is changed and
 * walked by its own VP alone. */
void percpu(void)
{
    const uint32_t head = VMB_PERCPU_HEAD(0);
    two_vps();
    empty_lists();
    lists.node[A] = (struct vmb_percpu_node){.next = head, .prev = head, .relid = A, .on = 1};
    lists.node[head].next = lists.node[head].prev = A;
    for (uint32_t vp = 0; vp < 2; vp++) {
        sched_private(&lists.node[VMB_PERCPU_HEAD(vp)].next);
        sched_private(&lists.node[VMB_PERCPU_HEAD(vp)].prev);
        sched_track(&lists.vp[vp].asked, vp ? "asked[1]" : "asked[0]");
        sched_track(&lists.vp[vp].unlink[0], vp ? "unlink[1]" : "unlink[0]");
        sched_track(&lists.vp[vp].link[0], vp ? "link[1]" : "link[0]");
    }
    sched_track(&lists.node[A].next, "next");
    sched_track(&lists.node[A].prev, "prev");
    sched_track(&lists.node[A].on, "on list of");
}

static void work_by_lists(struct vmb_worker *w)
{
    for (;;) {
        while (vmb_percpu_drain(&lists, w, observe_callback, NULL))
            ;
        if (vmb_sleep_begin(&w->work->idle, &w->sleep, w->flags))
            sched_wait("sleep.wait", &bells[w->vp]);
        vmb_sleep_end(&w->work->idle, &w->sleep);
    }
}

void worker_0_by_lists(void) { work_by_lists(&worker[0]); }
void worker_1_by_lists(void) { work_by_lists(&worker[1]); }

static bool is_on_no_list(void) { return lists.node[A].on == 0; }
static bool is_on_the_list_of_vp_1(void) { return lists.node[A].on == 2; }

static void move_between_lists(void)
{
    vmb_percpu_ask(&lists, 0, VMB_PERCPU_UNLINK, A);
    vmb_percpu_interrupt(&host[1], 0);
    sched_until("waits for the unlink", is_on_no_list);
    vmb_percpu_ask(&lists, 1, VMB_PERCPU_LINK, A);
    vmb_percpu_interrupt(&host[1], 1);
    sched_until("waits for the link", is_on_the_list_of_vp_1);
}

void move_then_retarget(void)
{
    move_between_lists();
    retarget_once();
}

void retarget_then_move(void)
{
    retarget_once();
    move_between_lists();
}
