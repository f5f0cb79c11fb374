// SPDX-License-Identifier: MIT
/*
 * Guest to host: one page, one waiter, no targets, no claims and no journal.
 *
 * docs/signal-protocol.md section 5: the sender's steps 2 to 6 and the worker's sleep rule, unchanged.
 */
#ifndef VMBUS_HOST_H
#define VMBUS_HOST_H

#include "vmbus_abi.h"
#include "vmbus_doorbell.h"
#include "vmbus_faults.h"
#include "vmbus_sleep.h"
#include "vmbus_steps.h"

/* Set a flag of the host's page and ring the host if it sleeps. Returns 1 if the flag went from 0 to 1. */
static inline int vmb_signal_host(struct vmb_host_page *page, struct vmb_doorbell *bell, uint64_t *rung,
                                  uint32_t flag)
{
    uint64_t old = VMB_OR("host.set", &page->flags[flag / 64], VMB_BIT(flag));
    uint64_t e = VMB_LOAD("host.idle", &page->idle, VMB_SEQ_CST);
    if ((e & 1) && e != *rung) {
        VMB_POST("host.post", bell);
        *rung = e;
    }
    return !(old & VMB_BIT(flag));
}

/* The same while faults are armed. */
VMB_COLD int vmb_signal_host_armed(struct vmb_faults *f, struct vmb_host_page *page, struct vmb_doorbell *bell,
                                   uint64_t *rung, uint32_t flag)
{
    const uint32_t relid = vmb_fault_relid(f->table, flag);
    uint64_t old = VMB_OR("host.set", &page->flags[flag / 64], VMB_BIT(flag));
    vmb_fault_step(f, VMB_STEP_SIGNAL_HOST_BIT_POST, relid, VMB_FAULT_ANY);
    uint64_t e = VMB_LOAD("host.idle", &page->idle, VMB_SEQ_CST);
    if ((e & 1) && e != *rung) {
        vmb_fault_post(f, bell, relid, VMB_FAULT_ANY);
        *rung = e;
    }
    return !(old & VMB_BIT(flag));
}

/* vmb_sleep_begin of a host while faults are armed. */
VMB_COLD int vmb_host_sleep_armed(struct vmb_faults *f, struct vmb_host_page *page, uint64_t *sleep)
{
    vmb_sleep_announce(&page->idle, sleep, page->flags);
    vmb_fault_step(f, VMB_STEP_HOST_SLEEP_ANNOUNCE_LOOK, 0, VMB_FAULT_ANY);
    return !vmb_any_pending(page->flags);
}

/* What may go wrong between taking a flag and serving it. */
VMB_COLD void vmb_host_take_faults(struct vmb_faults *f, uint32_t flag)
{
    const uint32_t relid = vmb_fault_relid(f->table, flag);
    vmb_fault_step(f, VMB_STEP_HOST_TAKE_DISPATCH, relid, VMB_FAULT_ANY);
    vmb_fault_delay(f, VMB_FAULT_DELAY_DISPATCH, relid, VMB_FAULT_ANY);
}

#endif
