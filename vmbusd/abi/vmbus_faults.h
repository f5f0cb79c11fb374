// SPDX-License-Identifier: MIT
/*
 * Injected faults: which rule of the table hits at a hook, and what is done about it.
 *
 * Rules stand in page 0 of the table, written by the daemon alone. A hook costs one load and one branch until the
 * byte `fault_armed` is set; everything here runs only then and is kept out of line. No function of this file is a
 * step of the signal protocol: a hook may take time, leave out or repeat a doorbell, or end the process, nothing
 * else. Built with VMB_NO_FAULTS no hook is there. docs/faults.md has kinds, steps and the hash.
 */
#ifndef VMBUS_FAULTS_H
#define VMBUS_FAULTS_H

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "vmbus_abi.h"
#include "vmbus_late.h"

#ifdef VMB_NO_FAULTS
#define VMB_ARMED_AT(armed) ((void)(armed), 0)
#else
#define VMB_ARMED_AT(armed) __builtin_expect(__atomic_load_n((armed), __ATOMIC_RELAXED) != 0, 0)
#endif
/* Where there is no table nothing is ever armed. */
static const uint8_t vmb_never_armed __attribute__((unused)) = 0;
#define VMB_ARMED(table) VMB_ARMED_AT(&(table)->header.fault_armed)

#define VMB_STUCK_SLICE 10000000 /* ns between looks of a stuck VP at its rule: taking it away ends the fault */

/* What one sender, waiter or worker remembers. All zero but for the first three until it first meets armed rules. */
struct vmb_faults {
    const struct vmb_table *table;
    uint32_t who;              /* enum vmb_fault_who */
    uint32_t *fired;           /* by rule, in shared memory; NULL: counted here alone */
    void (*pause)(int64_t ns); /* NULL: vmb_pause_ns. For callers that must let others run meanwhile */
    struct vmb_fault_memory *memory;
    struct vmb_late_posts late;
    uint64_t injected;
};

struct vmb_fault_memory {
    struct vmb_late *held; /* by a reordering, until the next post */
    uint32_t sequence[VMB_FAULT_RULES];
    uint32_t fired[VMB_FAULT_RULES];
    uint32_t occasions[VMB_FAULT_RULES][VMB_FLAGS]; /* by relid */
};

/* ---- which rule hits -------------------------------------------------------------------------------------- */

/* The channel of an event flag, 0 if it has none. */
static inline uint32_t vmb_fault_relid(const struct vmb_table *table, uint32_t flag)
{
    const uint32_t offset = VMB_SLOT_RECORD(__atomic_load_n(&table->slot[flag], __ATOMIC_ACQUIRE));
    const uint32_t relid = (offset - (uint32_t)offsetof(struct vmb_table, record)) / sizeof(struct vmb_record);
    return relid < VMB_FLAGS ? relid : 0;
}

/* Copy rule `i` whole. 0 if there is none, or while it changes: then it does not count either. */
VMB_COLD int vmb_fault_read(const struct vmb_table *table, unsigned i, struct vmb_fault_rule *rule)
{
    const uint64_t *words = (const uint64_t *)&table->header.fault[i];
    uint64_t image[sizeof *rule / 8];

    image[0] = __atomic_load_n(&words[0], __ATOMIC_ACQUIRE);
    if (!(image[0] >> 32) || (image[0] & 1))
        return 0;
    for (unsigned k = 1; k < sizeof *rule / 8; k++)
        image[k] = __atomic_load_n(&words[k], __ATOMIC_ACQUIRE);
    if (__atomic_load_n(&words[0], __ATOMIC_ACQUIRE) != image[0])
        return 0;
    memcpy(rule, image, sizeof *rule);
    return 1;
}

VMB_COLD uint64_t vmb_fault_mix(uint64_t word, uint64_t number)
{
    word += 0x9e3779b97f4a7c15ull * (number + 1);
    word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9ull;
    word = (word ^ word >> 27) * 0x94d049bb133111ebull;
    return word ^ word >> 31;
}

/* 31 bits: what a rule draws for the n-th occasion of channel `relid`. Nothing in it depends on what else is armed. */
VMB_COLD uint64_t vmb_fault_draw(const struct vmb_fault_rule *rule, uint32_t relid, uint32_t n)
{
    uint64_t word = vmb_fault_mix(vmb_fault_mix(rule->seed, rule->kind), rule->step);
    return vmb_fault_mix(vmb_fault_mix(word, relid), n) >> 33;
}

/* Is this a channel of the device that channel `named` belongs to? */
VMB_COLD int vmb_fault_same_device(const struct vmb_table *table, uint32_t named, uint32_t relid)
{
    const struct vmb_record *one = &table->record[named], *other = &table->record[relid];
    return one->relid == named && !memcmp(one->interface_id, other->interface_id, sizeof one->interface_id) &&
           !memcmp(one->instance_id, other->instance_id, sizeof one->instance_id);
}

VMB_COLD int vmb_fault_selects(const struct vmb_table *table, const struct vmb_fault_rule *rule, uint32_t relid,
                               uint32_t vp)
{
    if (rule->vp != VMB_FAULT_ANY && rule->vp != vp)
        return 0;
    if (rule->host_link != VMB_FAULT_ANY && (!relid || table->record[relid].host_link != rule->host_link))
        return 0;
    return !rule->relid || rule->relid == relid ||
           (rule->device && relid && vmb_fault_same_device(table, rule->relid, relid));
}

VMB_COLD struct vmb_fault_memory *vmb_fault_remember(struct vmb_faults *f)
{
    struct vmb_fault_memory *there = __atomic_load_n(&f->memory, __ATOMIC_ACQUIRE);
    if (there)
        return there;
    struct vmb_fault_memory *made = calloc(1, sizeof *made);
    if (made && !__atomic_compare_exchange_n(&f->memory, &there, made, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        free(made);
        made = there;
    }
    return made;
}

/* This occasion of rule `i`, counted from 0 since the rule was written. */
VMB_COLD uint32_t vmb_fault_occasion(struct vmb_fault_memory *m, unsigned i, uint32_t sequence, uint32_t relid)
{
    if (__atomic_load_n(&m->sequence[i], __ATOMIC_RELAXED) != sequence) {
        for (unsigned r = 0; r < VMB_FLAGS; r++)
            __atomic_store_n(&m->occasions[i][r], 0u, __ATOMIC_RELAXED);
        __atomic_store_n(&m->fired[i], 0u, __ATOMIC_RELAXED);
        __atomic_store_n(&m->sequence[i], sequence, __ATOMIC_RELAXED);
    }
    return __atomic_fetch_add(&m->occasions[i][relid], 1u, __ATOMIC_RELAXED);
}

/* Count one more of at most `times` faults, 0: without end. Returns 0 if there were as many already. Guest processes
 * that signal one host share its count:
 *
 * one process                           another
 * 1  fetch-add, was below: counted      a  fetch-add, was below: counted
 * 2  was not: take it back              b  was not: take it back
 *
 * Forbidden: more than `times`. Each adding reads another number unless one is taken back between, and what is taken
 * back was added above the limit: below it every number is read once. No loop: peers can write the word. */
VMB_COLD int vmb_fault_count(uint32_t *fired, uint32_t times)
{
    if (times && __atomic_load_n(fired, __ATOMIC_RELAXED) >= times)
        return 0;
    if (__atomic_fetch_add(fired, 1u, __ATOMIC_SEQ_CST) < times || !times)
        return 1;
    __atomic_fetch_sub(fired, 1u, __ATOMIC_SEQ_CST);
    return 0;
}

/* Decide for one occasion: the kind that hits, or 0. `kinds` has bit k for kind k, `step` is that of a kill, else 0;
 * `relid` 0 and `vp` VMB_FAULT_ANY where there is none. Each rule that selects this place counts the occasion, the
 * first that hits decides. */
VMB_COLD uint32_t vmb_fault_at(struct vmb_faults *f, uint32_t kinds, uint32_t step, uint32_t relid, uint32_t vp,
                               struct vmb_fault_rule *hit)
{
    struct vmb_fault_memory *m = vmb_fault_remember(f);
    struct vmb_fault_rule rule;
    uint32_t kind = 0;

    for (unsigned i = 0; m && i < VMB_FAULT_RULES; i++) {
        if (!vmb_fault_read(f->table, i, &rule) || !(kinds >> rule.kind & 1) || rule.step != step ||
            !(rule.who & f->who) || !vmb_fault_selects(f->table, &rule, relid, vp))
            continue;
        const uint32_t n = vmb_fault_occasion(m, i, rule.sequence, relid);
        uint32_t *fired = f->fired ? &f->fired[i] : &m->fired[i];
        if (kind || n < rule.after || (n - rule.after) % rule.every ||
            vmb_fault_draw(&rule, relid, n) >= rule.probability || !vmb_fault_count(fired, rule.times))
            continue;
        __atomic_fetch_add(&f->injected, 1ull, __ATOMIC_RELAXED);
        kind = rule.kind;
        *hit = rule;
    }
    return kind;
}

#define VMB_KIND(kind) (1u << (kind))
#define VMB_DOORBELL_KINDS                                                                  \
    (VMB_KIND(VMB_FAULT_DROP_DOORBELL) | VMB_KIND(VMB_FAULT_DELAY_DOORBELL) |               \
     VMB_KIND(VMB_FAULT_DUPLICATE_DOORBELL) | VMB_KIND(VMB_FAULT_REORDER_DOORBELL))

/* ---- what is done ----------------------------------------------------------------------------------------- */

/* End this process here, as kill -9 would, if a rule says so. */
VMB_COLD void vmb_fault_step(struct vmb_faults *f, uint32_t step, uint32_t relid, uint32_t vp)
{
    struct vmb_fault_rule rule;
    if (vmb_fault_at(f, VMB_KIND(VMB_FAULT_KILL), step, relid, vp, &rule)) {
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
}

VMB_COLD void vmb_fault_pause(struct vmb_faults *f, int64_t ns)
{
    (f->pause ? f->pause : vmb_pause_ns)(ns);
}

/* Let the time pass by which a rule delays this dispatch or read. */
VMB_COLD void vmb_fault_delay(struct vmb_faults *f, uint32_t kind, uint32_t relid, uint32_t vp)
{
    struct vmb_fault_rule rule;
    if (vmb_fault_at(f, VMB_KIND(kind), 0, relid, vp, &rule))
        vmb_fault_pause(f, (int64_t)rule.delay * 1000);
}

/* Stand still for as long as a rule says, or until it is taken away. */
VMB_COLD void vmb_fault_stuck(struct vmb_faults *f, uint32_t vp)
{
    struct vmb_fault_rule rule, now;
    if (!vmb_fault_at(f, VMB_KIND(VMB_FAULT_STUCK_VP), 0, 0, vp, &rule))
        return;
    const int64_t until = vmb_now_ns() + (int64_t)rule.delay * 1000;
    for (int64_t left; (left = until - vmb_now_ns()) > 0;) {
        unsigned i = 0;
        while (i < VMB_FAULT_RULES && !(vmb_fault_read(f->table, i, &now) && !memcmp(&now, &rule, sizeof now)))
            i++;
        if (i == VMB_FAULT_RULES || !VMB_ARMED(f->table))
            return;
        vmb_fault_pause(f, left < VMB_STUCK_SLICE ? left : VMB_STUCK_SLICE);
    }
}

/* ---- doorbells --------------------------------------------------------------------------------------------- */

/* Post, or what a rule makes of it. Returns the posts made or on their way. */
VMB_COLD unsigned vmb_fault_post(struct vmb_faults *f, struct vmb_doorbell *bell, uint32_t relid, uint32_t vp)
{
    struct vmb_fault_rule rule;
    const uint32_t kind = vmb_fault_at(f, VMB_DOORBELL_KINDS, 0, relid, vp, &rule);
    struct vmb_late *held = f->memory ? __atomic_exchange_n(&f->memory->held, NULL, __ATOMIC_SEQ_CST) : NULL;
    struct vmb_late *late = NULL;
    unsigned posts = 1;

    if (kind == VMB_FAULT_DROP_DOORBELL)
        posts = 0;
    else if (kind == VMB_FAULT_DUPLICATE_DOORBELL)
        posts = 2;
    else if (kind == VMB_FAULT_DELAY_DOORBELL)
        late = vmb_late_start(&f->late, bell, rule.delay, 1);
    else if (kind == VMB_FAULT_REORDER_DOORBELL && !held) /* else this one is the next post of the one held */
        late = vmb_late_start(&f->late, bell, rule.delay, 2);
    for (unsigned i = 0; !late && i < posts; i++)
        (void)vmb_doorbell_ring(bell);
    if (late && kind == VMB_FAULT_REORDER_DOORBELL)
        late = __atomic_exchange_n(&f->memory->held, late, __ATOMIC_SEQ_CST); /* of another thread of this sender */
    else
        late = NULL;
    if (held)
        vmb_late_make(held);
    if (late)
        vmb_late_make(late);
    return posts;
}

/* Before the memory of `f` or of a doorbell goes: every post that is late is made. */
static inline void vmb_faults_end(struct vmb_faults *f)
{
    if (!f->memory)
        return;
    if (f->memory->held)
        vmb_late_make(f->memory->held);
    vmb_late_end(&f->late);
    free(f->memory);
    f->memory = NULL;
}

#endif
