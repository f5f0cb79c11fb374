// SPDX-License-Identifier: MIT
/*
 * Every access to a shared word goes through one of these macros and has a name, so that a test can put a
 * scheduler between any two of them: define VMB_STEPS_DEFINED and your own versions before including this.
 *
 * VMB_MUTANT(name) is 0 unless the build seeds that mistake (-DVMB_MUTANT_name=1). The mistakes are those of
 * the signal protocol's counterexamples; each must be found by the explorer, the demo or the storm. A shipped build
 * contains none of them: the conditions are constants and vanish.
 *
 * x86-64: every read-modify-write is a full barrier, a seq_cst store is xchg, a seq_cst load is a plain load.
 * arm64: ldsetal/ldclral/swpal/casal, stlr, ldar. No fences are used, so ThreadSanitizer sees every order.
 */
#ifndef VMBUS_STEPS_H
#define VMBUS_STEPS_H

#define VMB_RELAXED __ATOMIC_RELAXED
#define VMB_ACQUIRE __ATOMIC_ACQUIRE
#define VMB_RELEASE __ATOMIC_RELEASE
#define VMB_SEQ_CST __ATOMIC_SEQ_CST

#ifndef VMB_STEPS_DEFINED
#define VMB_LOAD(step, p, order) __atomic_load_n((p), (order))
#define VMB_STORE(step, p, v, order) __atomic_store_n((p), (v), (order))
/* Read-modify-writes are always seq_cst. OR returns the old value, AND drops it: with its result `lock and`
 * becomes a compare-and-swap loop on x86. */
#define VMB_OR(step, p, v) __atomic_fetch_or((p), (v), VMB_SEQ_CST)
#define VMB_AND(step, p, v) ((void)__atomic_fetch_and((p), (v), VMB_SEQ_CST))
#define VMB_EXCHANGE(step, p, v) __atomic_exchange_n((p), (v), VMB_SEQ_CST)
#define VMB_CAS(step, p, expected, v) \
    __atomic_compare_exchange_n((p), (expected), (v), 0, VMB_SEQ_CST, VMB_SEQ_CST)
#define VMB_POST(step, doorbell) vmb_doorbell_ring(doorbell)
#endif

/* Ring data: `n` bytes, a multiple of 8 in ring memory, each of whose words may be seen separately. */
#ifndef VMB_COPY_TO
#define VMB_COPY_TO(step, ring_memory, from, n) memcpy((ring_memory), (from), (n))
#define VMB_COPY_FROM(step, to, ring_memory, n) memcpy((to), (ring_memory), (n))
#endif

#ifndef VMB_MUTANT
#define VMB_MUTANT(name) VMB_MUTANT_##name
#ifndef VMB_MUTANT_no_second_look
#define VMB_MUTANT_no_second_look 0
#endif
#ifndef VMB_MUTANT_idle_not_seq_cst
#define VMB_MUTANT_idle_not_seq_cst 0
#endif
#ifndef VMB_MUTANT_shared_mark_after_post
#define VMB_MUTANT_shared_mark_after_post 0
#endif
#ifndef VMB_MUTANT_shared_mark_before_post
#define VMB_MUTANT_shared_mark_before_post 0
#endif
#ifndef VMB_MUTANT_already_set_returns
#define VMB_MUTANT_already_set_returns 0
#endif
#ifndef VMB_MUTANT_new_worker_zeroes
#define VMB_MUTANT_new_worker_zeroes 0
#endif
#ifndef VMB_MUTANT_claimed_dropped
#define VMB_MUTANT_claimed_dropped 0
#endif
#ifndef VMB_MUTANT_plain_let_go
#define VMB_MUTANT_plain_let_go 0
#endif
#ifndef VMB_MUTANT_no_claim
#define VMB_MUTANT_no_claim 0
#endif
#ifndef VMB_MUTANT_table_before_claim
#define VMB_MUTANT_table_before_claim 0
#endif
#ifndef VMB_MUTANT_close_does_not_wait
#define VMB_MUTANT_close_does_not_wait 0
#endif
#ifndef VMB_MUTANT_slot_not_seq_cst
#define VMB_MUTANT_slot_not_seq_cst 0
#endif
#ifndef VMB_MUTANT_claimed_put_back
#define VMB_MUTANT_claimed_put_back 0
#endif
#ifndef VMB_MUTANT_no_taken
#define VMB_MUTANT_no_taken 0
#endif
#ifndef VMB_MUTANT_taken_after_clear
#define VMB_MUTANT_taken_after_clear 0
#endif
#ifndef VMB_MUTANT_taken_cleared_early
#define VMB_MUTANT_taken_cleared_early 0
#endif
#ifndef VMB_MUTANT_drain_clears_all
#define VMB_MUTANT_drain_clears_all 0
#endif
#ifndef VMB_MUTANT_sweep_clears_all
#define VMB_MUTANT_sweep_clears_all 0
#endif
#ifndef VMB_MUTANT_recovery_rings_unless_marked
#define VMB_MUTANT_recovery_rings_unless_marked 0
#endif
#ifndef VMB_MUTANT_no_target_reload
#define VMB_MUTANT_no_target_reload 0
#endif
#ifndef VMB_MUTANT_target_not_seq_cst
#define VMB_MUTANT_target_not_seq_cst 0
#endif
#ifndef VMB_MUTANT_handover_clears_first
#define VMB_MUTANT_handover_clears_first 0
#endif
#ifndef VMB_MUTANT_handover_sets_once
#define VMB_MUTANT_handover_sets_once 0
#endif
#ifndef VMB_MUTANT_recovery_clears_taken_first
#define VMB_MUTANT_recovery_clears_taken_first 0
#endif
#ifndef VMB_MUTANT_recovery_no_put_back
#define VMB_MUTANT_recovery_no_put_back 0
#endif
#ifndef VMB_MUTANT_bit_lost
#define VMB_MUTANT_bit_lost 0
#endif
#ifndef VMB_MUTANT_ring_publish_not_seq_cst
#define VMB_MUTANT_ring_publish_not_seq_cst 0
#endif
#ifndef VMB_MUTANT_ring_publish_before_copy
#define VMB_MUTANT_ring_publish_before_copy 0
#endif
#ifndef VMB_MUTANT_ring_stale_read_index
#define VMB_MUTANT_ring_stale_read_index 0
#endif
#ifndef VMB_MUTANT_ring_no_second_look
#define VMB_MUTANT_ring_no_second_look 0
#endif
#ifndef VMB_MUTANT_ring_unmask_not_seq_cst
#define VMB_MUTANT_ring_unmask_not_seq_cst 0
#endif
#ifndef VMB_MUTANT_ring_commit_after_unmask
#define VMB_MUTANT_ring_commit_after_unmask 0
#endif
#ifndef VMB_MUTANT_ring_commit_not_seq_cst
#define VMB_MUTANT_ring_commit_not_seq_cst 0
#endif
#ifndef VMB_MUTANT_ring_commit_before_copy
#define VMB_MUTANT_ring_commit_before_copy 0
#endif
#ifndef VMB_MUTANT_ring_stale_write_index
#define VMB_MUTANT_ring_stale_write_index 0
#endif
#ifndef VMB_MUTANT_ring_no_space_look
#define VMB_MUTANT_ring_no_space_look 0
#endif
#ifndef VMB_MUTANT_ring_pending_not_seq_cst
#define VMB_MUTANT_ring_pending_not_seq_cst 0
#endif
#ifndef VMB_MUTANT_ring_double_fetch
#define VMB_MUTANT_ring_double_fetch 0
#endif
#endif

/* One mark for all senders that a VP is rung, set before the post: alone, and with a daemon that believes it. */
#define VMB_MARKS_FIRST (VMB_MUTANT(shared_mark_before_post) || VMB_MUTANT(recovery_rings_unless_marked))
#define VMB_MARKS (VMB_MARKS_FIRST || VMB_MUTANT(shared_mark_after_post))

#endif
