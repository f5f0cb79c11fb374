// SPDX-License-Identifier: MIT
/*
 * The design that the global table replaced: a list of channels for each VP, walked at each interrupt.
 *
 * Linux before 5.8 (commit 8b6a877c060ed): an interrupt on CPU X cleared the bit, then looked for its channel on
 * X's own list alone; if it was not there the loop just ended. Moving a channel from A to B took three things
 * that nothing can do at one instant: the host delivers to B (H), the guest unlinks the channel from A's list
 * (L1), the guest links it into B's (L2).
 *
 * Rules. A list is changed by the VP that owns it alone, between two passes over its page, as Linux did by a
 * cross-CPU call: whoever wants a change leaves an order and interrupts that VP, on flag 0, which is no channel.
 * So a walk needs no lock. Everything but the lookup is the shipped code: vmb_percpu_dispatch walks, then calls
 * vmb_dispatch; the drain, `taken`, the claim, the callback and the sleep are the same.
 *
 * The claim is never contended here. A callback of R begins on the VP whose list has R, inside a pass, and ends
 * in that pass; the unlink comes between passes. So while the callback runs R is on no other list, no other VP
 * finds it, AGAIN is never left, and no bit is put back onto a page whose list has lost R meanwhile: every loss
 * is one of the lists'.
 *
 * The lists lie in guest memory, as they did: the guest makes them, its workers have it mapped writable, and
 * they go with the partition.
 */
#ifndef VMBUS_LAB_PERCPU_H
#define VMBUS_LAB_PERCPU_H

#include "vmbus_core.h"

enum vmb_percpu_design { VMB_DESIGN_GLOBAL = 0, VMB_DESIGN_PERCPU = 1 };

#define VMB_PERCPU_HEAD(vp) (VMB_FLAGS + (vp)) /* the node that begins and ends the list of a VP */
#define VMB_PERCPU_NODES (VMB_FLAGS + VMB_MAX_VPS)

/* A channel's place in a list, or a list's head. A cache line each: in Linux each is a part of its channel. */
struct vmb_percpu_node {
    uint32_t next; /* number of a node */
    uint32_t prev;
    uint32_t relid;
    uint32_t on; /* VP + 1 whose list it is on, 0: none */
    uint64_t reserved[6];
};

/* What one VP counts, and what it is asked to do. */
struct vmb_percpu_vp {
    /* Written by this VP's worker alone. */
    uint64_t taken;      /* bits of channels that a pass took from the page, in either design */
    uint64_t dropped;    /* bits of open channels that were not on this VP's list */
    uint64_t first_drop; /* CLOCK_MONOTONIC ns of the first of them, 0: none */
    uint64_t reserved1[5];
    /* Orders: set by anybody, taken by this VP's worker. */
    uint64_t asked; /* bit i: unlink[i] has orders; bit 32 + i: link[i] has */
    uint64_t reserved2[7];
    uint64_t unlink[VMB_WORDS];
    uint64_t link[VMB_WORDS];
    /* Written by this VP's worker alone: whose interrupts it dropped. */
    uint64_t dropped_of[VMB_WORDS];
};

struct vmb_percpu {
    uint32_t design; /* enum vmb_percpu_design; changes only while every VP is at rest */
    uint32_t reserved[1023];
    struct vmb_percpu_vp vp[VMB_MAX_VPS];
    struct vmb_percpu_node node[VMB_PERCPU_NODES];
};

_Static_assert(sizeof(struct vmb_percpu_node) == 64, "a node has a cache line");
_Static_assert(sizeof(struct vmb_percpu_vp) % 64 == 0, "VPs share no cache line");
_Static_assert(offsetof(struct vmb_percpu_vp, asked) == 64, "orders have a cache line of their own");
_Static_assert(sizeof(struct vmb_percpu) == 48 * VMB_PAGE, "whole pages");

/* Empty lists, no counts, the given design. While nobody uses them. */
static inline void vmb_percpu_init(struct vmb_percpu *p, uint32_t design)
{
    memset(p, 0, sizeof *p);
    p->design = design;
    for (uint32_t i = 0; i < VMB_PERCPU_NODES; i++)
        p->node[i].next = p->node[i].prev = p->node[i].relid = i;
}

/* A new run: the design, and every count from zero; the lists stay. While every VP is at rest. */
static inline void vmb_percpu_begin(struct vmb_percpu *p, uint32_t design)
{
    for (uint32_t vp = 0; vp < VMB_MAX_VPS; vp++) {
        p->vp[vp].taken = p->vp[vp].dropped = p->vp[vp].first_drop = 0;
        memset(p->vp[vp].dropped_of, 0, sizeof p->vp[vp].dropped_of);
    }
    VMB_STORE("begin.design", &p->design, design, VMB_RELEASE);
}

/* ---- the two steps of a move, each on the VP that owns the list --------------------------------------------- */

/* L1: take the channel off `vp`'s list. Returns 0, and changes nothing, if it is not on it. */
static inline int vmb_percpu_unlink(struct vmb_percpu *p, uint32_t vp, uint32_t relid)
{
    struct vmb_percpu_node *node = &p->node[relid];

    if (VMB_LOAD("unlink.on", &node->on, VMB_ACQUIRE) != vp + 1)
        return 0;
    uint32_t next = VMB_LOAD("unlink.next", &node->next, VMB_RELAXED) % VMB_PERCPU_NODES;
    uint32_t prev = VMB_LOAD("unlink.prev", &node->prev, VMB_RELAXED) % VMB_PERCPU_NODES;
    VMB_STORE("unlink.over_next", &p->node[next].prev, prev, VMB_RELAXED);
    VMB_STORE("unlink.over_prev", &p->node[prev].next, next, VMB_RELAXED);
    VMB_STORE("unlink.done", &node->on, 0u, VMB_RELEASE); /* the next VP may write the node */
    return 1;
}

/* L2: put the channel at the end of `vp`'s list. Returns 0, and changes nothing, while it is on one. */
static inline int vmb_percpu_link(struct vmb_percpu *p, uint32_t vp, uint32_t relid)
{
    struct vmb_percpu_node *node = &p->node[relid], *head = &p->node[VMB_PERCPU_HEAD(vp)];

    if (VMB_LOAD("link.on", &node->on, VMB_ACQUIRE))
        return 0;
    uint32_t last = VMB_LOAD("link.last", &head->prev, VMB_RELAXED) % VMB_PERCPU_NODES;
    VMB_STORE("link.prev", &node->prev, last, VMB_RELAXED);
    VMB_STORE("link.next", &node->next, VMB_PERCPU_HEAD(vp), VMB_RELAXED);
    VMB_STORE("link.after_last", &p->node[last].next, relid, VMB_RELAXED);
    VMB_STORE("link.new_last", &head->prev, relid, VMB_RELAXED);
    VMB_STORE("link.done", &node->on, vp + 1, VMB_RELEASE);
    return 1;
}

/* The lookup: is the channel on `vp`'s list? Ends on anything that is no channel's number, and after as many
 * nodes as there are channels: the host can write guest memory. */
static inline int vmb_percpu_find(struct vmb_percpu *p, uint32_t vp, uint32_t relid)
{
    uint32_t i = VMB_LOAD("walk.first", &p->node[VMB_PERCPU_HEAD(vp)].next, VMB_RELAXED);

    for (unsigned left = VMB_FLAGS; i < VMB_FLAGS && left; left--) {
        if (VMB_LOAD("walk.relid", &p->node[i].relid, VMB_RELAXED) == relid)
            return 1;
        i = VMB_LOAD("walk.next", &p->node[i].next, VMB_RELAXED);
    }
    return 0;
}

/* ---- orders: the cross-CPU call ------------------------------------------------------------------------------ */

enum vmb_percpu_step { VMB_PERCPU_UNLINK, VMB_PERCPU_LINK };

/* Leave an order for `vp`. It is carried out after vmb_percpu_interrupt, and seen done in the node's `on`.
 *
 * asker                                 worker, at the end of a pass
 * 1  or the order                       a  and flag 0 away (in the drain)
 * 2  or `asked`                         b  take `asked`
 * 3  or flag 0, wake                    c  take the orders
 *
 * Forbidden: an order stays and nobody looks. 3 after a: flag 0 is there for the drain or the look before the
 * sleep, and another pass follows. 3 before a: then 2 is before b, or an earlier b took it and its c came after
 * 1. */
static inline void vmb_percpu_ask(struct vmb_percpu *p, uint32_t vp, enum vmb_percpu_step step, uint32_t relid)
{
    uint64_t *orders = step == VMB_PERCPU_LINK ? p->vp[vp].link : p->vp[vp].unlink;

    (void)VMB_OR("ask.order", &orders[relid / 64], VMB_BIT(relid));
    (void)VMB_OR("ask.asked", &p->vp[vp].asked, 1ull << (relid / 64 + (step == VMB_PERCPU_LINK ? 32 : 0)));
}

static inline void vmb_percpu_interrupt(struct vmb_sender *s, uint32_t vp)
{
    (void)VMB_OR("ask.flag", &s->pages[vp].flags[0], 1ull);
    vmb_wake(s, vp);
}

/* Carry out what `vp` was asked for, unlinks first. Returns how many steps changed something. */
static inline unsigned vmb_percpu_serve(struct vmb_percpu *p, uint32_t vp)
{
    struct vmb_percpu_vp *own = &p->vp[vp];
    unsigned done = 0;

    if (!VMB_LOAD("serve.look", &own->asked, VMB_SEQ_CST))
        return 0;
    for (uint64_t asked = VMB_EXCHANGE("serve.asked", &own->asked, 0ull); asked; asked &= asked - 1) {
        unsigned i = (unsigned)__builtin_ctzll(asked);
        int is_link = i >= 32;
        i %= 32;
        uint64_t orders = VMB_EXCHANGE("serve.orders", is_link ? &own->link[i] : &own->unlink[i], 0ull);
        for (; orders; orders &= orders - 1) {
            uint32_t relid = i * 64 + (uint32_t)__builtin_ctzll(orders);
            done += (unsigned)(is_link ? vmb_percpu_link(p, vp, relid) : vmb_percpu_unlink(p, vp, relid));
        }
    }
    return done;
}

/* ---- the worker ---------------------------------------------------------------------------------------------- */

/* What a pass calls; the context of vmb_percpu_dispatch. */
struct vmb_percpu_pass {
    struct vmb_percpu *lists;
    vmb_callback call;
    void *context;
};

/* An interrupt whose channel is not on this VP's list: the old loop ends here, and so does the interrupt. */
static inline void vmb_percpu_miss(struct vmb_worker *w, struct vmb_percpu_vp *own, uint32_t flag)
{
    if (!(VMB_LOAD("dispatch.missed", &w->table->slot[flag], VMB_ACQUIRE) & VMB_SLOT_OPEN)) {
        vmb_count(&w->work->spurious, 1); /* as vmb_dispatch has it */
        return;
    }
    if (!own->dropped)
        __atomic_store_n(&own->first_drop, (uint64_t)vmb_now_ns(), VMB_RELAXED);
    vmb_count(&own->dropped, 1);
    __atomic_store_n(&own->dropped_of[flag / 64], own->dropped_of[flag / 64] | VMB_BIT(flag), VMB_RELAXED);
}

/* The old dispatch: this VP's list says whether there is such a channel. A vmb_dispatcher; `context` is a
 * struct vmb_percpu_pass, which has the callback. */
static inline void vmb_percpu_dispatch(struct vmb_worker *w, uint32_t flag, vmb_callback unused, void *context)
{
    struct vmb_percpu_pass *pass = (struct vmb_percpu_pass *)context;

    (void)unused;
    if (vmb_percpu_find(pass->lists, w->vp, flag))
        vmb_dispatch(w, flag, pass->call, pass->context);
    else
        vmb_percpu_miss(w, &pass->lists->vp[w->vp], flag);
}

/* One pass of VP w->vp in the present design, then its orders. Returns the bits seen, as vmb_drain. */
static inline unsigned vmb_percpu_drain(struct vmb_percpu *p, struct vmb_worker *w, vmb_callback call, void *context)
{
    struct vmb_percpu_pass pass = {p, call, context};
    unsigned seen;

    if (VMB_LOAD("pass.design", &p->design, VMB_ACQUIRE) == VMB_DESIGN_PERCPU)
        seen = vmb_drain_by(w, vmb_percpu_dispatch, call, &pass);
    else
        seen = vmb_drain_by(w, vmb_dispatch, call, context);
    vmb_count(&p->vp[w->vp].taken, seen);
    (void)vmb_percpu_serve(p, w->vp);
    return seen;
}

#endif
