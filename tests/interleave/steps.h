// SPDX-License-Identifier: MIT
/*
 * The real functions with a scheduler between any two of their steps: this replaces the macros of vmbus_steps.h.
 *
 * Include it before any header of vmbusd/abi. Mistakes are chosen at run time, so that one build serves all.
 */
#ifndef INTERLEAVE_STEPS_H
#define INTERLEAVE_STEPS_H

#include <stdint.h>

/* Those of vmbus_steps.h first; the last ones are mistakes of the caller, made by the programs themselves. */
#define MUTANTS(X)                                                                                              \
    X(none) X(no_second_look) X(idle_not_seq_cst) X(shared_mark_after_post) X(shared_mark_before_post)          \
    X(already_set_returns) X(new_worker_zeroes) X(claimed_dropped) X(plain_let_go) X(no_claim)                  \
    X(table_before_claim) X(close_does_not_wait) X(slot_not_seq_cst) X(claimed_put_back)                        \
    X(ring_publish_not_seq_cst) X(ring_publish_before_copy) X(ring_stale_read_index) X(ring_no_second_look)     \
    X(ring_unmask_not_seq_cst) X(ring_commit_after_unmask) X(ring_commit_not_seq_cst)                           \
    X(ring_commit_before_copy) X(ring_stale_write_index) X(ring_no_space_look) X(ring_pending_not_seq_cst)      \
    X(ring_double_fetch) X(silent_treated_as_dead) X(admitted_before_recovery)                                  \
    X(no_taken) X(taken_after_clear) X(taken_cleared_early) X(recovery_rings_unless_marked)                     \
    X(no_target_reload) X(target_not_seq_cst) X(no_sweep_on_host_death) X(no_ring_on_host_death)                \
    X(no_ring_at_start) X(handover_clears_first) X(recovery_clears_taken_first) X(recovery_no_put_back)         \
    X(recovery_bits_before_claims) X(percpu_lists) X(handover_sets_once) X(page_before_flag) X(ring_no_unstick)  \
    X(drain_clears_all) X(claimed_waited) X(sweep_clears_all) X(bit_lost)

enum mutant {
#define MUTANT_ENUM(name) MUTANT_##name,
    MUTANTS(MUTANT_ENUM)
#undef MUTANT_ENUM
    MUTANT_COUNT
};
extern enum mutant sched_mutant;

enum rmw { RMW_OR, RMW_AND, RMW_EXCHANGE };

uint64_t sched_load(const char *step, const void *address, unsigned size);
void sched_store(const char *step, void *address, unsigned size, uint64_t value, int seq_cst);
uint64_t sched_rmw(const char *step, void *address, unsigned size, enum rmw operation, uint64_t operand);
int sched_cas(const char *step, void *address, unsigned size, void *expected, uint64_t value);
struct vmb_doorbell;
void sched_post(const char *step, struct vmb_doorbell *bell);
void sched_copy_to(const char *step, void *to, const void *from, unsigned size);
void sched_copy_from(const char *step, void *to, const void *from, unsigned size);

#define VMB_STEPS_DEFINED
#define VMB_MUTANT(name) (sched_mutant == MUTANT_##name)
#define VMB_LOAD(step, p, order) ((__typeof__(*(p)))sched_load((step), (p), sizeof *(p)))
#define VMB_STORE(step, p, v, order) sched_store((step), (p), sizeof *(p), (v), (order) == VMB_SEQ_CST)
#define VMB_OR(step, p, v) ((__typeof__(*(p)))sched_rmw((step), (p), sizeof *(p), RMW_OR, (v)))
#define VMB_AND(step, p, v) ((void)sched_rmw((step), (p), sizeof *(p), RMW_AND, (v)))
#define VMB_EXCHANGE(step, p, v) ((__typeof__(*(p)))sched_rmw((step), (p), sizeof *(p), RMW_EXCHANGE, (v)))
#define VMB_CAS(step, p, expected, v) sched_cas((step), (p), sizeof *(p), (expected), (v))
#define VMB_POST(step, doorbell) sched_post((step), (doorbell))
#define VMB_COPY_TO(step, ring_memory, from, n) sched_copy_to((step), (ring_memory), (from), (unsigned)(n))
#define VMB_COPY_FROM(step, to, ring_memory, n) sched_copy_from((step), (to), (ring_memory), (unsigned)(n))

#endif
