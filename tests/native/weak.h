// SPDX-License-Identifier: MIT
/*
 * The steps with one order taken away, to show that the storm would notice: WEAK_SET leaves the sender's fetch-or
 * without release, WEAK_CLAIM every step on a claim word without any order, WEAK_RING all indices of a ring.
 */
#define VMB_STEPS_DEFINED
#ifdef WEAK_SET
#define WEAK_OR_ORDER VMB_RELAXED
#else
#define WEAK_OR_ORDER VMB_SEQ_CST
#endif
#ifdef WEAK_CLAIM
#define WEAK_CLAIM_ORDER VMB_RELAXED
#else
#define WEAK_CLAIM_ORDER VMB_SEQ_CST
#endif
#ifdef WEAK_RING
#define WEAK_ORDER(order) VMB_RELAXED
#else
#define WEAK_ORDER(order) (order)
#endif
#define VMB_LOAD(step, p, order) __atomic_load_n((p), WEAK_ORDER(order))
#define VMB_STORE(step, p, v, order) __atomic_store_n((p), (v), WEAK_ORDER(order))
#define VMB_OR(step, p, v) __atomic_fetch_or((p), (v), WEAK_OR_ORDER)
#define VMB_AND(step, p, v) ((void)__atomic_fetch_and((p), (v), VMB_SEQ_CST))
#define VMB_EXCHANGE(step, p, v) __atomic_exchange_n((p), (v), WEAK_CLAIM_ORDER)
#define VMB_CAS(step, p, expected, v)                                                                          \
    __atomic_compare_exchange_n((p), (expected), (v), 0, WEAK_CLAIM_ORDER, VMB_RELAXED)
#define VMB_POST(step, doorbell) vmb_doorbell_ring(doorbell)
