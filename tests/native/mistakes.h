// SPDX-License-Identifier: MIT
/*
 * One build of the core for every seeded mistake: VMBUSD_MISTAKE in the environment names the one that is made.
 *
 * For -include, before any header of vmbusd/abi: this replaces the constants of vmbus_steps.h. Each place asks
 * the environment once. Two threads may both ask at first, and then store the same.
 */
#ifndef NATIVE_MISTAKES_H
#define NATIVE_MISTAKES_H

#define _GNU_SOURCE 1 /* as Python.h has it, which comes later */
#include <stdlib.h>
#include <string.h>

static inline int vmb_mistake_is(const char *name, int *known) {
    int is = __atomic_load_n(known, __ATOMIC_RELAXED);
    if (is < 0) {
        const char *made = getenv("VMBUSD_MISTAKE");
        is = made && !strcmp(made, name);
        __atomic_store_n(known, is, __ATOMIC_RELAXED);
    }
    return is;
}

#define VMB_MUTANT(name)                                                                                        \
    ({                                                                                                          \
        static int known_##name = -1;                                                                           \
        vmb_mistake_is(#name, &known_##name);                                                                   \
    })

#endif
