// SPDX-License-Identifier: MIT
/*
 * The functions of the native core with a hold before each access to a shared word: replaces the macros of
 * vmbus_steps.h. Include it before any header of vmbusd/abi.
 *
 * The accesses themselves are the shipped ones. Only the thread that set a hook is held.
 */
#ifndef LAB_STEPPED_H
#define LAB_STEPPED_H

typedef void (*lab_hook)(void *context, const char *step);

static __thread lab_hook lab_hook_of_thread;
static __thread void *lab_context_of_thread;

static inline void lab_hook_set(lab_hook hook, void *context)
{
    lab_hook_of_thread = hook;
    lab_context_of_thread = context;
}

static inline void lab_step(const char *step)
{
    if (lab_hook_of_thread)
        lab_hook_of_thread(lab_context_of_thread, step);
}

#define VMB_STEPS_DEFINED
#define VMB_LOAD(step, p, order) (lab_step(step), __atomic_load_n((p), (order)))
#define VMB_STORE(step, p, v, order) (lab_step(step), __atomic_store_n((p), (v), (order)))
#define VMB_OR(step, p, v) (lab_step(step), __atomic_fetch_or((p), (v), VMB_SEQ_CST))
#define VMB_AND(step, p, v) (lab_step(step), (void)__atomic_fetch_and((p), (v), VMB_SEQ_CST))
#define VMB_EXCHANGE(step, p, v) (lab_step(step), __atomic_exchange_n((p), (v), VMB_SEQ_CST))
#define VMB_CAS(step, p, expected, v) \
    (lab_step(step), __atomic_compare_exchange_n((p), (expected), (v), 0, VMB_SEQ_CST, VMB_SEQ_CST))
#define VMB_POST(step, doorbell) (lab_step(step), vmb_doorbell_ring(doorbell))

#endif
