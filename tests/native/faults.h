// SPDX-License-Identifier: MIT
/* Rules of injected faults as the daemon writes them, and senders and workers that obey them. */
#ifndef NATIVE_FAULTS_H
#define NATIVE_FAULTS_H

#include "check.h"

static struct vmb_fault_rule rule_of(uint32_t kind)
{
    return (struct vmb_fault_rule){.kind = kind,
                                   .who = VMB_FAULT_HOSTS | VMB_FAULT_GUESTS,
                                   .vp = VMB_FAULT_ANY,
                                   .host_link = VMB_FAULT_ANY,
                                   .probability = VMB_FAULT_ALWAYS,
                                   .every = 1};
}

/* As the daemon writes one. */
static void put(struct vmb_table *table, unsigned i, struct vmb_fault_rule rule)
{
    uint64_t *words = (uint64_t *)&table->header.fault[i], image[8];
    rule.sequence = (table->header.fault[i].sequence & ~1u) + 2;
    memcpy(image, &rule, sizeof image);
    __atomic_store_n(&words[0], (uint64_t)(rule.sequence - 1), __ATOMIC_RELEASE);
    for (unsigned k = 1; k < 8; k++)
        __atomic_store_n(&words[k], image[k], __ATOMIC_RELEASE);
    __atomic_store_n(&words[0], image[0], __ATOMIC_RELEASE);
    __atomic_store_n(&table->header.fault_armed, (uint8_t)1, __ATOMIC_RELAXED);
}

/* A sender whose faults are counted in the partition's host page. */
__attribute__((unused)) static struct vmb_sender faulty_sender(struct partition *p)
{
    struct vmb_sender s = sender_of(p);
    s.faults = (struct vmb_faults){.table = p->table, .who = VMB_FAULT_HOSTS, .fired = p->host->fired};
    return s;
}

__attribute__((unused)) static struct vmb_worker faulty_worker(struct partition *p, uint32_t vp)
{
    struct vmb_worker w = worker_of(p, vp);
    w.faults = (struct vmb_faults){.table = p->table, .who = VMB_FAULT_GUESTS, .fired = p->work[vp].fired};
    return w;
}

__attribute__((unused)) static void count(void *context, uint32_t flag, uint64_t slot)
{
    (void)flag;
    (void)slot;
    ++*(unsigned *)context;
}

#endif
