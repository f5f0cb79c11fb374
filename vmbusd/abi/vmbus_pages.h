// SPDX-License-Identifier: MIT
/*
 * Pages that a guest names at contact, in its own memory: the legacy interrupt page and the child-to-parent
 * monitor page, with every operation on them.
 *
 * Their layout is VMBus's, not this project's. Words are taken by exchange, so a bit that is set after the
 * exchange is found by the next one. Sources: Linux 6.1 drivers/hv/hyperv_vmbus.h, connection.c, channel.c;
 * OpenVMM vmbus_server (channel_bitmap.rs, monitor.rs); DPDK drivers/bus/vmbus.
 */
#ifndef VMBUS_PAGES_H
#define VMBUS_PAGES_H

#include "vmbus_abi.h"
#include "vmbus_steps.h"

/* The page at guest physical address `gpa` of a memory of `size` bytes; NULL for 0, and if it does not lie there
 * whole. */
static inline char *vmb_page_at(char *ram, uint64_t size, uint64_t gpa)
{
    return ram && gpa && gpa % VMB_PAGE == 0 && size >= VMB_PAGE && gpa <= size - VMB_PAGE ? ram + gpa : NULL;
}

/* ---- the legacy interrupt page of 0.13 and 1.1 ------------------------------------------------------------- */

#define VMB_HALF_WORDS 256u /* a half has 16384 bits, of which relids use the first 2048: VMB_WORDS words */

/* The host sets bits in the first half, the guest in the second. */
struct vmb_interrupt_page {
    uint64_t to_guest[VMB_HALF_WORDS];
    uint64_t to_host[VMB_HALF_WORDS];
};

_Static_assert(sizeof(struct vmb_interrupt_page) == VMB_PAGE, "interrupt page");
_Static_assert(offsetof(struct vmb_interrupt_page, to_host) == 2048, "the guest's half");

/* ---- the child-to-parent monitor page ---------------------------------------------------------------------- */

#define VMB_MONITOR_GROUPS 4u
#define VMB_MONITORS 128u /* ids of all groups; group = id / 32, bit = id % 32 */

struct vmb_trigger_group {
    uint32_t pending;
    uint32_t armed;
};

struct vmb_monitor_parameter {
    uint32_t connection_id;
    uint16_t flag_number;
    uint16_t zero;
};

struct vmb_monitor_page {
    uint32_t trigger_state;
    uint32_t reserved1;
    struct vmb_trigger_group group[VMB_MONITOR_GROUPS];
    uint64_t reserved2[3];
    int32_t next_checktime[VMB_MONITORS];
    uint16_t latency[VMB_MONITORS]; /* units of 100 ns; 0: the guest left it to the host */
    uint64_t reserved3[32];
    struct vmb_monitor_parameter parameter[VMB_MONITORS];
    uint64_t reserved4[248];
};

_Static_assert(sizeof(struct vmb_monitor_page) == VMB_PAGE, "monitor page");
_Static_assert(offsetof(struct vmb_monitor_page, group) == 8, "trigger groups");
_Static_assert(offsetof(struct vmb_monitor_page, next_checktime) == 64, "check times");
_Static_assert(offsetof(struct vmb_monitor_page, latency) == 576, "latencies");
_Static_assert(offsetof(struct vmb_monitor_page, parameter) == 1088, "parameters");

/* The guest asks for a signal. Returns 1 if its bit was 0. */
static inline int vmb_monitor_trigger(struct vmb_monitor_page *page, uint32_t id)
{
    const uint32_t mask = 1u << (id % 32);
    return !(VMB_OR("monitor.trigger", &page->group[id / 32].pending, mask) & mask);
}

/* Take the bits of all groups into `taken`; a page without any costs four loads. Returns whether there are. */
static inline int vmb_monitor_take(struct vmb_monitor_page *page, uint32_t *taken)
{
    uint32_t any = 0;

    for (unsigned g = 0; g < VMB_MONITOR_GROUPS; g++) {
        taken[g] = 0;
        if (VMB_LOAD("monitor.look", &page->group[g].pending, VMB_RELAXED))
            taken[g] = VMB_EXCHANGE("monitor.take", &page->group[g].pending, 0u);
        any |= taken[g];
    }
    return any != 0;
}

/* The shortest latency, in units of 100 ns, that the page asks for the ids in `armed`; `unsaid` for one of 0. */
static inline uint32_t vmb_monitor_latency(struct vmb_monitor_page *page, const uint32_t *armed, uint32_t unsaid)
{
    uint32_t least = UINT32_MAX;

    for (unsigned g = 0; g < VMB_MONITOR_GROUPS; g++)
        for (uint32_t rest = armed[g]; rest; rest &= rest - 1) {
            uint32_t id = g * 32 + (uint32_t)__builtin_ctz(rest);
            uint32_t asked = VMB_LOAD("monitor.latency", &page->latency[id], VMB_RELAXED);
            if (!asked)
                asked = unsaid;
            if (asked < least)
                least = asked;
        }
    return least;
}

#endif
